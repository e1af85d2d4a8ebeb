"""Databases: tables `payments` and `line_items`, replaced in one transaction when an export is complete.

Until then the rows are in tables of their own, ``payments_incoming`` and ``line_items_incoming``, and each
commit puts rows and checkpoint (table ``b2b_payments_export``) down in one transaction. Other tables are left
alone.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from b2b_payments.errors import ConfigurationError
from b2b_payments.export.columns import LINE_ITEMS, PAYMENTS, Kind, Table, rows_of
from b2b_payments.export.database import Database
from b2b_payments.export.database_file import DatabaseFile
from b2b_payments.export.file import ExportError, PathLike, sync_folder
from b2b_payments.export.manifest import manifest_of, manifest_path
from b2b_payments.export.sink import Checkpoint

EXPORTED = "b2b_payments_export"
"""The table that an export keeps until it is complete."""
SYNCED = "b2b_payments_sync"
"""The table that says that a database is kept in step: no export replaces its rows."""

_TABLES = (PAYMENTS, LINE_ITEMS)
_VERSION = 1


class DatabaseSink(ABC):
    """Writes payments into a database's tables `payments` and `line_items`.

    The tables hold what they held until the export is complete, and then exactly the payments of the export.
    Their indexes are kept.

    Raises ConfigurationError for a path that cannot be written to; its methods raise that for tables of these
    names with other columns, ExportError, and ResponseDecodeError for a payment that cannot be read.
    """

    def __init__(self, path: PathLike, failures: type[Exception]) -> None:
        self.path = Path(path)
        self._file = DatabaseFile(path, self.connect, failures)
        self._begun = False  # what an export keeps is this one's to drop
        self._checkpoint: Checkpoint | None = None
        self.kept = False

    @abstractmethod
    def connect(self, path: Path) -> Database:
        """Open the database to write to it."""

    def open(self) -> None:
        """Begin anew; what an interrupted export left is removed."""
        self._file.lock()
        with self._file.writing() as database:
            self._begin(database)

    def resume(self) -> Checkpoint | None:
        """Go on behind the last commit; begin anew and give None where there was none."""
        self._file.lock()
        with self._file.writing() as database:
            self._checkpoint = self._committed(database)
            if self._checkpoint is None:
                self._begin(database)
            else:
                self._check(database)
                self._begun = True
                database.execute("BEGIN")
        return self._checkpoint

    def write(self, batch: Sequence[Mapping[str, Any]]) -> None:
        """Put the payments down. The same payment again takes its own place."""
        payments, items = rows_of(batch)
        with self._file.writing() as database:
            rows = PAYMENTS.fitted(payments, decimal=database.decimal)
            database.remove(LINE_ITEMS, [row[0] for row in rows], _incoming(LINE_ITEMS))
            database.upsert(PAYMENTS, _incoming(PAYMENTS), rows)
            # Of a payment that comes twice in a batch, the last one counts, with its items.
            last = {row[0]: its for row, its in zip(rows, items, strict=True)}
            flat = LINE_ITEMS.fitted(list(chain.from_iterable(last.values())), decimal=database.decimal)
            database.upsert(LINE_ITEMS, _incoming(LINE_ITEMS), flat)

    def commit(self, checkpoint: Checkpoint | None) -> None:
        """Keep everything written so far, and the checkpoint, in one transaction."""
        if checkpoint is None:
            return
        with self._file.writing() as database:
            packed = msgspec.json.encode({"version": _VERSION, "checkpoint": checkpoint}).decode()
            database.execute(f"DELETE FROM {EXPORTED}")  # noqa: S608
            database.execute(f"INSERT INTO {EXPORTED} VALUES (?)", [packed])  # noqa: S608
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

    def _begin(self, database: Database) -> None:
        self._check(database)
        self._begun = True
        database.execute("BEGIN")
        self._drop(database)
        database.execute(f"CREATE TABLE {EXPORTED} (checkpoint {database.types[Kind.TEXT]})")
        for table in _TABLES:
            database.create(table, _incoming(table))
        database.execute("COMMIT")
        database.execute("BEGIN")

    def _check(self, database: Database) -> None:
        there = database.tables()
        if SYNCED in there:
            raise ConfigurationError(
                f"{self.path} is kept in step by a sync, and no export replaces what it holds: "
                "sync it again, or give another file."
            )
        for table in _TABLES:
            if table.name in there and database.columns(table.name) != table.names:
                raise ConfigurationError(
                    f"{self.path} has a table {table.name} with other columns than an export's: "
                    "it is left alone. Give another file."
                )

    def _committed(self, database: Database) -> Checkpoint | None:
        if EXPORTED not in database.tables():
            return None
        rows = database.execute(f"SELECT checkpoint FROM {EXPORTED}").fetchall()  # noqa: S608
        if not rows:
            return None
        try:
            state: Any = msgspec.json.decode(rows[0][0])
            if state["version"] == _VERSION:
                checkpoint: Checkpoint = state["checkpoint"]
                return checkpoint
        except (ValueError, LookupError, TypeError):
            raise ExportError(f"What was kept in {self.path} is damaged; begin anew.") from None
        raise ExportError(f"What was kept in {self.path} is of another version; begin anew.")

    def _drop(self, database: Database) -> None:
        for name in (EXPORTED, *map(_incoming, _TABLES)):
            database.execute(f"DROP TABLE IF EXISTS {name}")

    def _publish(self) -> None:
        with self._file.writing() as database:
            # They are gone where a process was killed between the last two transactions.
            if _incoming(PAYMENTS) in database.tables():
                for table in _TABLES:
                    belongings = database.belongings(table.name)
                    database.execute(f"DROP TABLE IF EXISTS {table.name}")
                    database.execute(f"ALTER TABLE {_incoming(table)} RENAME TO {table.name}")
                    for statement in belongings:
                        database.execute(statement)
            database.execute("COMMIT")
            self._file.is_wanted()
            self._write_manifest(database)
            database.execute(f"DROP TABLE IF EXISTS {EXPORTED}")
            self._checkpoint = None

    def _write_manifest(self, database: Database) -> None:
        place = manifest_path(self._file.target)
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
        if self.kept:
            self._file.is_wanted()
        self._file.let_go(tidy=self._drop if self._begun and not self.kept else None)


def _incoming(table: Table) -> str:
    return f"{table.name}_incoming"
