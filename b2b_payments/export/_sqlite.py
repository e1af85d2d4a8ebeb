"""SQLite: the database in the standard library."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec

from b2b_payments._errors import ExportError
from b2b_payments._protocol.json import encode, encode_lines
from b2b_payments._tables.columns import LINE_ITEMS, PAYMENTS, Column, ColumnKind, Row, Table
from b2b_payments.export._database import (
    DatabaseSink,
    FileDatabase,
    moment_text,
    moment_texts,
)
from b2b_payments.export._digests import digest_of, digest_of_rows, digest_text
from b2b_payments.export._log import Log

_decode: Final[Callable[[bytes], list[Any]]] = msgspec.json.Decoder().decode
_PATIENCE = 30.0  # seconds to wait while another connection writes


class SQLiteDatabase(FileDatabase):
    """SQLite has no decimals or times: both are stored as exact text. Whole seconds sort by time."""

    types = {kind: "INTEGER" if kind is ColumnKind.INTEGER else "TEXT" for kind in ColumnKind}  # noqa: RUF012
    begin = "BEGIN IMMEDIATE"  # a deferred transaction that reads first fails instead of waiting for others

    @classmethod
    def connect(cls, path: Path, *, read_only: bool = False) -> SQLiteDatabase:
        # Only a connection that may write can roll back the journal of a killed process.
        mode = "ro" if read_only and not journal_of(path).exists() else "rwc"
        # Used by several threads, never by two at once.
        return cls(
            sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={mode}",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                timeout=_PATIENCE,
            ),
            path,
        )

    @classmethod
    def failures(cls) -> type[Exception]:
        failure: type[Exception] = sqlite3.Error
        return failure

    @classmethod
    def fast_errors(cls) -> tuple[type[Exception], ...]:
        return (sqlite3.IntegrityError,)

    def names(self) -> set[str]:
        result = self.execute("SELECT name FROM main.sqlite_master WHERE type IN ('table', 'view')")
        return {name.lower() for (name,) in result.fetchall()}

    def columns(self, name: str) -> list[tuple[str, str]]:
        statement = (
            "SELECT info.name, info.type "
            "FROM main.sqlite_master AS found, pragma_table_info(found.name, 'main') AS info "
            "WHERE found.type = 'table' AND lower(found.name) = ? ORDER BY info.cid"
        )
        rows: list[tuple[str, str]] = self.execute(statement, [name]).fetchall()
        return rows

    def unique_indexes(self, table: Table) -> Sequence[tuple[str, str | None]]:
        rows: list[tuple[str, str | None]] = self.execute(
            "SELECT list.name, info.name FROM pragma_index_list(?, 'main') AS list, "
            "pragma_index_info(list.name, 'main') AS info WHERE list.\"unique\" AND list.origin != 'pk'",
            [table.name],
        ).fetchall()
        return rows

    def upsert(self, table: Table, rows: Sequence[Row]) -> None:
        read = [tuple(map(self.as_read, table.columns, row)) for row in rows]
        self._insert(table, read, f"VALUES ({', '.join('?' * len(table.columns))}) {_on_conflict(table)}")

    @classmethod
    def lines(cls, table: Table, columns: Sequence[Sequence[Any]]) -> bytes:
        cells = [
            moment_texts(cells) if column.kind is ColumnKind.MOMENT else cells
            for column, cells in zip(table.columns, columns, strict=True)
        ]
        return encode_lines(zip(*cells, strict=True))

    def rehearse(self, tables: Sequence[Table]) -> None:
        # Compiling them compiles triggers, indexes and generated columns, too.
        existing = self.names()
        for table in tables:
            if table.name in existing:
                self.execute(f"EXPLAIN DELETE FROM main.{table.name}")  # noqa: S608
                self.execute(f"EXPLAIN {_upsert_from(table, f'main.{table.name}')}")
            else:
                self.execute(f"EXPLAIN CREATE TABLE main.{self.definition(table)}")

    def replace(self, tables: Sequence[Table], log: Log, *, careful: bool) -> Mapping[str, str]:
        """Replace the rows of the tables by those of a log.

        If the user has changed the tables or has triggers on them, only rows that differ are written, so that
        no others fire a trigger, and all rows are read back.
        """
        is_plain = self.is_plain(tables)
        for table in reversed(tables):
            if is_plain:
                self.execute(f"DELETE FROM main.{table.name}")  # noqa: S608
            else:
                self.create(table, "temp")
        sums = self._fill("main" if is_plain else "temp", log, careful=careful)
        digests = {name: digest_text(digest) for name, digest in sums.items()}
        if not is_plain:
            for table in tables:
                self._merge(table)
            for table in tables:
                if self.digest(table) != digests[table.name]:
                    raise ExportError(
                        f"Rows written to the table {table.name} are changed by a trigger, a constraint or "
                        "the database's encoding, so they would differ from the export: drop that trigger, "
                        "or export to another file."
                    )
        return digests

    def is_plain(self, tables: Sequence[Table]) -> bool:
        """Whether the tables are as `create` made them, without triggers, and the encoding has all texts."""
        names = ", ".join(f"'{table.name}'" for table in tables)
        result = self.execute(
            "SELECT sql FROM main.sqlite_master "  # noqa: S608
            f"WHERE type IN ('table', 'trigger') AND lower(tbl_name) IN ({names})"
        )
        found = {sql for (sql,) in result.fetchall()}
        # In UTF-16, SQLite replaces U+FFFE and U+FFFF.
        ((encoding,),) = self.execute("PRAGMA main.encoding").fetchall()
        return encoding == "UTF-8" and found == {f"CREATE TABLE {self.definition(table)}" for table in tables}

    def _merge(self, table: Table) -> None:
        """Make a table equal to the temporary table of the same name, unless a trigger interferes.

        If there is a unique index, rows that differ are deleted first, so that a value may move between rows.
        """
        main, temp, key = f"main.{table.name}", f"temp.{table.name}", ", ".join(table.key)
        names = _names(table)
        kept = f"SELECT {names} FROM {temp}"  # noqa: S608
        if self.unique_indexes(table):
            kept += f" INTERSECT SELECT {names} FROM {main}"  # noqa: S608
        self.execute(f"DELETE FROM {main} WHERE ({key}) NOT IN (SELECT {key} FROM ({kept}))")  # noqa: S608
        new = f"SELECT {names} FROM {temp} EXCEPT SELECT {names} FROM {main}"  # noqa: S608
        self.execute(_upsert_from(table, f"({new})"))

    def _fill(self, schema: str, log: Log, *, careful: bool) -> dict[str, int]:
        """Insert the rows of a log into empty tables. Returns the sums of their lines' hashes, by table."""
        digests = {PAYMENTS.name: 0, LINE_ITEMS.name: 0}
        for parts in log.segments():
            for table, part in zip((PAYMENTS, LINE_ITEMS), parts, strict=True):
                lines = bytes(part).split(b"\n")[:-1]
                if careful and table is PAYMENTS:
                    ids = [_decode(line)[0] for line in lines]
                    for one in (PAYMENTS, LINE_ITEMS):
                        digests[one.name] -= digest_of_rows(self.select(one, ids, schema))
                        self.remove(one, ids, schema)
                # Decoded lazily: a list of all rows would cost more time in the garbage collector.
                values = f"VALUES ({', '.join('?' * len(table.columns))})"
                self._insert(table, map(_decode, lines), values, schema)
                digests[table.name] += digest_of(lines)
        return digests

    def readable(self, column: Column) -> str:
        return column.name

    def as_read(self, column: Column, cell: Any) -> Any:
        return moment_text(cell) if column.kind is ColumnKind.MOMENT else cell

    def moment(self, cell: Any) -> datetime:
        return datetime.fromisoformat(cell)

    def among(self, column: str, numbers: Sequence[int]) -> tuple[str, list[Any]]:
        condition = f"{column} IN (SELECT value FROM json_each(?))"  # noqa: S608
        return condition, [encode(list(numbers)).decode()]

    def _insert(self, table: Table, rows: Iterable[Sequence[Any]], values: str, schema: str = "main") -> None:
        self._connection.executemany(f"INSERT INTO {schema}.{table.name} {values}", rows)


def journal_of(path: Path) -> Path:
    """Return the path of the rollback journal, which exists during a write, and after a crash in one."""
    return path.with_name(f"{path.name}-journal")


def _names(table: Table) -> str:
    return ", ".join(table.names)


def _upsert_from(table: Table, source: str) -> str:
    """Return the statement that inserts rows of a table or subquery, replacing those with the same key."""
    names = _names(table)
    rows = f"SELECT {names} FROM {source} WHERE true"  # noqa: S608 - without WHERE, ON would begin a join
    return f"INSERT INTO main.{table.name} ({names}) {rows} {_on_conflict(table)}"


def _on_conflict(table: Table) -> str:
    """Return the clause that replaces an existing row with the same key."""
    others = [f"{name} = excluded.{name}" for name in table.names if name not in table.key]
    change = f"UPDATE SET {', '.join(others)}" if others else "NOTHING"
    return f"ON CONFLICT ({', '.join(table.key)}) DO {change}"


class SQLiteSink(DatabaseSink):
    """Writes payments to a SQLite database: amounts and times are exact text.

    Otherwise like `DatabaseSink`.
    """

    format = "sqlite"
    database: ClassVar[type[FileDatabase]] = SQLiteDatabase
