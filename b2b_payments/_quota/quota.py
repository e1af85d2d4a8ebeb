"""What a store allows, as the caller says it and as an answer says it."""

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
"""Seconds: a wait, a reset or a window that the service states beyond this is not kept to."""

_LONGEST_PATH = 4_000  # bytes; a file's own name may follow, and Linux takes 4,095
_LONGEST_NAME = 255
_SCHEMES = ("redis", "rediss", "unix")

_WRITTEN = re.compile(r"([0-9]{1,9})/([0-9]{1,9}(?:\.[0-9]{1,9})?)")


def _requests(_quota: Quota, _field: attrs.Attribute[int], value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(
            f"Quota requests={shown(value)}: give a whole number of requests, 1 or more."
        )


def _per(_quota: Quota, _field: attrs.Attribute[float], value: Any) -> None:
    if not _is_number(value) or not 0 < value < math.inf:
        raise ConfigurationError(
            f"Quota per={shown(value)}: give the window's length in seconds, more than 0."
        )


def _share(_quota: Quota, _field: attrs.Attribute[float], value: Any) -> None:
    if not _is_number(value) or not 0 < value <= 1:
        raise ConfigurationError(
            f"Quota share={shown(value)}: give the part that this process may use, more than 0 and at most 1."
        )


def _margin(_quota: Quota, _field: attrs.Attribute[float], value: Any) -> None:
    if not _is_number(value) or not 0 <= value < math.inf:
        raise ConfigurationError(f"Quota margin={shown(value)}: give seconds, 0 or more.")


def _reserve(quota: Quota, _field: attrs.Attribute[int], value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < quota.limit:
        raise ConfigurationError(
            f"Quota reserve={shown(value)}: give how many requests of each window are kept for calls, "
            f"from 0 to {quota.limit - 1}."
        )


def _shared(_quota: Quota, _field: attrs.Attribute[Any], value: Any) -> None:
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, str) and (_is_server(value) if "://" in value else _is_path(value)):
        return
    raise ConfigurationError(
        f"Quota shared={_hidden(value)}: give True for this user's processes, the path of a file or folder, "
        "or the URL of a Redis server, such as redis://host:6379/0."
    )


def _hide(value: Any) -> Any:
    return Secret(value) if isinstance(value, str) and "://" in value else value


def _hidden(value: Any) -> str:
    return repr(without_credentials(value)) if isinstance(value, Secret) else shown(value)


def _is_server(text: str) -> bool:
    scheme, _, rest = text.partition("://")
    return scheme in _SCHEMES and bool(rest)


def without_credentials(url: str) -> str:
    """Name a server without the user name and the password of its URL, wherever they stand in it."""
    scheme, _, rest = url.partition("://")
    head, *options = re.split("[?#]", rest, maxsplit=1)
    before, at, place = head.rpartition("@")
    # One that is not escaped may hold any of these characters.
    is_clear = not any("@" in option for option in options) and "/" not in before
    return f"{scheme}://{'***@' if at else ''}{place}" if is_clear else f"{scheme}://***"


def credentials_in(url: str) -> list[Secret]:
    """Return whatever of a URL may be a credential."""
    parts = urlsplit(str.__str__(url))
    given = [
        *parse_qs(parts.query).values(),
        [unquote(parts.username or "")],
        [unquote(parts.password or "")],
    ]
    return [Secret(text) for values in given for text in values if text]


def _is_path(text: str) -> bool:
    """Whether a file can have this path: systems refuse others when it is opened, each in its own way."""
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
    """How many requests a store allows, and which part of them this process may use.

    The default is the service's: 150 requests in 60 seconds [doc]. `share=0.8` leaves a fifth to other
    integrations of the store. `margin` seconds are added to the window: with 80 ms of heavy-tailed latency,
    150 requests sent in exactly 60 s were measured to be 170 arrivals in some window; half a second more
    made it 150.

    `reserve` requests of each window are kept from the pages of walks, for calls that somebody waits for.

    All clients of a store in one process count together. `shared=True` makes all processes of this user on
    this machine do so, through a small file of each store; ``shared="/path"``, a file or a folder, those of
    several users. It needs a system with POSIX locks. ``shared="redis://host:6379/0"`` (``rediss://``,
    ``unix://``) makes those of all machines do so, through a Redis or Valkey server (extra `redis`).

    Raises `ConfigurationError` for anything that is not a quota.
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
        """The requests that this process may send in one `span`: at least 1."""
        return part_of(self.requests, self.share)

    @property
    def span(self) -> float:
        """The length of our own window in seconds: the service's, and the margin."""
        return self.per + self.margin

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``"150/60"``: requests, a slash, seconds. Raises `ConfigurationError`."""
        match = _WRITTEN.fullmatch(text.strip())
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
    """What one answer says about the quota; None where it says nothing (that can be believed).

    `remaining` requests, `resets_after` seconds, `wait`: the seconds that the service asks to wait,
    `allocated`: requests and the seconds of their window.
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
    """Return seconds that a service can mean; None for a negative number, NaN, or more than an hour."""
    return seconds if seconds is not None and 0 <= seconds <= LONGEST_READING else None
