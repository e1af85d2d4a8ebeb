"""SQLite: the standard library's own database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from b2b_payments._protocol.json import encode
from b2b_payments.export._columns import LINE_ITEMS, PAYMENTS, TABLES, Column, Kind, Row, Table
from b2b_payments.export._database import Database, moment_text
from b2b_payments.export._database_sink import DatabaseSink
from b2b_payments.export._rows import cells_of, items_of, rows_of_lines

_PATIENCE = 30.0  # seconds for which another connection may write


class SQLiteDatabase(Database):
    """SQLite has no decimals and no times: both are text, exact, and times sort as text does."""

    format = "sqlite"
    types = {kind: "INTEGER" if kind is Kind.INTEGER else "TEXT" for kind in Kind}  # noqa: RUF012
    begin = "BEGIN IMMEDIATE"  # a transaction that reads before it writes does not wait for others
    beside = ("", "-journal", "-wal", "-shm")

    @classmethod
    def connect(cls, path: Path, *, read_only: bool = False) -> SQLiteDatabase:
        """Open a database."""
        # Used by one thread after the other, never by two at once.
        return cls(
            sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                timeout=_PATIENCE,
            )
        )

    @classmethod
    def failures(cls) -> type[Exception]:
        """Give the root of this database's errors."""
        failure: type[Exception] = sqlite3.Error
        return failure

    def names(self) -> set[str]:
        """Give the names of all tables and views, in small letters."""
        found = self.execute("SELECT name FROM main.sqlite_master WHERE type IN ('table', 'view')")
        return {name.lower() for (name,) in found.fetchall()}

    def columns(self, name: str) -> list[tuple[str, str]]:
        """Give the names and types of a table's columns."""
        statement = (
            "SELECT info.name, info.type "
            "FROM main.sqlite_master AS found, pragma_table_info(found.name, 'main') AS info "
            "WHERE found.type = 'table' AND lower(found.name) = ? ORDER BY info.cid"
        )
        rows: list[tuple[str, str]] = self.execute(statement, [name]).fetchall()
        return rows

    def upsert(self, table: Table, rows: Sequence[Row]) -> None:
        """Put rows in."""
        columns = table.columns
        self._insert(table, [tuple(map(self.as_read, columns, row)) for row in rows], "INSERT OR REPLACE")

    @classmethod
    def conflict(cls) -> type[Exception]:
        """Give the error for two rows of one key."""
        failure: type[Exception] = sqlite3.IntegrityError
        return failure

    def fill(self, segments: Iterator[bytes], work: Path, *, again: bool) -> None:  # noqa: ARG002
        """Put the rows of an export's log in."""
        for lines in segments:
            rows = rows_of_lines(lines)
            if again:
                rows = list({row.id: row for row in rows}.values())
                for table in TABLES:
                    self.remove(table, [row.id for row in rows])
            for row in rows:
                row.created_at, row.updated_at = moment_text(row.created_at), moment_text(row.updated_at)
            self._insert(PAYMENTS, list(map(cells_of, rows)))
            self._insert(LINE_ITEMS, [item for row in rows for item in items_of(row)])

    def readable(self, column: Column) -> str:
        """Give the column: what it holds is exact as it is."""
        return column.name

    def as_read(self, column: Column, cell: Any) -> Any:
        """Give what is stored: that is what is read."""
        return moment_text(cell) if column.kind is Kind.MOMENT else cell

    def moment(self, cell: Any) -> datetime:
        """Read a moment's text."""
        return datetime.fromisoformat(cell)

    def among(self, column: str, numbers: Sequence[int]) -> tuple[str, list[Any]]:
        """Give the condition and its parameter, a list as JSON: parameters of their own are limited."""
        condition = f"{column} IN (SELECT value FROM json_each(?))"  # noqa: S608
        return condition, [encode(list(numbers)).decode()]

    def _insert(self, table: Table, rows: Sequence[Row], how: str = "INSERT") -> None:
        marks = ", ".join("?" * len(table.columns))
        self._connection.executemany(f"{how} INTO main.{table.name} VALUES ({marks})", rows)


class SQLiteSink(DatabaseSink):
    """Writes payments into a SQLite database: money and times are text there, exact.

    Otherwise as `DatabaseSink`.
    """

    format = "sqlite"
    database: ClassVar[type[Database]] = SQLiteDatabase
