"""DuckDB: a database for analysts, in one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from b2b_payments.errors import ConfigurationError
from b2b_payments.export.columns import DIGITS, SCALE, Column, Kind, Row, Table
from b2b_payments.export.database import Database, DatabaseSink
from b2b_payments.export.file import PathLike


class DuckDBDatabase(Database):
    """DuckDB's appender rounds without a word, and of two rows of one key in one flush it keeps the first.

    So amounts are fitted before they come here, and of such rows only the last one is handed over.
    """

    format = "duckdb"
    types = {  # noqa: RUF012 - declared a ClassVar by its base
        Kind.INTEGER: "BIGINT",
        Kind.TEXT: "VARCHAR",
        Kind.MONEY: f"DECIMAL({DIGITS}, {SCALE})",
        Kind.MOMENT: "TIMESTAMPTZ",
        Kind.JSON: "VARCHAR",
    }
    decimal = True

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        super().__init__(duckdb_or_sentence().connect(str(path), read_only=read_only))

    @classmethod
    def failures(cls) -> type[Exception]:
        """Give the root of this database's errors."""
        failure: type[Exception] = duckdb_or_sentence().Error
        return failure

    def upsert(self, table: Table, name: str, rows: Sequence[Row]) -> None:
        """Put rows into the table of that name."""
        keys = len(table.key)
        last = {row[:keys]: row for row in rows}
        if last:
            appender = self._connection.appender(name, action="upsert")
            appender.append_rows(list(last.values()))
            appender.flush()

    def remove_items(self, name: str, payment_ids: Sequence[int]) -> None:
        """Remove the line items of payments."""
        self.execute(
            f"DELETE FROM {name} WHERE payment_id IN (SELECT unnest(?))",  # noqa: S608
            [list(payment_ids)],
        )

    def readable(self, column: Column) -> str:
        """Give decimals as text and times as microseconds since 1970."""
        if column.kind is Kind.MONEY:
            return f"CAST({column.name} AS VARCHAR)"
        return f"epoch_us({column.name})" if column.kind is Kind.MOMENT else column.name

    def belongings(self, name: str) -> list[str]:
        """Give the statements that make a table's indexes."""
        found = self.execute(
            "SELECT sql FROM duckdb_indexes() WHERE table_name = ? AND sql IS NOT NULL", [name]
        )
        return [statement for (statement,) in found.fetchall()]

    def tables(self) -> set[str]:
        """Give the names of all tables."""
        found = self.execute("SELECT table_name FROM duckdb_tables() WHERE NOT internal")
        return {name for (name,) in found.fetchall()}


class DuckDBSink(DatabaseSink):
    """Writes payments into a DuckDB database: money is DECIMAL(38, 12), times TIMESTAMPTZ.

    Raises ConfigurationError where the extra `duckdb` is missing; otherwise as `DatabaseSink`.
    """

    def __init__(self, path: PathLike) -> None:
        super().__init__(path, DuckDBDatabase.failures())

    def connect(self, path: Path) -> Database:
        """Open the database."""
        return DuckDBDatabase(path)


def duckdb_or_sentence() -> Any:
    """Give the library. Raises ConfigurationError with what to install."""
    try:
        import duckdb  # noqa: PLC0415 - an extra, for those who want it
    except ModuleNotFoundError:
        raise ConfigurationError("DuckDB needs duckdb: pip install 'b2b-payments[duckdb]'.") from None
    return duckdb
