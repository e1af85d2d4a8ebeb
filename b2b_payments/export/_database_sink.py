"""Databases: the rows of tables `payments` and `line_items`, replaced in one transaction at the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from b2b_payments._errors import ConfigurationError, ExportError
from b2b_payments.export._columns import TABLES
from b2b_payments.export._database import Database, opened
from b2b_payments.export._logged import Segments, TableSink

SYNCED = "b2b_payments_sync"
"""The table that says that a database is kept in step: no export replaces its rows."""


class DatabaseSink(TableSink):
    """Writes payments into a database's tables `payments` and `line_items`.

    The tables hold what they held until the export is complete, and then exactly the payments of the export.
    Their indexes, triggers and views stay, and nothing else in the database is touched. Until then nothing is
    written to the database, or locked.

    Raises ConfigurationError for a path that cannot be written to; its methods raise that for tables of these
    names that no export made. Otherwise as `LoggedSink`.
    """

    database: ClassVar[type[Database]]
    whole = True

    def check(self) -> None:
        """Refuse tables of our names that are not ours."""
        if self.target.exists() and self.target.stat().st_size:
            with opened(self.database, self.target, read_only=True) as database:
                self._check(database)

    def make(self, segments: Segments) -> Mapping[str, str]:
        """Replace the rows; the same payment again takes its own place."""
        with opened(self.database, self.target) as database:
            try:
                self._replace(database, segments, again=False)
            except database.conflict():
                self._replace(database, segments, again=True)
            hashes = {table.name: database.sha256(table) for table in TABLES}
        if not self.target.exists():
            raise ExportError(f"{self.target} was removed while it was being written: resume the export.")
        return hashes

    def _replace(self, database: Database, segments: Segments, *, again: bool) -> None:
        with database.transaction():
            self._check(database)
            there = database.names()
            for table in reversed(TABLES):
                if table.name in there:
                    database.execute(f"DELETE FROM main.{table.name}")  # noqa: S608
                else:
                    database.create(table)
            database.fill(segments(), self.work, again=again)

    def _check(self, database: Database) -> None:
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
