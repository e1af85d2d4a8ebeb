"""Rows on their way into columns: in one spelling, and refused where a format cannot hold them exactly."""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from decimal import Decimal, Inexact, InvalidOperation
from operator import attrgetter
from typing import Any, Final

import msgspec

from b2b_payments._converter import NormalRow
from b2b_payments._errors import ExportError
from b2b_payments._models.decimals import EXACT
from b2b_payments.export._columns import LINE_ITEMS, PAYMENTS, Kind, Row, Table

DIGITS: Final = 38
SCALE: Final = 12
"""Digits of a decimal column, and those of them behind its point. The service sends 4 there, at times 8."""

LEAST: Final = Decimal(f"1E-{SCALE}")
_fits: Final = re.compile(rf"-?[0-9]{{1,{DIGITS - SCALE}}}(?:\.[0-9]{{1,{SCALE}}})?").fullmatch

lines_of: Final = msgspec.json.Encoder().encode_lines
rows_of_lines: Final = msgspec.json.Decoder(NormalRow).decode_lines
"""Read rows back from the lines of `lines_of`."""

cells_of: Final = attrgetter(*[column.attribute for column in PAYMENTS.columns])
"""Give a row's cells in the order of the table's columns."""


def items_of(row: Any) -> list[Row]:
    """Give the cells of a row's line items."""
    return [
        (row.id, place, item.invoice_id, item.invoice_number, *_amount_of(item.amount), item.extra)
        for place, item in enumerate(row.line_items)
    ]


def _amount_of(money: Any) -> tuple[str | None, str | None]:
    return (None, None) if money is None else (money.amount, money.currency)


def fit(rows: Sequence[Any], *, whole: bool, decimal: bool) -> None:
    """Make rows fit into columns: note in `extra` what line items have no column for.

    If `decimal`, amounts have to fit into a decimal column, and if `whole`, numbers into 64 bits: raises
    ExportError for one that does not.
    """
    owners = [row for row in rows for _ in row.line_items]
    items = [item for row in rows for item in row.line_items]
    for row, item in zip(owners, items, strict=True):
        if item.payment_id is not None and item.payment_id != row.id:
            extra = msgspec.json.decode(item.extra, type=dict[str, msgspec.Raw])
            item.extra = msgspec.json.encode({**extra, "paymentId": item.payment_id}).decode()
    if whole:
        _fit_whole(PAYMENTS, rows, rows)
        _fit_whole(LINE_ITEMS, owners, items)
    if decimal:
        _fit_decimal("total", rows, [row.total for row in rows])
        _fit_decimal("amount", owners, [item.amount for item in items])


def _fit_whole(table: Table, owners: Sequence[Any], parts: Sequence[Any]) -> None:
    for column in table.columns:
        if column.kind is not Kind.INTEGER or not column.attribute:
            continue
        cells = list(map(attrgetter(column.attribute), parts))
        try:
            array("q", [cell for cell in cells if cell is not None])
        except OverflowError:
            for row, cell in zip(owners, cells, strict=True):
                if cell is not None and not -(2**63) <= cell < 2**63:
                    raise _does_not_fit(row, column.name, cell, "64 bits") from None


def _fit_decimal(name: str, owners: Sequence[Any], moneys: Sequence[Any]) -> None:
    # An amount as short as this fits, wherever its point is.
    if max([len(money.amount) for money in moneys if money is not None], default=0) <= SCALE:
        return
    for row, money in zip(owners, moneys, strict=True):
        if money is not None:
            money.amount = _fitted(row, name, money.amount)


def _fitted(row: Any, name: str, amount: str) -> str:
    """Give an amount with as many digits behind its point as the column has: others are zeros."""
    if _fits(amount):
        return amount
    try:
        fitted = Decimal(amount).quantize(LEAST, context=EXACT)
    except (Inexact, InvalidOperation):
        fitted = None
    if fitted is None or fitted.adjusted() >= DIGITS - SCALE:
        place = f"a decimal of {DIGITS} digits, {SCALE} behind its point"
        raise _does_not_fit(row, name, amount, place)
    return f"{fitted:f}"


def _does_not_fit(row: Any, name: str, value: object, place: str) -> ExportError:
    return ExportError(
        f"{name} {value} of payment {row.id} does not fit into {place}, and nothing is rounded here: "
        "export to jsonl or csv, which hold every digit."
    )
