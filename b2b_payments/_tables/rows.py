"""Rows of both tables, column by column. Values that a format cannot hold exactly are refused."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, Inexact, InvalidOperation
from itertools import accumulate, chain, islice, repeat
from typing import Any, Final

import msgspec

from b2b_payments._converter import ColumnReader
from b2b_payments._errors import ExportError, without_data
from b2b_payments._models.decimals import EXACT
from b2b_payments._printable import frozen
from b2b_payments._protocol.json import encode
from b2b_payments._tables.columns import LINE_ITEMS, PAYMENTS, TABLES, ColumnKind, Row, Table

DIGITS: Final = 38
SCALE: Final = 12
"""Digits of a decimal column, and its decimal places. The service sends 4 decimal places, sometimes 8."""

UPDATED: Final = PAYMENTS.names.index("updated_at")
"""The index of the column with a payment's update time."""

LEAST: Final = Decimal(f"1E-{SCALE}")
_fits: Final = re.compile(rf"-?[0-9]{{1,{DIGITS - SCALE}}}(?:\.[0-9]{{1,{SCALE}}})?").fullmatch
_INTEGER_COLUMNS, _MONEY_COLUMNS = (
    [(table, index) for table in TABLES for index, column in enumerate(table.columns) if column.kind is kind]
    for kind in (ColumnKind.INTEGER, ColumnKind.MONEY)
)
_read: Final = ColumnReader().read


@frozen
class Rows:
    """Rows of both tables: the cells of each column, and the number of line items of each payment."""

    tables: Mapping[str, list[list[Any]]]
    counts: Sequence[int]

    @classmethod
    @without_data
    def read(cls, body: bytes, places: Sequence[int], *, whole: bool, decimal: bool) -> Rows:
        """Read the rows of a page at these indexes.

        If `decimal`, amounts have to fit into a decimal column; if `whole`, integers into 64 bits. Raises
        ExportError for one that does not, and ResponseDecodeError for a payment that cannot be read.
        """
        page = _read(body, places)
        owners = list(chain.from_iterable(map(repeat, page.payments["id"], page.counts)))
        _keep_differing_payment_ids(page.items, owners)
        positions = list(chain.from_iterable(map(range, page.counts)))
        items = {**page.items, "payment_id": owners, "position": positions}
        tables = {
            PAYMENTS.name: [page.payments[column.attribute] for column in PAYMENTS.columns],
            LINE_ITEMS.name: [items[column.attribute] for column in LINE_ITEMS.columns],
        }
        for table, index in _INTEGER_COLUMNS if whole else ():
            _fit_whole(table, index, tables[table.name])
        for table, index in _MONEY_COLUMNS if decimal else ():
            _fit_decimal(table, index, tables[table.name])
        return cls(tables, page.counts)

    @classmethod
    @without_data
    def of_objects(cls, payments: Sequence[Mapping[str, Any] | bytes], *, whole: bool, decimal: bool) -> Rows:
        """Read payments as the service sent them: as JSON objects, or as text. Raises what `read` raises."""
        texts = [one if isinstance(one, bytes) else encode(one) for one in payments]
        body = b'{"data":[%b]}' % b",".join(texts)
        return cls.read(body, range(len(payments)), whole=whole, decimal=decimal)

    @classmethod
    def joined(cls, parts: Sequence[Rows]) -> Rows:
        """Concatenate rows."""
        tables = {
            table.name: [
                list(chain.from_iterable(part.tables[table.name][index] for part in parts))
                for index, _ in enumerate(table.columns)
            ]
            for table in TABLES
        }
        return cls(tables, [count for part in parts for count in part.counts])

    @property
    def ids(self) -> Sequence[int]:
        """The payments' ids."""
        return self.tables[PAYMENTS.name][0]

    @property
    def updated(self) -> Mapping[int, int]:
        """The update time of each payment by id, in microseconds since 1970."""
        return dict(zip(self.ids, self.tables[PAYMENTS.name][UPDATED], strict=True))

    def without_duplicates(self) -> Rows:
        """Drop all but the last row of each payment."""
        if len(set(self.ids)) == len(self.ids):
            return self
        last = sorted({payment_id: row for row, payment_id in enumerate(self.ids)}.values())
        starts = list(accumulate(self.counts, initial=0))
        items = [item for row in last for item in range(starts[row], starts[row + 1])]
        kept = {PAYMENTS.name: last, LINE_ITEMS.name: items}
        tables = {
            name: [[cells[row] for row in kept[name]] for cells in columns]
            for name, columns in self.tables.items()
        }
        return Rows(tables, [self.counts[row] for row in last])

    def of(self, table: Table) -> list[Row]:
        """Return the rows of one table."""
        return list(zip(*self.tables[table.name], strict=True))

    def by_payment(self) -> Iterator[tuple[Row, list[Row]]]:
        """Yield the row of each payment with the rows of its line items."""
        items = iter(self.of(LINE_ITEMS))
        for row, count in zip(self.of(PAYMENTS), self.counts, strict=True):
            yield row, list(islice(items, count))


def _keep_differing_payment_ids(items: Mapping[str, list[Any]], owners: Sequence[int]) -> None:
    if items["payment_id"] == owners:
        return
    for row, (named, owner) in enumerate(zip(items["payment_id"], owners, strict=True)):
        if named is not None and named != owner:
            extra = msgspec.json.decode(items["extra"][row], type=dict[str, msgspec.Raw])
            items["extra"][row] = msgspec.json.encode({**extra, "paymentId": named}).decode()


def _fit_whole(table: Table, index: int, columns: Sequence[Sequence[Any]]) -> None:
    cells = columns[index]
    try:
        array("q", filter(None, cells) if table.columns[index].nullable else cells)
    except OverflowError:
        row = next(row for row, cell in enumerate(cells) if not -(2**63) <= (cell or 0) < 2**63)
        raise _does_not_fit(columns[0][row], table.names[index], cells[row], "64 bits") from None


def _fit_decimal(table: Table, index: int, columns: Sequence[list[Any]]) -> None:
    amounts = columns[index]
    # An amount as short as this fits, wherever its decimal point is.
    if max(map(len, filter(None, amounts)), default=0) > SCALE:
        amounts[:] = [
            amount and _fitted(owner, table.names[index], amount)
            for owner, amount in zip(columns[0], amounts, strict=True)
        ]


def _fitted(owner: int, name: str, amount: str) -> str:
    """Return an amount in plain notation with at most the column's decimal places. Only zeros are cut."""
    if _fits(amount):
        return amount
    try:
        fitted = Decimal(amount).quantize(LEAST, context=EXACT)
    except (Inexact, InvalidOperation):
        fitted = None
    if fitted is None or fitted.adjusted() >= DIGITS - SCALE:
        column = f"a decimal of {DIGITS} digits, {SCALE} of them decimal places"
        raise _does_not_fit(owner, name, amount, column)
    return f"{fitted:f}"


def _does_not_fit(owner: int, name: str, value: object, column: str) -> ExportError:
    return ExportError(
        f"{name} {value} of payment {owner} does not fit into {column}, and nothing is rounded: export to "
        "jsonl or csv, which hold every digit."
    )
