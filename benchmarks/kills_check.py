"""Compares a finished export with the service's payments: lost, twice, or never existing ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import msgspec

from b2b_payments._models.moment import moment_of
from b2b_payments._tables.columns import LINE_ITEMS, PAYMENTS, ColumnKind, Row, Table
from b2b_payments._tables.rows import Rows
from b2b_payments.sandbox import Store
from benchmarks.kills_service import CHANNELS, SEED, Wire
from tests.support.export_reading import tables_in

Version = tuple[object, ...]


@attrs.frozen
class Found:
    """The result of a check: rows of the export, lasting payments, and what is wrong."""

    rows: int
    lasting: int
    lost: int
    twice: int
    untrue: int


class Check:
    """Compares exports with every version that every payment of the service has had."""

    def __init__(self, payments: int, format_: str) -> None:
        self._format = format_
        self._pristine = Store(payments, CHANNELS, SEED)
        self._known: dict[int, Version] = {}

    def found(self, path: Path, before: set[int], changes: tuple[dict[int, list[Wire]], set[int]]) -> Found:
        """Compare an export with the service. `before` are the payments that existed when it started."""
        versions, deleted = changes
        exported = _read(path, self._format)
        counts = Counter(payment_id for payment_id, _ in exported)
        lasting = before - deleted
        untrue = sum(version not in self._versions(payment_id, versions) for payment_id, version in exported)
        return Found(
            rows=len(exported),
            lasting=len(lasting),
            lost=len(lasting - counts.keys()),
            twice=len(exported) - len(counts),
            untrue=untrue,
        )

    def _versions(self, payment_id: int, changed: Mapping[int, Sequence[Wire]]) -> list[Version]:
        if payment_id in changed:
            return [self._version(wire) for wire in changed[payment_id]]
        if payment_id not in self._pristine:
            return []
        if payment_id not in self._known:
            self._known[payment_id] = self._version(self._pristine.wire(payment_id))
        return [self._known[payment_id]]

    def _version(self, wire: Wire) -> Version:
        if self._format == "jsonl":
            return (msgspec.json.encode(wire),)
        [(row, items)] = Rows.of_objects([wire], whole=False, decimal=False).by_payment()
        text = self._format == "csv"
        return (
            _normalized(PAYMENTS, row, text=text),
            *(_normalized(LINE_ITEMS, item, text=text) for item in items),
        )


def _read(path: Path, format_: str) -> list[tuple[int, Version]]:
    if format_ == "jsonl":
        rows = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
        return [(int(row["id"]), (msgspec.json.encode(row),)) for row in rows]
    payments, items = tables_in(path, format_)
    text = format_ == "csv"
    of: dict[int, list[Version]] = {}
    for item in items:
        line = _normalized(LINE_ITEMS, _cells(LINE_ITEMS, item), text=text)
        of.setdefault(int(item["payment_id"]), []).append(line)
    found: list[tuple[int, Version]] = []
    for row in payments:
        payment_id = int(row["id"])
        # Removed, so that items of a duplicated payment belong to the first, and remaining ones are noticed.
        lines = of.pop(payment_id, [])
        found.append((payment_id, (_normalized(PAYMENTS, _cells(PAYMENTS, row), text=text), *lines)))
    return [*found, *((payment_id, tuple(lines)) for payment_id, lines in of.items())]


def _cells(table: Table, row: Mapping[str, Any]) -> Row:
    return tuple(row[name] for name in table.names)


def _normalized(table: Table, row: Iterable[Any], *, text: bool) -> Version:
    """Return a row in the same form for all formats; `text` formats have no null."""
    cells = zip(table.columns, row, strict=True)
    return tuple("" if text and cell is None else _cell(column.kind, cell) for column, cell in cells)


def _cell(kind: ColumnKind, cell: Any) -> object:
    if cell is None or cell == "":
        return cell
    if kind is ColumnKind.MOMENT:
        if isinstance(cell, int):
            return moment_of(cell)
        return (datetime.fromisoformat(cell) if isinstance(cell, str) else cell).astimezone(UTC)
    if kind is ColumnKind.MONEY:
        return Decimal(cell)
    return int(cell) if kind is ColumnKind.INTEGER else cell
