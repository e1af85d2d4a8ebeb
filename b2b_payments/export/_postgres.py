"""PostgreSQL: a copy on a server, of which each batch is compared and written by a few statements."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any, Final

import attrs

from b2b_payments._arguments import check
from b2b_payments._errors import ConfigurationError, ExportError
from b2b_payments._models.moment import moment_of
from b2b_payments._printable import frozen
from b2b_payments._secret import Secret
from b2b_payments._tables.columns import LINE_ITEMS, PAYMENTS, Column, ColumnKind, Row, Table
from b2b_payments._tables.rows import Rows
from b2b_payments.export._database import Database, moment_texts

_TYPES: Final[Mapping[ColumnKind, str]] = {
    ColumnKind.INTEGER: "bigint",
    ColumnKind.TEXT: "text",
    ColumnKind.MONEY: "numeric",
    ColumnKind.MOMENT: "timestamp with time zone",
    ColumnKind.JSON: "jsonb",
}
# Seconds within which a server has to accept the connection, and milliseconds after which a network that
# carries nothing any more is given up, or a lock that another program has.
_SETTINGS: Final[Mapping[str, Any]] = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "tcp_user_timeout": 60_000,
    "fallback_application_name": "b2b-payments",
}
# The same for the server, so that it soon lets go of a copy whose sync is gone. Its
# compiler is off: with so many columns it takes longer than the statements do.
_SESSION: Final = (
    "SET lock_timeout = '30s'; SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; "
    "SET tcp_keepalives_count = 3; SET jit = off"
)
_ENDED_LATELY = "2s"
"""How long after the end of a process that was killed the server may still keep its lock."""
_is_schema: Final = re.compile(r"[\w .-]+").fullmatch
_LONGEST_NAME = 63  # bytes; PostgreSQL would cut what is longer
Columns = Sequence[Sequence[Any]]
"""Cells of a table, column by column."""
_ANY: Final = "ANY (CAST(? AS bigint[]))"
_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"})
_NULL: Final = "\\N"
_UPDATED: Final = next(column for column in PAYMENTS.columns if column.name == "updated_at")


@frozen(init=False)
class Server:
    """A schema of a database on a server; its text does not show how to get in.

    Raises ConfigurationError for what is no address, for a name that no schema can have, and where the extra
    is missing.
    """

    dsn: Secret
    schema: str
    _shown: str

    def __init__(self, dsn: str, schema: str) -> None:
        check("dsn", dsn, str, "an address, such as 'postgresql://user@host:5432/name'")
        check("schema", schema, str, "the name of a schema")
        if not _is_schema(schema) or len(schema.encode()) > _LONGEST_NAME:
            raise ConfigurationError(
                f"{schema!r} cannot be the name of a schema here: give letters, digits, '_', '-', '.' and "
                f"spaces, {_LONGEST_NAME} bytes at the most."
            )
        self.__attrs_init__(Secret(dsn), schema, _shown(dsn))

    def __str__(self) -> str:
        return f"{self._shown} (schema {self.schema})"


class PostgresDatabase(Database):
    """Numbers keep all their digits, those in jsonb too; that keeps no order, and of a key twice the last.

    What differs is what PostgreSQL holds differently.

    Others may have put functions and operators into a schema that is searched, and one that fits better than
    PostgreSQL's own is called, with our rights: those that are called with other types than theirs are named
    with their schema. A search path of our own would be that of the user's triggers, too.
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
        given = {*psycopg.conninfo.conninfo_to_dict(server.dsn)}  # names alone
        settings = {name: value for name, value in _SETTINGS.items() if name not in given}
        # Text travels as UTF-8 whatever the environment says; statements are not prepared, since a pool
        # between here and the server may not know of them.
        connection = psycopg.connect(
            server.dsn, **settings, client_encoding="utf8", autocommit=True, prepare_threshold=None
        )
        return cls(connection, server.schema)

    @classmethod
    def failures(cls) -> type[Exception]:
        failure: type[Exception] = import_psycopg().Error
        return failure

    def lock(self) -> bool:
        """Keep others out of the schema until this connection ends; False where another has it."""
        key = hashlib.sha256(f"b2b_payments_sync {self._name}".encode()).digest()
        self.execute(f"SET lock_timeout = '{_ENDED_LATELY}'")
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
        """Return the names of all tables and views. PostgreSQL tells capitals from small letters."""
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

    def lacks(self, table: Table) -> Sequence[Column] | None:
        """Return the columns that a table does not have: others may be the user's."""
        there = dict(self.columns(table.name))
        lacking = [column for column in table.columns if column.name not in there]
        held = [column for column in table.columns if column.name in there]
        is_ours = held and all(there[column.name] == self.types[column.kind] for column in held)
        return lacking if is_ours else None

    def create(self, table: Table, schema: str = "") -> None:
        """Create a table, and the schema where it is not there."""
        known = self.execute("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = ?", [self._name])
        if not known.fetchall():
            self.execute(f"CREATE SCHEMA {self.schema}")
        super().create(table, schema)

    def compare(self, rows: Rows) -> Mapping[int, datetime | None]:
        """Return the payments that are not held as they came; they stay staged for this transaction."""
        payments, lines = (self._stage(table, rows.tables[table.name]) for table in (PAYMENTS, LINE_ITEMS))
        found = self.execute(
            f"SELECT came.id, {self.readable(attrs.evolve(_UPDATED, name='held.updated_at'))} "  # noqa: S608
            f"FROM {payments} AS came LEFT JOIN {self.schema}.payments AS held ON held.id = came.id "
            f"WHERE {self._differ(PAYMENTS, 'came', 'held')} OR came.id IN ("
            f"SELECT payment_id FROM {lines} AS came FULL JOIN ("
            f"SELECT * FROM {self.schema}.line_items WHERE payment_id IN (SELECT id FROM {payments})"
            f") AS held USING (payment_id, position) WHERE {self._differ(LINE_ITEMS, 'came', 'held')})"
        )
        return {one: None if cell is None else self.moment(cell) for one, cell in found.fetchall()}

    def write(self, rows: Rows, inserted: Sequence[int], updated: Sequence[int]) -> None:  # noqa: ARG002
        """Put these payments down, as they were staged. Line items that are left over go."""
        if not (written := [*inserted, *updated]):
            return
        if updated:
            self.execute(
                f"DELETE FROM {self.schema}.line_items AS held WHERE payment_id = {_ANY} AND NOT EXISTS ("  # noqa: S608
                f"SELECT FROM {_staged(LINE_ITEMS)} AS came "
                "WHERE came.payment_id = held.payment_id AND came.position = held.position)",
                [_array(updated)],
            )
        for table in (PAYMENTS, LINE_ITEMS):
            self._insert(table, f"{_staged(table)} WHERE {table.key[0]} = {_ANY}", [_array(written)])

    def upsert(self, table: Table, rows: Sequence[Row]) -> None:
        """Put rows of numbers in; those of payments are staged, and compared first."""
        numbers = [_array(cells) for cells in zip(*rows, strict=True)]
        if numbers:
            arrays = ", ".join(["pg_catalog.unnest(CAST(? AS bigint[]))"] * len(numbers))
            self._insert(table, f"ROWS FROM ({arrays}) AS came ({', '.join(table.names)})", numbers)

    def readable(self, column: Column) -> str:
        """Return numbers and JSON as text, and times as microseconds since 1970."""
        if column.kind is ColumnKind.MOMENT:
            return f"(extract(epoch FROM {column.name}) OPERATOR(pg_catalog.*) 1000000)::bigint"
        return f"{column.name}::text" if column.kind in {ColumnKind.MONEY, ColumnKind.JSON} else column.name

    def as_read(self, column: Column, cell: Any) -> Any:  # noqa: ARG002
        """Return a cell that is no JSON: what the server reads, it compares itself."""
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
        """Copy rows into a table of this connection alone, which is empty after the transaction."""
        try:
            return self._copy(table, table.columns, columns)
        except self._refusals() as error:
            raise self._refusal(table, columns, error) from None

    def _copy(self, table: Table, which: Sequence[Column], columns: Columns) -> str:
        staged = _staged(table)
        typed = ", ".join(f"{column.name} {self.types[column.kind]}" for column in table.columns)
        self.execute(
            f"CREATE TEMPORARY TABLE IF NOT EXISTS {staged} ({typed}) ON COMMIT DELETE ROWS; "
            f"TRUNCATE {staged}"
        )
        texts = list(map(_texts, which, columns))
        lines = "\n".join(chain(map("\t".join, zip(*texts, strict=True)), [""]))
        names = ", ".join(column.name for column in which)
        with (
            self._connection.cursor() as cursor,
            cursor.copy(f"COPY {staged} ({names}) FROM STDIN") as copy,
        ):
            copy.write(lines.encode())
        return staged

    @staticmethod
    def _refusals() -> tuple[type[Exception], ...]:
        """Return the errors for what PostgreSQL cannot hold."""
        psycopg = import_psycopg()
        errors = psycopg.errors
        return (
            psycopg.DataError,
            errors.ProgramLimitExceeded,
            errors.StatementTooComplex,
            UnicodeEncodeError,
        )

    def _refusal(self, table: Table, columns: Columns, error: Exception) -> ExportError:
        """Say which payment PostgreSQL cannot hold, and what of it; nothing of the transaction is left."""

        def refused(which: Sequence[Column], some: Columns) -> bool:
            self.execute(f"ROLLBACK; {self.begin}")
            try:
                self._copy(table, which, some)
            except self._refusals():
                return True
            return False

        while (count := len(columns[0])) > 1:
            first = [cells[: count // 2] for cells in columns]
            is_there = refused(table.columns, first)
            columns = first if is_there else [cells[count // 2 :] for cells in columns]
        pairs = zip(table.columns, columns, strict=True)
        names = [column.name for column, cells in pairs if refused([column], [cells])]
        reason = getattr(getattr(error, "diag", None), "message_primary", None) or "it is no Unicode text"
        return ExportError(
            f"{' and '.join(names)} of payment {columns[0][0]} cannot be held by PostgreSQL ({reason}), and "
            "nothing is altered here to fit: sync into SQLite, which holds all that the service sends."
        )

    def _insert(self, table: Table, source: str, parameters: Sequence[Any]) -> None:
        """Put rows in their places; those that are held as they came are left alone."""
        names = ", ".join(table.names)
        others = [name for name in table.names if name not in table.key]
        change = "NOTHING"
        if others:
            change = f"UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in others)}"
            change += f" WHERE {self._differ(table, 'excluded', 'held')}"
        self.execute(
            f"INSERT INTO {self.schema}.{table.name} AS held ({names}) SELECT {names} FROM {source} "  # noqa: S608
            f"ON CONFLICT ({', '.join(table.key)}) DO {change}",
            parameters,
        )

    def _differ(self, table: Table, one: str, other: str) -> str:
        """Return the condition that two rows differ, in what is read of them."""
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
    """Write cells as COPY reads them."""
    some = [cell for cell in cells if cell is not None] if column.nullable else cells
    if column.kind is ColumnKind.MOMENT:
        texts = moment_texts(some)
    else:
        texts = list(map(str, some)) if column.kind is ColumnKind.INTEGER else _escaped(some)
    if len(texts) == len(cells):
        return texts
    left = iter(texts)
    return [_NULL if cell is None else next(left) for cell in cells]


def _escaped(cells: Sequence[str]) -> list[str]:
    """Escape what means something to COPY: in one go, where there is one line for each cell."""
    text = "\n".join(cells).replace("\\", "\\\\")
    lines = text.replace("\t", "\\t").replace("\r", "\\r").split("\n")
    if len(lines) == len(cells):
        return lines
    return [cell.translate(_ESCAPES) for cell in cells]


def is_postgres(address: str) -> bool:
    """Whether it is the address of a database of PostgreSQL."""
    return address.startswith(("postgresql://", "postgres://"))


def _shown(dsn: str) -> str:
    """Return what may be shown of an address. Raises ConfigurationError for one that is none."""
    psycopg = import_psycopg()
    try:
        found = psycopg.conninfo.conninfo_to_dict(dsn)
    except psycopg.Error:
        found = None
    host, port, name = (str((found or {}).get(part, "")) for part in ("host", "port", "dbname"))
    # A password with such a character in it would be taken for what is shown.
    if (
        found is None
        or re.search("[@=&]", host)
        or re.search(r"[@=&:?/\x00-\x1f]", name)
        or re.search("[^0-9,]", port)
    ):
        raise ConfigurationError(
            "The database's address cannot be read: give it as in postgresql://user@host:5432/name, with "
            "special characters of a password as %40 has the @, or the password in PGPASSWORD."
        )
    if host.startswith("/"):
        return f"postgresql:///{name}?host={host}"
    return f"postgresql://{host}{port and f':{port}'}/{name}"


def import_psycopg() -> Any:
    """Return the library. Raises ConfigurationError with what to install."""
    try:
        import psycopg  # noqa: PLC0415 - an extra, for those who want it
    except ImportError:  # also where it finds no libpq
        raise ConfigurationError("PostgreSQL needs psycopg: pip install 'b2b-payments[postgres]'.") from None
    return psycopg
