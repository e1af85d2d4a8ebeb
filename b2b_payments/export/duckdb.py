"""DuckDB: a database for analysts, in one file."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from b2b_payments.errors import ConfigurationError
from b2b_payments.export.columns import DIGITS, SCALE, Column, Kind, Row, Table
from b2b_payments.export.database import Database
from b2b_payments.export.database_sink import DatabaseSink
from b2b_payments.export.file import ExportError, PathLike

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SQLITE = b"SQLite format 3\0"


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
        # DuckDB would fetch an extension over the network to read it.
        if path.is_file() and _begin_of(path) == _SQLITE:
            raise ExportError(f"{path} is a SQLite database, not one of DuckDB: give it another ending.")
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

    def readable(self, column: Column) -> str:
        """Give decimals as text and times as microseconds since 1970."""
        if column.kind is Kind.MONEY:
            return f"CAST({column.name} AS VARCHAR)"
        return f"epoch_us({column.name})" if column.kind is Kind.MOMENT else column.name

    def as_read(self, column: Column, cell: Any) -> Any:
        """Give a cell as it is read. A decimal knows no zero below zero."""
        if cell is None or column.kind not in {Kind.MONEY, Kind.MOMENT}:
            return cell
        if column.kind is Kind.MONEY:
            return f"{cell or cell.copy_abs():f}"
        return (cell - _EPOCH) // _MICROSECOND

    def moment(self, cell: Any) -> datetime:
        """Read microseconds."""
        return _EPOCH + timedelta(microseconds=cell)

    def among(self, column: str, numbers: Sequence[int]) -> tuple[str, list[Any]]:
        """Give the condition and its parameter, a list."""
        return f"{column} IN (SELECT unnest(?))", [list(numbers)]

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


def _begin_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(_SQLITE))


def duckdb_or_sentence() -> Any:
    """Give the library. Raises ConfigurationError with what to install."""
    try:
        import duckdb  # noqa: PLC0415 - an extra, for those who want it
    except ModuleNotFoundError:
        raise ConfigurationError("DuckDB needs duckdb: pip install 'b2b-payments[duckdb]'.") from None
    return duckdb
