"""Moments: the service's epoch seconds are aware UTC datetimes here."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from b2b_payments._errors import ConfigurationError, shown


def in_utc(value: Any) -> datetime:
    """Take a caller's aware datetime into UTC. Raises `ConfigurationError` for a naive one."""
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise ConfigurationError(
            f"{shown(value)} is not an aware datetime: give one with a time zone, e.g. datetime.now(UTC)."
        )
    return value.astimezone(UTC)
