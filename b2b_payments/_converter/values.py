"""Reading of single JSON values: all the format variants that are tolerated, in one place.

Readers raise `UnreadableError`.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from b2b_payments._converter.unreadable import UnreadableError
from b2b_payments._models.decimals import EXACT, decimal_of, decimal_text, is_whole, whole_of
from b2b_payments._models.moment import iso_moment, microseconds_of, moment_of
from b2b_payments._models.money import is_amount

_MAX_EXPONENT: Final = 12  # of epoch seconds: more than the year 9999 needs


def read_text(value: object) -> str:
    """Read text. A number is read as its digits, since the service sends some ids as numbers."""
    if isinstance(value, str):
        return value
    if isinstance(value, Decimal):
        return decimal_text(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise UnreadableError(value, "text")


def read_whole_number(value: object) -> int:
    """Read a whole number, also from digits in a string."""
    number = whole_of(value)
    if is_whole(number):
        return number
    raise UnreadableError(value, "a whole number")


def read_amount(value: object) -> Decimal:
    """Read an amount from a number or digits in a string, exactly. A float is read by its shortest digits."""
    if type(value) is float and 1e-4 <= value < 1e16:  # its repr has no exponent
        return Decimal(repr(value))
    if isinstance(value, int | float | str | Decimal) and not isinstance(value, bool):
        number = _number(value)
        if number is not None and is_amount(number):
            return number
    raise UnreadableError(value, "an amount such as '30.0000'")


def read_flag(value: object) -> bool:
    """Read a boolean, also from 1 and 0, or from these words in a string: 1, 0, true, false."""
    for flag, words in ((True, ("1", "true")), (False, ("0", "false"))):
        if isinstance(value, int | str) and str(value).lower() in words:
            return flag
    raise UnreadableError(value, "true or false")


def read_object(value: object) -> dict[str, Any]:
    """Return an object unchanged."""
    if isinstance(value, dict):
        return value
    raise UnreadableError(value, "an object")


def read_moment(value: object) -> datetime:
    """Read epoch seconds, a number or digits in a string, or ISO 8601, in UTC if it has no time zone.

    Digits beyond microseconds, the most that a datetime holds, are cut.
    """
    if isinstance(value, str) and (moment := iso_moment(value)) is not None:
        return moment
    expected = "epoch seconds or ISO 8601, in the years 1 to 9999"
    if isinstance(value, int | float | str | Decimal) and not isinstance(value, bool):
        seconds = _number(value)
        # Converting a number such as 1E+999990 to int would take a minute.
        if seconds is not None and seconds.is_finite() and seconds.adjusted() <= _MAX_EXPONENT:
            with suppress(ArithmeticError):
                return moment_of(int(EXACT.scaleb(seconds, 6)))
    raise UnreadableError(value, expected)


def _number(value: float | str | Decimal) -> Decimal | None:
    """Convert to Decimal, a float by its shortest digits. Returns None for text that is not a number."""
    if isinstance(value, str):
        return decimal_of(value)
    return Decimal(repr(value) if isinstance(value, float) else value)


def epoch_seconds(moment: datetime) -> int | float:
    """Return epoch seconds: an int, as the service sends, unless a caller's time has a fraction."""
    whole, rest = divmod(microseconds_of(moment), 1_000_000)
    return whole + rest / 1_000_000 if rest else whole
