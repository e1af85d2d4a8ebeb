"""Exports and syncs into random databases of a user: nothing of the user's may change.

Run with ``uv run python -m benchmarks.user_databases``. Tables and views have names, in any case, that
resemble an export's or need quotes, also in other schemas, with indexes, triggers and rows. Some databases
have an earlier export or copy, with the user's own indexes, views, triggers and foreign keys on its tables.
Exit code 1 if anything of the user's has changed afterwards, if an export that was not refused does not pass
`verify`, or if a copy that was not refused differs from the service.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import duckdb

from b2b_payments import B2BPaymentsError
from b2b_payments._protocol.json import encode
from b2b_payments._tables.columns import TABLES
from b2b_payments.export import sink_for, verify
from b2b_payments.export._account import Account, entry_of
from b2b_payments.sandbox import Sandbox
from b2b_payments.sync import store_for
from b2b_payments.sync._copy import Copy
from b2b_payments.sync._state import Reading, State
from tests.support.synced import held_in, version_of

FORMATS = ("sqlite", "duckdb")
NAMES = (
    "payments", "line_items", "payments_incoming", "payments_old", "line_items_new", "b2b_payments_export",
    "b2b_payments_sync", "b2b_payments_sync_seen", "orders", "select", "temp", "main", "my table", 'we"ird',
    "it's", "zählung", "x; DROP TABLE payments", "made0", "rows", "item", "source",
)  # fmt: skip
IN_THE_WAY = {
    "sqlite": (
        "CREATE TRIGGER mine BEFORE {event} ON {table} BEGIN SELECT RAISE(IGNORE); END",
        (
            "CREATE TRIGGER mine AFTER {event} ON {table} BEGIN UPDATE payments SET payer_name = 'mine' "
            "WHERE id = {row}.{key[0]}; END"
        ),
        (
            "CREATE TRIGGER mine AFTER {event} ON {table} BEGIN DELETE FROM line_items WHERE position = 1 "
            "AND payment_id = {row}.{key[0]}; END"
        ),
        "CREATE TRIGGER mine AFTER {event} ON {table} BEGIN DELETE FROM nowhere; END",
        "CREATE UNIQUE INDEX mine ON {table} ({keys}, currency)",
        "CREATE UNIQUE INDEX mine ON payments (external_id) WHERE external_id IS NULL",
        "CREATE TABLE b2b_payments_sync_seen (id INTEGER PRIMARY KEY)",
    ),
    "duckdb": (
        "CREATE TRIGGER mine AFTER {event} ON {table} FOR EACH STATEMENT INSERT INTO notes VALUES (1)",
        "CREATE TABLE books (id BIGINT REFERENCES payments)",
        "CREATE UNIQUE INDEX mine ON {table} ({keys}, currency)",
        "CREATE TABLE b2b_payments_sync_seen (id BIGINT PRIMARY KEY)",
    ),
}
"""What may be in the way of an export or a sync."""
REASONS = (
    "left alone", "synced copy", "already an index named", "as written: a trigger", "drop that trigger",
    "no such table: main.nowhere", "so DuckDB cannot replace", "would make syncs fail",
)  # fmt: skip
_LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)

Rows = Sequence[dict[str, Any]]


@attrs.define
class UserDatabase:
    """A user's database; `tables` are the names of the user's tables and views, quoted for SQL."""

    path: Path
    format: str
    draw: random.Random
    names: Sequence[str] = NAMES
    tables: list[str] = attrs.field(factory=list)
    has_export: bool = False
    has_copy: bool = False

    @property
    def has_tables(self) -> bool:
        """Whether there is an earlier export or copy."""
        return self.has_export or self.has_copy

    @contextmanager
    def connected(self) -> Iterator[Any]:
        """Connect to the database."""
        connection: Any = sqlite3 if self.format == "sqlite" else duckdb
        with closing(connection.connect(str(self.path))) as db:
            yield db
            db.commit() if self.format == "sqlite" else None

    def fill(self, payments: Rows) -> None:
        """Create what a user may have in a database."""
        if self.draw.random() < 0.4:
            export(self.path, self.format, payments)
            self.has_export = True
        elif self.draw.random() < 0.4:
            copy(self.path, payments)
            self.has_copy = True
        with self.connected() as db:
            if self.format == "sqlite" and not self.has_tables and self.draw.random() < 0.3:
                db.execute("PRAGMA encoding = 'UTF-16'")
            if self.has_tables:
                self._put_on_an_export(db)
            if self.format == "duckdb":
                db.execute("CREATE SCHEMA other")
                self._create(db, "other.", "payments")
            for name in self.draw.sample(self.names, self.draw.randint(0, 4)):
                cased = self.draw.choice([name, name.upper(), name.title()])
                taken = name in self.tables or (
                    self.has_tables and name in {"payments", "line_items", "b2b_payments_sync"}
                )
                if not taken:
                    self._create(db, "", cased)
            free = {"payments", "line_items"} - {table.strip('"').lower() for table in self.tables}
            if self.format == "sqlite" and free and not self.has_tables and self.draw.random() < 0.2:
                db.execute("CREATE TABLE indexed (mine)")
                db.execute(f"CREATE INDEX {self.draw.choice(sorted(free))} ON indexed (mine)")

    def state(self) -> list[Any]:
        """Return everything of the user's: tables, views, indexes, triggers, and rows."""
        with self.connected() as db:
            kinds = {
                "sqlite": ["SELECT name, sql FROM sqlite_master"],
                "duckdb": [
                    "SELECT schema_name || table_name, sql FROM duckdb_tables()",
                    "SELECT schema_name || view_name, sql FROM duckdb_views() WHERE NOT internal",
                    "SELECT schema_name || index_name, sql FROM duckdb_indexes()",
                    "SELECT schema_name || sequence_name, sql FROM duckdb_sequences()",
                ],
            }
            found = [row for kind in kinds[self.format] for row in db.execute(kind).fetchall()]
            rows = [db.execute(f"SELECT * FROM {name}").fetchall() for name in self.tables]  # noqa: S608
        return [sorted(row for row in found if row[1] and not self._is_new(row)), *rows]

    def _is_new(self, found: tuple[str, str]) -> bool:
        """Whether it is a table that an export or a sync may create."""
        name = found[0].removeprefix("main")
        users = {table.strip('"').lower() for table in self.tables}
        is_export = name in {"payments", "line_items"} and not self.has_tables
        return (is_export or name.startswith("b2b_payments_sync")) and name not in users

    def _put_on_an_export(self, db: Any) -> None:
        db.execute("CREATE INDEX by_payer ON payments (payer_name)")
        db.execute("CREATE VIEW totals AS SELECT count(*) AS number FROM payments")
        if self.format == "sqlite" and self.draw.random() < 0.3:
            for table, column in (("payments", "total"), ("line_items", "amount")):
                db.execute(f"ALTER TABLE {table} ADD COLUMN units AS (CAST({column} AS INTEGER))")
        if self.format == "sqlite" and self.draw.random() < 0.5:
            for event in ("INSERT", "UPDATE", "DELETE"):
                table = self.draw.choice(["payments", "line_items"])
                db.execute(f"CREATE TRIGGER on_{event} AFTER {event} ON {table} BEGIN SELECT 1; END")
        db.execute("CREATE TABLE notes (id BIGINT)")
        if self.draw.random() < 0.5:
            self._put_in_the_way(db)

    def _put_in_the_way(self, db: Any) -> None:
        statement = self.draw.choice(IN_THE_WAY[self.format])
        event = self.draw.choice(["INSERT", "UPDATE", "DELETE"])
        table = self.draw.choice(TABLES)
        row, keys = "OLD" if event == "DELETE" else "NEW", ", ".join(table.key)
        db.execute(statement.format(event=event, table=table.name, row=row, key=table.key, keys=keys))
        if "_seen" in statement:
            self.tables.append("b2b_payments_sync_seen")

    def _create(self, db: Any, schema: str, name: str) -> None:
        quoted = schema + '"' + name.replace('"', '""') + '"'
        number = len(self.tables)
        self.tables.append(quoted)
        if self.draw.random() < 0.2:
            db.execute(f"CREATE VIEW {quoted} AS SELECT 'mine' AS mine")
            return
        db.execute(f"CREATE TABLE {quoted} (id INTEGER, mine VARCHAR)")
        db.execute(f"INSERT INTO {quoted} VALUES (1, 'precious'), (2, NULL)")  # noqa: S608
        if self.draw.random() < 0.5:
            db.execute(f"CREATE INDEX mine{number} ON {quoted} (mine)")
        if self.format == "sqlite" and self.draw.random() < 0.5:
            # Makes changes to the table visible.
            db.execute(
                f"CREATE TRIGGER on_mine{number} AFTER DELETE ON {quoted} BEGIN "  # noqa: S608
                f"INSERT INTO {quoted} VALUES (3, 'touched'); END"
            )


def export(path: Path, format_: str, payments: Rows) -> None:
    """Export payments like a walk that was proven complete."""
    account, sink = Account({}), sink_for(path, format_)
    complete = False
    try:
        sink.open()
        sink.write(payments)
        account.sums.add(entry_of(encode(payment)) for payment in payments)
        account.end(complete=True)
        sink.commit({"account": account.pack()})
        complete = True
    finally:
        sink.close(complete=complete)


def copy(path: Path, payments: Rows) -> None:
    """Copy payments like a first sync."""
    copied = Copy(store_for(path))
    try:
        state = copied.open()
        copied.begin_reading(attrs.evolve(state or State("a store"), reading=Reading(None, None)))
        copied.keep(payments, (_LONG_AGO, _LONG_AGO), seen=True)
        copied.end_reading(State("a store"), complete=True)
    finally:
        copied.close(complete=True)


def tried(folder: Path, seed: int, payments: Rows) -> str:
    """Create a database, and export or sync into it. Returns the outcome."""
    draw = random.Random(seed)
    format_ = FORMATS[seed % len(FORMATS)]
    user = UserDatabase(folder / f"{seed}.{format_}", format_, draw)
    older = [{**payment, "payerName": "older", "lineItems": payment["lineItems"][:1]} for payment in payments]
    user.fill([*payments[:10], *older[10:20]])
    before, held = user.state(), held_in(user.path) if user.has_tables else None
    expected = {payment["id"]: version_of(payment) for payment in payments}
    what = "exported" if user.has_export or draw.random() < 0.2 else "copied"
    try:
        if what == "exported":
            export(user.path, format_, payments[10:])
            verify(user.path)
        else:
            copy(user.path, payments)
            if held_in(user.path) != expected:
                return f"differs: {user.path}"
    except B2BPaymentsError as error:
        what = "refused" if any(reason in str(error) for reason in REASONS) else f"failed: {error}"
        if held is not None and held_in(user.path) != held:
            return f"written although refused: {user.path}"
    return what if user.state() == before else f"changed: {user.path}"


def main() -> int:
    """Try many databases, and print the outcomes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--databases", type=int, default=2_000, help="[2000]")
    parser.add_argument("--first", type=int, default=0, help="number of the first one [0]")
    options = parser.parse_args()
    payments = list(Sandbox(payments=30).store.all_wire())
    begun, outcomes = time.perf_counter(), Counter[str]()
    for seed in range(options.first, options.first + options.databases):
        with tempfile.TemporaryDirectory() as folder:
            outcomes[tried(Path(folder), seed, payments)] += 1
    for what, count in sorted(outcomes.items()):
        print(f"{count:6,} {what}")
    print(f"\nPython {sys.version.split()[0]}; {time.perf_counter() - begun:.0f} s.")
    return int(not outcomes.keys() <= {"exported", "copied", "refused"})


if __name__ == "__main__":
    sys.exit(main())
