"""DuckDB: a database for analysts, in one file, and what reads an export's log as a table."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

from b2b_payments._errors import ConfigurationError, ExportError
from b2b_payments._models.decimals import EXACT
from b2b_payments._models.moment import moment_of
from b2b_payments._protocol.json import encode
from b2b_payments._tables.columns import PAYMENTS, Column, ColumnKind, Row, Table
from b2b_payments._tables.rows import DIGITS, LEAST, SCALE
from b2b_payments.export._database import DatabaseSink, FileDatabase, digest_text
from b2b_payments.export._file import PathLike
from b2b_payments.export._log import Log

_PATIENCE, _PAUSE = 30.0, 0.1  # seconds for which another program may have the file
_SQLITE = b"SQLite format 3\0"
_HASH_PARTS = 4
_LEAST_MEMORY, _MEMORY, _OF_LOG = 76 * 2**20, 18 * 2**20, 0.21
"""Bytes that one thread of DuckDB needs, and what share of the log's more: it holds the keys of all rows."""
_NOTHING: Mapping[str, str] = {}
_TYPES: Mapping[ColumnKind, str] = {
    ColumnKind.INTEGER: "BIGINT",
    ColumnKind.TEXT: "VARCHAR",
    ColumnKind.MONEY: f"DECIMAL({DIGITS},{SCALE})",
    ColumnKind.MOMENT: "TIMESTAMP WITH TIME ZONE",
    ColumnKind.JSON: "VARCHAR",
}


class DuckDBDatabase(FileDatabase):
    """DuckDB rounds what it converts without a word, and of two rows of one key it keeps the first.

    So amounts are fitted before they come here, and of such rows only the last one is handed over.
    """

    types = _TYPES
    decimal = True

    @classmethod
    def connect(cls, path: Path, *, read_only: bool = False) -> DuckDBDatabase:
        # DuckDB would fetch an extension over the network to read it.
        if path.is_file() and _begin_of(path) == _SQLITE:
            raise ExportError(f"{path} is a SQLite database, not one of DuckDB: give it another ending.")
        duckdb = import_duckdb()
        patience = time.monotonic() + _PATIENCE
        while True:
            try:
                return cls(duckdb.connect(str(path), read_only=read_only))
            except duckdb.IOException as error:
                if "lock" not in str(error) or time.monotonic() > patience:
                    raise
            time.sleep(_PAUSE)

    @classmethod
    def failures(cls) -> type[Exception]:
        failure: type[Exception] = import_duckdb().Error
        return failure

    @classmethod
    def hasty(cls) -> tuple[type[Exception], ...]:
        duckdb = import_duckdb()
        return (
            duckdb.ConstraintException,
            duckdb.OutOfMemoryException,
            duckdb.TransactionException,
            duckdb.FatalException,
        )

    def names(self) -> set[str]:
        found = self.execute(
            "SELECT table_name FROM information_schema.tables "
            "WHERE table_catalog = current_database() AND table_schema = 'main'"
        )
        return {name.lower() for (name,) in found.fetchall()}

    def columns(self, name: str) -> list[tuple[str, str]]:
        statement = (
            "SELECT column_name, data_type FROM duckdb_columns() "
            "JOIN duckdb_tables() USING (table_oid, database_oid) "
            "WHERE duckdb_columns.database_name = current_database() AND duckdb_columns.schema_name = 'main' "
            "AND lower(duckdb_columns.table_name) = ? ORDER BY column_index"
        )
        rows: list[tuple[str, str]] = self.execute(statement, [name]).fetchall()
        return rows

    def upsert(self, table: Table, rows: Sequence[Row]) -> None:
        keys = len(table.key)
        last = {row[:keys]: row for row in rows}
        if last:
            appender = self._connection.appender(table.name, action="upsert")
            kinds = [column.kind for column in table.columns]
            appender.append_rows([tuple(map(_stored, kinds, row)) for row in last.values()])
            appender.flush()

    @classmethod
    def lines(cls, table: Table, columns: Sequence[Sequence[Any]]) -> bytes:
        return column_line(table.names, columns)

    def replace(self, tables: Sequence[Table], log: Log, *, thorough: bool) -> Mapping[str, str]:
        for _ in log.segments():
            pass  # DuckDB would not see what was changed from outside
        for table in reversed(tables):
            self.execute(f"DELETE FROM main.{table.name}")  # noqa: S608
        # DuckDB would take most of the machine's memory to keep what it has written.
        size = sum(sum(log.files(part).values()) for part, _ in enumerate(tables))
        memory = max(_LEAST_MEMORY, _MEMORY + int(size * _OF_LOG))
        self.execute("RESET memory_limit" if thorough else f"SET memory_limit = '{memory}B'")
        self.execute("SET threads = 1")
        self.execute("SET preserve_insertion_order = false")
        for part, table in enumerate(tables):
            source = source_of(log, table.columns, part)
            if thorough:
                source = _last_ones(source, source_of(log, PAYMENTS.columns[:1]), table.key[0])
            columns = ", ".join(map(expression, table.columns))
            self.execute(f"INSERT INTO main.{table.name} SELECT {columns} FROM {source}")  # noqa: S608
        return {table.name: self.digest(table) for table in tables}

    def digest(self, table: Table) -> str:
        cells = ", ".join(map(self.readable, table.columns))
        parts = [f"sum(('0x' || substr(hash, {1 + 16 * part}, 16))::UBIGINT)" for part in range(_HASH_PARTS)]
        (sums,) = self.execute(
            f"SELECT {', '.join(parts)} "  # noqa: S608
            f"FROM (SELECT sha256(json_array({cells})::VARCHAR) AS hash FROM main.{table.name})"
        ).fetchall()
        return digest_text(sum(int(one or 0) << 64 * part for part, one in enumerate(reversed(sums))))

    def readable(self, column: Column) -> str:
        if column.kind is ColumnKind.MONEY:
            return f"CAST({column.name} AS VARCHAR)"
        return f"epoch_us({column.name})" if column.kind is ColumnKind.MOMENT else column.name

    def as_read(self, column: Column, cell: Any) -> Any:
        """Return a cell as it is read. A decimal knows no zero below zero."""
        if cell is None or column.kind is not ColumnKind.MONEY:
            return cell
        amount = Decimal(cell).quantize(LEAST, context=EXACT)
        return f"{amount or amount.copy_abs():f}"

    def moment(self, cell: Any) -> datetime:
        return moment_of(cell)

    def among(self, column: str, numbers: Sequence[int]) -> tuple[str, list[Any]]:
        return f"{column} IN (SELECT unnest(?))", [list(numbers)]


def _stored(kind: ColumnKind, cell: Any) -> Any:
    if cell is None or kind not in {ColumnKind.MONEY, ColumnKind.MOMENT}:
        return cell
    return Decimal(cell) if kind is ColumnKind.MONEY else moment_of(cell)


def column_line(names: Sequence[str], columns: Sequence[Sequence[Any]]) -> bytes:
    """Write columns as a line of the log: with no names in each row, it is a third shorter than rows."""
    return encode(dict(zip(names, columns, strict=True))) + b"\n"


def source_of(log: Log, columns: Sequence[Column], part: int = 0, more: Mapping[str, str] = _NOTHING) -> str:
    """Return what reads columns of a part of a log, and `more`, with stated types, beside their `segment`."""
    types = {**dict(map(stated_type, columns)), **more}
    stated = ", ".join(f"{_quoted(name)}: {_quoted(f'{type_}[]')}" for name, type_ in types.items())
    cells = ", ".join(f"unnest({name}) AS {name}" for name in types)
    sizes = log.files(part)
    files = ", ".join(_quoted(str(path)) for path in sizes)
    # The first part of each segment begins with a line that has no columns, and so no rows.
    return (
        f"(SELECT {cells}, regexp_extract(filename, '([0-9]+)[.0-9]*$', 1) AS segment "  # noqa: S608
        f"FROM read_json([{files}], columns = {{{stated}}}, format = 'newline_delimited', "
        f"maximum_object_size = {max(sizes.values()) + 1}, map_inference_threshold = -1, filename = true))"
    )


def stated_type(column: Column) -> tuple[str, str]:
    """Return a column's name, and its type in the log: moments are microseconds there."""
    return column.name, "BIGINT" if column.kind is ColumnKind.MOMENT else _TYPES[column.kind]


def _last_ones(source: str, payments: str, key: str) -> str:
    """Return rows of the last segment that has their payment."""
    last = f"SELECT id AS {key}, max(segment) AS segment FROM {payments} GROUP BY id"  # noqa: S608
    return f"(SELECT * FROM {source} SEMI JOIN ({last}) USING ({key}, segment))"  # noqa: S608


def expression(column: Column) -> str:
    """Return the expression for a cell."""
    return f"make_timestamptz({column.name})" if column.kind is ColumnKind.MOMENT else column.name


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


class DuckDBSink(DatabaseSink):
    """Writes payments into a DuckDB database: money is DECIMAL(38, 12), times TIMESTAMPTZ.

    Raises ConfigurationError where the extra `duckdb` is missing; otherwise as `DatabaseSink`.
    """

    format = "duckdb"
    database: ClassVar[type[FileDatabase]] = DuckDBDatabase
    decimal = True

    def __init__(self, path: PathLike) -> None:
        import_duckdb()
        super().__init__(path)


def _begin_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(_SQLITE))


def import_duckdb(extra: str = "duckdb") -> Any:
    """Return the library. Raises ConfigurationError with what to install."""
    try:
        import duckdb  # noqa: PLC0415 - an extra, for those who want it
    except ModuleNotFoundError:
        name = "DuckDB" if extra == "duckdb" else extra.capitalize()
        raise ConfigurationError(f"{name} needs duckdb: pip install 'b2b-payments[{extra}]'.") from None
    return duckdb
