"""What an answer's headers say about the quota."""

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
    """Read the quota's headers; `now` is the moment of an answer without a `Date`, with a time zone.

    Understands `X-Requests-Allocated: 150 times/60 s`, `X-Requests-Remaining: 149 times` and
    `X-Request-Window-Resets-After: 0.397 s` [doc], the core API's `X-Rate-Limit-Requests-Left`,
    `X-Rate-Limit-Time-Reset-Ms` and `X-Retry-After` [doc, for that API], and HTTP's `Retry-After` in seconds
    or as a date. Times come with the unit s or ms or without; of several, the longest wait and the smallest
    remainder count. What cannot be read is left out: nothing raises.
    """
    given = {name.lower(): value.strip() for name, value in headers.items()}
    value = {name: given.get(name, "") for name in map(str.lower, HEADERS)}.__getitem__

    return QuotaReading(
        remaining=min(
            _known(_count(value("x-requests-remaining")), _count(value("x-rate-limit-requests-left"))),
            default=None,
        ),
        resets_after=max(
            _known(
                _duration(value("x-request-window-resets-after")),
                _duration(value("x-rate-limit-time-reset-ms"), unit="ms"),
            ),
            default=None,
        ),
        wait=max(
            _known(
                _duration(value("x-retry-after")),
                _duration(value("retry-after")),
                _until(value("retry-after"), read_date(value("date")) or now),
            ),
            default=None,
        ),
        allocated=_allocated(value("x-requests-allocated")),
    )


@lru_cache(maxsize=16)  # asked of each answer several times, and of many in a second
def read_date(text: str) -> datetime | None:
    """Read an HTTP date, in UTC; None for what is none."""
    try:
        moment = parsedate_to_datetime(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None


def _known(*values: _T | None) -> Iterable[_T]:
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
    """Seconds until an HTTP date; one that has passed means now."""
    moment = read_date(text)
    return None if moment is None else max(0.0, (moment - now).total_seconds())
