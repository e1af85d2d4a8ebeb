"""Parquet: payments with their line items nested, for whatever reads columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import msgspec

from b2b_payments._tables.columns import LINE_ITEMS, PAYMENTS
from b2b_payments._tables.rows import Rows
from b2b_payments.export._database import as_export_error
from b2b_payments.export._duckdb import (
    DuckDBDatabase,
    column_line,
    expression,
    import_duckdb,
    source_of,
    stated_type,
)
from b2b_payments.export._file import PathLike
from b2b_payments.export._log import Log
from b2b_payments.export._placed import Made, TableSink

_ITEMS = LINE_ITEMS.name
_Item: Any = msgspec.defstruct("Item", LINE_ITEMS.names[2:], gc=False)
_ROW_GROUP = 20_480  # as many payments as are in memory at once


class ParquetSink(TableSink):
    """Writes a Parquet file: `line_items` is a list of structs, money decimal128(38, 12), times UTC.

    Raises ConfigurationError where the extra `parquet` is missing. Otherwise as `PlacedSink`.
    """

    format = "parquet"
    decimal = whole = True

    def __init__(self, path: PathLike) -> None:
        import_duckdb("parquet")
        super().__init__(path)

    def spelled(self, rows: Rows) -> Sequence[bytes]:
        # Slices of a tuple: lists, as many as there are payments, would wake the garbage collector.
        items = tuple(map(_Item, *rows.tables[_ITEMS][2:]))
        lists = [items[start:stop] for start, stop in pairwise(accumulate(rows.counts, initial=0))]
        return [column_line([*PAYMENTS.names, _ITEMS], [*rows.tables[PAYMENTS.name], lists])]

    def fill(self, log: Log, files: Sequence[Made]) -> None:
        item = ", ".join(map(" ".join, map(stated_type, LINE_ITEMS.columns[2:])))
        source = source_of(log, PAYMENTS.columns, more={_ITEMS: f"STRUCT({item})[]"})
        columns = [f"{expression(column)} AS {column.name}" for column in PAYMENTS.columns]
        for _ in log.segments():
            pass  # DuckDB would not see what was changed from outside
        place = str(files[0].path).replace("'", "''")
        with as_export_error(DuckDBDatabase, self.path), _connected() as connection:
            connection.execute(
                f"COPY (SELECT {', '.join(columns)}, {_ITEMS} FROM {source}) TO '{place}' "  # noqa: S608
                f"(FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, ROW_GROUP_SIZE {_ROW_GROUP})"
            )
        files[0].written()


def batches(path: Path, columns: Sequence[str]) -> Iterator[list[Any]]:
    """Read columns of a file back, some rows at a time. Raises DuckDB's errors as ValueError."""
    duckdb = import_duckdb("parquet")
    place = str(path).replace("'", "''")
    try:
        with _connected() as connection:
            found = connection.execute(f"SELECT {', '.join(columns)} FROM read_parquet('{place}')")  # noqa: S608
            while rows := found.fetchmany(2_000):
                yield rows
    except duckdb.Error as error:
        raise ValueError(str(error).splitlines()[0]) from None


def _connected() -> Any:
    # One thread, so that rows stay in their order and memory is bounded.
    return import_duckdb("parquet").connect(config={"threads": 1, "autoinstall_known_extensions": False})
