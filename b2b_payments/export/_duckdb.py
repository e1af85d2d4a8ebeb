"""DuckDB: a database for analysts, in one file."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

from b2b_payments._errors import ConfigurationError, ExportError
from b2b_payments._models.decimals import EXACT
from b2b_payments.export._columns import DIGITS, LINE_ITEMS, PAYMENTS, SCALE, Column, Kind, Row, Table
from b2b_payments.export._database import Database, moment_of
from b2b_payments.export._database_sink import DatabaseSink
from b2b_payments.export._file import PathLike, created
from b2b_payments.export._rows import PaymentRow

_PATIENCE, _PAUSE = 30.0, 0.1  # seconds for which another program may have the file
_SQLITE = b"SQLite format 3\0"
_LEAST = Decimal(f"1E-{SCALE}")
_MONEY = f"DECIMAL({DIGITS},{SCALE})"
_WIRE = dict(zip(PaymentRow.__struct_fields__, PaymentRow.__struct_encode_fields__, strict=True))
_ITEM = {"amount": "item.amount.value", "currency": "item.amount.code", "extra": 'item."+"'}


class DuckDBDatabase(Database):
    """DuckDB rounds what it converts without a word, and of two rows of one key it keeps the first.

    So amounts are fitted before they come here, and of such rows only the last one is handed over.
    """

    format = "duckdb"
    types = {  # noqa: RUF012 - declared a ClassVar by its base
        Kind.INTEGER: "BIGINT",
        Kind.TEXT: "VARCHAR",
        Kind.MONEY: _MONEY,
        Kind.MOMENT: "TIMESTAMP WITH TIME ZONE",
        Kind.JSON: "VARCHAR",
    }
    begin = "BEGIN"
    decimal = True
    beside = ("", ".wal")

    @classmethod
    def connect(cls, path: Path, *, read_only: bool = False) -> DuckDBDatabase:
        """Open a database."""
        # DuckDB would fetch an extension over the network to read it.
        if path.is_file() and _begin_of(path) == _SQLITE:
            raise ExportError(f"{path} is a SQLite database, not one of DuckDB: give it another ending.")
        duckdb = import_duckdb()
        patience = time.monotonic() + _PATIENCE
        while True:
            try:
                return cls(duckdb.connect(str(path), read_only=read_only))
            except duckdb.IOException as error:
                if "lock" not in str(error) or time.monotonic() > patience:
                    raise
            time.sleep(_PAUSE)

    @classmethod
    def failures(cls) -> type[Exception]:
        """Give the root of this database's errors."""
        failure: type[Exception] = import_duckdb().Error
        return failure

    def names(self) -> set[str]:
        """Give the names of all tables and views, in small letters."""
        found = self.execute(
            "SELECT table_name FROM information_schema.tables "
            "WHERE table_catalog = current_database() AND table_schema = 'main'"
        )
        return {name.lower() for (name,) in found.fetchall()}

    def columns(self, name: str) -> list[tuple[str, str]]:
        """Give the names and types of a table's columns."""
        statement = (
            "SELECT column_name, data_type FROM duckdb_columns() "
            "JOIN duckdb_tables() USING (table_oid, database_oid) "
            "WHERE duckdb_columns.database_name = current_database() AND duckdb_columns.schema_name = 'main' "
            "AND lower(duckdb_columns.table_name) = ? ORDER BY column_index"
        )
        rows: list[tuple[str, str]] = self.execute(statement, [name]).fetchall()
        return rows

    def upsert(self, table: Table, rows: Sequence[Row]) -> None:
        """Put rows in."""
        keys = len(table.key)
        last = {row[:keys]: row for row in rows}
        if last:
            appender = self._connection.appender(table.name, action="upsert")
            kinds = [column.kind for column in table.columns]
            appender.append_rows([tuple(map(_stored, kinds, row)) for row in last.values()])
            appender.flush()

    @classmethod
    def conflict(cls) -> type[Exception]:
        """Give the error for two rows of one key."""
        failure: type[Exception] = import_duckdb().ConstraintException
        return failure

    def fill(self, segments: Iterator[bytes], work: Path, *, again: bool) -> None:
        """Put the rows of an export's log in."""
        source = source_of(segments, work)
        if again:
            lines = f"(SELECT *, row_number() OVER () AS line FROM {source})"  # noqa: S608
            last = "row_number() OVER (PARTITION BY id ORDER BY line DESC) = 1"
            source = f"(SELECT * EXCLUDE (line) FROM {lines} QUALIFY {last})"  # noqa: S608
        columns = ", ".join(map(expression, PAYMENTS.columns))
        self.execute(f"INSERT INTO main.{PAYMENTS.name} SELECT {columns} FROM {source}")  # noqa: S608
        items = ", ".join(map(item_expression, LINE_ITEMS.columns[2:]))
        self.execute(
            f"INSERT INTO main.{LINE_ITEMS.name} "  # noqa: S608
            f"SELECT id, position - 1, {items} FROM (SELECT id, "
            f'generate_subscripts("lineItems", 1) AS position, unnest("lineItems") AS item FROM {source})'
        )

    def readable(self, column: Column) -> str:
        """Give decimals as text and times as microseconds since 1970."""
        if column.kind is Kind.MONEY:
            return f"CAST({column.name} AS VARCHAR)"
        return f"epoch_us({column.name})" if column.kind is Kind.MOMENT else column.name

    def as_read(self, column: Column, cell: Any) -> Any:
        """Give a cell as it is read. A decimal knows no zero below zero."""
        if cell is None or column.kind is not Kind.MONEY:
            return cell
        amount = Decimal(cell).quantize(_LEAST, context=EXACT)
        return f"{amount or amount.copy_abs():f}"

    def moment(self, cell: Any) -> datetime:
        """Read microseconds."""
        return moment_of(cell)

    def among(self, column: str, numbers: Sequence[int]) -> tuple[str, list[Any]]:
        """Give the condition and its parameter, a list."""
        return f"{column} IN (SELECT unnest(?))", [list(numbers)]


def _stored(kind: Kind, cell: Any) -> Any:
    if cell is None or kind not in {Kind.MONEY, Kind.MOMENT}:
        return cell
    return Decimal(cell) if kind is Kind.MONEY else moment_of(cell)


def source_of(segments: Iterator[bytes], work: Path) -> str:
    """Put the lines of a log into one file, and give what reads it as a table of rows, with stated types."""
    place = work / "rows.jsonl"
    with created(place) as file:
        file.writelines(segments)
    types = {"lineItems": f"{_item_type()}[]"} | {
        _WIRE[c.name]: _type(c) for c in PAYMENTS.columns if c.name in _WIRE
    }
    columns = ", ".join(f"{_quoted(name)}: {_quoted(type_)}" for name, type_ in types.items())
    return (
        f"read_json({_quoted(str(place))}, format = 'newline_delimited', columns = {{{columns}}}, "
        "maximum_object_size = 1073741824, map_inference_threshold = -1)"
    )


def expression(column: Column) -> str:
    """Give the expression for a payment's cell."""
    if column.kind is Kind.MONEY:
        return "total.value"
    if column.name == "currency":
        return "total.code"
    wire = f'"{_WIRE[column.name]}"'
    return f"make_timestamptz({wire})" if column.kind is Kind.MOMENT else wire


def item_expression(column: Column) -> str:
    """Give the expression for a cell of `item`, a line item."""
    return _ITEM.get(column.name) or f'item."{_camel(column.name)}"'


def _type(column: Column) -> str:
    if column.kind is Kind.MONEY:
        return f"STRUCT(code VARCHAR, value {_MONEY})"
    return "BIGINT" if column.kind in {Kind.INTEGER, Kind.MOMENT} else "VARCHAR"


def _item_type() -> str:
    columns = [column for column in LINE_ITEMS.columns[2:] if column.name not in {"currency", "extra"}]
    fields = ", ".join(f'"{_camel(column.name)}" {_type(column)}' for column in columns)
    return f'STRUCT({fields}, "+" VARCHAR)'


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


class DuckDBSink(DatabaseSink):
    """Writes payments into a DuckDB database: money is DECIMAL(38, 12), times TIMESTAMPTZ.

    Raises ConfigurationError where the extra `duckdb` is missing; otherwise as `DatabaseSink`.
    """

    format = "duckdb"
    database: ClassVar[type[Database]] = DuckDBDatabase
    decimal = True

    def __init__(self, path: PathLike) -> None:
        import_duckdb()
        super().__init__(path)


def _begin_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(_SQLITE))


def import_duckdb(extra: str = "duckdb") -> Any:
    """Give the library. Raises ConfigurationError with what to install."""
    try:
        import duckdb  # noqa: PLC0415 - an extra, for those who want it
    except ModuleNotFoundError:
        name = "DuckDB" if extra == "duckdb" else extra.capitalize()
        raise ConfigurationError(f"{name} needs duckdb: pip install 'b2b-payments[{extra}]'.") from None
    return duckdb
