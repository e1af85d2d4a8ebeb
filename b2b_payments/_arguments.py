"""Checks of callers' arguments. The error names the argument in one sentence."""

from __future__ import annotations

from typing import Any

import attrs

from b2b_payments._errors import ConfigurationError, shown
from b2b_payments._models.decimals import is_whole
from b2b_payments._printable import unset_field

_MAX_SECONDS = 366 * 86_400.0


def check(name: str, value: object, kind: Any, expected: str) -> None:
    """Check that an argument has the right type and is complete. Raises ConfigurationError."""
    if not isinstance(value, kind):
        raise ConfigurationError(f"{name} is {type(value).__name__}; give {expected}.")
    if attrs.has(type(value)) and (unset := unset_field(value)) is not None:
        raise ConfigurationError(f"{name} is incomplete: its {unset} is not set.")


def seconds(name: str, value: object, *, least: float = 0.0) -> float:
    """Check a number of seconds, at most a year. Raises ConfigurationError."""
    if type(value) not in {int, float} or not least <= value <= _MAX_SECONDS:  # type: ignore[operator]
        at_least = f"from {least:g} " if least else "from 0 "
        raise ConfigurationError(f"{name} must be seconds, {at_least}to a year, not {shown(value)}.")
    return float(value)  # type: ignore[arg-type]


def whole(name: str, value: object, *, least: int) -> int:
    """Check a whole number. Raises ConfigurationError."""
    # A bool is an int to Python.
    if not is_whole(value) or value < least:
        raise ConfigurationError(f"{name} must be a whole number of at least {least}, not {shown(value)}.")
    return value
