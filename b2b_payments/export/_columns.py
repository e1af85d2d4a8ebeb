"""The columns that payments and line items have in every format but JSON lines, derived from the models.

What has no column of its own is JSON text: `details`, `fees`, `module_data`, what is allowed, and `extra`,
which holds every field that this library does not know, those within `total` and a line item's amount too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import Enum, auto
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import attrs

from b2b_payments._models import LineItem, Money, Payment

Row = tuple[Any, ...]
"""A table's cells: int, text and None; amounts as their digits, moments as microseconds since 1970 in UTC."""

DIGITS = 38
SCALE = 12
"""Digits of a decimal column, and those of them behind its point. The service sends 4 there, at times 8."""


class Kind(Enum):
    """What a column holds."""

    INTEGER = auto()
    TEXT = auto()
    MONEY = auto()
    MOMENT = auto()
    JSON = auto()


_KINDS = {int: Kind.INTEGER, str: Kind.TEXT, datetime: Kind.MOMENT, Money: Kind.MONEY}


@attrs.frozen
class Column:
    """A column. Where it is nullable, null is what the service left out, or sent as null.

    `required` says that no payment is without it.
    """

    name: str
    kind: Kind
    nullable: bool = False
    required: bool = False


@attrs.frozen
class Table:
    """A table: its columns, the first of which are its primary key."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """The columns' names."""
        return [column.name for column in self.columns]


def _columns(model: type[Any]) -> Iterator[Column]:
    """Give a column for each field of a model, and two for money; items have a table of their own."""
    types = get_type_hints(model, include_extras=True)
    for attribute in attrs.fields(model):
        parts = get_args(types[attribute.name]) or (types[attribute.name],)
        if attribute.name.startswith("_") or LineItem in parts:
            continue
        kind = Kind.JSON
        if get_origin(types[attribute.name]) not in {tuple, Mapping}:
            found = [known for type_, known in _KINDS.items() for part in parts if _is(part, type_)]
            kind = found[0] if found else Kind.JSON
        nullable = NoneType in parts
        yield Column(attribute.name, kind, nullable, attribute.default is attrs.NOTHING)
        if kind is Kind.MONEY:
            yield Column("currency", Kind.TEXT, nullable, attribute.default is attrs.NOTHING)


def _is(part: object, type_: type) -> bool:
    return isinstance(part, type) and issubclass(part, type_)


PAYMENTS = Table("payments", tuple(_columns(Payment)), ("id",))
LINE_ITEMS = Table(
    "line_items",
    (
        Column("payment_id", Kind.INTEGER),
        Column("position", Kind.INTEGER),
        *[column for column in _columns(LineItem) if column.name != "payment_id"],
    ),
    ("payment_id", "position"),
)
"""`payment_id` is the payment that the item stands in, `position` its place there, from 0.

Should the item itself name another payment, that is in `extra` as `paymentId`.
"""
TABLES = (PAYMENTS, LINE_ITEMS)
