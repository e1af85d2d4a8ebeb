"""The columns that payments and line items have in every format but JSON lines, derived from the models.

What has no column of its own is JSON text: `details`, `fees`, `module_data`, what is allowed, and `extra`,
which holds every field that this library does not know, those within `total` and a line item's amount too.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto
from typing import Any, Final

from b2b_payments._models import LineItem, Money, Payment
from b2b_payments._models import description as models
from b2b_payments._printable import frozen

Row = tuple[Any, ...]
"""A table's cells: int, text and None; amounts as their digits, moments as microseconds since 1970 in UTC."""


class ColumnKind(Enum):
    """What a column holds."""

    INTEGER = auto()
    TEXT = auto()
    MONEY = auto()
    MOMENT = auto()
    JSON = auto()


_KINDS: Final = {
    models.FieldKind.WHOLE: ColumnKind.INTEGER,
    models.FieldKind.CODE: ColumnKind.INTEGER,
    models.FieldKind.TEXT: ColumnKind.TEXT,
    models.FieldKind.AMOUNT: ColumnKind.MONEY,
    models.FieldKind.MOMENT: ColumnKind.MOMENT,
}


@frozen
class Column:
    """A column. Where it is nullable, null is what the service left out, or sent as null.

    `attribute` is where the converter's `Columns` have its cells.
    """

    name: str
    kind: ColumnKind
    attribute: str = ""
    nullable: bool = False


@frozen
class Table:
    """A table: its columns, and the names of those that are its primary key."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """The columns' names."""
        return [column.name for column in self.columns]


def _columns(model: type[Any]) -> Iterator[Column]:
    """Yield a column for each field of a model, and two for money; items have a table of their own."""
    for field in models.fields_of(model):
        if field.of is Money:
            for part in reversed(models.fields_of(Money)):
                kind = _KINDS[part.kind]
                name = field.name if kind is ColumnKind.MONEY else part.name
                yield Column(name, kind, f"{field.name}.{part.name}", field.nullable)
        elif field.of is not LineItem:
            yield Column(field.name, _KINDS.get(field.kind, ColumnKind.JSON), field.name, field.nullable)
    yield Column("extra", ColumnKind.JSON, "extra")


PAYMENTS: Final = Table("payments", tuple(_columns(Payment)), ("id",))
LINE_ITEMS: Final = Table(
    "line_items",
    (
        Column("payment_id", ColumnKind.INTEGER, "payment_id"),
        Column("position", ColumnKind.INTEGER, "position"),
        *[column for column in _columns(LineItem) if column.name != "payment_id"],
    ),
    ("payment_id", "position"),
)
"""`payment_id` is the payment that the item stands in, `position` its place there, from 0.

Should the item itself name another payment, that is in `extra` as `paymentId`.
"""
TABLES: Final = (PAYMENTS, LINE_ITEMS)
