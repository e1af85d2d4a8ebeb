"""What callers give, checked before anything is done with it: one sentence that names the argument."""

from __future__ import annotations

from typing import Any

import attrs

from b2b_payments._errors import ConfigurationError, shown
from b2b_payments._models.decimals import is_whole
from b2b_payments._printable import unset_field


def check(name: str, value: object, kind: Any, expected: str) -> None:
    """Check the type of an argument, and that it is whole. Raises ConfigurationError."""
    if not isinstance(value, kind):
        raise ConfigurationError(f"{name} is {type(value).__name__}; give {expected}.")
    if attrs.has(type(value)) and (unset := unset_field(value)) is not None:
        raise ConfigurationError(f"{name} is half made: its {unset} is not set.")


def whole(name: str, value: object, *, least: int) -> int:
    """Check a whole number. Raises ConfigurationError."""
    # A bool is an int to Python.
    if not is_whole(value) or value < least:
        raise ConfigurationError(f"{name} must be a whole number of at least {least}, not {shown(value)}.")
    return value
