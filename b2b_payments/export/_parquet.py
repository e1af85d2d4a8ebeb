"""Parquet: payments with nested line items, written by DuckDB."""

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
    cell_expression,
    column_line,
    import_duckdb,
    log_source,
    only_file,
    plain_path,
    stated_type,
)
from b2b_payments.export._file import PathLike
from b2b_payments.export._log import Log
from b2b_payments.export._pages import BATCH_ROWS
from b2b_payments.export._placed import StagedFile, TableSink

_ITEMS = LINE_ITEMS.name
_Item: Any = msgspec.defstruct("Item", LINE_ITEMS.names[2:], gc=False)
_ROW_GROUPS = 2_048, 20_480
_GROUP_BYTES = 16 * 2**20
"""A row group, which is in memory as a whole, has up to 20,480 payments, but fewer if they are large: about
as many as have these bytes in the log, but at least 2,048, which DuckDB handles at once."""


class ParquetSink(TableSink):
    """Writes a Parquet file: `line_items` is a list of structs, amounts are decimal128(38, 12), times UTC.

    Raises ConfigurationError if the extra `parquet` is missing. Otherwise like `PlacedSink`.
    """

    format = "parquet"
    decimal = whole = True

    def __init__(self, path: PathLike) -> None:
        import_duckdb("parquet")
        super().__init__(path)
        plain_path(self.target)

    def encode_rows(self, rows: Rows) -> Sequence[bytes]:
        # Slices of a tuple: a list for each payment would trigger the garbage collector.
        items = tuple(map(_Item, *rows.tables[_ITEMS][2:]))
        lists = [items[start:stop] for start, stop in pairwise(accumulate(rows.counts, initial=0))]
        return [column_line([*PAYMENTS.names, _ITEMS], [*rows.tables[PAYMENTS.name], lists])]

    def fill(self, log: Log, files: Sequence[StagedFile]) -> None:
        item = ", ".join(map(" ".join, map(stated_type, LINE_ITEMS.columns[2:])))
        source = log_source(log, PAYMENTS.columns, more={_ITEMS: f"STRUCT({item})[]"})
        columns = [f"{cell_expression(column)} AS {column.name}" for column in PAYMENTS.columns]
        for _ in log.segments():
            pass  # checks the checksums, which DuckDB does not
        # No segment has many more payments than a full batch.
        size_of_payment = max(log.files(0).values()) / BATCH_ROWS
        least, most = _ROW_GROUPS
        row_group = int(max(least, min(most, _GROUP_BYTES / size_of_payment)))
        escaped = str(files[0].path).replace("'", "''")
        with as_export_error(DuckDBDatabase, self.path), _connect() as connection:
            connection.execute(
                f"COPY (SELECT {', '.join(columns)}, {_ITEMS} FROM {source}) TO '{escaped}' "  # noqa: S608
                f"(FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, ROW_GROUP_SIZE {row_group})"
            )
        files[0].hash_content()


def row_batches(path: Path, columns: Sequence[str]) -> Iterator[list[Any]]:
    """Yield columns of a file, some rows at a time. Raises ValueError in place of DuckDB's errors."""
    duckdb = import_duckdb("parquet")
    source = f"read_parquet({only_file(path)}, hive_partitioning = false)"
    try:
        with _connect() as connection:
            result = connection.execute(f"SELECT {', '.join(columns)} FROM {source}")  # noqa: S608
            while rows := result.fetchmany(2_000):
                yield rows
    except duckdb.Error as error:
        raise ValueError(str(error).splitlines()[0]) from None


def _connect() -> Any:
    # One thread keeps the rows in order and the memory bounded.
    return import_duckdb("parquet").connect(config={"threads": 1, "autoinstall_known_extensions": False})
