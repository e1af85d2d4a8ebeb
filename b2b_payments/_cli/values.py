"""What options and arguments take, read from text. Raises click.BadParameter for what cannot be read."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

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


class WholeNumber(click.ParamType[int]):
    """A whole number in plain digits, within bounds."""

    name = "integer"

    def __init__(self, least: int | None = None, most: int | None = None) -> None:
        self._least = least
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the number."""
        number = whole(value) if isinstance(value, str) else value
        if number is None or not _is_within(number, self._least, self._most):
            wanted = f"a whole number{_bounds(self._least, self._most)}"
            self.fail(f"give {wanted}, not {shown(value)}.", param, ctx)
        return number


class Number(click.ParamType[float]):
    """A number in plain digits, with a point perhaps, within bounds."""

    name = "number"

    def __init__(self, least: float, most: float) -> None:
        self._least = least
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the number."""
        number = float(value) if not isinstance(value, str) or _NUMBER.fullmatch(value) else None
        if number is None or not _is_within(number, self._least, self._most):
            self.fail(f"give a number{_bounds(self._least, self._most)}, not {shown(value)}.", param, ctx)
        return number


class Text(click.ParamType[str]):
    """Text that is not blank."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the text."""
        if not value.strip():
            self.fail("it is empty: fill it in, or leave it out.", param, ctx)
        return value


class Moment(click.ParamType[datetime]):
    """A date or a time as ISO 8601 has it; without a zone it is UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the moment."""
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(value)
            return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(
                f"give a date or a time, such as 2026-11-28 or 2026-11-28T20:00:00Z, not {shown(value)}.",
                param,
                ctx,
            )


def _is_within(number: float, least: float | None, most: float | None) -> bool:
    return (least is None or number >= least) and (most is None or number <= most)


def _bounds(least: float | None, most: float | None) -> str:
    if least is None:
        return ""
    return f" from {least:,} to {most:,}" if most is not None else f", {least:,} or more"


TEXT = Text()
AT_LEAST_ONE = WholeNumber(least=1)
MOMENT = Moment()
PAYMENT_ID = click.argument("payment_id", metavar="ID", type=AT_LEAST_ONE)


def new_file(text: str) -> str:
    """Read the name of a file to be written: one that cannot be is refused before anything is sent."""
    from b2b_payments._errors import ConfigurationError
    from b2b_payments.export._file import writable

    try:
        writable(TEXT(text))
    except ConfigurationError as error:
        raise click.BadParameter(str(error)) from None
    return text


def base_url(text: str) -> str:
    """Read the service's address."""
    if problem := problem_with_base_url(text):
        raise click.BadParameter(problem)
    return text


def problem_with_base_url(text: str) -> str:
    """Say why this is not the service's address, in a sentence; nothing where it may be."""
    from b2b_payments._errors import ConfigurationError
    from b2b_payments._transport.transport import checked_base_url

    try:
        checked_base_url(text, allow_http=False)
    except ConfigurationError as error:
        if text.lower().startswith("http://") and "not https" in str(error):
            return "it is not https: the credential would be sent unencrypted; use https."
        return f"it {str(error).removeprefix('base_url ')}"
    return ""


def quota(text: str) -> Quota | Literal["none"]:
    """Read requests and seconds, as in 150/60; "none" is no quota at all."""
    from b2b_payments._errors import ConfigurationError
    from b2b_payments._quota import Quota

    if text.strip().lower() == "none":
        return "none"
    try:
        return Quota.parse(text)
    except ConfigurationError:
        raise click.BadParameter(
            f"{shown(text)} is not a quota: write requests and seconds, each more than 0, as in 150/60, "
            "or none."
        ) from None


def shard(text: str) -> tuple[int, int]:
    """Read which part of how many, as in 2/4."""
    number, _, of = text.partition("/")
    part = (whole(number) or 0, whole(of) or 0)
    if not 1 <= part[0] <= part[1]:
        raise click.BadParameter(f"{shown(text)} is no shard: write which one of how many, as in 2/4.")
    return part


def line_item(text: str) -> OfflineLineItem:
    """Read the part of an offline payment that goes to one invoice, as in 13=20.00."""
    from b2b_payments._errors import ConfigurationError
    from b2b_payments._models import OfflineLineItem

    invoice, _, amount = text.partition("=")
    number = whole(invoice)
    if number is None or not amount:
        raise click.BadParameter(
            f"{shown(text)} is not an invoice's id and amount: write both, as in 13=20.00."
        )
    try:
        return OfflineLineItem(number, amount)
    except ConfigurationError:
        raise click.BadParameter(
            f"{shown(text)} has no amount that can be: write it in plain digits, as in 13=20.00."
        ) from None


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
        unnamed = ", ".join(str(one) for one in numbers if one not in names.values())
        raise click.BadParameter(f"{shown(text)} is none of {known}{unnamed and f', {unnamed} (unnamed)'}.")

    return read


status = _code("ProcessingStatus", range(5))
"""A processing status to look for or to set, by name or number; to set 0 the vendor's example does."""
new_payments_status = _code("ProcessingStatus", range(1, 5))
"""The processing status of a payment that is recorded."""
operation = _code("Operation", range(4))
"""An operation, by name or number; 3 has no name, and the service takes it."""
