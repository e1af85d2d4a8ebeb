"""Parsers for the values of options and arguments. They raise click.BadParameter."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import click

from b2b_payments._errors import ConfigurationError, shown

if TYPE_CHECKING:
    from b2b_payments._models import OfflineLineItem
    from b2b_payments._quota import Quota

_DIGITS = re.compile(r"[+-]?[0-9]{1,38}", re.ASCII)
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{1,18})?", re.ASCII)


def parse_whole(text: str) -> int | None:
    """Parse a whole number in plain digits. `int` also takes ``1_000``, spaces, and other scripts' digits."""
    return int(text) if _DIGITS.fullmatch(text) else None


class Number(click.ParamType[Any]):
    """A number in plain digits, possibly with a decimal point, within bounds."""

    name = "number"
    _expected = "a number"
    _plain = _NUMBER
    _parse: Callable[[Any], float] = float

    def __init__(self, minimum: float = -math.inf, maximum: float = math.inf) -> None:
        self._min = minimum
        self._max = maximum

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse a text. A default is a number already."""
        if not isinstance(value, str) or self._plain.fullmatch(value):
            number = self._parse(value)
            if self._min <= number <= self._max:
                return number
        raise click.BadParameter(f"give {self._expected}{self._bounds}, not {shown(value)}.", ctx, param)

    @property
    def _bounds(self) -> str:
        if self._min == -math.inf:
            return ""
        low = f"{self._min:,}"
        return f", {low} or more" if self._max == math.inf else f" from {low} to {self._max:,}"


class WholeNumber(Number):
    """A whole number in plain digits, within bounds."""

    name = "integer"
    _expected = "a whole number"
    _plain = _DIGITS
    _parse = int


def not_blank(value: str) -> str:
    if not value.strip():
        raise click.BadParameter("it is empty: fill it in, or leave it out.")
    return value


def moment(value: str) -> datetime:
    """Parse a date or time in ISO 8601, in UTC unless it has a zone."""
    try:
        found = datetime.fromisoformat(value)
        return found.replace(tzinfo=found.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"give a date or a time, such as 2026-11-28 or 2026-11-28T20:00:00Z, not {shown(value)}."
        ) from None


AT_LEAST_ONE = WholeNumber(minimum=1)
PAYMENT_ID = click.argument("payment_id", metavar="ID", type=AT_LEAST_ONE)


def new_file(text: str) -> str:
    """Return the path of a file to write, after checking that it is writable, before anything is sent."""
    from b2b_payments.export._file import writable

    try:
        writable(not_blank(text))
    except ConfigurationError as error:
        raise click.BadParameter(str(error)) from None
    return text


def base_url(text: str) -> str:
    if problem := problem_with_base_url(text):
        raise click.BadParameter(problem)
    return text


def problem_with_base_url(text: str) -> str:
    """Return why this cannot be the service's address, as a sentence, or "" if it can."""
    from b2b_payments._transport.transport import checked_base_url

    try:
        checked_base_url(text, allow_http=False)
    except ConfigurationError as error:
        if text.lower().startswith("http://") and "not https" in str(error):
            return "it is not https, so the credential would be sent unencrypted: use https."
        return f"it {str(error).removeprefix('base_url ')}"
    return ""


def quota(text: str) -> Quota | Literal["none"]:
    """Parse requests and seconds, as in 150/60, or "none" for no quota."""
    from b2b_payments._quota import Quota

    if text.strip().lower() == "none":
        return "none"
    try:
        return Quota.parse(text)
    except ConfigurationError:
        raise click.BadParameter(
            f"{shown(text)} is not a quota: give requests and seconds, both more than 0, as in 150/60, "
            "or none."
        ) from None


def shard(text: str) -> tuple[int, int]:
    """Parse a shard's number and the number of shards, as in 2/4."""
    number, _, of = text.partition("/")
    part = (parse_whole(number) or 0, parse_whole(of) or 0)
    if not 1 <= part[0] <= part[1]:
        raise click.BadParameter(f"{shown(text)} is not a shard: give part/parts, as in 2/4.")
    return part


def line_item(text: str) -> OfflineLineItem:
    """Parse a line item: an invoice's id and the amount paid for it, as in 13=20.00."""
    from b2b_payments._models import OfflineLineItem

    invoice, _, amount = text.partition("=")
    number = parse_whole(invoice)
    if number is None or number < 1 or not amount:
        raise click.BadParameter(
            f"{shown(text)} is not an invoice's id and amount: give both, as in 13=20.00."
        )
    try:
        return OfflineLineItem(number, amount)
    except ConfigurationError:
        raise click.BadParameter(
            f"{shown(text)} has no valid amount: write it in plain digits, as in 13=20.00."
        ) from None


def detail(text: str) -> tuple[str, str]:
    """Parse a name and its text, as in memo=Cash."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise click.BadParameter(f"{shown(text)} is not a name and a text: give both, as in memo=Cash.")
    return name, value


def _code(enum: str, numbers: range) -> Callable[[str], int]:
    def parse(text: str) -> int:
        from b2b_payments import _models as models

        names = {code.name.lower().replace("_", "-"): int(code) for code in getattr(models, enum)}
        word = text.lower().replace("_", "-")
        number = parse_whole(word)
        number = names.get(word, -1) if number is None else number
        if number in numbers:
            return number
        known = ", ".join(f"{name} ({code})" for name, code in names.items() if code in numbers)
        unnamed = ", ".join(str(one) for one in numbers if one not in names.values())
        raise click.BadParameter(f"{shown(text)} is none of {known}{unnamed and f', {unnamed} (unnamed)'}.")

    return parse


status = _code("ProcessingStatus", range(5))
"""A processing status to filter by or to set, by name or number. The vendor's example sets 0, too."""
new_payments_status = _code("ProcessingStatus", range(1, 5))
"""The processing status of a new payment, by name or number."""
operation = _code("Operation", range(4))
"""An operation, by name or number. 3 has no name, but the service accepts it."""
