"""Numbers, exact whatever the caller's decimal context says: precision, rounding, traps, exponents."""

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
"""For all arithmetic of this library: more digits than any amount has, and what would be rounded raises.

Every setting is stated, since what is left out comes from `decimal.DefaultContext`, which programs change.
"""

# The constructor takes more: `1_000`, digits of other scripts, white space, NaN. And an exponent of more than
# nine digits may be beyond its range, where it raises in one context and gives NaN in another.
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,9})?", re.ASCII)


MOST_WHOLE: Final = 10**38
"""No id, code or time of the service is as large as this: a guard against numbers of thousands of digits."""


def is_whole(value: object) -> TypeGuard[int]:
    """Tell whether a value is a whole number of a sane size, and no bool."""
    return type(value) is int and -MOST_WHOLE < value < MOST_WHOLE


def whole_of(said: object) -> int | None:
    """Read a whole number, which may come as digits in text [seen]; None for what is none."""
    if isinstance(said, str) and said.isascii() and said.isdigit() and len(said) < 20:
        return int(said)
    return said if type(said) is int else None


def decimal_of(text: str) -> Decimal | None:
    """Read a number with all its digits; None for what is no number."""
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def decimal_text(number: Decimal) -> str:
    """Return a number's text, as `str` does in the usual context."""
    return EXACT.to_sci_string(number)
