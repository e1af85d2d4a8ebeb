"""Times: the service sends epoch seconds, which are aware UTC datetimes here."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from b2b_payments._errors import ConfigurationError, shown

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def microseconds_of(moment: datetime) -> int:
    """Return the microseconds from 1970 to an aware datetime."""
    return (moment - _EPOCH) // _MICROSECOND


def moment_of(microseconds: int) -> datetime:
    """Return the UTC datetime this many microseconds after 1970."""
    return _EPOCH + timedelta(microseconds=microseconds)


def in_utc(value: datetime) -> datetime:
    """Convert a caller's aware datetime to UTC.

    Raises `ConfigurationError` if it is naive, or outside the years 1 to 9999 in UTC.
    """
    if not isinstance(value, datetime) or value.utcoffset() is None:  # type: ignore[redundant-expr]
        raise ConfigurationError(
            f"{shown(value)} is not an aware datetime: give one with a time zone, e.g. datetime.now(UTC)."
        )
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ConfigurationError(f"{shown(value)} is outside the years 1 to 9999 in UTC.") from None
