"""The columns of payments and line items in every format except JSON lines, derived from the models.

Nested values are JSON text: `details`, `fees`, `module_data`, the allowed operations and statuses, and
`extra`, which has every field that this library does not know, including fields of amounts.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto
from typing import Any, Final

from b2b_payments._models import LineItem, Money, Payment
from b2b_payments._models import description as models
from b2b_payments._printable import frozen

Row = tuple[Any, ...]
"""The cells of one row: int, str or None. Amounts are text, times are microseconds since 1970 in UTC."""


class ColumnKind(Enum):
    """The type of a column."""

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
    """A column. In a nullable one, null means that the service sent null or left the field out.

    `attribute` is the name of its cells in the converter's `Columns`.
    """

    name: str
    kind: ColumnKind
    attribute: str = ""
    nullable: bool = False


@frozen
class Table:
    """A table: its columns, and the names of its primary key's columns."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """The columns' names."""
        return [column.name for column in self.columns]


def _columns(model: type[Any]) -> Iterator[Column]:
    """Yield a column for each field of a model, two for money, and none for line items (a separate table)."""
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
"""`payment_id` is the payment that contains the item, `position` the index of the item in it, from 0.

If the item itself names another payment, `extra` has that as `paymentId`.
"""
TABLES: Final = (PAYMENTS, LINE_ITEMS)
