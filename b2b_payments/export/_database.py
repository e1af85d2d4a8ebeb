"""Connections to databases: the operations that all databases share, and those that each must implement.

A sync keeps its copy in any of them; exports are written to those that are a file. Another database needs one
more subclass. Statements name tables with their schema, so that they never use a table of another schema.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from b2b_payments._errors import ConfigurationError, ExportError
from b2b_payments._models.moment import moment_of
from b2b_payments._protocol.json import encode_lines
from b2b_payments._tables.columns import LINE_ITEMS, PAYMENTS, TABLES, Column, ColumnKind, Row, Table
from b2b_payments._tables.rows import UPDATED, Rows
from b2b_payments.export._digests import digest_of_rows, digest_text
from b2b_payments.export._log import Log
from b2b_payments.export._pages import rows_of
from b2b_payments.export._placed import TableSink

SYNCED = "b2b_payments_sync"
"""The table that marks a database as a synced copy, whose rows no export replaces."""

_ROWS_AT_ONCE = 2_000


class Database(ABC):
    """A connection to a database."""

    schema: str = "main"
    types: ClassVar[Mapping[ColumnKind, str]]
    begin: ClassVar[str] = "BEGIN"
    decimal: ClassVar[bool] = False
    """Whether amounts must fit into a decimal column."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Any:
        """Execute a statement; the result has `fetchall` and `fetchmany`."""
        return self._connection.execute(statement, parameters)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @classmethod
    @abstractmethod
    def failures(cls) -> type[Exception]:
        """Return the base class of the database's errors. Raises ConfigurationError without its extra."""

    @abstractmethod
    def names(self) -> set[str]:
        """Return the names of all tables and views, in lower case, since their case does not matter."""

    @abstractmethod
    def columns(self, name: str) -> list[tuple[str, str]]:
        """Return the names and types of a table's columns; an empty list for a view."""

    @abstractmethod
    def unique_indexes(self, table: Table) -> Sequence[tuple[str, str | None]]:
        """Return the columns of a table's unique indexes apart from its key: the index's name, and the column
        or None for an expression.
        """

    @abstractmethod
    def rehearse(self, tables: Sequence[Table]) -> None:
        """Raise an error if the database would refuse what is written to these tables, if they exist."""

    @abstractmethod
    def is_plain(self, tables: Sequence[Table]) -> bool:
        """Whether nothing can change or hold back what is written to these tables, such as a trigger."""

    @abstractmethod
    def upsert(self, table: Table, rows: Sequence[Row]) -> None:
        """Insert rows, replacing those with the same key."""

    def read(self, payments: Sequence[Mapping[str, Any] | bytes]) -> Rows:
        """Read payments as sent by the service, only the last of each id. Raises like `Rows.read`."""
        return Rows.joined(list(rows_of(payments, whole=True, decimal=self.decimal))).without_duplicates()

    @abstractmethod
    def readable(self, column: Column) -> str:
        """Return the SQL expression that reads a column exactly, as an integer or text."""

    @abstractmethod
    def as_read(self, column: Column, cell: Any) -> Any:
        """Return a cell as `readable` will read it once it is stored."""

    @abstractmethod
    def moment(self, cell: Any) -> datetime:
        """Return the time in a cell that `readable` has read."""

    @abstractmethod
    def among(self, column: str, numbers: Sequence[int]) -> tuple[str, list[Any]]:
        """Return the SQL condition that a column is one of these numbers, and its parameters."""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run the body in a transaction. Rolls back if it raises."""
        self.execute(self.begin)
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            with suppress(self.failures()):
                self.execute("ROLLBACK")
            raise

    def holds(self, table: Table) -> bool:
        """Whether a table has exactly the columns that `create` makes."""
        return self.columns(table.name) == [
            (column.name, self.types[column.kind]) for column in table.columns
        ]

    def missing_columns(self, table: Table) -> Sequence[Column] | None:
        """Return the columns missing in a table of an older version, or None if the table is not ours."""
        return () if self.holds(table) else None

    def compare(self, rows: Rows) -> Mapping[int, datetime | None]:
        """Return the ids of payments that differ from the stored ones, with the stored update time if any."""
        return self.differing(rows)

    def differing(self, rows: Rows) -> Mapping[int, datetime | None]:
        """Compare again what was compared in this transaction. Returns the same as `compare`."""
        old: dict[int, tuple[Row, list[Row]]] = {row[0]: (row, []) for row in self.select(PAYMENTS, rows.ids)}
        for line in self.select(LINE_ITEMS, list(old)):
            old[line[0]][1].append(line)
        differing: dict[int, datetime | None] = {}
        for row, lines in rows.by_payment():
            if (found := old.get(row[0])) is None:
                differing[row[0]] = None
            elif found != (
                self._as_read(PAYMENTS, row),
                [self._as_read(LINE_ITEMS, line) for line in lines],
            ):
                differing[row[0]] = self.moment(found[0][UPDATED])
        return differing

    def write(self, rows: Rows, inserted: Sequence[int], updated: Sequence[int]) -> None:
        """Write these payments, which were compared in this transaction."""
        if updated:
            self.remove(LINE_ITEMS, updated)
        if ids := {*inserted, *updated}:
            chosen = [(row, lines) for row, lines in rows.by_payment() if row[0] in ids]
            self.upsert(PAYMENTS, [row for row, _ in chosen])
            self.upsert(LINE_ITEMS, list(chain.from_iterable(lines for _, lines in chosen)))

    def held_back(self, rows: Rows, written: Iterable[int], removed: Sequence[int] = ()) -> set[int]:
        """Return the ids of payments that are not stored as written, or are stored although removed.

        `written` are ids in `rows`, which were compared in this transaction.
        """
        if self.is_plain(TABLES):
            return set()
        left = {row[0] for table in TABLES for row in self.select(table, removed)}
        return left | {*self.differing(rows)}.intersection(written)

    def _as_read(self, table: Table, row: Row) -> Row:
        return tuple(map(self.as_read, table.columns, row))

    def create(self, table: Table, schema: str = "") -> None:
        """Create a table."""
        self.execute(f"CREATE TABLE {schema or self.schema}.{self.definition(table)}")

    def definition(self, table: Table) -> str:
        """Return a table's name, columns and key, as `create` defines them."""
        columns = [
            f"{column.name} {self.types[column.kind]}{'' if column.nullable else ' NOT NULL'}"
            for column in table.columns
        ]
        return f"{table.name} ({', '.join(columns)}, PRIMARY KEY ({', '.join(table.key)}))"

    def add(self, table: Table, column: Column) -> None:
        """Add a column to a table; existing rows have null there."""
        self.execute(
            f"ALTER TABLE {self.schema}.{table.name} ADD COLUMN {column.name} {self.types[column.kind]}"
        )

    def rows(self, table: Table, names: Sequence[str]) -> Iterator[Row]:
        """Yield columns of a table, row by row, as integers and texts."""
        columns = {column.name: self.readable(column) for column in table.columns}
        cells = ", ".join(columns[name] for name in names)
        result = self.execute(f"SELECT {cells} FROM {self.schema}.{table.name}")  # noqa: S608
        while rows := result.fetchmany(_ROWS_AT_ONCE):
            yield from rows

    def select(self, table: Table, payment_ids: Sequence[int], schema: str = "") -> list[Row]:
        """Return the rows of these payments, as integers and texts, in the order of the key."""
        condition, parameters = self.among(table.key[0], payment_ids)
        columns = ", ".join(map(self.readable, table.columns))
        statement = (
            f"SELECT {columns} FROM {schema or self.schema}.{table.name} "  # noqa: S608
            f"WHERE {condition} ORDER BY {', '.join(table.key)}"
        )
        rows: list[Row] = self.execute(statement, parameters).fetchall()
        return rows

    def count(self, rows: str) -> int:
        """Count the rows of a table. `rows` is its name, optionally followed by a condition."""
        ((count,),) = self.execute(f"SELECT count(*) FROM {self.schema}.{rows}").fetchall()  # noqa: S608
        return int(count)

    def remove(self, table: Table, payment_ids: Sequence[int], schema: str = "") -> None:
        """Delete the rows of these payments."""
        condition, parameters = self.among(table.key[0], payment_ids)
        self.execute(f"DELETE FROM {schema or self.schema}.{table.name} WHERE {condition}", parameters)  # noqa: S608


class FileDatabase(Database):
    """A database in a file, which can also hold an export."""

    def __init__(self, connection: Any, path: Path) -> None:
        super().__init__(connection)
        self._path = path
        self._file: object = None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run the body in a transaction.

        Raises ExportError if the file is not the one that the first transaction wrote to: what was written
        went into a file that another program has removed or replaced.
        """
        with super().transaction():
            self._file = self._file or _identity(self._path)
            yield
        if self._file is None or _identity(self._path) != self._file:
            raise ExportError(
                f"{self._path} was removed or replaced while it was being written: run the same again (an "
                "export can be resumed)."
            )

    @classmethod
    @abstractmethod
    def connect(cls, path: Path, *, read_only: bool = False) -> FileDatabase:
        """Open a database. Waits a while if another program has locked it. Raises what `failures` returns."""

    @classmethod
    @abstractmethod
    def fast_errors(cls) -> tuple[type[Exception], ...]:
        """Return the errors after which `replace` is tried again, carefully."""

    @classmethod
    @abstractmethod
    def lines(cls, table: Table, columns: Sequence[Sequence[Any]]) -> bytes:
        """Encode rows as lines of JSON, from which `replace` reads them."""

    @abstractmethod
    def replace(self, tables: Sequence[Table], log: Log, *, careful: bool) -> Mapping[str, str]:
        """Replace the rows of the tables by those of an export's log. Returns the tables' digests.

        If `careful`, which is slower, the last row of a repeated payment counts. Otherwise a repeated payment
        raises one of `fast_errors`.
        """

    def digest(self, table: Table) -> str:
        """Return the digest of a table's rows."""
        return digest_text(digest_of_rows(self.rows(table, table.names)))


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from another one of the same name, or None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def moment_text(microseconds: int) -> str:
    """Format a time as ISO 8601 in UTC, with a fraction of a second only if it is not zero."""
    return moment_of(microseconds).isoformat().replace("+00:00", "Z")


def moment_texts(cells: Sequence[int]) -> list[str]:
    """Format times like `moment_text`; if all are whole seconds, in one call."""
    if any(cell % 1_000_000 for cell in cells):
        return list(map(moment_text, cells))
    moments = msgspec.convert([cell // 1_000_000 for cell in cells], list[datetime], strict=False)
    return encode_lines(moments).decode().replace('"', "").split("\n")[:-1]


@contextmanager
def as_export_error(kind: type[Database], subject: object, doing: str = "written") -> Iterator[None]:
    """Raise an ExportError in place of a database's error."""
    try:
        yield
    except kind.failures() as error:
        reason = str(error).splitlines()[0].rstrip(".!") if str(error) else type(error).__name__
        raise ExportError(f"{subject} could not be {doing}: {reason}.") from None


@contextmanager
def opened(
    kind: type[FileDatabase], path: Path, *, read_only: bool = False, doing: str = "written"
) -> Iterator[FileDatabase]:
    """Open a database, and close it afterwards. Raises ExportError in place of its errors."""
    with as_export_error(kind, path, doing), _connect(kind, path, read_only=read_only) as database:
        yield database


@contextmanager
def _connect(kind: type[FileDatabase], path: Path, *, read_only: bool = False) -> Iterator[FileDatabase]:
    database = kind.connect(path, read_only=read_only)
    try:
        yield database
    finally:
        with suppress(kind.failures()):
            database.close()


class DatabaseSink(TableSink):
    """Writes payments to a database's tables `payments` and `line_items`.

    Once the walk has ended, their rows are replaced in one transaction by those of the export. Until then,
    the database is neither written nor locked. Indexes, triggers and views stay, and nothing else in the
    database is touched. In SQLite, triggers on these tables fire only for rows that are actually deleted,
    inserted or updated.

    Raises ConfigurationError if the path is not writable. The methods also raise it if tables of these names
    were not made by an export, or are a synced copy. Otherwise like `PlacedSink`.
    """

    database: ClassVar[type[FileDatabase]]
    whole = True

    def write(self, batch: Sequence[Mapping[str, Any]]) -> None:
        """Add payments. Each batch is its own segment of the log, with at most one row for each payment."""
        if self._buffer:
            self._append(None)
        super().write(batch)

    def read(self, batch: Sequence[Mapping[str, Any]]) -> Iterable[Rows]:
        pages = list(super().read(batch))
        ids = list(chain.from_iterable(rows.ids for rows in pages))
        return pages if len(set(ids)) == len(ids) else [Rows.joined(pages).without_duplicates()]

    def encode_rows(self, rows: Rows) -> Sequence[bytes]:
        return [self.database.lines(table, rows.tables[table.name]) for table in TABLES]

    def check(self, target: Path) -> None:
        if target.exists() and target.stat().st_size:
            with opened(self.database, target, read_only=True) as database:
                self._check(database)

    def holds(self, target: Path) -> bool:
        if not target.exists() or not target.stat().st_size:
            return False
        with opened(self.database, target, read_only=True) as database:
            return PAYMENTS.name in database.names() and database.count(PAYMENTS.name) > 0

    def make(self, target: Path) -> Mapping[str, str]:
        """Replace the rows, carefully if the fast way fails, such as for a repeated payment."""
        with as_export_error(self.database, target):
            try:
                digests = self._replace(target, careful=False)
            except self.database.fast_errors():
                digests = self._replace(target, careful=True)
        return digests

    def place(self, target: Path) -> None:
        """Nothing to move: the rows are in place once the transaction has ended."""

    def _replace(self, target: Path, *, careful: bool) -> Mapping[str, str]:
        # A connection per attempt: DuckDB's is unusable after a commit ran out of memory.
        with _connect(self.database, target) as database, database.transaction():
            self._check(database)
            existing = database.names()
            for table in TABLES:
                if table.name not in existing:
                    database.create(table)
            return database.replace(TABLES, self._log, careful=careful)

    def _check(self, database: FileDatabase) -> None:
        existing = database.names()
        if SYNCED in existing:
            raise ConfigurationError(
                f"{self.path} holds a synced copy, which an export must not replace: sync it again, or give "
                "another file."
            )
        for table in TABLES:
            if table.name in existing and not database.holds(table):
                raise ConfigurationError(
                    f"{self.path} has a table {table.name} with columns other than an export's, or "
                    "another key, which is left alone. Give another file."
                )
        database.rehearse(TABLES)
