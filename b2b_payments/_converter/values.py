"""Single values between JSON and Python: every tolerance that the service needs, in one place.

Readers raise `UnreadableError`.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from b2b_payments._converter.unreadable import UnreadableError
from b2b_payments._models.decimals import EXACT, decimal_of, decimal_text, is_whole
from b2b_payments._models.moment import microseconds_of, moment_of
from b2b_payments._models.money import is_amount

_MOST_DIGITS: Final = 12  # of epoch seconds: enough for the year 9999
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")

_ISO = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?"
    r"(?:Z|[+-][0-9]{2}:?[0-9]{2})?"
)


def read_text(value: object) -> str:
    """Read text; a number stands for its digits, since the service sends some ids so."""
    if isinstance(value, str):
        return value
    if isinstance(value, Decimal):
        return decimal_text(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise UnreadableError(value, "text")


def read_whole_number(value: object) -> int:
    """Read a whole number; digits in a string stand for it."""
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value)
    # A float stands for its digits: 1e23 as a float is another number.
    number = int(Decimal(repr(value))) if isinstance(value, float) and value.is_integer() else value
    if is_whole(number):
        return number
    raise UnreadableError(value, "a whole number")


def read_amount(value: object) -> Decimal:
    """Read an amount from digits or from a number, exactly: a float counts for its shortest digits."""
    if type(value) is float and 1e-4 <= value < 1e16:  # so it is written without an exponent
        return Decimal(repr(value))
    if isinstance(value, int | float | str | Decimal) and not isinstance(value, bool):
        number = _number(value)
        if number is not None and is_amount(number):
            return number
    raise UnreadableError(value, "an amount such as '30.0000'")


def read_flag(value: object) -> bool:
    """Read a yes or no; 1 and 0 stand for them."""
    if isinstance(value, bool):
        return value
    for flag, spellings in ((True, ("1", "true")), (False, ("0", "false"))):
        if isinstance(value, int | str) and str(value).lower() in spellings:
            return flag
    raise UnreadableError(value, "true or false")


def read_object(value: object) -> dict[str, Any]:
    """Read an object, as it is."""
    if isinstance(value, dict):
        return value
    raise UnreadableError(value, "an object")


def read_moment(value: object) -> datetime:
    """Read epoch seconds, as a number or as digits, or ISO 8601, which means UTC where it names no zone."""
    if isinstance(value, str) and _ISO.fullmatch(value):
        with suppress(ValueError, OverflowError):
            moment = datetime.fromisoformat(value)
            return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    expected = "epoch seconds or ISO 8601, of the years 1 to 9999"
    if isinstance(value, int | float | str | Decimal) and not isinstance(value, bool):
        seconds = _number(value)
        # A number such as 1E+999990 would take a minute to be written out.
        if seconds is not None and seconds.is_finite() and seconds.adjusted() <= _MOST_DIGITS:
            with suppress(ArithmeticError):
                return moment_of(int(EXACT.scaleb(seconds, 6)))
    raise UnreadableError(value, expected)


def _number(value: float | str | Decimal) -> Decimal | None:
    """Return a number with its digits, a float with its shortest ones; None for text that is none."""
    if isinstance(value, str):
        return decimal_of(value)
    return Decimal(repr(value) if isinstance(value, float) else value)


def epoch_seconds(moment: datetime) -> int | float:
    """Return epoch seconds as the service counts them: whole, unless a caller's moment has a fraction."""
    whole, rest = divmod(microseconds_of(moment), 1_000_000)
    return whole + rest / 1_000_000 if rest else whole
