"""SQLite: the standard library's own database."""

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
    digest_of,
    digest_text,
    moment_text,
    moment_texts,
)
from b2b_payments.export._log import Log

_decode: Final[Callable[[bytes], list[Any]]] = msgspec.json.Decoder().decode
_PATIENCE = 30.0  # seconds for which another connection may write


class SQLiteDatabase(FileDatabase):
    """SQLite has no decimals and no times: both are text, exact, and times sort as text does."""

    types = {kind: "INTEGER" if kind is ColumnKind.INTEGER else "TEXT" for kind in ColumnKind}  # noqa: RUF012
    begin = "BEGIN IMMEDIATE"  # a transaction that reads before it writes does not wait for others

    @classmethod
    def connect(cls, path: Path, *, read_only: bool = False) -> SQLiteDatabase:
        # The journal of a process that was killed is rolled back by whoever may write.
        mode = "ro" if read_only and not journal_of(path).exists() else "rwc"
        # Used by one thread after the other, never by two at once.
        return cls(
            sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={mode}",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                timeout=_PATIENCE,
            )
        )

    @classmethod
    def failures(cls) -> type[Exception]:
        failure: type[Exception] = sqlite3.Error
        return failure

    @classmethod
    def hasty(cls) -> tuple[type[Exception], ...]:
        return (sqlite3.IntegrityError,)

    def names(self) -> set[str]:
        found = self.execute("SELECT name FROM main.sqlite_master WHERE type IN ('table', 'view')")
        return {name.lower() for (name,) in found.fetchall()}

    def columns(self, name: str) -> list[tuple[str, str]]:
        statement = (
            "SELECT info.name, info.type "
            "FROM main.sqlite_master AS found, pragma_table_info(found.name, 'main') AS info "
            "WHERE found.type = 'table' AND lower(found.name) = ? ORDER BY info.cid"
        )
        rows: list[tuple[str, str]] = self.execute(statement, [name]).fetchall()
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

    def replace(self, tables: Sequence[Table], log: Log, *, thorough: bool) -> Mapping[str, str]:
        """Let the tables hold exactly the rows of a log.

        Where triggers of the user's watch them, those see what really changed, and nothing else.
        """
        watched = self._are_watched(tables)
        for table in reversed(tables):
            if watched:
                self.create(table, "temp")
            else:
                self.execute(f"DELETE FROM main.{table.name}")  # noqa: S608
        digests = self._fill("temp" if watched else "main", log, thorough=thorough)
        if watched:
            for table in tables:
                self._merge(table)
        if watched or thorough:
            return {table.name: self.digest(table) for table in tables}
        return {name: digest_text(digest) for name, digest in digests.items()}

    def _are_watched(self, tables: Sequence[Table]) -> bool:
        names = ", ".join(f"'{table.name}'" for table in tables)
        watching = f"FROM main.sqlite_master WHERE type = 'trigger' AND lower(tbl_name) IN ({names})"
        return bool(self.execute(f"SELECT 1 {watching} LIMIT 1").fetchall())

    def _merge(self, table: Table) -> None:
        """Let a table hold what the temporary one of its name holds, and drop that."""
        here, there, key = f"main.{table.name}", f"temp.{table.name}", ", ".join(table.key)
        new = f"SELECT * FROM {there} EXCEPT SELECT * FROM {here}"  # noqa: S608
        self.execute(f"DELETE FROM {here} WHERE ({key}) NOT IN (SELECT {key} FROM {there})")  # noqa: S608
        self.execute(f"INSERT INTO {here} SELECT * FROM ({new}) WHERE true {_on_conflict(table)}")  # noqa: S608
        ((changed, more),) = self.execute(
            f"SELECT EXISTS ({new}), (SELECT count(*) FROM {here}) > (SELECT count(*) FROM {there})"  # noqa: S608
        ).fetchall()
        if changed or more:
            raise ExportError(
                f"A trigger on the table {table.name} changes what is written there, so that it would not be "
                "what was exported: drop that trigger, or export to another file."
            )
        self.execute(f"DROP TABLE {there}")

    def _fill(self, schema: str, log: Log, *, thorough: bool) -> dict[str, int]:
        """Put the rows of a log into empty tables; give the sums of their hashes."""
        digests = {PAYMENTS.name: 0, LINE_ITEMS.name: 0}
        for parts in log.segments():
            for table, part in zip((PAYMENTS, LINE_ITEMS), parts, strict=True):
                lines = bytes(part).split(b"\n")[:-1]
                if thorough and table is PAYMENTS:
                    for one in (PAYMENTS, LINE_ITEMS):
                        self.remove(one, [_decode(line)[0] for line in lines], schema)
                # One by one: rows that are there together cost the garbage collector more than this does.
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

    def _insert(self, table: Table, rows: Iterable[Sequence[Any]], how: str, schema: str = "main") -> None:
        self._connection.executemany(f"INSERT INTO {schema}.{table.name} {how}", rows)


def journal_of(path: Path) -> Path:
    """Return the place of what SQLite keeps while a transaction is under way."""
    return path.with_name(f"{path.name}-journal")


def _on_conflict(table: Table) -> str:
    """Return the clause that lets a row take the place of the one with its key."""
    others = [f"{name} = excluded.{name}" for name in table.names if name not in table.key]
    change = f"UPDATE SET {', '.join(others)}" if others else "NOTHING"
    return f"ON CONFLICT ({', '.join(table.key)}) DO {change}"


class SQLiteSink(DatabaseSink):
    """Writes payments into a SQLite database: money and times are text there, exact.

    Otherwise as `DatabaseSink`.
    """

    format = "sqlite"
    database: ClassVar[type[FileDatabase]] = SQLiteDatabase
