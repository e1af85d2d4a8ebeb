"""Reads the quota and the clock from an answer's headers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TypeVar

from b2b_payments._quota import QuotaReading

_T = TypeVar("_T", int, float)

HEADERS = (
    "Date",
    "Retry-After",
    "X-Rate-Limit-Requests-Left",
    "X-Rate-Limit-Time-Reset-Ms",
    "X-Request-Window-Resets-After",
    "X-Requests-Allocated",
    "X-Requests-Remaining",
    "X-Retry-After",
)
"""The headers that are read here."""

_COUNT = re.compile(r"([0-9]{1,15})\s*(?:times?|requests?)?", re.IGNORECASE)
_SECONDS = r"([0-9]{1,15}(?:\.[0-9]{0,15})?)\s*(ms|milliseconds?|s|sec|seconds?)?"
_DURATION = re.compile(_SECONDS, re.IGNORECASE)
_ALLOCATED = re.compile(rf"{_COUNT.pattern}\s*/\s*{_SECONDS}", re.IGNORECASE)


def read_limits(headers: Mapping[str, str], now: datetime) -> QuotaReading:
    """Read the quota's headers; `now` is an aware datetime, used if the answer has no readable `Date`.

    Understands `X-Requests-Allocated: 150 times/60 s`, `X-Requests-Remaining: 149 times` and
    `X-Request-Window-Resets-After: 0.397 s` [doc], the core API's `X-Rate-Limit-Requests-Left`,
    `X-Rate-Limit-Time-Reset-Ms` and `X-Retry-After` [doc, for that API], and HTTP's `Retry-After` in seconds
    or as a date. Times may have the unit s or ms or none. Of several values, the longest wait and the
    smallest remainder count. Unreadable values are ignored; nothing is raised.
    """
    present = {name.lower(): value.strip() for name, value in headers.items()}
    value = {name: present.get(name, "") for name in map(str.lower, HEADERS)}.__getitem__

    return QuotaReading(
        remaining=min(
            _present(_count(value("x-requests-remaining")), _count(value("x-rate-limit-requests-left"))),
            default=None,
        ),
        resets_after=max(
            _present(
                _duration(value("x-request-window-resets-after")),
                _duration(value("x-rate-limit-time-reset-ms"), unit="ms"),
            ),
            default=None,
        ),
        wait=max(
            _present(
                _duration(value("x-retry-after")),
                _duration(value("retry-after")),
                _until(value("retry-after"), read_date(value("date")) or now),
            ),
            default=None,
        ),
        allocated=_allocated(value("x-requests-allocated")),
    )


@lru_cache(maxsize=16)  # read several times per answer, and many answers share a second
def read_date(text: str) -> datetime | None:
    """Parse an HTTP date into UTC; None if it is not one."""
    try:
        date = parsedate_to_datetime(text)
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None


def _present(*values: _T | None) -> Iterable[_T]:
    return (value for value in values if value is not None)


def _count(text: str) -> int | None:
    match = _COUNT.fullmatch(text)
    return None if match is None else int(match[1])


def _duration(text: str, unit: str = "s") -> float | None:
    match = _DURATION.fullmatch(text)
    return None if match is None else _seconds(match[1], match[2] or unit)


def _allocated(text: str) -> tuple[int, float] | None:
    match = _ALLOCATED.fullmatch(text)
    return None if match is None else (int(match[1]), _seconds(match[2], match[3] or "s"))


def _seconds(number: str, unit: str) -> float:
    return float(number) / (1000 if unit.lower().startswith("m") else 1)


def _until(text: str, now: datetime) -> float | None:
    """Return the seconds until an HTTP date, 0 if it has passed; None if it is not a date."""
    date = read_date(text)
    return None if date is None else max(0.0, (date - now).total_seconds())
