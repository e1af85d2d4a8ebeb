"""The copy in its database: its tables and state, each change written in one transaction.

Besides `payments` and `line_items` there are three tables: ``b2b_payments_sync`` holds the state, one row of
JSON; ``b2b_payments_sync_seen`` exists during a full read and holds the ids seen so far; and
``b2b_payments_sync_candidates`` holds the payments that the list contradicts, until they are settled. Other
tables are not touched.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import attrs

from b2b_payments._errors import ConfigurationError, ExportError
from b2b_payments._models.moment import microseconds_of, moment_of
from b2b_payments._printable import frozen
from b2b_payments._tables.columns import PAYMENTS, TABLES, Column, ColumnKind, Table
from b2b_payments._tables.rows import UPDATED, Rows
from b2b_payments.export._database import SYNCED, Database, as_export_error
from b2b_payments.export._file import writing
from b2b_payments.sync._report import Counts
from b2b_payments.sync._state import State
from b2b_payments.sync._store import Store

_SEEN = Table(f"{SYNCED}_seen", (Column("id", ColumnKind.INTEGER),), ("id",))
# `missing`: 1 if the list did not show the payment at all, 0 if it showed an older version.
_CANDIDATES = Table(
    f"{SYNCED}_candidates", (Column("id", ColumnKind.INTEGER), Column("missing", ColumnKind.INTEGER)), ("id",)
)
WirePayment = Mapping[str, Any] | bytes
"""A payment as the service sent it: a JSON object, or its text."""
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@frozen
class Candidates:
    """The payments that the list contradicts: `total` of them, `missing` of which it did not show at all.

    `chosen` is a selection of them: ids, and whether each is missing. `payments` is the size of the copy.
    """

    total: int
    missing: int
    chosen: Mapping[int, bool]
    payments: int


class Copy:
    """A copy that is opened, changed and closed, by one thread at a time. All methods block.

    They raise ExportError if the database cannot be read or written.
    """

    _connect: Callable[[], Database]

    def __init__(self, store: Store) -> None:
        self.store: Store = store
        self._stack = ExitStack()
        self._database: Database | None = None

    def open(self) -> State | None:
        """Lock and open the copy. Returns its state, or None if there is no copy yet.

        Raises ExportError while another sync or export writes to it, ConfigurationError for tables that were
        not made by a sync.
        """
        self._connect = self._stack.enter_context(self.store.held())
        if not self.store.exists:
            return None
        with self._writing() as database:
            names = database.names()
            state = None
            if SYNCED in names:
                state = self._upgraded(database, names)
            else:
                self._refuse_tables(names)
            database.rehearse(TABLES)
            return state

    def begin_reading(self, state: State) -> None:
        """Start a full read: create missing tables, and forget which ids were seen."""
        with self._transaction() as database:
            if SYNCED not in database.names():
                for table in (*TABLES, _CANDIDATES):
                    database.create(table)
                text = database.types[ColumnKind.TEXT]
                database.execute(f"CREATE TABLE {database.schema}.{SYNCED} (state {text})")
            # Of an abandoned full read: `open` refuses a user's table of that name.
            database.execute(f"DROP TABLE IF EXISTS {database.schema}.{_SEEN.name}")
            database.create(_SEEN)
            _write_state(database, state)

    def keep(
        self,
        batch: Sequence[WirePayment],
        lagging: tuple[datetime, datetime],
        state: State | None = None,
        *,
        seen: bool = False,
    ) -> Counts:
        """Write payments from a list, and the state, in one transaction.

        If the copy has a newer version of a payment, it keeps that, and the payment becomes a candidate,
        unless that version was written within `lagging` (after its start, up to its end): then the list may
        not show it yet. A payment listed in the copy's version, or a newer one, is no longer a candidate.
        With `seen`, the ids are recorded as seen by the full read.
        Raises ResponseDecodeError for a payment that cannot be read.
        """
        with self._transaction() as database:
            rows = database.read(batch)
            inserted, updated, older, unclear = _classified(database, rows, lagging)
            database.write(rows, inserted, updated)
            self._refuse_held_back(database.held_back(rows, [*inserted, *updated]))
            confirmed = {*rows.ids} - {*older, *unclear}
            database.remove(_CANDIDATES, list(confirmed))
            database.upsert(_CANDIDATES, [(payment_id, 0) for payment_id in older])
            if seen:
                database.upsert(_SEEN, [(payment_id,) for payment_id in rows.ids])
            if state is not None:
                _write_state(database, state)
        changed = len(inserted) + len(updated)
        return Counts(len(inserted), len(updated), len(rows.ids) - changed)

    def ids_to_write(
        self, batch: Sequence[WirePayment], lagging: tuple[datetime, datetime] | None = None
    ) -> set[int]:
        """Return the ids of the payments that `keep` would insert or update.

        Without `lagging`, those that `settle` would write. Raises the same errors.
        """
        with self._transaction() as database:
            rows = database.read(batch)
            inserted, updated, older, unclear = _classified(database, rows, lagging or (_LONG_AGO, _LONG_AGO))
            return {*inserted, *updated} if lagging else {*inserted, *updated, *older, *unclear}

    def latest_seen(self, until: datetime) -> datetime | None:
        """Return the latest `updatedAt`, up to `until`, of the payments seen by the full read.

        Candidates do not count, since the copy does not hold the version that was seen.
        """
        updated = PAYMENTS.columns[UPDATED]
        with self._writing() as database:
            cell, schema = database.readable(updated), database.schema
            ((latest,),) = database.execute(
                f"SELECT max({cell}) FROM {schema}.{PAYMENTS.name} WHERE {cell} <= ? "  # noqa: S608
                f"AND id IN (SELECT id FROM {schema}.{_SEEN.name}) "
                f"AND id NOT IN (SELECT id FROM {schema}.{_CANDIDATES.name})",
                [database.as_read(updated, microseconds_of(until))],
            ).fetchall()
            return None if latest is None else database.moment(latest)

    def end_reading(self, state: State, *, complete: bool) -> None:
        """End a full read. If it was complete, payments that were not seen become candidates.

        So do those that were seen and are no longer stored: a trigger of the user's has deleted them.
        """
        with self._transaction() as database:
            schema = database.schema
            if complete:
                # Not by NOT IN, for which PostgreSQL compares each of many ids with all others.
                stored, seen = f"{schema}.{PAYMENTS.name} AS stored", f"{schema}.{_SEEN.name} AS seen"
                both = "stored.id = seen.id"
                database.execute(
                    f"INSERT INTO {schema}.{_CANDIDATES.name} SELECT id, 1 FROM {stored} "  # noqa: S608
                    f"WHERE NOT EXISTS (SELECT 1 FROM {seen} WHERE {both}) "
                    f"UNION ALL SELECT id, 0 FROM {seen} "
                    f"WHERE NOT EXISTS (SELECT 1 FROM {stored} WHERE {both}) "
                    "ON CONFLICT (id) DO UPDATE SET missing = excluded.missing"
                )
            database.execute(f"DROP TABLE {schema}.{_SEEN.name}")
            _write_state(database, state)

    def candidates(self, limit: int) -> Candidates:
        """Count the candidates, and choose up to `limit` of them at random."""
        with self._writing() as database:
            table = f"{database.schema}.{_CANDIDATES.name}"
            result = database.execute(
                f"SELECT id, missing FROM {table} ORDER BY random() LIMIT ?",  # noqa: S608
                [min(limit, sys.maxsize)],  # the most that SQLite takes
            )
            chosen = {payment_id: bool(missing) for payment_id, missing in result.fetchall()}
            return Candidates(
                database.count(_CANDIDATES.name),
                database.count(f"{_CANDIDATES.name} WHERE missing = 1"),
                chosen,
                database.count(PAYMENTS.name),
            )

    def settle(self, existing: Sequence[WirePayment], gone: Sequence[int]) -> None:
        """Write the candidates that GET by id returned, and delete those that are gone, in one transaction.

        Raises ResponseDecodeError for a payment that cannot be read.
        """
        with self._transaction() as database:
            rows = database.read(existing)
            updated = list(database.compare(rows))
            database.write(rows, [], updated)
            for table in reversed(TABLES):
                database.remove(table, gone)
            self._refuse_held_back(database.held_back(rows, updated, gone))
            database.remove(_CANDIDATES, [*rows.ids, *gone])

    def close(self, *, complete: bool) -> None:  # noqa: ARG002 - what was committed stays either way
        """Close the database, and release the lock."""
        self._database = None
        with suppress(self.store.database.failures()):
            self._stack.close()

    @contextmanager
    def _writing(self) -> Iterator[Database]:
        """Yield the database, opened on first use. Its errors are raised as ExportError."""
        place = self.store.place
        with writing(place), as_export_error(self.store.database, place):
            self._database = self._database or self._connect()
            yield self._database

    @contextmanager
    def _transaction(self) -> Iterator[Database]:
        """Yield the database in a transaction."""
        with self._writing() as database, database.transaction():
            yield database

    def _refuse_tables(self, names: set[str]) -> None:
        """Raise ConfigurationError if a table or view has a name that a sync needs."""
        for table in (*TABLES, _CANDIDATES, _SEEN):
            if table.name in names:
                raise ConfigurationError(
                    f"{self.store.place} has a table {table.name} that was not made by a sync (maybe by an "
                    f"export): it is left alone. Use another {self.store.kept_in} for the copy."
                )

    def _refuse_unique(self, database: Database, table: Table) -> None:
        """Raise ConfigurationError for a unique index on cells that may repeat until a sync has ended."""
        indexes: dict[str, set[str | None]] = {}
        for name, column in database.unique_indexes(table):
            indexes.setdefault(name, set()).add(column)
        for name, columns in indexes.items():
            is_on_ours = None in columns or not columns.isdisjoint(table.names)
            if is_on_ours and not columns.issuperset(table.key):
                raise ConfigurationError(
                    f"The unique index {name} on {table.name} of {self.store.place} would make syncs fail: a "
                    "sync writes one batch of payments after the other, and in between two of them may have "
                    "the same value. Drop it, or make it an index that is not unique."
                )

    def _refuse_held_back(self, payment_ids: Collection[int]) -> None:
        """Raise ExportError if there are any payments that are not stored as they were written."""
        if payment_ids:
            more = f" and {len(payment_ids) - 1:,} more" if len(payment_ids) > 1 else ""
            raise ExportError(
                f"Payment {min(payment_ids)}{more} would not be in {self.store.place} as written: a trigger, "
                "a rule, a row policy, a constraint or the encoding of the database changes what is written "
                f"or holds it back. Drop it, or sync into another {self.store.kept_in}."
            )

    def _upgraded(self, database: Database, names: set[str]) -> State:
        """Add the tables and columns that the copy of an earlier version lacks. Returns the state."""
        state = self._state(database)
        missing = {table: self._missing_columns(database, table, names) for table in TABLES}
        for table in TABLES:
            self._refuse_unique(database, table)
        for table in (_CANDIDATES, _SEEN):
            if table.name not in names:
                continue
            is_ours = table is _CANDIDATES or state.reading is not None
            if not is_ours or self._missing_columns(database, table, names):
                raise self._foreign_table(table.name)
        with database.transaction():
            if _CANDIDATES.name not in names:
                database.create(_CANDIDATES)
            lost_reading = state.reading is not None and _SEEN.name not in names
            if lost_reading or any(missing.values()):
                for table, columns in missing.items():
                    for column in columns:
                        database.add(table, column)
                # Only a full read, from its start, can fill the new columns.
                database.execute(f"DROP TABLE IF EXISTS {database.schema}.{_SEEN.name}")
                state = attrs.evolve(state, changes=None, reading=None)
                _write_state(database, state)
        return state

    def _state(self, database: Database) -> State:
        place, kept_in = self.store.place, self.store.kept_in
        if [name for name, _ in database.columns(SYNCED)] != ["state"]:
            raise self._foreign_table(SYNCED)
        rows = database.execute(f"SELECT state FROM {database.schema}.{SYNCED}").fetchall()  # noqa: S608
        try:
            state = State.unpack(rows[0][0])
        except (ValueError, LookupError, TypeError, RecursionError):
            raise ExportError(f"The sync state of {place} is damaged: sync into another {kept_in}.") from None
        if state is None:
            raise ExportError(
                f"{place} was written by another version of this library: use that version, or sync into "
                f"another {kept_in}."
            )
        return state

    def _missing_columns(self, database: Database, table: Table, names: set[str]) -> Sequence[Column]:
        columns = database.missing_columns(table) if table.name in names else None
        if columns is None:
            raise self._foreign_table(table.name)
        return columns

    def _foreign_table(self, name: str) -> ConfigurationError:
        return ConfigurationError(
            f"The table {name} of {self.store.place} was changed, or not made by a sync: it is left alone. "
            f"Sync into another {self.store.kept_in}."
        )


def _write_state(database: Database, state: State) -> None:
    table = f"{database.schema}.{SYNCED}"
    database.execute(f"DELETE FROM {table}")  # noqa: S608
    database.execute(f"INSERT INTO {table} VALUES (?)", [state.pack()])  # noqa: S608


def _classified(
    database: Database, rows: Rows, lagging: tuple[datetime, datetime]
) -> tuple[list[int], list[int], list[int], list[int]]:
    """Compare listed payments with the copy. Returns four lists of ids:

    `inserted` are new to the copy, `updated` are in it in another, not newer version, `older` are in it in a
    newer version that the list should show, `unclear` in a newer one that the list may not show yet.
    """
    inserted, updated, older, unclear = list[int](), list[int](), list[int](), list[int]()
    listed_at = rows.updated
    for payment_id, stored_at in database.compare(rows).items():
        if stored_at is None:
            inserted.append(payment_id)
        elif moment_of(listed_at[payment_id]) < stored_at:
            (unclear if lagging[0] < stored_at <= lagging[1] else older).append(payment_id)
        else:
            updated.append(payment_id)
    return inserted, updated, older, unclear
