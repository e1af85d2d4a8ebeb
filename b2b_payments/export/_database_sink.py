"""Databases: the rows of tables `payments` and `line_items`, replaced in one transaction at the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

from b2b_payments._errors import ConfigurationError, ExportError
from b2b_payments._tables.columns import PAYMENTS, TABLES
from b2b_payments._tables.rows import Rows
from b2b_payments.export._database import FileDatabase, opened
from b2b_payments.export._logged import TableSink

SYNCED = "b2b_payments_sync"
"""The table that says that a database is kept in step: no export replaces its rows."""


class DatabaseSink(TableSink):
    """Writes payments into a database's tables `payments` and `line_items`.

    The tables hold what they held until the export is complete, and then exactly the payments of the export.
    Their indexes, triggers and views stay, and nothing else in the database is touched. Until then nothing is
    written to the database, or locked. Triggers on these tables see in SQLite the payments that really went,
    came or changed.

    Raises ConfigurationError for a path that cannot be written to; its methods raise that for tables of these
    names that no export made. Otherwise as `LoggedSink`.
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
        with opened(self.database, target) as database:
            try:
                digests = self._replaced(database, thorough=False)
            except database.hasty():
                digests = self._replaced(database, thorough=True)
        if not target.exists():
            raise ExportError(f"{target} was removed while it was being written: resume the export.")
        return digests

    def place(self, target: Path) -> None:
        """Nothing more to place: it is there once the transaction has ended."""

    def _replaced(self, database: FileDatabase, *, thorough: bool) -> Mapping[str, str]:
        with database.transaction():
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
