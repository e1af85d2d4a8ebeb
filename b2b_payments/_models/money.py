"""Amounts of money: exact decimals that keep their trailing zeros."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import attrs

from b2b_payments._errors import ConfigurationError, shown
from b2b_payments._models.answer_model import AnswerModel
from b2b_payments._models.decimals import decimal_of
from b2b_payments._models.description import DIGITS
from b2b_payments._models.extra import Extra, extra_of
from b2b_payments._printable import frozen

MAX_DIGITS: Final = 100
"""The most digits that an amount has before or after its point: a guard against ``"1E+999999999"``."""


def is_amount(number: Decimal, longest: int = MAX_DIGITS) -> bool:
    """Whether a number can be an amount of money: finite, with at most `longest` digits on either side."""
    if not number.is_finite():
        return False
    _, digits, exponent = number.as_tuple()
    return isinstance(exponent, int) and -longest <= exponent <= longest - len(digits)


def exact_amount(value: Decimal | int | str) -> Decimal:
    """Convert a caller's amount, a Decimal, an int or digits in a string, to Decimal.

    Raises `ConfigurationError` for anything else, floats in particular: ``0.1`` is not exactly a tenth.
    """
    if isinstance(value, float):
        digits = repr(float(value))
        raise ConfigurationError(
            f"amount {digits} is a float, which cannot hold money exactly: give Decimal({digits!r})."
        )
    if isinstance(value, bool) or not isinstance(value, Decimal | int | str):
        raise ConfigurationError(
            f"amount is {type(value).__name__}, not an amount: give a Decimal, an int or '20.00'."
        )
    number = decimal_of(value) if isinstance(value, str) else Decimal(value)
    if number is None or not is_amount(number):
        raise ConfigurationError(f"amount {shown(value)} is not a finite number: give one such as '20.00'.")
    return number


@frozen
class Money(AnswerModel):
    """An amount in a currency: `currency` is the service's code, e.g. ``"USD"``.

    The amount keeps its zeros: ``"30.0000"`` becomes ``Decimal("30.0000")``, which equals ``Decimal("30")``.
    """

    currency: str = attrs.field(metadata={"wire": "code", "optional": True})
    amount: Decimal = attrs.field(converter=exact_amount, metadata={"wire": "value"} | DIGITS)
    extra: Extra = attrs.field(factory=Extra, converter=extra_of, hash=False)
