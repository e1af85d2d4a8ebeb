"""What options and arguments take, read from text. Raises click.BadParameter for what cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from b2b_payments.models import OfflineLineItem
    from b2b_payments.quota import Quota

AT_LEAST_ONE = click.IntRange(min=1)


def quota(text: str) -> Quota:
    """Read requests and seconds, as in 150/60."""
    from b2b_payments.errors import ConfigurationError
    from b2b_payments.quota import Quota

    try:
        return Quota.parse(text)
    except ConfigurationError as error:
        raise click.BadParameter(str(error)) from None


def line_item(text: str) -> OfflineLineItem:
    """Read the part of an offline payment that goes to one invoice, as in 13=20.00."""
    from b2b_payments.errors import ConfigurationError
    from b2b_payments.models import OfflineLineItem

    invoice, _, amount = text.partition("=")
    if not (amount and invoice.isascii() and invoice.isdecimal()):
        raise click.BadParameter(f"{text!r} is no invoice's id and amount: write both, as in 13=20.00.")
    try:
        return OfflineLineItem(int(invoice), amount)
    except ConfigurationError as error:
        raise click.BadParameter(str(error)) from None


def detail(text: str) -> tuple[str, str]:
    """Read a name and its text, as in memo=Cash."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise click.BadParameter(f"{text!r} has no name: write name=text, as in memo=Cash.")
    return name, value


def _code(enum: str, numbers: range) -> Callable[[str], int]:
    def read(text: str) -> int:
        from b2b_payments import models

        names = {code.name.lower().replace("_", "-"): int(code) for code in getattr(models, enum)}
        word = text.lower().replace("_", "-")
        number = int(word) if word.isascii() and word.isdecimal() else names.get(word, -1)
        if number in numbers:
            return number
        known = ", ".join(f"{name} ({code})" for name, code in names.items() if code in numbers)
        raise click.BadParameter(f"{text!r} is none of {known}.")

    return read


status = _code("ProcessingStatus", range(5))
"""A processing status to look for, by name or number."""
new_status = status
"""A processing status to set; documented are 1 to 4, and the vendor's example sets 0."""
operation = _code("Operation", range(4))
"""An operation, by name or number; 3 has no name, and the service takes it."""
