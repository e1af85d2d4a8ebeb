"""The columns that payments and their line items have in every format but JSON lines.

Rows are tuples in the order of a table's columns, of int, text, Decimal and aware datetimes. What has no
columns of its own is JSON text: `details`, `fees`, `module_data`, what is allowed, and `extra`, which holds
every field that this library does not know, those within `total` and a line item's amount included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal, Inexact, InvalidOperation
from enum import Enum, auto
from typing import Any

import attrs

from b2b_payments.converter import structure_payment
from b2b_payments.export.file import ExportError
from b2b_payments.models import LineItem, Money, Payment
from b2b_payments.models.decimals import EXACT
from b2b_payments.protocol.json import encode

Row = tuple[Any, ...]

DIGITS = 38
SCALE = 12
"""Digits of a decimal column, and those of them behind its point. The service sends 4 there, at times 8."""

_LEAST = Decimal(f"1E-{SCALE}")
_WHOLE = range(-(2**63), 2**63)


class Kind(Enum):
    """What a column holds."""

    INTEGER = auto()
    TEXT = auto()
    MONEY = auto()
    MOMENT = auto()
    JSON = auto()


@attrs.frozen
class Column:
    """A column. Where it is nullable, null is what the service left out, or sent as null."""

    name: str
    kind: Kind
    nullable: bool = False


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

    def fitted(self, rows: Sequence[Row], *, decimal: bool) -> list[Row]:
        """Give the rows as integers of 64 bits hold them, and, if `decimal`, amounts of 38 digits.

        Raises ExportError for a number that does not fit: nothing is rounded.
        """
        columns: list[Sequence[Any]] = list(zip(*rows, strict=True))
        for place, (column, cells) in enumerate(zip(self.columns, columns, strict=bool(rows))):
            if column.kind is Kind.INTEGER:
                for row, cell in zip(rows, cells, strict=True):
                    if cell is not None and cell not in _WHOLE:
                        raise ExportError(_does_not_fit(row, column, cell, "64 bits"))
            elif column.kind is Kind.MONEY and decimal:
                columns[place] = [_fit(cell, row, column) for row, cell in zip(rows, cells, strict=True)]
        return list(zip(*columns, strict=True))


PAYMENTS = Table(
    "payments",
    (
        Column("id", Kind.INTEGER),
        Column("created_at", Kind.MOMENT),
        Column("updated_at", Kind.MOMENT),
        Column("store_hash", Kind.TEXT),
        Column("customer_id", Kind.TEXT),
        Column("external_id", Kind.TEXT, nullable=True),
        Column("external_customer_id", Kind.TEXT, nullable=True),
        Column("payer_name", Kind.TEXT),
        Column("payer_customer_id", Kind.TEXT),
        Column("details", Kind.JSON),
        Column("module_name", Kind.TEXT),
        Column("fees", Kind.JSON),
        Column("module_data", Kind.JSON),
        Column("processing_status", Kind.INTEGER),
        Column("applied_status", Kind.INTEGER),
        Column("funding_status", Kind.INTEGER),
        Column("total", Kind.MONEY),
        Column("currency", Kind.TEXT),
        Column("customer_name", Kind.TEXT),
        Column("allowed_operations", Kind.JSON),
        Column("allowed_statuses", Kind.JSON),
        Column("channel_id", Kind.INTEGER, nullable=True),
        Column("channel_name", Kind.TEXT, nullable=True),
        Column("extra", Kind.JSON),
    ),
    ("id",),
)
LINE_ITEMS = Table(
    "line_items",
    (
        Column("payment_id", Kind.INTEGER),
        Column("position", Kind.INTEGER),
        Column("invoice_id", Kind.INTEGER, nullable=True),
        Column("invoice_number", Kind.TEXT),
        Column("amount", Kind.MONEY, nullable=True),
        Column("currency", Kind.TEXT, nullable=True),
        Column("extra", Kind.JSON),
    ),
    ("payment_id", "position"),
)
"""`payment_id` is the payment that the item stands in, `position` its place there, from 0.

Should the item itself name another payment, that is in `extra` as `paymentId`.
"""


def rows_of(batch: Sequence[Mapping[str, Any]]) -> tuple[list[Row], list[list[Row]]]:
    """Give the rows of payments, and for each of them those of its line items.

    Raises ResponseDecodeError for a payment that cannot be read.
    """
    payments = [structure_payment(raw, f"payment {raw.get('id')}: $") for raw in batch]
    rows = [_payment(payment, raw) for payment, raw in zip(payments, batch, strict=True)]
    return rows, [_line_items(payment) for payment in payments]


def moment_text(moment: datetime) -> str:
    """Write a moment in UTC as ISO 8601 has it, with a fraction of a second only where there is one."""
    return moment.isoformat().replace("+00:00", "Z")


def _payment(payment: Payment, raw: Mapping[str, Any]) -> Row:
    return (
        payment.id,
        payment.created_at,
        payment.updated_at,
        payment.store_hash,
        payment.customer_id,
        payment.external_id,
        payment.external_customer_id,
        payment.payer_name,
        payment.payer_customer_id,
        _json(payment.details),
        payment.module_name,
        _json(raw["fees"]) if payment.fees else "[]",
        _json(payment.module_data),
        int(payment.processing_status),
        int(payment.applied_status),
        int(payment.funding_status),
        payment.total.amount,
        payment.total.currency,
        payment.customer_name,
        _json([int(code) for code in payment.allowed_operations]),
        _json([int(code) for code in payment.allowed_statuses]),
        payment.channel_id,
        payment.channel_name,
        _extra(payment.extra, "total", payment.total),
    )


def _line_items(payment: Payment) -> list[Row]:
    return [_line_item(payment.id, place, item) for place, item in enumerate(payment.line_items)]


def _line_item(payment_id: int, position: int, item: LineItem) -> Row:
    extra: Mapping[str, Any] = item.extra
    amount = item.amount
    if item.payment_id not in {None, payment_id}:
        extra = {**extra, "paymentId": item.payment_id}
    return (
        payment_id,
        position,
        item.invoice_id,
        item.invoice_number,
        None if amount is None else amount.amount,
        None if amount is None else amount.currency,
        _extra(extra, "amount", amount),
    )


def _extra(extra: Mapping[str, Any], name: str, money: Money | None) -> str:
    if money is not None and money.extra:
        extra = {**extra, name: money.extra}
    return _json(extra) if extra else "{}"


def _json(value: Any) -> str:
    return encode(value).decode()


def _fit(amount: Decimal | None, row: Row, column: Column) -> Decimal | None:
    if amount is None:
        return None
    try:
        fitting = amount.quantize(_LEAST, context=EXACT)
    except (Inexact, InvalidOperation):
        fitting = None
    if fitting is None or fitting.adjusted() >= DIGITS - SCALE:
        raise ExportError(
            _does_not_fit(row, column, amount, f"a decimal of {DIGITS} digits, {SCALE} behind its point")
        )
    return fitting


def _does_not_fit(row: Row, column: Column, value: object, place: str) -> str:
    return (
        f"{column.name} {value} of payment {row[0]} does not fit into {place}, and nothing is rounded here: "
        "export to jsonl or csv, which hold every digit."
    )
