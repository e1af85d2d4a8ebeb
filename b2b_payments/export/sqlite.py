"""SQLite: the standard library's own database."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from b2b_payments.export.columns import Column, Kind, Row, Table, moment_text
from b2b_payments.export.database import Database
from b2b_payments.export.database_sink import DatabaseSink
from b2b_payments.export.file import PathLike
from b2b_payments.protocol.json import encode


class SQLiteDatabase(Database):
    """SQLite has no decimals and no times: both are text, exact, and times sort as text does."""

    format = "sqlite"
    types = {  # noqa: RUF012 - declared a ClassVar by its base
        Kind.INTEGER: "INTEGER",
        Kind.TEXT: "TEXT",
        Kind.MONEY: "TEXT",
        Kind.MOMENT: "TEXT",
        Kind.JSON: "TEXT",
    }
    decimal = False

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        # Used by one thread after the other, never by two at once.
        super().__init__(
            sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
            )
        )
        # A view on a table that is being replaced stays as it is.
        self.execute("PRAGMA legacy_alter_table = ON")

    @classmethod
    def failures(cls) -> type[Exception]:
        """Give the root of this database's errors."""
        failure: type[Exception] = sqlite3.Error
        return failure

    def upsert(self, table: Table, name: str, rows: Sequence[Row]) -> None:
        """Put rows into the table of that name."""
        marks = ", ".join("?" * len(table.columns))
        self._connection.executemany(
            f"INSERT OR REPLACE INTO {name} VALUES ({marks})",  # noqa: S608
            [tuple(map(_stored, row)) for row in rows],
        )

    def readable(self, column: Column) -> str:
        """Give the column: what it holds is exact as it is."""
        return column.name

    def as_read(self, column: Column, cell: Any) -> Any:  # noqa: ARG002 - text is text
        """Give what is stored: that is what is read."""
        return _stored(cell)

    def moment(self, cell: Any) -> datetime:
        """Read a moment's text."""
        return datetime.fromisoformat(cell)

    def among(self, column: str, numbers: Sequence[int]) -> tuple[str, list[Any]]:
        """Give the condition and its parameter, a list as JSON: parameters of their own are limited."""
        condition = f"{column} IN (SELECT value FROM json_each(?))"  # noqa: S608
        return condition, [encode(list(numbers)).decode()]

    def belongings(self, name: str) -> list[str]:
        """Give the statements that make a table's indexes and triggers."""
        found = self.execute(
            "SELECT sql FROM sqlite_master "
            "WHERE tbl_name = ? AND type IN ('index', 'trigger') AND sql NOT NULL",
            [name],
        )
        return [statement for (statement,) in found.fetchall()]

    def tables(self) -> set[str]:
        """Give the names of all tables."""
        found = self.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {name for (name,) in found.fetchall()}


class SQLiteSink(DatabaseSink):
    """Writes payments into a SQLite database: money and times are text there, exact.

    Otherwise as `DatabaseSink`.
    """

    def __init__(self, path: PathLike) -> None:
        super().__init__(path, SQLiteDatabase.failures())

    def connect(self, path: Path) -> Database:
        """Open the database."""
        return SQLiteDatabase(path)


def _stored(cell: object) -> object:
    if isinstance(cell, Decimal):
        return f"{cell:f}"
    return moment_text(cell) if isinstance(cell, datetime) else cell
