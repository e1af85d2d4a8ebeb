"""Exact numbers, independent of the caller's decimal context: its precision, rounding, traps, exponents."""

from __future__ import annotations

import re
from decimal import MAX_EMAX, MIN_EMIN, ROUND_HALF_EVEN, Context, Decimal, Inexact, InvalidOperation
from typing import Final, TypeGuard

EXACT: Final = Context(
    prec=400,
    rounding=ROUND_HALF_EVEN,
    Emin=MIN_EMIN,
    Emax=MAX_EMAX,
    capitals=1,
    clamp=0,
    flags=[],
    traps=[Inexact, InvalidOperation],
)
"""For all arithmetic of this library: it has more digits than any amount, and raises instead of rounding.

Every setting is explicit: defaults would come from `decimal.DefaultContext`, which programs change.
"""

# The constructor accepts more: `1_000`, digits of other scripts, white space, NaN. And an exponent of more
# than nine digits may be out of its range, which raises in one context and results in NaN in another.
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,9})?", re.ASCII)

_WHOLE = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)

INTEGER_LIMIT: Final = 10**38
"""All ids, codes and times of the service are smaller: a guard against numbers of thousands of digits."""


def is_whole(value: object) -> TypeGuard[int]:
    """Whether a value is an int (not a bool) of a sane size, smaller than 10**38."""
    return type(value) is int and -INTEGER_LIMIT < value < INTEGER_LIMIT


def whole_of(value: object) -> int | None:
    """Return a whole number, which the service may send as digits in a string [seen], or None."""
    if isinstance(value, str):
        return int(value) if _WHOLE.fullmatch(value) else None
    if isinstance(value, float) and value.is_integer():
        return int(Decimal(repr(value)))  # by its digits: the binary value of 1e23 is another integer
    return value if type(value) is int else None


def decimal_of(text: str) -> Decimal | None:
    """Parse a number with all its digits. Returns None if the text is not a number."""
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def decimal_text(number: Decimal) -> str:
    """Format a number as `str` does in the default context."""
    return EXACT.to_sci_string(number)
