"""CSV: one file of payments, and next to it one of their line items."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path, PurePath
from typing import Any, Final, TypeVar

from b2b_payments._errors import ConfigurationError, ExportError
from b2b_payments._tables.columns import TABLES, Column, ColumnKind, Table
from b2b_payments._tables.rows import Rows
from b2b_payments.export._database import moment_texts
from b2b_payments.export._file import PathLike
from b2b_payments.export._log import Log
from b2b_payments.export._manifest import MANIFEST, read_manifest
from b2b_payments.export._placed import StagedFile, TableSink

P = TypeVar("P", bound=PurePath)
_CHUNK_ROWS: Final = 500
_COMPANION: Final = ".line_items.csv"
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""Characters at the start of a cell that make a spreadsheet run it as a formula."""


def companion_of(target: P) -> P:
    """Return the line-item file for a file of payments: ``x.line_items.csv`` for ``x.csv`` and ``x``."""
    name = target.stem if target.suffix.lower() == ".csv" else target.name
    return target.with_name(f"{name}{_COMPANION}")


def read_columns(path: Path, names: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield columns of a file of payments, row by row. Raises OSError, ValueError, KeyError and csv.Error."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        while True:
            # The limit is the whole process's, so it is restored before the caller runs.
            before = csv.field_size_limit(sys.maxsize)
            try:
                chunk = [[row[name] for name in names] for row in islice(rows, _CHUNK_ROWS)]
            finally:
                csv.field_size_limit(before)
            if not chunk:
                return
            yield from chunk


class CSVSink(TableSink):
    """Writes ``NAME.csv`` and ``NAME.line_items.csv``: UTF-8, with a header line and LF line endings.

    Text is quoted, which distinguishes empty text from null (as PostgreSQL's COPY does). Amounts keep every
    digit and zero that the service sent; times are ISO 8601 in UTC.

    Cells are exact, formulas included: a spreadsheet runs text that begins with ``=``, ``+``, ``-`` or ``@``.
    If `spreadsheet_safe`, an apostrophe is put before such text, which keeps a spreadsheet from running it.
    Otherwise like `PlacedSink`.
    """

    format = "csv"

    def __init__(self, path: PathLike, *, spreadsheet_safe: bool = False) -> None:
        super().__init__(path, variant=", safe for spreadsheets" if spreadsheet_safe else "")
        self._spreadsheet_safe = spreadsheet_safe

    @classmethod
    def targets(cls, target: Path) -> Sequence[Path]:
        return [target, companion_of(target)]

    def check(self, target: Path) -> None:
        """Refuse file names that another export's manifest claims, such as those of ``x`` and ``x.csv``."""
        ours = {one.name for one in self.targets(target)}
        for found in os.listdir(target.parent):
            name = found.removesuffix(MANIFEST)
            if name in {found, target.name} or ours.isdisjoint({name, companion_of(Path(name)).name}):
                continue
            try:
                claimed = read_manifest(target.with_name(name)).sha256.keys() & ours
            except ExportError:
                continue
            if claimed and all(target.with_name(one).exists() for one in claimed):
                raise ConfigurationError(
                    f"{self.path} cannot be written: {', '.join(sorted(claimed))} belongs to the export "
                    f"{name}. Give another name."
                )

    def fill(self, log: Log, files: Sequence[StagedFile]) -> None:
        for table, file in zip(TABLES, files, strict=True):
            file.write((",".join(table.names) + "\n").encode())
        super().fill(log, files)

    def encode_rows(self, rows: Rows) -> Sequence[bytes]:
        """Return the rows as CSV lines. Escapes column by column, since few columns need any escaping."""
        return [self._table_lines(table, rows.tables[table.name]) for table in TABLES]

    def _table_lines(self, table: Table, columns: Sequence[Sequence[Any]]) -> bytes:
        cells = list(map(self._cells, table.columns, columns))
        quoted = [
            column.kind in {ColumnKind.TEXT, ColumnKind.JSON} and not column.nullable
            for column in table.columns
        ]
        line = ",".join('"%s"' if one else "%s" for one in quoted) + "\n"
        return "".join(map(line.__mod__, zip(*cells, strict=True))).encode()

    def _cells(self, column: Column, cells: Sequence[Any]) -> Sequence[Any]:
        if column.kind is ColumnKind.MOMENT:
            return moment_texts(cells)
        if column.kind in {ColumnKind.TEXT, ColumnKind.JSON}:
            cells = self._quoted(column, cells)
        return ["" if cell is None else cell for cell in cells] if column.nullable else cells

    def _quoted(self, column: Column, cells: Sequence[Any]) -> Sequence[Any]:
        if column.kind is ColumnKind.JSON and cells:
            # All cells at once: JSON on one line contains no newline, and is no formula.
            return "\n".join(cells).replace('"', '""').split("\n")
        if self._spreadsheet_safe:
            cells = [f"'{cell}" if cell is not None and cell.startswith(_FORMULA) else cell for cell in cells]
        if '"' in "".join(filter(None, cells)):
            cells = [cell and cell.replace('"', '""') for cell in cells]
        return [None if cell is None else f'"{cell}"' for cell in cells] if column.nullable else cells
