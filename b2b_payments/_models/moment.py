"""Times: the service sends epoch seconds, which are aware UTC datetimes here."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from b2b_payments._errors import ConfigurationError, shown

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_ISO: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?"
    r"(?:Z|[+-][0-9]{2}:?[0-9]{2})?"
)


def microseconds_of(moment: datetime) -> int:
    """Return the microseconds from 1970 to an aware datetime."""
    return (moment - _EPOCH) // _MICROSECOND


def moment_of(microseconds: int) -> datetime:
    """Return the UTC datetime this many microseconds after 1970."""
    return _EPOCH + timedelta(microseconds=microseconds)


def iso_moment(text: str) -> datetime | None:
    """Return the UTC datetime of a time in ISO 8601, in UTC if it has no time zone; None for other text."""
    if _ISO.fullmatch(text):
        with suppress(ValueError, OverflowError):
            moment = datetime.fromisoformat(text)
            return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    return None


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
