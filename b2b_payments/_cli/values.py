"""What options and arguments take, read from text. Raises click.BadParameter for what cannot be read."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from b2b_payments._errors import shown

if TYPE_CHECKING:
    from b2b_payments._models import OfflineLineItem
    from b2b_payments._quota import Quota

_DIGITS = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{1,18})?", re.ASCII)


def whole(text: str) -> int | None:
    """Read a whole number in plain digits. `int` also takes ``1_000``, spaces, and other scripts' digits."""
    return int(text) if _DIGITS.fullmatch(text) else None


class WholeNumber(click.IntRange):
    """A whole number in plain digits."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the number."""
        if isinstance(value, str) and whole(value) is None:
            self.fail(f"{shown(value)} is not a valid integer.", param, ctx)
        return super().convert(value, param, ctx)


class Number(click.FloatRange):
    """A number in plain digits, with a point perhaps."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the number."""
        if isinstance(value, str) and not _NUMBER.fullmatch(value):
            self.fail(f"{shown(value)} is not a valid float.", param, ctx)
        return super().convert(value, param, ctx)


AT_LEAST_ONE = WholeNumber(min=1)
PAYMENT_ID = click.argument("payment_id", metavar="ID", type=AT_LEAST_ONE)


def quota(text: str) -> Quota:
    """Read requests and seconds, as in 150/60."""
    from b2b_payments._errors import ConfigurationError
    from b2b_payments._quota import Quota

    try:
        return Quota.parse(text)
    except ConfigurationError as error:
        raise click.BadParameter(str(error)) from None


def line_item(text: str) -> OfflineLineItem:
    """Read the part of an offline payment that goes to one invoice, as in 13=20.00."""
    from b2b_payments._errors import ConfigurationError
    from b2b_payments._models import OfflineLineItem

    invoice, _, amount = text.partition("=")
    number = whole(invoice)
    if number is None or not amount:
        raise click.BadParameter(f"{shown(text)} is no invoice's id and amount: write both, as in 13=20.00.")
    try:
        return OfflineLineItem(number, amount)
    except ConfigurationError as error:
        raise click.BadParameter(str(error)) from None


def detail(text: str) -> tuple[str, str]:
    """Read a name and its text, as in memo=Cash."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise click.BadParameter(f"{shown(text)} has no name: write name=text, as in memo=Cash.")
    return name, value


def _code(enum: str, numbers: range) -> Callable[[str], int]:
    def read(text: str) -> int:
        from b2b_payments import _models as models

        names = {code.name.lower().replace("_", "-"): int(code) for code in getattr(models, enum)}
        word = text.lower().replace("_", "-")
        number = whole(word)
        number = names.get(word, -1) if number is None else number
        if number in numbers:
            return number
        known = ", ".join(f"{name} ({code})" for name, code in names.items() if code in numbers)
        raise click.BadParameter(f"{shown(text)} is none of {known}.")

    return read


status = _code("ProcessingStatus", range(5))
"""A processing status to look for, by name or number."""
new_status = status
"""A processing status to set; documented are 1 to 4, and the vendor's example sets 0."""
operation = _code("Operation", range(4))
"""An operation, by name or number; 3 has no name, and the service takes it."""
