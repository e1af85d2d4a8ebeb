"""A batch of payments, column by column: what CSV and Parquet write, at a fraction of what models cost.

A payment that is spelled in the service's usual way is read straight from its JSON object; the tests hold
that to what its model says. Any other goes through its model, and takes its place among them.

Cells are int, text, None, amounts as their digits, and moments as microseconds since 1970 in UTC.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate, chain
from typing import Any, Final, Literal

import attrs
import msgspec

from b2b_payments.export.columns import LINE_ITEMS, PAYMENTS, Kind, Row, Table, rows_of

Cells = list[Any]
Raws = Sequence[Mapping[str, Any]]
Odd = Callable[[int], object]
"""Called with the place of a cell that is not spelled in the usual way."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_LAST_SECOND: Final = 253_402_300_799  # of the year 9999
_USUAL_FEE: Final = 1e15
# So few rows stay in the processor's cache while one column after the other is read: a third of the time.
_BLOCK: Final = 250
_KNOWN: Final = frozenset({
    "id", "createdAt", "updatedAt", "storeHash", "customerId", "externalId", "externalCustomerId",
    "payerName", "payerCustomerId", "details", "moduleName", "fees", "moduleData", "processingStatus",
    "appliedStatus", "fundingStatus", "total", "lineItems", "customerName", "allowedOperations",
    "allowedStatuses", "channelId", "channelName",
})  # fmt: skip
_KNOWN_OF_ITEM: Final = frozenset({"paymentId", "invoiceId", "invoiceNumber", "amount"})

# Digits and zeros that a Decimal gives back the same.
_usual_amount: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,39})(?:\.[0-9]{1,40})?", re.ASCII).fullmatch
_usual_number: Final = re.compile(r"0|-?[1-9][0-9]{0,17}", re.ASCII).fullmatch
_encoder: Final = msgspec.json.Encoder(decimal_format="number")


@attrs.frozen
class Batch:
    """The columns of `PAYMENTS` and of `LINE_ITEMS`, and how many line items each payment has."""

    payments: list[Cells]
    line_items: list[Cells]
    counts: list[int]

    def insert(self, place: int, payment: Row, line_items: Sequence[Row]) -> None:
        """Put a payment there, from its rows."""
        for column, cell in zip(self.payments, _plain(PAYMENTS, payment), strict=True):
            column.insert(place, cell)
        at = sum(self.counts[:place])
        for row in reversed(line_items):
            for column, cell in zip(self.line_items, _plain(LINE_ITEMS, row), strict=True):
                column.insert(at, cell)
        self.counts.insert(place, len(line_items))

    def extend(self, other: Batch) -> None:
        """Put another batch behind this one."""
        for column, cells in zip(self.payments, other.payments, strict=True):
            column.extend(cells)
        for column, cells in zip(self.line_items, other.line_items, strict=True):
            column.extend(cells)
        self.counts.extend(other.counts)


def batch_of(raws: Raws) -> Batch:
    """Give payments by columns. Raises ResponseDecodeError for a payment that cannot be read."""
    batch = Batch([[] for _ in PAYMENTS.columns], [[] for _ in LINE_ITEMS.columns], [])
    for start in range(0, len(raws), _BLOCK):
        batch.extend(_block(raws[start : start + _BLOCK]))
    return batch


def _block(raws: Raws) -> Batch:
    batch, odd = _read(raws)
    if odd:
        places = sorted(odd)
        rows, items = rows_of([raws[place] for place in places])
        batch, _ = _read([raw for place, raw in enumerate(raws) if place not in odd])
        for place, row, its in zip(places, rows, items, strict=True):
            batch.insert(place, row, its)
    return batch


def _read(raws: Raws) -> tuple[Batch, set[int]]:
    """Give the columns, and the places of odd payments: where there are any, the columns do not count."""
    found: set[int] = set()
    odd = found.add
    ids = _numbers(raws, "id", odd)
    totals, currencies = _amounts(_cells(raws, "total", dict, odd, null="odd"), odd)
    columns: list[Cells] = [
        ids,
        _moments(raws, "createdAt", odd),
        _moments(raws, "updatedAt", odd),
        _cells(raws, "storeHash", str, odd),
        _cells(raws, "customerId", str, odd, null="odd"),
        _cells(raws, "externalId", str, odd, null="kept"),
        _cells(raws, "externalCustomerId", str, odd, null="kept"),
        _cells(raws, "payerName", str, odd),
        _cells(raws, "payerCustomerId", str, odd),
        _json(_cells(raws, "details", dict, odd)),
        _cells(raws, "moduleName", str, odd),
        _json(_fees(raws, odd)),
        _json(_cells(raws, "moduleData", dict, odd)),
        _numbers(raws, "processingStatus", odd),
        _numbers(raws, "appliedStatus", odd),
        _numbers(raws, "fundingStatus", odd),
        totals,
        currencies,
        _cells(raws, "customerName", str, odd),
        _codes(raws, "allowedOperations", odd),
        _codes(raws, "allowedStatuses", odd),
        _numbers(raws, "channelId", odd, nullable=True),
        _cells(raws, "channelName", str, odd, null="kept"),
        _json(_extra(raws)),
    ]
    lists = _cells(raws, "lineItems", list, odd)
    counts = list(map(len, lists))
    return Batch(columns, _line_items(ids, lists, counts, odd), counts), found


def _line_items(ids: Cells, lists: Cells, counts: list[int], odd_payment: Odd) -> list[Cells]:
    odd = _of_payment(counts, odd_payment)
    items = _typed(list(chain.from_iterable(lists)), dict, odd, null="odd")
    for keys in set(map(tuple, items)):
        if not _KNOWN_OF_ITEM.issuperset(keys):
            _mark(items, lambda item, keys=keys: tuple(item) == keys, odd)  # type: ignore[misc]
    payment_ids = [payment_id for payment_id, count in zip(ids, counts, strict=True) for _ in range(count)]
    named = _numbers(items, "paymentId", odd, nullable=True)
    if named != payment_ids:
        for place, (name, payment_id) in enumerate(zip(named, payment_ids, strict=True)):
            if name not in {None, payment_id}:
                odd(place)
    amounts, currencies = _amounts(_cells(items, "amount", dict, odd, null="kept"), odd)
    return [
        payment_ids,
        list(chain.from_iterable(map(range, counts))),
        _numbers(items, "invoiceId", odd, nullable=True),
        _cells(items, "invoiceNumber", str, odd),
        amounts,
        currencies,
        ["{}"] * len(items),
    ]


def _of_payment(counts: list[int], odd: Odd) -> Odd:
    """Give what marks the payment that the item at a place belongs to."""
    ends = list(accumulate(counts))
    return lambda place: odd(bisect_right(ends, place))


Null = Literal["odd", "empty", "kept"]
"""What null, or a field that is not there, is: odd, another way to say empty, or a value of its own."""


def _cells(rows: Raws, name: str, kind: type, odd: Odd, *, null: Null = "empty") -> Cells:
    return _typed([row.get(name) for row in rows], kind, odd, null=null)


def _typed(cells: Cells, kind: type, odd: Odd, *, null: Null) -> Cells:
    """Give cells of this kind only, and None where it is kept: an odd one is empty."""
    kinds = set(map(type, cells))
    if kinds <= {kind} or (null == "kept" and kinds <= {kind, type(None)}):
        return cells
    for place, cell in enumerate(cells):
        if type(cell) is not kind and (cell is not None or null != "kept"):
            if cell is not None or null == "odd":
                odd(place)
            cells[place] = kind()
    return cells


def _mark(cells: Cells, is_odd: Callable[[Any], bool], odd: Odd) -> None:
    for place, cell in enumerate(cells):
        if is_odd(cell):
            odd(place)


def _numbers(rows: Raws, name: str, odd: Odd, *, nullable: bool = False) -> Cells:
    """Whole numbers; some are sent as digits in text."""
    cells = [row.get(name) for row in rows]
    kinds = set(map(type, cells))
    if kinds <= {int} or (nullable and kinds <= {int, type(None)}):
        return cells
    texts: dict[object, int] = {
        cell: int(cell) for cell in {cell for cell in cells if type(cell) is str} if _usual_number(cell)
    }
    for place, cell in enumerate(cells):
        if type(cell) is str and cell in texts:
            cells[place] = texts[cell]
        elif type(cell) is not int and (cell is not None or not nullable):
            odd(place)
            cells[place] = 0
    return cells


def _moments(rows: Raws, name: str, odd: Odd) -> Cells:
    cells = _numbers(rows, name, odd)
    if cells and not (min(cells) >= 0 and max(cells) <= _LAST_SECOND):
        _mark(cells, lambda cell: not 0 <= cell <= _LAST_SECOND, odd)
    return [cell * 1_000_000 for cell in cells]


def _amounts(cells: Cells, odd: Odd) -> tuple[Cells, Cells]:
    """Give the digits and the currencies of amounts, or None where there is none."""
    values = [None if cell is None else cell.get("value") for cell in cells]
    codes = [None if cell is None else cell.get("code") for cell in cells]
    for place, (cell, value, code) in enumerate(zip(cells, values, codes, strict=True)):
        usual = type(value) is str and type(code) is str and _usual_amount(value) and len(cell) == 2
        if not usual and cell is not None:
            odd(place)
    return values, codes


def _fees(rows: Raws, odd_payment: Odd) -> Cells:
    lists = _cells(rows, "fees", list, odd_payment)
    odd = _of_payment(list(map(len, lists)), odd_payment)
    fees = _typed(list(chain.from_iterable(lists)), dict, odd, null="odd")
    for name in ("type", "description"):
        _cells(fees, name, str, odd)
    for place, amount in enumerate([fee.get("amount") for fee in fees]):
        # Of a number of any other size, and of text, the model says whether it can be an amount.
        usual = type(amount) in {int, float} and (not amount or 1 / _USUAL_FEE < abs(amount) < _USUAL_FEE)
        if amount is not None and not usual:
            odd(place)
    return lists


def _codes(rows: Raws, name: str, odd: Odd) -> Cells:
    """Give lists of codes as JSON; some are sent as digits in text."""
    lists = _cells(rows, name, list, odd)
    if not set(map(type, chain.from_iterable(lists))) <= {int, str}:
        for place, codes in enumerate(lists):
            if not set(map(type, codes)) <= {int, str}:
                odd(place)
                lists[place] = []
    keys = list(map(tuple, lists))
    texts = {key: _codes_text(key) for key in set(keys)}
    if None in texts.values():
        _mark(keys, lambda key: texts[key] is None, odd)
    return [texts[key] for key in keys]


def _codes_text(codes: tuple[int | str, ...]) -> str | None:
    if all(type(code) is int or _usual_number(str(code)) for code in codes):
        return _encoder.encode(list(map(int, codes))).decode()
    return None


def _extra(rows: Raws) -> Cells:
    unknown = {tuple(name for name in keys if name not in _KNOWN) for keys in set(map(tuple, rows))}
    if len(unknown) > 1:
        return [{name: row[name] for name in row if name not in _KNOWN} for row in rows]
    return [{name: row[name] for name in names} for names in unknown for row in rows]


def _json(cells: Cells) -> Cells:
    # In one go: a line each, since JSON has no newline of its own.
    return _encoder.encode_lines(cells).decode().split("\n")[:-1]


def _plain(table: Table, row: Row) -> Cells:
    return [_cell(column.kind, cell) for column, cell in zip(table.columns, row, strict=True)]


def _cell(kind: Kind, cell: Any) -> Any:
    if cell is None:
        return None
    if kind is Kind.MOMENT:
        return (cell - _EPOCH) // _MICROSECOND
    return f"{cell:f}" if kind is Kind.MONEY else cell
