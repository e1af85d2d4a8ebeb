"""One database, opened: what SQLite and DuckDB do each in their own way."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

import msgspec

from b2b_payments.export.columns import Column, Kind, Row, Table

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
    def readable(self, column: Column) -> str:
        """Give the expression that reads a column exactly, as an integer or a text."""

    @abstractmethod
    def as_read(self, column: Column, cell: Any) -> Any:
        """Give a cell as `readable` will give it back, once it was written."""

    @abstractmethod
    def moment(self, cell: Any) -> datetime:
        """Give the moment that a cell of this kind stands for, as `readable` gives it."""

    @abstractmethod
    def among(self, column: str, numbers: Sequence[int]) -> tuple[str, list[Any]]:
        """Give the condition that a column is one of these numbers, and its parameters."""

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

    def found(self, table: Table, payment_ids: Sequence[int]) -> list[Row]:
        """Read the rows of these payments, as integers and texts, in the order of the key."""
        condition, parameters = self.among(table.key[0], payment_ids)
        columns = ", ".join(map(self.readable, table.columns))
        statement = f"SELECT {columns} FROM {table.name} WHERE {condition} ORDER BY {', '.join(table.key)}"  # noqa: S608
        rows: list[Row] = self.execute(statement, parameters).fetchall()
        return rows

    def remove(self, table: Table, payment_ids: Sequence[int], name: str | None = None) -> None:
        """Remove the rows of these payments."""
        condition, parameters = self.among(table.key[0], payment_ids)
        self.execute(f"DELETE FROM {name or table.name} WHERE {condition}", parameters)  # noqa: S608

    def sha256(self, table: Table) -> str:
        """Hash a table's rows in the order of its key, each as a line of JSON."""
        found = hashlib.sha256()
        for row in self.rows(table, table.names, sort=True):
            found.update(msgspec.json.encode(row) + b"\n")
        return found.hexdigest()
