"""PostgreSQL: a synced copy on a server. A few statements compare and write each batch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any, Final

import attrs

from b2b_payments._errors import ExportError
from b2b_payments._models.moment import moment_of
from b2b_payments._tables.columns import LINE_ITEMS, PAYMENTS, TABLES, Column, ColumnKind, Row, Table
from b2b_payments._tables.rows import Rows
from b2b_payments.export._database import Database, moment_texts
from b2b_payments.export._server import Server, import_psycopg

_TYPES: Final[Mapping[ColumnKind, str]] = {
    ColumnKind.INTEGER: "bigint",
    ColumnKind.TEXT: "text",
    ColumnKind.MONEY: "numeric",
    ColumnKind.MOMENT: "timestamp with time zone",
    ColumnKind.JSON: "jsonb",
}
# Seconds to wait for a connection and before the first keepalive, and milliseconds until a connection counts
# as lost because sent data is not acknowledged.
_SETTINGS: Final[Mapping[str, Any]] = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "tcp_user_timeout": 60_000,
    "fallback_application_name": "b2b-payments",
}
# The same for the server, so that it soon releases the lock of a sync that is gone. lock_timeout limits the
# wait for other programs' locks. JIT is off: compiling so many columns takes longer than the statements.
_SESSION: Final = (
    "SET lock_timeout = '30s'; SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; "
    "SET tcp_keepalives_count = 3; SET jit = off"
)
_LOCK_WITHIN = "2s"
"""How long to wait for the sync's lock: the server may hold a killed process's lock a little longer."""
Columns = Sequence[Sequence[Any]]
"""The cells of a table, column by column."""
_ANY: Final = "ANY (CAST(? AS bigint[]))"
_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"})
_NULL: Final = "\\N"
_UPDATED: Final = next(column for column in PAYMENTS.columns if column.name == "updated_at")


class PostgresDatabase(Database):
    """Numbers keep all digits, also in jsonb, which loses the order of keys and all but the last equal key.

    Rows differ only if PostgreSQL stores them differently, so such losses do not count.

    Other users may have put functions and operators into a schema of the search path. PostgreSQL prefers one
    whose types match better than its own, and runs it with our privileges. So PostgreSQL's are named with
    their schema if called with other types than declared. We do not set the search path, since that would
    apply to the user's triggers, too.
    """

    types = _TYPES
    begin = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"

    def __init__(self, connection: Any, schema: str) -> None:
        super().__init__(connection)
        self._name = schema
        self.schema = f'"{schema}"'

    @classmethod
    def connect(cls, server: Server) -> PostgresDatabase:
        psycopg = import_psycopg()
        set_by_user = {*psycopg.conninfo.conninfo_to_dict(server.dsn)}  # only the names are used
        settings = {name: value for name, value in _SETTINGS.items() if name not in set_by_user}
        # UTF-8 regardless of the environment. No prepared statements, since a connection pool in between may
        # not support them.
        connection = psycopg.connect(
            server.dsn, **settings, client_encoding="utf8", autocommit=True, prepare_threshold=None
        )
        return cls(connection, server.schema)

    @classmethod
    def failures(cls) -> type[Exception]:
        failure: type[Exception] = import_psycopg().Error
        return failure

    def lock(self) -> bool:
        """Lock the schema until this connection closes. Returns False if another sync holds the lock."""
        key = hashlib.sha256(f"b2b_payments_sync {self._name}".encode()).digest()
        self.execute(f"SET lock_timeout = '{_LOCK_WITHIN}'")
        try:
            self.execute(
                "SELECT pg_catalog.pg_advisory_lock(CAST(? AS bigint))",
                [int.from_bytes(key[:8], signed=True)],
            )
        except import_psycopg().errors.LockNotAvailable:
            return False
        self.execute(_SESSION)
        return True

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Any:
        return self._connection.execute(statement.replace("?", "%s"), parameters or None)

    def names(self) -> set[str]:
        """Return the names of all tables and views, whose case matters in PostgreSQL."""
        found = self.execute(
            "SELECT relname FROM pg_catalog.pg_class WHERE relnamespace = ("
            "SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = ?) "
            "AND relkind IN ('r', 'p', 'v', 'm', 'f')",
            [self._name],
        )
        return {name for (name,) in found.fetchall()}

    def columns(self, name: str) -> list[tuple[str, str]]:
        rows: list[tuple[str, str]] = self.execute(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_catalog.pg_attribute "
            "JOIN pg_catalog.pg_class ON attrelid = pg_class.oid "
            "JOIN pg_catalog.pg_namespace ON relnamespace = pg_namespace.oid "
            "WHERE nspname = ? AND relname = ? AND relkind IN ('r', 'p') AND attnum > 0 AND NOT attisdropped "
            "ORDER BY attnum",
            [self._name, name],
        ).fetchall()
        return rows

    def unique_indexes(self, table: Table) -> Sequence[tuple[str, str | None]]:
        rows: list[tuple[str, str | None]] = self.execute(
            "SELECT relname, attname FROM pg_catalog.pg_index "
            "JOIN pg_catalog.pg_class ON pg_class.oid = indexrelid "
            # Those of indkey that have an operator class: the others are only included in the index.
            "CROSS JOIN pg_catalog.generate_subscripts(indclass, 1) AS place "
            "LEFT JOIN pg_catalog.pg_attribute ON attrelid = indrelid AND attnum = indkey[place] "
            "WHERE indrelid = CAST(CAST(? AS regclass) AS oid) AND (indisunique OR indisexclusion) "
            "AND NOT indisprimary",
            [f"{self.schema}.{table.name}"],
        ).fetchall()
        return rows

    def rehearse(self, tables: Sequence[Table]) -> None:
        existing = self.names()
        for table in tables:
            if table.name not in existing:
                continue
            name = f"{self.schema}.{table.name}"
            self.execute(f"EXPLAIN DELETE FROM {name}")  # noqa: S608
            self._insert(table, name, [], "EXPLAIN ")

    def is_plain(self, tables: Sequence[Table]) -> bool:
        names = ", ".join(f"CAST(CAST('{self.schema}.{table.name}' AS regclass) AS oid)" for table in tables)
        ((is_plain,),) = self.execute(
            "SELECT NOT pg_catalog.bool_or("  # noqa: S608
            "relhastriggers OR relhasrules OR relrowsecurity OR relhassubclass) "
            f"FROM pg_catalog.pg_class WHERE oid IN ({names})"
        ).fetchall()
        return bool(is_plain)

    def missing_columns(self, table: Table) -> Sequence[Column] | None:
        """Return the columns missing in a table, or None if it is not ours. Users may have added columns."""
        existing = dict(self.columns(table.name))
        missing = [column for column in table.columns if column.name not in existing]
        present = [column for column in table.columns if column.name in existing]
        is_ours = present and all(existing[column.name] == self.types[column.kind] for column in present)
        return missing if is_ours else None

    def create(self, table: Table, schema: str = "") -> None:
        """Create a table, and the schema if it does not exist."""
        schemas = self.execute("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = ?", [self._name])
        if not schemas.fetchall():
            self.execute(f"CREATE SCHEMA {self.schema}")
        super().create(table, schema)

    def compare(self, rows: Rows) -> Mapping[int, datetime | None]:
        """Compare like the base class. All rows stay staged for this transaction."""
        for table in TABLES:
            self._stage(table, rows.tables[table.name])
        return self.differing(rows)

    def differing(self, rows: Rows) -> Mapping[int, datetime | None]:  # noqa: ARG002
        payments, lines = map(_staged, TABLES)
        found = self.execute(
            f"SELECT staged.id, {self.readable(attrs.evolve(_UPDATED, name='stored.updated_at'))} "  # noqa: S608
            f"FROM {payments} AS staged LEFT JOIN {self.schema}.payments AS stored ON stored.id = staged.id "
            f"WHERE {self._differ(PAYMENTS, 'staged', 'stored')} OR staged.id IN ("
            f"SELECT payment_id FROM {lines} AS staged FULL JOIN ("
            f"SELECT * FROM {self.schema}.line_items WHERE payment_id IN (SELECT id FROM {payments})"
            f") AS stored USING (payment_id, position) WHERE {self._differ(LINE_ITEMS, 'staged', 'stored')})"
        )
        return {id_: None if cell is None else self.moment(cell) for id_, cell in found.fetchall()}

    def write(self, rows: Rows, inserted: Sequence[int], updated: Sequence[int]) -> None:  # noqa: ARG002
        """Write these payments from the staged rows, and delete line items that they no longer have."""
        if not (ids := [*inserted, *updated]):
            return
        if updated:
            self.execute(
                f"DELETE FROM {self.schema}.line_items AS stored WHERE payment_id = {_ANY} AND NOT EXISTS ("  # noqa: S608
                f"SELECT FROM {_staged(LINE_ITEMS)} AS staged "
                "WHERE staged.payment_id = stored.payment_id AND staged.position = stored.position)",
                [_array(updated)],
            )
        for table in (PAYMENTS, LINE_ITEMS):
            self._insert(table, f"{_staged(table)} WHERE {table.key[0]} = {_ANY}", [_array(ids)])

    def held_back(self, rows: Rows, written: Iterable[int], removed: Sequence[int] = ()) -> set[int]:
        self.execute("SET CONSTRAINTS ALL IMMEDIATE")  # fires the user's deferred triggers
        return super().held_back(rows, written, removed)

    def upsert(self, table: Table, rows: Sequence[Row]) -> None:
        """Insert rows of numbers, replacing those with the same key. Payments are written by `write`."""
        numbers = [_array(cells) for cells in zip(*rows, strict=True)]
        if numbers:
            arrays = ", ".join(["pg_catalog.unnest(CAST(? AS bigint[]))"] * len(numbers))
            self._insert(table, f"ROWS FROM ({arrays}) AS staged ({', '.join(table.names)})", numbers)

    def readable(self, column: Column) -> str:
        """Return the SQL to read a column: amounts and JSON as text, times as microseconds since 1970."""
        if column.kind is ColumnKind.MOMENT:
            return f"(extract(epoch FROM {column.name}) OPERATOR(pg_catalog.*) 1000000)::bigint"
        return f"{column.name}::text" if column.kind in {ColumnKind.MONEY, ColumnKind.JSON} else column.name

    def as_read(self, column: Column, cell: Any) -> Any:  # noqa: ARG002
        """Return the cell unchanged. Not for JSON, which only the server itself compares."""
        return cell

    def moment(self, cell: Any) -> datetime:
        return moment_of(cell)

    def among(self, column: str, numbers: Sequence[int]) -> tuple[str, list[Any]]:
        return f"{column} = {_ANY}", [_array(numbers)]

    def rows(self, table: Table, names: Sequence[str]) -> Iterator[Row]:
        columns = {column.name: self.readable(column) for column in table.columns}
        cells = ", ".join(columns[name] for name in names)
        with self.transaction(), self._connection.cursor("b2b_payments_rows") as cursor:
            cursor.itersize = 2_000
            yield from cursor.execute(f"SELECT {cells} FROM {self.schema}.{table.name}")  # noqa: S608

    def _stage(self, table: Table, columns: Columns) -> str:
        """Copy rows to a temporary table, emptied when the transaction ends. Returns the table's name."""
        try:
            return self._copy(table, table.columns, columns)
        except self._refusals() as error:
            raise self._refusal(table, columns, error) from None

    def _copy(self, table: Table, chosen: Sequence[Column], columns: Columns) -> str:
        staged = _staged(table)
        typed = ", ".join(f"{column.name} {self.types[column.kind]}" for column in table.columns)
        self.execute(
            f"CREATE TEMPORARY TABLE IF NOT EXISTS {staged} ({typed}) ON COMMIT DELETE ROWS; "
            f"TRUNCATE {staged}"
        )
        texts = list(map(_texts, chosen, columns))
        lines = "\n".join(chain(map("\t".join, zip(*texts, strict=True)), [""]))
        names = ", ".join(column.name for column in chosen)
        with (
            self._connection.cursor() as cursor,
            cursor.copy(f"COPY {staged} ({names}) FROM STDIN") as copy,
        ):
            copy.write(lines.encode())
        return staged

    @staticmethod
    def _refusals() -> tuple[type[Exception], ...]:
        """Return the errors for values that PostgreSQL cannot hold."""
        psycopg = import_psycopg()
        errors = psycopg.errors
        return (
            psycopg.DataError,
            errors.ProgramLimitExceeded,
            errors.StatementTooComplex,
            UnicodeEncodeError,
        )

    def _refusal(self, table: Table, columns: Columns, error: Exception) -> ExportError:
        """Find the payment and the fields that PostgreSQL cannot hold. Rolls the transaction back."""

        def refused(chosen: Sequence[Column], cells: Columns) -> bool:
            self.execute(f"ROLLBACK; {self.begin}")
            try:
                self._copy(table, chosen, cells)
            except self._refusals():
                return True
            return False

        while (count := len(columns[0])) > 1:
            first = [cells[: count // 2] for cells in columns]
            in_first = refused(table.columns, first)
            columns = first if in_first else [cells[count // 2 :] for cells in columns]
        pairs = zip(table.columns, columns, strict=True)
        names = [column.name for column, cells in pairs if refused([column], [cells])]
        reason = getattr(getattr(error, "diag", None), "message_primary", None) or "it is not valid Unicode"
        return ExportError(
            f"{' and '.join(names)} of payment {columns[0][0]} cannot be held by PostgreSQL ({reason}), and "
            "no value is changed to fit: sync to SQLite, which holds everything that the service sends."
        )

    def _insert(self, table: Table, source: str, parameters: Sequence[Any], prefix: str = "") -> None:
        """Insert rows, or update those with the same key if they differ."""
        names = ", ".join(table.names)
        others = [name for name in table.names if name not in table.key]
        change = "NOTHING"
        if others:
            change = f"UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in others)}"
            change += f" WHERE {self._differ(table, 'excluded', 'stored')}"
        self.execute(
            f"{prefix}INSERT INTO {self.schema}.{table.name} AS stored ({names}) "  # noqa: S608
            f"SELECT {names} FROM {source} "
            f"ON CONFLICT ({', '.join(table.key)}) DO {change}",
            parameters,
        )

    def _differ(self, table: Table, one: str, other: str) -> str:
        """Return the SQL condition that two rows differ, as they are read."""
        rows = (
            ", ".join(
                self.readable(attrs.evolve(column, name=f"{row}.{column.name}")) for column in table.columns
            )
            for row in (one, other)
        )
        return "ROW({}) IS DISTINCT FROM ROW({})".format(*rows)


def _array(numbers: Sequence[int]) -> str:
    return f"{{{','.join(map(str, numbers))}}}"


def _staged(table: Table) -> str:
    return f"pg_temp.b2b_payments_staged_{table.name}"


def _texts(column: Column, cells: Sequence[Any]) -> Sequence[str]:
    """Return cells in the text format of COPY."""
    present = [cell for cell in cells if cell is not None] if column.nullable else cells
    if column.kind is ColumnKind.MOMENT:
        texts = moment_texts(present)
    else:
        texts = list(map(str, present)) if column.kind is ColumnKind.INTEGER else _escaped(present)
    if len(texts) == len(cells):
        return texts
    remaining = iter(texts)
    return [_NULL if cell is None else next(remaining) for cell in cells]


def _escaped(cells: Sequence[str]) -> list[str]:
    """Escape text for COPY: all cells at once, if none contains a newline."""
    text = "\n".join(cells).replace("\\", "\\\\")
    lines = text.replace("\t", "\\t").replace("\r", "\\r").split("\n")
    if len(lines) == len(cells):
        return lines
    return [cell.translate(_ESCAPES) for cell in cells]
