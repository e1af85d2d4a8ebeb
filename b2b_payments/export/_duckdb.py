"""DuckDB: a database in a file, and SQL that reads an export's log as a table."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

from b2b_payments._errors import ConfigurationError, ExportError, shown
from b2b_payments._models.decimals import EXACT
from b2b_payments._models.moment import moment_of
from b2b_payments._protocol.json import encode
from b2b_payments._tables.columns import PAYMENTS, Column, ColumnKind, Row, Table
from b2b_payments._tables.rows import DIGITS, LEAST, SCALE
from b2b_payments.export._database import DatabaseSink, FileDatabase
from b2b_payments.export._digests import digest_text
from b2b_payments.export._file import PathLike
from b2b_payments.export._log import Log

_PATIENCE, _PAUSE = 30.0, 0.1  # seconds to wait while another program has the file open
_SQLITE_MAGIC = b"SQLite format 3\0"
_HASH_PARTS = 4
_LEAST_MEMORY, _MEMORY, _SHARE_OF_LOG, _PER_SEGMENT = 76 * 2**20, 18 * 2**20, 0.21, 8
"""Bytes that one thread of DuckDB needs: `_MEMORY`, and for all rows' keys a share of the log's size, but no
less than `_LEAST_MEMORY`; and some times the size of the largest segment, which it reads as a whole."""
_NO_MORE: Mapping[str, str] = {}
_TYPES: Mapping[ColumnKind, str] = {
    ColumnKind.INTEGER: "BIGINT",
    ColumnKind.TEXT: "VARCHAR",
    ColumnKind.MONEY: f"DECIMAL({DIGITS},{SCALE})",
    ColumnKind.MOMENT: "TIMESTAMP WITH TIME ZONE",
    ColumnKind.JSON: "VARCHAR",
}


class DuckDBDatabase(FileDatabase):
    """DuckDB silently rounds what it converts, and keeps the first of two rows with the same key.

    So `Rows` fits amounts to the column, and only the last row of each key is passed to DuckDB.
    """

    types = _TYPES
    decimal = True

    def __init__(self, connection: Any, path: Path) -> None:
        super().__init__(connection, path)
        ((self._name,),) = self.execute("SELECT system.main.current_database()").fetchall()
        self.schema = _quoted(self._name, '"') + ".main"
        # Else macros in the user's database would be found before functions of the same name.
        self.execute("SET search_path = 'system.main'")

    @classmethod
    def connect(cls, path: Path, *, read_only: bool = False) -> DuckDBDatabase:
        # DuckDB would download an extension to read it.
        if path.is_file() and _first_bytes(path) == _SQLITE_MAGIC:
            raise ExportError(f"{path} is a SQLite database, not one of DuckDB: give it another extension.")
        duckdb = import_duckdb()
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                return cls(duckdb.connect(database_path(path), read_only=read_only), path)
            except duckdb.IOException as error:
                if "lock" not in str(error) or time.monotonic() > deadline:
                    raise
            time.sleep(_PAUSE)

    @classmethod
    def failures(cls) -> type[Exception]:
        failure: type[Exception] = import_duckdb().Error
        return failure

    @classmethod
    def fast_errors(cls) -> tuple[type[Exception], ...]:
        duckdb = import_duckdb()
        return (
            duckdb.ConstraintException,
            duckdb.OutOfMemoryException,
            duckdb.TransactionException,
            duckdb.FatalException,
        )

    def names(self) -> set[str]:
        result = self.execute(
            "SELECT table_name FROM system.information_schema.tables "
            "WHERE table_catalog = ? AND table_schema = 'main'",
            [self._name],
        )
        return {name.lower() for (name,) in result.fetchall()}

    def columns(self, name: str) -> list[tuple[str, str]]:
        statement = (
            "SELECT column_name, data_type FROM duckdb_columns() "
            "JOIN duckdb_tables() USING (table_oid, database_oid) "
            "WHERE duckdb_columns.database_name = ? AND duckdb_columns.schema_name = 'main' "
            "AND lower(duckdb_columns.table_name) = ? ORDER BY column_index"
        )
        rows: list[tuple[str, str]] = self.execute(statement, [self._name, name]).fetchall()
        return rows

    def holds(self, table: Table) -> bool:
        """Whether a table has exactly the columns, the key and the constraints that `create` makes."""
        constraints = self.execute(
            "SELECT constraint_type, constraint_column_names FROM duckdb_constraints() "
            "WHERE database_name = ? AND schema_name = 'main' AND lower(table_name) = ? "
            "AND constraint_type != 'NOT NULL'",
            [self._name, table.name],
        ).fetchall()
        return super().holds(table) and constraints == [("PRIMARY KEY", [*table.key])]

    def unique_indexes(self, table: Table) -> Sequence[tuple[str, str | None]]:
        """Return them as if on an expression, since DuckDB replaces no rows of a table with any of them."""
        rows: list[tuple[str, None]] = self.execute(
            "SELECT index_name, NULL FROM duckdb_indexes() "
            "WHERE database_name = ? AND schema_name = 'main' AND lower(table_name) = ? AND is_unique",
            [self._name, table.name],
        ).fetchall()
        return rows

    def rehearse(self, tables: Sequence[Table]) -> None:
        """Raise ConfigurationError for foreign keys to these tables, and for triggers on them."""
        names = [table.name for table in tables]
        found = self.execute(
            "SELECT 'A foreign key of the table ' || table_name || ' refers to ' || referenced_table "
            "FROM duckdb_constraints() WHERE database_name = ? AND schema_name = 'main' "
            "AND constraint_type = 'FOREIGN KEY' AND lower(referenced_table) IN ? UNION ALL "
            "SELECT 'The trigger ' || trigger_name || ' is on ' || table_name FROM duckdb_triggers() "
            "WHERE database_name = ? AND schema_name = 'main' AND lower(table_name) IN ?",
            [self._name, names, self._name, names],
        ).fetchall()
        for (what,) in found:
            raise ConfigurationError(
                f"{what} in {self._path}, so DuckDB cannot replace its rows: drop it, or give another file."
            )

    def is_plain(self, tables: Sequence[Table]) -> bool:  # noqa: ARG002
        """Return True: `holds` and `rehearse` refuse everything else."""
        return True

    def upsert(self, table: Table, rows: Sequence[Row]) -> None:
        keys = len(table.key)
        last = {row[:keys]: row for row in rows}
        if last:
            appender = self._connection.appender(f"{self.schema}.{table.name}", action="upsert")
            kinds = [column.kind for column in table.columns]
            appender.append_rows([tuple(map(_stored, kinds, row)) for row in last.values()])
            appender.flush()

    @classmethod
    def lines(cls, table: Table, columns: Sequence[Sequence[Any]]) -> bytes:
        return column_line(table.names, columns)

    def replace(self, tables: Sequence[Table], log: Log, *, careful: bool) -> Mapping[str, str]:
        for _ in log.segments():
            pass  # checks the checksums, which DuckDB does not
        for table in reversed(tables):
            self.execute(f"DELETE FROM {self.schema}.{table.name}")  # noqa: S608
        # Without a limit, DuckDB would use most of the machine's memory as a cache.
        sizes = [size for part, _ in enumerate(tables) for size in log.files(part).values()]
        memory = max(_LEAST_MEMORY, _MEMORY + int(sum(sizes) * _SHARE_OF_LOG))
        memory += _PER_SEGMENT * max(sizes, default=0)
        self.execute("RESET memory_limit" if careful else f"SET memory_limit = '{memory}B'")
        self.execute("SET threads = 1")
        self.execute("SET preserve_insertion_order = false")
        for part, table in enumerate(tables):
            source = log_source(log, table.columns, part)
            if careful:
                source = _only_last(source, log_source(log, PAYMENTS.columns[:1]), table.key[0])
            columns = ", ".join(map(cell_expression, table.columns))
            self.execute(f"INSERT INTO {self.schema}.{table.name} SELECT {columns} FROM {source}")  # noqa: S608
        return {table.name: self.digest(table) for table in tables}

    def digest(self, table: Table) -> str:
        cells = ", ".join(map(self.readable, table.columns))
        parts = [f"sum(('0x' || substr(hash, {1 + 16 * part}, 16))::UBIGINT)" for part in range(_HASH_PARTS)]
        (sums,) = self.execute(
            f"SELECT {', '.join(parts)} "  # noqa: S608
            f"FROM (SELECT sha256(json_array({cells})::VARCHAR) AS hash FROM {self.schema}.{table.name})"
        ).fetchall()
        return digest_text(sum(int(one or 0) << 64 * part for part, one in enumerate(reversed(sums))))

    def readable(self, column: Column) -> str:
        if column.kind is ColumnKind.MONEY:
            return f"CAST({column.name} AS VARCHAR)"
        return f"epoch_us({column.name})" if column.kind is ColumnKind.MOMENT else column.name

    def as_read(self, column: Column, cell: Any) -> Any:
        """Return a cell as it will be read. A decimal column has no negative zero."""
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
    """Encode columns as a line of the log: without names in each row, it is a third shorter than rows."""
    return encode(dict(zip(names, columns, strict=True))) + b"\n"


def log_source(log: Log, columns: Sequence[Column], part: int = 0, more: Mapping[str, str] = _NO_MORE) -> str:
    """Return a subquery for a part of a log: columns and `more`, with types, and the `segment` number."""
    types = {**dict(map(stated_type, columns)), **more}
    stated = ", ".join(f"{_quoted(name)}: {_quoted(f'{type_}[]')}" for name, type_ in types.items())
    cells = ", ".join(f"unnest({name}) AS {name}" for name in types)
    sizes = log.files(part)
    files = ", ".join(map(only_file, sizes))
    # The header line of the first part has none of the columns, so it yields no rows.
    return (
        f"(SELECT {cells}, regexp_extract(filename, '([0-9]+)[.0-9]*$', 1) AS segment "  # noqa: S608
        f"FROM read_json([{files}], columns = {{{stated}}}, format = 'newline_delimited', "
        f"maximum_object_size = {max(sizes.values()) + 1}, map_inference_threshold = -1, "
        "hive_partitioning = false, filename = true))"
    )


def stated_type(column: Column) -> tuple[str, str]:
    """Return a column's name, and its type in the log, where times are microseconds."""
    return column.name, "BIGINT" if column.kind is ColumnKind.MOMENT else _TYPES[column.kind]


def _only_last(source: str, payments: str, key: str) -> str:
    """Return a subquery with only the rows in the last segment that contains their payment."""
    last = f"SELECT id AS {key}, max(segment) AS segment FROM {payments} GROUP BY id"  # noqa: S608
    return f"(SELECT * FROM {source} SEMI JOIN ({last}) USING ({key}, segment))"  # noqa: S608


def cell_expression(column: Column) -> str:
    """Return the SQL expression that converts a cell of the log to the column's type."""
    return f"make_timestamptz({column.name})" if column.kind is ColumnKind.MOMENT else column.name


def only_file(path: Path) -> str:
    """Return the SQL literal of a path to read, for this one file. Raises like `plain_path`."""
    return _quoted(re.sub(r"([*?\[])", r"[\1]", plain_path(path)))


def plain_path(path: Path) -> str:
    """Return a path as text. Raises ConfigurationError if DuckDB would open another file."""
    text = str(path)
    if os.sep == "/" and "\\" in text:
        raise ConfigurationError(f"{shown(text)}: DuckDB reads a backslash as /, so give another name.")
    return text


def database_path(path: Path) -> str:
    """Return the path of a database as text. Raises ConfigurationError if DuckDB cannot use it."""
    if "?" in str(path.parent):
        raise ConfigurationError(f"{shown(str(path))}: DuckDB cannot write into a folder with ? in its name.")
    return plain_path(path)


def _quoted(text: str, mark: str = "'") -> str:
    return f"{mark}{text.replace(mark, 2 * mark)}{mark}"


class DuckDBSink(DatabaseSink):
    """Writes payments to a DuckDB database: amounts are DECIMAL(38, 12), times TIMESTAMPTZ.

    Raises ConfigurationError if the extra `duckdb` is missing. Otherwise like `DatabaseSink`.
    """

    format = "duckdb"
    database: ClassVar[type[FileDatabase]] = DuckDBDatabase
    decimal = True

    def __init__(self, path: PathLike) -> None:
        import_duckdb()
        super().__init__(path)
        database_path(self.target)


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(_SQLITE_MAGIC))


def import_duckdb(extra: str = "duckdb") -> Any:
    """Return the library. Raises ConfigurationError, naming the package to install, if it is missing."""
    try:
        import duckdb  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        name = "DuckDB" if extra == "duckdb" else extra.capitalize()
        raise ConfigurationError(f"{name} needs duckdb: pip install 'b2b-payments[{extra}]'.") from None
    return duckdb
