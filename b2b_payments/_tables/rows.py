"""Rows of both tables, a column at a time: refused where a format cannot hold them exactly."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, Inexact, InvalidOperation
from itertools import accumulate, chain, islice, repeat
from typing import Any, Final

import msgspec

from b2b_payments._converter import ColumnReader
from b2b_payments._errors import ExportError
from b2b_payments._models.decimals import EXACT
from b2b_payments._printable import frozen
from b2b_payments._protocol.json import encode
from b2b_payments._tables.columns import LINE_ITEMS, PAYMENTS, TABLES, ColumnKind, Row, Table

DIGITS: Final = 38
SCALE: Final = 12
"""Digits of a decimal column, and those of them behind its point. The service sends 4 there, at times 8."""

UPDATED: Final = PAYMENTS.names.index("updated_at")
"""The place of the column that says when a payment was updated."""

LEAST: Final = Decimal(f"1E-{SCALE}")
_fits: Final = re.compile(rf"-?[0-9]{{1,{DIGITS - SCALE}}}(?:\.[0-9]{{1,{SCALE}}})?").fullmatch
_INTEGERS, _MONEYS = (
    [(table, place) for table in TABLES for place, column in enumerate(table.columns) if column.kind is kind]
    for kind in (ColumnKind.INTEGER, ColumnKind.MONEY)
)
_read: Final = ColumnReader().read


@frozen
class Rows:
    """Rows of payments and of line items: each column's cells, and how many items each payment has."""

    tables: Mapping[str, list[list[Any]]]
    counts: Sequence[int]

    @classmethod
    def read(cls, body: bytes, places: Sequence[int], *, whole: bool, decimal: bool) -> Rows:
        """Read rows of a page; what line items have no column for is in `extra`.

        If `decimal`, amounts have to fit into a decimal column, and if `whole`, numbers into 64 bits: raises
        ExportError for one that does not, and ResponseDecodeError for a payment that cannot be read.
        """
        found = _read(body, places)
        owners = list(chain.from_iterable(map(repeat, found.payments["id"], found.counts)))
        _note_others(found.items, owners)
        positions = list(chain.from_iterable(map(range, found.counts)))
        items = {**found.items, "payment_id": owners, "position": positions}
        tables = {
            PAYMENTS.name: [found.payments[column.attribute] for column in PAYMENTS.columns],
            LINE_ITEMS.name: [items[column.attribute] for column in LINE_ITEMS.columns],
        }
        for table, place in _INTEGERS if whole else ():
            _fit_whole(table, place, tables[table.name])
        for table, place in _MONEYS if decimal else ():
            _fit_decimal(table, place, tables[table.name])
        return cls(tables, found.counts)

    @classmethod
    def of_objects(cls, payments: Sequence[Mapping[str, Any]], *, whole: bool, decimal: bool) -> Rows:
        """Read payments as the service sent them. Raises as `read`."""
        body = b'{"data":[%b]}' % b",".join(map(encode, payments))
        return cls.read(body, range(len(payments)), whole=whole, decimal=decimal)

    @classmethod
    def joined(cls, parts: Sequence[Rows]) -> Rows:
        """Put rows together."""
        tables = {
            table.name: [
                list(chain.from_iterable(part.tables[table.name][place] for part in parts))
                for place, _ in enumerate(table.columns)
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
        """When each payment was updated, as microseconds since 1970."""
        return dict(zip(self.ids, self.tables[PAYMENTS.name][UPDATED], strict=True))

    def last_of_each(self) -> Rows:
        """Of a payment that is there twice, give the last alone."""
        if len(set(self.ids)) == len(self.ids):
            return self
        places = sorted({one: place for place, one in enumerate(self.ids)}.values())
        starts = list(accumulate(self.counts, initial=0))
        lines = [line for place in places for line in range(starts[place], starts[place + 1])]
        chosen = {PAYMENTS.name: places, LINE_ITEMS.name: lines}
        tables = {
            name: [[cells[place] for place in chosen[name]] for cells in columns]
            for name, columns in self.tables.items()
        }
        return Rows(tables, [self.counts[place] for place in places])

    def of(self, table: Table) -> list[Row]:
        """Return a table's rows."""
        return list(zip(*self.tables[table.name], strict=True))

    def by_payment(self) -> Iterator[tuple[Row, list[Row]]]:
        """Yield each payment's row, and those of its items."""
        items = iter(self.of(LINE_ITEMS))
        for row, count in zip(self.of(PAYMENTS), self.counts, strict=True):
            yield row, list(islice(items, count))


def _note_others(items: Mapping[str, list[Any]], owners: Sequence[int]) -> None:
    if items["payment_id"] == owners:
        return
    for place, (said, owner) in enumerate(zip(items["payment_id"], owners, strict=True)):
        if said is not None and said != owner:
            extra = msgspec.json.decode(items["extra"][place], type=dict[str, msgspec.Raw])
            items["extra"][place] = msgspec.json.encode({**extra, "paymentId": said}).decode()


def _fit_whole(table: Table, place: int, columns: Sequence[Sequence[Any]]) -> None:
    try:
        cells = columns[place]
        array("q", filter(None, cells) if table.columns[place].nullable else cells)
    except OverflowError:
        for owner, cell in zip(columns[0], columns[place], strict=True):
            if cell is not None and not -(2**63) <= cell < 2**63:
                raise _does_not_fit(owner, table.names[place], cell, "64 bits") from None


def _fit_decimal(table: Table, place: int, columns: Sequence[list[Any]]) -> None:
    amounts = columns[place]
    # An amount as short as this fits, wherever its point is.
    if max(map(len, filter(None, amounts)), default=0) > SCALE:
        amounts[:] = [
            amount and _fitted(owner, table.names[place], amount)
            for owner, amount in zip(columns[0], amounts, strict=True)
        ]


def _fitted(owner: int, name: str, amount: str) -> str:
    """Return an amount with as many digits behind its point as the column has: others are zeros."""
    if _fits(amount):
        return amount
    try:
        fitted = Decimal(amount).quantize(LEAST, context=EXACT)
    except (Inexact, InvalidOperation):
        fitted = None
    if fitted is None or fitted.adjusted() >= DIGITS - SCALE:
        place = f"a decimal of {DIGITS} digits, {SCALE} behind its point"
        raise _does_not_fit(owner, name, amount, place)
    return f"{fitted:f}"


def _does_not_fit(owner: int, name: str, value: object, place: str) -> ExportError:
    return ExportError(
        f"{name} {value} of payment {owner} does not fit into {place}, and nothing is rounded here: "
        "export to jsonl or csv, which hold every digit."
    )
