"""Databases: tables `payments` and `line_items`, replaced in one transaction when an export is complete.

Until then the rows are in tables of their own, ``payments_incoming`` and ``line_items_incoming``, and each
commit puts rows and checkpoint (table ``b2b_payments_export``) down in one transaction. Other tables are left
alone.
"""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from b2b_payments.errors import ConfigurationError
from b2b_payments.export.columns import LINE_ITEMS, PAYMENTS, Column, Kind, Row, Table, rows_of
from b2b_payments.export.file import ExportError, Lock, PathLike, sync_folder, writable, writing
from b2b_payments.export.manifest import manifest_of, manifest_path
from b2b_payments.export.sink import Checkpoint

_TABLES = (PAYMENTS, LINE_ITEMS)
_STATE = "b2b_payments_export"
_VERSION = 1
_ROWS_AT_ONCE = 2_000


class Database(ABC):
    """One database, opened; what SQLite and DuckDB do each in their own way."""

    format: ClassVar[str]
    types: ClassVar[Mapping[Kind, str]]
    decimal: ClassVar[bool]

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
        """Give the root of this database's errors."""

    @abstractmethod
    def upsert(self, table: Table, name: str, rows: Sequence[Row]) -> None:
        """Put rows into the table of that name, in place of those with the same key."""

    @abstractmethod
    def remove_items(self, name: str, payment_ids: Sequence[int]) -> None:
        """Remove the line items of payments from the table of that name."""

    @abstractmethod
    def readable(self, column: Column) -> str:
        """Give the expression that reads a column exactly, as an integer or a text."""

    @abstractmethod
    def belongings(self, name: str) -> list[str]:
        """Give the statements that make a table's indexes, and whatever else goes when it is dropped."""

    @abstractmethod
    def tables(self) -> set[str]:
        """Give the names of all tables."""

    def columns(self, name: str) -> list[str]:
        """Give the names of a table's columns."""
        return [about[0] for about in self.execute(f"SELECT * FROM {name} LIMIT 0").description]  # noqa: S608

    def create(self, table: Table, name: str) -> None:
        """Create a table of that name."""
        columns = [
            f"{column.name} {self.types[column.kind]}{'' if column.nullable else ' NOT NULL'}"
            for column in table.columns
        ]
        self.execute(f"CREATE TABLE {name} ({', '.join(columns)}, PRIMARY KEY ({', '.join(table.key)}))")

    def rows(self, table: Table, names: Sequence[str], *, sort: bool = False) -> Iterator[Row]:
        """Read columns of a table, as integers and texts."""
        columns = {column.name: self.readable(column) for column in table.columns}
        statement = f"SELECT {', '.join(columns[name] for name in names)} FROM {table.name}"  # noqa: S608
        result = self.execute(statement + (f" ORDER BY {', '.join(table.key)}" if sort else ""))
        while rows := result.fetchmany(_ROWS_AT_ONCE):
            yield from rows

    def sha256(self, table: Table) -> str:
        """Hash a table's rows in the order of its key, each as a line of JSON."""
        found = hashlib.sha256()
        for row in self.rows(table, table.names, sort=True):
            found.update(msgspec.json.encode(row) + b"\n")
        return found.hexdigest()


class DatabaseSink(ABC):
    """Writes payments into a database's tables `payments` and `line_items`.

    The tables hold what they held until the export is complete, and then exactly the payments of the export.
    Their indexes are kept.

    Raises ConfigurationError for a path that cannot be written to; its methods raise that for tables of these
    names with other columns, ExportError, and ResponseDecodeError for a payment that cannot be read.
    """

    def __init__(self, path: PathLike, failures: type[Exception]) -> None:
        self.path = Path(path)
        self._target = writable(self.path)
        self._failures = failures
        self._lock = Lock(self._target)
        self._database: Database | None = None
        self._new = False
        self._checkpoint: Checkpoint | None = None
        self.kept = False

    @abstractmethod
    def connect(self, path: Path) -> Database:
        """Open the database to write to it."""

    def open(self) -> None:
        """Begin anew; what an interrupted export left is removed."""
        self._lock.acquire()
        with self._writing() as database:
            self._begin(database)

    def resume(self) -> Checkpoint | None:
        """Go on behind the last commit; begin anew and give None where there was none."""
        self._lock.acquire()
        with self._writing() as database:
            self._checkpoint = self._committed(database)
            if self._checkpoint is None:
                self._begin(database)
            else:
                self._check(database)
                database.execute("BEGIN")
        return self._checkpoint

    def write(self, batch: Sequence[Mapping[str, Any]]) -> None:
        """Put the payments down. The same payment again takes its own place."""
        payments, items = rows_of(batch)
        with self._writing() as database:
            rows = PAYMENTS.fitted(payments, decimal=database.decimal)
            database.remove_items(_incoming(LINE_ITEMS), [row[0] for row in rows])
            database.upsert(PAYMENTS, _incoming(PAYMENTS), rows)
            # Of a payment that comes twice in a batch, the last one counts, with its items.
            last = {row[0]: its for row, its in zip(rows, items, strict=True)}
            flat = LINE_ITEMS.fitted(list(chain.from_iterable(last.values())), decimal=database.decimal)
            database.upsert(LINE_ITEMS, _incoming(LINE_ITEMS), flat)

    def commit(self, checkpoint: Checkpoint | None) -> None:
        """Keep everything written so far, and the checkpoint, in one transaction."""
        if checkpoint is None:
            return
        with self._writing() as database:
            packed = msgspec.json.encode({"version": _VERSION, "checkpoint": checkpoint}).decode()
            database.execute(f"DELETE FROM {_STATE}")  # noqa: S608
            database.execute(f"INSERT INTO {_STATE} VALUES (?)", [packed])  # noqa: S608
            database.execute("COMMIT")
            self._checkpoint = checkpoint
            database.execute("BEGIN")

    def close(self, *, complete: bool) -> None:
        """Let the rows take their place where they are complete."""
        try:
            if complete:
                self._publish()
        finally:
            self._let_go()

    @contextmanager
    def _writing(self) -> Iterator[Database]:
        with writing(self.path):
            if self._database is None:
                if not self._lock.held:
                    raise ConfigurationError(f"{self.path} is not open: call open() first.")
                self._new = not self._target.exists()
            try:
                self._database = self._database or self.connect(self._target)
                yield self._database
            except self._failures as error:
                raise ExportError(f"{self.path} could not be written: {_reason(error)}.") from None

    def _begin(self, database: Database) -> None:
        self._check(database)
        database.execute("BEGIN")
        self._drop(database)
        database.execute(f"CREATE TABLE {_STATE} (checkpoint {database.types[Kind.TEXT]})")
        for table in _TABLES:
            database.create(table, _incoming(table))
        database.execute("COMMIT")
        database.execute("BEGIN")

    def _check(self, database: Database) -> None:
        there = database.tables()
        for table in _TABLES:
            if table.name in there and database.columns(table.name) != table.names:
                raise ConfigurationError(
                    f"{self.path} has a table {table.name} with other columns than an export's: "
                    "it is left alone. Give another file."
                )

    def _committed(self, database: Database) -> Checkpoint | None:
        if _STATE not in database.tables():
            return None
        rows = database.execute(f"SELECT checkpoint FROM {_STATE}").fetchall()  # noqa: S608
        if not rows:
            return None
        state: Any = msgspec.json.decode(rows[0][0])
        if state.get("version") != _VERSION:
            raise ExportError(f"What was kept in {self.path} is of another version; begin anew.")
        checkpoint: Checkpoint = state["checkpoint"]
        return checkpoint

    def _drop(self, database: Database) -> None:
        for name in (_STATE, *map(_incoming, _TABLES)):
            database.execute(f"DROP TABLE IF EXISTS {name}")

    def _publish(self) -> None:
        with self._writing() as database:
            # They are gone where a process was killed between the last two transactions.
            if _incoming(PAYMENTS) in database.tables():
                for table in _TABLES:
                    belongings = database.belongings(table.name)
                    database.execute(f"DROP TABLE IF EXISTS {table.name}")
                    database.execute(f"ALTER TABLE {_incoming(table)} RENAME TO {table.name}")
                    for statement in belongings:
                        database.execute(statement)
            database.execute("COMMIT")
            self._new = False
            self._write_manifest(database)
            database.execute(f"DROP TABLE IF EXISTS {_STATE}")
            self._checkpoint = None

    def _write_manifest(self, database: Database) -> None:
        place = manifest_path(self._target)
        hashes = {table.name: database.sha256(table) for table in _TABLES}
        text = manifest_of(self._checkpoint, database.format, hashes)
        if text is None:
            place.unlink(missing_ok=True)
            return
        hidden = place.with_name(f".{place.name}.new")
        with hidden.open("wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        hidden.replace(place)
        sync_folder(place.parent)

    def _let_go(self) -> None:
        self.kept = self._checkpoint is not None
        database, self._database = self._database, None
        if database is not None:
            with suppress(self._failures):
                database.execute("ROLLBACK")
            if not self.kept and not self._new:
                with suppress(self._failures):
                    self._drop(database)
            with suppress(self._failures):
                database.close()
        if self._lock.held and self._new and not self.kept:
            for ending in ("", ".wal", "-journal"):
                with suppress(OSError):
                    self._target.with_name(self._target.name + ending).unlink(missing_ok=True)
        self._lock.release()


def _incoming(table: Table) -> str:
    return f"{table.name}_incoming"


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
