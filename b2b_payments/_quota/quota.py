"""A store's quota as the caller configures it, and as the service's answers state it."""

from __future__ import annotations

import math
import os
import re
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

import attrs

from b2b_payments._errors import ConfigurationError, shown
from b2b_payments._printable import frozen
from b2b_payments._secret import Secret

LONGEST_READING = 3600.0
"""Seconds: a longer wait, reset or window that the service states is ignored."""

_LONGEST_PATH = 4_000  # bytes; a file name may be appended, and Linux takes 4,095
_LONGEST_NAME = 255
_SCHEMES = ("redis", "rediss", "unix")

_REQUESTS_PER_SECONDS = re.compile(r"([0-9]{1,9})/([0-9]{1,9}(?:\.[0-9]{1,9})?)")


def _requests(_quota: Quota, _field: attrs.Attribute[int], value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"Quota requests={shown(value)}: must be a whole number, 1 or more.")


def _per(_quota: Quota, _field: attrs.Attribute[float], value: Any) -> None:
    if not _is_number(value) or not 0 < value < math.inf:
        raise ConfigurationError(
            f"Quota per={shown(value)}: must be the window's length in seconds, more than 0."
        )


def _share(_quota: Quota, _field: attrs.Attribute[float], value: Any) -> None:
    if not _is_number(value) or not 0 < value <= 1:
        raise ConfigurationError(
            f"Quota share={shown(value)}: must be the part of the quota to use, more than 0 and at most 1."
        )


def _margin(_quota: Quota, _field: attrs.Attribute[float], value: Any) -> None:
    if not _is_number(value) or not 0 <= value < math.inf:
        raise ConfigurationError(f"Quota margin={shown(value)}: must be seconds, 0 or more.")


def _reserve(quota: Quota, _field: attrs.Attribute[int], value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < quota.limit:
        raise ConfigurationError(
            f"Quota reserve={shown(value)}: must be the number of requests in each window kept for calls, "
            f"from 0 to {quota.limit - 1}."
        )


def _shared(_quota: Quota, _field: attrs.Attribute[Any], value: Any) -> None:
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, str) and (_is_server(value) if "://" in value else _is_path(value)):
        return
    raise ConfigurationError(
        f"Quota shared={_hidden(value)}: must be True for this user's processes, the path of a file or "
        "folder, or the URL of a Redis server, such as redis://host:6379/0."
    )


def _hide(value: Any) -> Any:
    return Secret(value) if isinstance(value, str) and "://" in value else value


def _hidden(value: Any) -> str:
    return repr(without_credentials(value)) if isinstance(value, Secret) else shown(value)


def _is_server(text: str) -> bool:
    scheme, _, rest = text.partition("://")
    return scheme in _SCHEMES and bool(rest)


def without_credentials(url: str) -> str:
    """Return a server's URL without user name and password, wherever they are in it."""
    scheme, _, rest = url.partition("://")
    head, *options = re.split("[?#]", rest, maxsplit=1)
    credentials, at, location = head.rpartition("@")
    # A password that is not escaped may contain any of these characters.
    is_clear = not any("@" in option for option in options) and "/" not in credentials
    return f"{scheme}://{'***@' if at else ''}{location}" if is_clear else f"{scheme}://***"


def credentials_in(url: str) -> list[Secret]:
    """Return every part of a URL that may be a credential."""
    parts = urlsplit(str.__str__(url))
    candidates = [
        *parse_qs(parts.query).values(),
        [unquote(parts.username or "")],
        [unquote(parts.password or "")],
    ]
    return [Secret(text) for values in candidates for text in values if text]


def _is_path(text: str) -> bool:
    """Whether a file can have this path: opening any other fails, differently on each system."""
    try:
        path = os.fsencode(text)
    except UnicodeEncodeError:
        return False
    if not path or b"\0" in path or len(path) > _LONGEST_PATH:
        return False
    return max(map(len, path.split(b"/"))) <= _LONGEST_NAME


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@frozen
class Quota:
    """How many requests a store allows, and which part of them to use.

    The default is the service's quota: 150 `requests` `per` 60 seconds [doc]. `share=0.8` leaves a fifth of
    it to the store's other integrations. `margin` seconds are added to the window, since latency varies:
    measured with a heavy-tailed latency of 80 ms, 150 requests sent in exactly 60 s made up to 170 arrivals
    in a window of 60 s; with half a second more, 150.

    `reserve` requests in each window are kept from the pages of walks, for calls that somebody waits for.

    All clients of a store in one process are counted together. With `shared=True`, so are all processes of
    this user on this machine, through a small file for each store; with ``shared="/path"``, a file or folder,
    those of several users. Both need POSIX locks. With ``shared="redis://host:6379/0"`` (or ``rediss://``,
    ``unix://``), so are processes on all machines, through a Redis or Valkey server (extra `redis`).

    Raises `ConfigurationError` for an invalid value.
    """

    requests: int = attrs.field(default=150, validator=_requests)
    per: float = attrs.field(default=60.0, validator=_per)
    share: float = attrs.field(default=1.0, validator=_share, kw_only=True)
    margin: float = attrs.field(default=0.5, validator=_margin, kw_only=True)
    reserve: int = attrs.field(default=0, validator=_reserve, kw_only=True)
    shared: bool | str | None = attrs.field(
        default=None, converter=_hide, validator=_shared, repr=_hidden, kw_only=True
    )

    @property
    def limit(self) -> int:
        """The number of requests allowed in one `span`: `requests * share`, rounded down, at least 1."""
        return part_of(self.requests, self.share)

    @property
    def span(self) -> float:
        """The length of our own window in seconds: the service's window plus the margin."""
        return self.per + self.margin

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse requests, a slash and seconds, such as ``"150/60"``. Raises `ConfigurationError`."""
        match = _REQUESTS_PER_SECONDS.fullmatch(text.strip())
        if match is None:
            raise ConfigurationError(
                f"Quota {shown(text)} cannot be read: write requests/seconds, such as 150/60."
            )
        return cls(int(match[1]), float(match[2]))


def part_of(requests: int, share: float) -> int:
    """Return this share of the requests, at least 1."""
    # 0.29 * 100 is 28.999… in binary floating point: the caller meant 29.
    return max(1, math.floor(requests * share + 1e-9))


@frozen
class QuotaReading:
    """What one answer states about the quota. A field is None if it is not stated, or not believable.

    `remaining` is in requests, `resets_after` in seconds, `wait` is the seconds that the service asks to
    wait, and `allocated` is the quota: requests, and the seconds of their window.
    """

    remaining: int | None = None
    resets_after: float | None = None
    wait: float | None = None
    allocated: tuple[int, float] | None = None

    @property
    def pause(self) -> float | None:
        """Seconds to wait after a refusal: the longest that the answer states."""
        return max((s for s in (self.wait, self.resets_after) if s is not None), default=None)


def believable(seconds: float | None) -> float | None:
    """Return the seconds if they are plausible, None for a negative number, NaN, or more than an hour."""
    return seconds if seconds is not None and 0 <= seconds <= LONGEST_READING else None
