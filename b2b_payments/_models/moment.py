"""Moments: the service's epoch seconds are aware UTC datetimes here."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from b2b_payments._errors import ConfigurationError, shown

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def microseconds_of(moment: datetime) -> int:
    """Return how long after 1970 a moment is."""
    return (moment - _EPOCH) // _MICROSECOND


def moment_of(microseconds: int) -> datetime:
    """Return the moment so long after 1970."""
    return _EPOCH + timedelta(microseconds=microseconds)


def in_utc(value: Any) -> datetime:
    """Take a caller's aware datetime into UTC.

    Raises `ConfigurationError` for a naive one, and for one that is of no year from 1 to 9999 there.
    """
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise ConfigurationError(
            f"{shown(value)} is not an aware datetime: give one with a time zone, e.g. datetime.now(UTC)."
        )
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ConfigurationError(f"{shown(value)} is of no year from 1 to 9999 in UTC.") from None
