"""One database, opened: what every database does alike, and what each does in its own way.

Copies are kept in any of them, exports are written into those that are a file. Another database is one more
subclass. Tables are named with their schema, so that no other is meant.
"""

from __future__ import annotations

import hashlib
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
from b2b_payments.export._log import Log
from b2b_payments.export._pages import rows_of
from b2b_payments.export._placed import TableSink

SYNCED = "b2b_payments_sync"
"""The table that says that a database is kept in step: no export replaces its rows."""

_ROWS_AT_ONCE = 2_000


class Database(ABC):
    """One database, opened."""

    schema: str = "main"
    types: ClassVar[Mapping[ColumnKind, str]]
    begin: ClassVar[str] = "BEGIN"
    decimal: ClassVar[bool] = False
    """Whether amounts have to fit into a decimal column."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Any:
        """Execute a statement; the result has `fetchall` and `fetchmany`."""
        return self._connection.execute(statement, parameters)

    def close(self) -> None:
        """Let go."""
        self._connection.close()

    @classmethod
    @abstractmethod
    def failures(cls) -> type[Exception]:
        """Return the root of this database's errors."""

    @abstractmethod
    def names(self) -> set[str]:
        """Return the names of all tables and views, in small letters: they are one in either case."""

    @abstractmethod
    def columns(self, name: str) -> list[tuple[str, str]]:
        """Return the names and types of a table's columns; none for a view."""

    @abstractmethod
    def upsert(self, table: Table, rows: Sequence[Row]) -> None:
        """Put rows in, in place of those with the same key."""

    def read(self, payments: Sequence[Mapping[str, Any]]) -> Rows:
        """Read payments as the service sent them; of one that came twice, the last. Raises as `Rows.read`."""
        return Rows.joined(list(rows_of(payments, whole=True, decimal=self.decimal))).last_of_each()

    @abstractmethod
    def readable(self, column: Column) -> str:
        """Return the expression that reads a column exactly, as an integer or a text."""

    @abstractmethod
    def as_read(self, column: Column, cell: Any) -> Any:
        """Return a cell as `readable` will give it back, once it was written."""

    @abstractmethod
    def moment(self, cell: Any) -> datetime:
        """Return the moment that a cell of this kind stands for, as `readable` gives it."""

    @abstractmethod
    def among(self, column: str, numbers: Sequence[int]) -> tuple[str, list[Any]]:
        """Return the condition that a column is one of these numbers, and its parameters."""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Do all of it, or nothing."""
        self.execute(self.begin)
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            with suppress(self.failures()):
                self.execute("ROLLBACK")
            raise

    def holds(self, table: Table) -> bool:
        """Whether a table is as `create` makes it."""
        return self.columns(table.name) == [
            (column.name, self.types[column.kind]) for column in table.columns
        ]

    def lacks(self, table: Table) -> Sequence[Column] | None:
        """Return the columns that an older version's table does not have; None for one that is not ours."""
        return () if self.holds(table) else None

    def compare(self, rows: Rows) -> Mapping[int, datetime | None]:
        """Return the payments that differ from the stored ones, and when those were updated."""
        held: dict[int, tuple[Row, list[Row]]] = {row[0]: (row, []) for row in self.found(PAYMENTS, rows.ids)}
        for line in self.found(LINE_ITEMS, list(held)):
            held[line[0]][1].append(line)
        differing: dict[int, datetime | None] = {}
        for row, lines in rows.by_payment():
            if (there := held.get(row[0])) is None:
                differing[row[0]] = None
            elif there != (
                self._as_read(PAYMENTS, row),
                [self._as_read(LINE_ITEMS, line) for line in lines],
            ):
                differing[row[0]] = self.moment(there[0][UPDATED])
        return differing

    def write(self, rows: Rows, inserted: Sequence[int], updated: Sequence[int]) -> None:
        """Put these payments down, as they were compared in this transaction."""
        if updated:
            self.remove(LINE_ITEMS, updated)
        if written := {*inserted, *updated}:
            chosen = [(row, lines) for row, lines in rows.by_payment() if row[0] in written]
            self.upsert(PAYMENTS, [row for row, _ in chosen])
            self.upsert(LINE_ITEMS, list(chain.from_iterable(lines for _, lines in chosen)))

    def _as_read(self, table: Table, row: Row) -> Row:
        return tuple(map(self.as_read, table.columns, row))

    def create(self, table: Table, schema: str = "") -> None:
        """Create a table."""
        columns = [
            f"{column.name} {self.types[column.kind]}{'' if column.nullable else ' NOT NULL'}"
            for column in table.columns
        ]
        key = ", ".join(table.key)
        self.execute(
            f"CREATE TABLE {schema or self.schema}.{table.name} ({', '.join(columns)}, PRIMARY KEY ({key}))"
        )

    def add(self, table: Table, column: Column) -> None:
        """Add a column to a table; rows that are there have null."""
        self.execute(
            f"ALTER TABLE {self.schema}.{table.name} ADD COLUMN {column.name} {self.types[column.kind]}"
        )

    def rows(self, table: Table, names: Sequence[str]) -> Iterator[Row]:
        """Read columns of a table, as integers and texts."""
        columns = {column.name: self.readable(column) for column in table.columns}
        cells = ", ".join(columns[name] for name in names)
        result = self.execute(f"SELECT {cells} FROM {self.schema}.{table.name}")  # noqa: S608
        while rows := result.fetchmany(_ROWS_AT_ONCE):
            yield from rows

    def found(self, table: Table, payment_ids: Sequence[int]) -> list[Row]:
        """Read the rows of these payments, as integers and texts, in the order of the key."""
        condition, parameters = self.among(table.key[0], payment_ids)
        columns = ", ".join(map(self.readable, table.columns))
        statement = (
            f"SELECT {columns} FROM {self.schema}.{table.name} "  # noqa: S608
            f"WHERE {condition} ORDER BY {', '.join(table.key)}"
        )
        rows: list[Row] = self.execute(statement, parameters).fetchall()
        return rows

    def count(self, rows: str) -> int:
        """Count the rows of a table, or of those that a condition behind its name leaves."""
        ((count,),) = self.execute(f"SELECT count(*) FROM {self.schema}.{rows}").fetchall()  # noqa: S608
        return int(count)

    def remove(self, table: Table, payment_ids: Sequence[int], schema: str = "") -> None:
        """Remove the rows of these payments."""
        condition, parameters = self.among(table.key[0], payment_ids)
        self.execute(f"DELETE FROM {schema or self.schema}.{table.name} WHERE {condition}", parameters)  # noqa: S608


class FileDatabase(Database):
    """A database that is a file: exports are written into it, too."""

    @classmethod
    @abstractmethod
    def connect(cls, path: Path, *, read_only: bool = False) -> FileDatabase:
        """Open a database; wait a while where another program has it. Raises what `failures` gives."""

    @classmethod
    @abstractmethod
    def hasty(cls) -> tuple[type[Exception], ...]:
        """Return the errors for which `replace` is tried once more, thoroughly."""

    @classmethod
    @abstractmethod
    def lines(cls, table: Table, columns: Sequence[Sequence[Any]]) -> bytes:
        """Write rows as lines of JSON, of which `replace` makes rows again."""

    @abstractmethod
    def replace(self, tables: Sequence[Table], log: Log, *, thorough: bool) -> Mapping[str, str]:
        """Let the tables hold exactly the rows of an export's log; give their digests.

        Of a payment that is there twice, the last row counts if `thorough`, which costs more; otherwise that
        raises one of `hasty`.
        """

    def digest(self, table: Table) -> str:
        """Return the digest of a table's rows."""
        return digest_text(digest_of(map(msgspec.json.encode, self.rows(table, table.names))))


def digest_of(lines: Iterable[bytes]) -> int:
    """Return the sum of the SHA-256 of lines, each a row as JSON: the same in whatever order they come."""
    return sum(int.from_bytes(hashlib.sha256(line).digest()) for line in lines)


def digest_text(digest: int) -> str:
    """Write a digest: 64 hexadecimal digits, whatever the number of rows."""
    return f"{digest % 2**256:064x}"


def moment_text(microseconds: int) -> str:
    """Write a moment in UTC as ISO 8601 has it, with a fraction of a second only where there is one."""
    return moment_of(microseconds).isoformat().replace("+00:00", "Z")


def moment_texts(cells: Sequence[int]) -> list[str]:
    """Write moments; whole seconds in one go."""
    if any(cell % 1_000_000 for cell in cells):
        return list(map(moment_text, cells))
    moments = msgspec.convert([cell // 1_000_000 for cell in cells], list[datetime], strict=False)
    return encode_lines(moments).decode().replace('"', "").split("\n")[:-1]


@contextmanager
def as_export_error(kind: type[Database], place: object, doing: str = "written") -> Iterator[None]:
    """Turn an error of a database into a sentence. Raises ExportError."""
    try:
        yield
    except kind.failures() as error:
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise ExportError(f"{place} could not be {doing}: {reason}.") from None


@contextmanager
def opened(
    kind: type[FileDatabase], path: Path, *, read_only: bool = False, doing: str = "written"
) -> Iterator[FileDatabase]:
    """Yield a database, and close it. What it raises becomes an ExportError."""
    with as_export_error(kind, path, doing), _connected(kind, path, read_only=read_only) as database:
        yield database


@contextmanager
def _connected(kind: type[FileDatabase], path: Path, *, read_only: bool = False) -> Iterator[FileDatabase]:
    database = kind.connect(path, read_only=read_only)
    try:
        yield database
    finally:
        with suppress(kind.failures()):
            database.close()


class DatabaseSink(TableSink):
    """Writes payments into a database's tables `payments` and `line_items`.

    The tables hold what they held until the export is complete, and then exactly the payments of the export.
    Their indexes, triggers and views stay, and nothing else in the database is touched. Until then nothing is
    written to the database, or locked. Triggers on these tables see in SQLite the payments that really went,
    came or changed.

    Raises ConfigurationError for a path that cannot be written to; its methods raise that for tables of these
    names that no export made. Otherwise as `PlacedSink`.
    """

    database: ClassVar[type[FileDatabase]]
    whole = True

    def write(self, batch: Sequence[Mapping[str, Any]]) -> None:
        """Take payments; in a segment of the log, each of them is there once."""
        if self._waiting:
            self._append(None)
        super().write(batch)

    def read(self, batch: Sequence[Mapping[str, Any]]) -> Iterable[Rows]:
        found = list(super().read(batch))
        ids = list(chain.from_iterable(rows.ids for rows in found))
        return found if len(set(ids)) == len(ids) else [Rows.joined(found).last_of_each()]

    def spelled(self, rows: Rows) -> Sequence[bytes]:
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
        """Replace the rows; the same payment again takes its own place."""
        with as_export_error(self.database, target):
            try:
                digests = self._replaced(target, thorough=False)
            except self.database.hasty():
                digests = self._replaced(target, thorough=True)
        if not target.exists():
            raise ExportError(f"{target} was removed while it was being written: resume the export.")
        return digests

    def place(self, target: Path) -> None:
        """Nothing more to place: it is there once the transaction has ended."""

    def _replaced(self, target: Path, *, thorough: bool) -> Mapping[str, str]:
        # Opened for each try: DuckDB's is of no use any more once a commit ran out of memory.
        with _connected(self.database, target) as database, database.transaction():
            self._check(database)
            there = database.names()
            for table in TABLES:
                if table.name not in there:
                    database.create(table)
            return database.replace(TABLES, self._log, thorough=thorough)

    def _check(self, database: FileDatabase) -> None:
        there = database.names()
        if SYNCED in there:
            raise ConfigurationError(
                f"{self.path} is kept in step by a sync, and no export replaces what it holds: "
                "sync it again, or give another file."
            )
        for table in TABLES:
            if table.name in there and not database.holds(table):
                raise ConfigurationError(
                    f"{self.path} has a table {table.name} with other columns than an export's: "
                    "it is left alone. Give another file."
                )
