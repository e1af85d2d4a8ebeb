"""The copy itself: what is in it, and each change to it in one transaction with what is said of it.

Beside `payments` and `line_items` there are three tables: ``b2b_payments_sync`` holds the state, a row of
JSON; ``b2b_payments_sync_seen``, while the whole store is being read, the ids that came; and
``b2b_payments_sync_candidates`` the payments that the list contradicts, until they are settled. Other tables
are left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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
# Missing: whether the list did not show it at all, rather than in an older version.
_CANDIDATES = Table(
    f"{SYNCED}_candidates", (Column("id", ColumnKind.INTEGER), Column("missing", ColumnKind.INTEGER)), ("id",)
)
_EVER = datetime.min.replace(tzinfo=UTC)


@frozen
class Candidates:
    """The payments that the list contradicts: `total` in all, of which it did not show those `missing`.

    `chosen` are some of them, by id, and whether they are missing. The copy holds `held` payments in all.
    """

    total: int
    missing: int
    chosen: Mapping[int, bool]
    held: int


class Copy:
    """A copy that is opened, changed and closed, by one thread after the other. All of it blocks.

    Its methods raise ExportError where the database cannot be read or written.
    """

    _connect: Callable[[], Database]

    def __init__(self, store: Store) -> None:
        self.store: Store = store
        self._held = ExitStack()
        self._database: Database | None = None

    def open(self) -> State | None:
        """Return what the copy says of itself, None where there is none yet.

        Raises ExportError while another sync or export writes to it, ConfigurationError for tables that are
        not a sync's.
        """
        self._connect = self._held.enter_context(self.store.held())
        if not self.store.exists:
            return None
        with self._writing() as database:
            there = database.names()
            if SYNCED in there:
                return self._brought_up(database, there)
            for name in (table.name for table in (*TABLES, _CANDIDATES, _SEEN)):
                if name in there:
                    raise ConfigurationError(
                        f"{self.store.place} has a table {name} that no sync made, an export's perhaps: it "
                        f"is left alone. Give another {self.store.kept_in}, which a first sync fills."
                    )
            return None

    def begin_reading(self, state: State) -> None:
        """Make ready for every payment of the store; nothing was seen yet."""
        with self._transaction() as database:
            if SYNCED not in database.names():
                for table in (*TABLES, _CANDIDATES):
                    database.create(table)
                text = database.types[ColumnKind.TEXT]
                database.execute(f"CREATE TABLE {database.schema}.{SYNCED} (state {text})")
            database.execute(f"DROP TABLE IF EXISTS {database.schema}.{_SEEN.name}")
            database.create(_SEEN)
            _put(database, state)

    def keep(
        self,
        batch: Sequence[Mapping[str, Any]],
        lagging: tuple[datetime, datetime],
        state: State | None = None,
        *,
        seen: bool = False,
    ) -> Counts:
        """Put payments that a list showed in their places, and the state: all in one transaction.

        A payment that the copy holds in a newer version stays as it is. It becomes a candidate, unless that
        version was written between the two moments of `lagging`: then the list may just not show it yet. One
        that the list shows as the copy holds it, or newer, is no candidate any more.
        If `seen`, note that they came. Raises ResponseDecodeError for a payment that cannot be read.
        """
        with self._transaction() as database:
            came = database.read(batch)
            inserted, updated, older, unclear = _compared(database, came, lagging)
            database.write(came, inserted, updated)
            as_held_or_newer = {*came.ids} - {*older, *unclear}
            database.remove(_CANDIDATES, list(as_held_or_newer))
            database.upsert(_CANDIDATES, [(one, 0) for one in older])
            if seen:
                database.upsert(_SEEN, [(payment_id,) for payment_id in came.ids])
            if state is not None:
                _put(database, state)
        changed = len(inserted) + len(updated)
        return Counts(len(inserted), len(updated), len(came.ids) - changed)

    def would_take(
        self, batch: Sequence[Mapping[str, Any]], lagging: tuple[datetime, datetime] | None = None
    ) -> set[int]:
        """Return the ids of those payments that `keep` would put in the place of another version, or of none.

        Without `lagging`, of those that `settle` would. Raises as they do.
        """
        with self._transaction() as database:
            came = database.read(batch)
            inserted, updated, *others = _compared(database, came, lagging or (_EVER, _EVER))
            return {*inserted, *updated, *([] if lagging else [*others[0], *others[1]])}

    def latest_seen(self, until: datetime) -> datetime | None:
        """Return when the latest of the payments seen was updated, of those updated by `until`.

        Of candidates the copy does not hold what was seen: they do not count.
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
        """Make the payments that were not seen candidates, if the reading was complete."""
        with self._transaction() as database:
            schema = database.schema
            if complete:
                database.execute(
                    f"INSERT INTO {schema}.{_CANDIDATES.name} SELECT id, 1 FROM {schema}.{PAYMENTS.name} "  # noqa: S608
                    f"WHERE id NOT IN (SELECT id FROM {schema}.{_SEEN.name}) "
                    "ON CONFLICT (id) DO UPDATE SET missing = excluded.missing"
                )
            database.execute(f"DROP TABLE {schema}.{_SEEN.name}")
            _put(database, state)

    def candidates(self, most: int) -> Candidates:
        """Count the candidates, and choose so many of them at the most, at random."""
        with self._writing() as database:
            rows = f"{database.schema}.{_CANDIDATES.name}"
            found = database.execute(
                f"SELECT id, missing FROM {rows} ORDER BY random() LIMIT ?",  # noqa: S608
                [most],
            )
            chosen = {one: bool(missing) for one, missing in found.fetchall()}
            return Candidates(
                database.count(_CANDIDATES.name),
                database.count(f"{_CANDIDATES.name} WHERE missing = 1"),
                chosen,
                database.count(PAYMENTS.name),
            )

    def settle(self, there: Sequence[Mapping[str, Any]], gone: Sequence[int]) -> None:
        """Put down what GET by id gave of candidates, and remove those that are gone: in one transaction.

        Raises ResponseDecodeError for a payment that cannot be read.
        """
        with self._transaction() as database:
            came = database.read(there)
            database.write(came, [], list(database.compare(came)))
            for table in reversed(TABLES):
                database.remove(table, gone)
            database.remove(_CANDIDATES, [*came.ids, *gone])

    def close(self, *, complete: bool) -> None:  # noqa: ARG002 - what was committed stays either way
        """Let go."""
        self._database = None
        with suppress(self.store.database.failures()):
            self._held.close()

    @contextmanager
    def _writing(self) -> Iterator[Database]:
        """Yield the database, opened when it is first used; what it raises becomes a sentence."""
        place = self.store.place
        with writing(place), as_export_error(self.store.database, place):
            self._database = self._database or self._connect()
            yield self._database

    @contextmanager
    def _transaction(self) -> Iterator[Database]:
        """Do the same in one transaction: all of it, or nothing."""
        with self._writing() as database, database.transaction():
            yield database

    def _brought_up(self, database: Database, there: set[str]) -> State:
        """Return the state of a copy, with the tables and columns that an earlier version did not make."""
        state = self._state(database)
        lacking = {table: self._lacking(database, table, there) for table in TABLES}
        with database.transaction():
            if _CANDIDATES.name not in there:
                database.create(_CANDIDATES)
            if any(lacking.values()):
                for table, columns in lacking.items():
                    for column in columns:
                        database.add(table, column)
                # What belongs there only a reading of the whole store tells.
                state = attrs.evolve(state, changes=None, reading=None)
                _put(database, state)
        return state

    def _state(self, database: Database) -> State:
        place, kept_in = self.store.place, self.store.kept_in
        if [name for name, _ in database.columns(SYNCED)] != ["state"]:
            raise self._another(SYNCED)
        rows = database.execute(f"SELECT state FROM {database.schema}.{SYNCED}").fetchall()  # noqa: S608
        try:
            state = State.unpack(rows[0][0])
        except (ValueError, LookupError, TypeError, RecursionError):
            raise ExportError(
                f"What {place} says of itself is damaged: sync into another {kept_in}."
            ) from None
        if state is None:
            raise ExportError(
                f"{place} was kept in step by another version of this library: use that one, or sync into "
                f"another {kept_in}."
            )
        return state

    def _lacking(self, database: Database, table: Table, there: set[str]) -> Sequence[Column]:
        columns = database.lacks(table) if table.name in there else None
        if columns is None:
            raise self._another(table.name)
        return columns

    def _another(self, name: str) -> ConfigurationError:
        return ConfigurationError(
            f"The table {name} of {self.store.place} is not as a sync made it: it is left alone. "
            f"Sync into another {self.store.kept_in}."
        )


def _put(database: Database, state: State) -> None:
    rows = f"{database.schema}.{SYNCED}"
    database.execute(f"DELETE FROM {rows}")  # noqa: S608
    database.execute(f"INSERT INTO {rows} VALUES (?)", [state.pack()])  # noqa: S608


def _compared(
    database: Database, came: Rows, lagging: tuple[datetime, datetime]
) -> tuple[list[int], list[int], list[int], list[int]]:
    """Return the ids of payments that are new to the copy, those it has in an older version, those in a newer
    one that the list should show, and those in a newer one that the list may not show yet.
    """
    inserted, updated, older, unclear = list[int](), list[int](), list[int](), list[int]()
    moments = came.updated
    for payment_id, written in database.compare(came).items():
        if written is None:
            inserted.append(payment_id)
        elif moment_of(moments[payment_id]) < written:
            (unclear if lagging[0] < written <= lagging[1] else older).append(payment_id)
        else:
            updated.append(payment_id)
    return inserted, updated, older, unclear
