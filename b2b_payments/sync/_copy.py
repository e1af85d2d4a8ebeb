"""The copy itself: what is in it, and each change to it in one transaction with what is said of it.

Beside `payments` and `line_items` there are three tables: ``b2b_payments_sync`` holds the state, a row of
JSON; ``b2b_payments_sync_seen``, while the whole store is being read, the ids that came; and
``b2b_payments_sync_candidates`` the payments that the list contradicts, until they are settled. Other tables
are left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from b2b_payments._errors import ConfigurationError, ExportError
from b2b_payments._printable import frozen
from b2b_payments._tables.columns import LINE_ITEMS, PAYMENTS, TABLES, Column, Kind, Row, Table
from b2b_payments._tables.rows import Rows
from b2b_payments.export._database import Database, microseconds_of, moment_of, told
from b2b_payments.export._database_sink import SYNCED
from b2b_payments.export._file import Lock, writable, writing
from b2b_payments.sync._report import Changes
from b2b_payments.sync._state import State
from b2b_payments.sync._store import Store

_SEEN = Table(f"{SYNCED}_seen", (Column("id", Kind.INTEGER),), ("id",))
# Missing: whether the list did not show it at all, rather than in an older version.
_CANDIDATES = Table(
    f"{SYNCED}_candidates", (Column("id", Kind.INTEGER), Column("missing", Kind.INTEGER)), ("id",)
)
_UPDATED = PAYMENTS.names.index("updated_at")
_EVER = datetime.min.replace(tzinfo=UTC)

Held = tuple[Row, list[Row]]
"""A payment and its line items, as the database gives them."""


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

    def __init__(self, store: Store) -> None:
        self._path = store.path
        self._kind = store.database
        self._target = writable(store.path)
        self._lock = Lock(self._target)
        self._database: Database | None = None

    def open(self) -> State | None:
        """Give what the copy says of itself, None where there is none yet.

        Raises ExportError while another sync or export writes to it, ConfigurationError for tables that are
        not a sync's.
        """
        self._lock.acquire()
        if not self._target.exists():
            return None
        with self._writing() as database:
            there = database.names()
            if SYNCED in there:
                self._check_tables(database, there)
                state = self._state(database)
                if _CANDIDATES.name not in there:
                    database.create(_CANDIDATES)
                return state
            for name in (table.name for table in (*TABLES, _CANDIDATES, _SEEN)):
                if name in there:
                    raise ConfigurationError(
                        f"{self._path} has a table {name} that no sync made, an export's perhaps: it is left "
                        "alone. Give another file, which a first sync fills."
                    )
            return None

    def begin_reading(self, state: State) -> None:
        """Make ready for every payment of the store; nothing was seen yet."""
        with self._transaction() as database:
            if SYNCED not in database.names():
                database.execute(f"CREATE TABLE {SYNCED} (state {database.types[Kind.TEXT]})")
                for table in (*TABLES, _CANDIDATES):
                    database.create(table)
            database.execute(f"DROP TABLE IF EXISTS {_SEEN.name}")
            database.create(_SEEN)
            _put(database, state)

    def keep(
        self,
        batch: Sequence[Mapping[str, Any]],
        lagging: tuple[datetime, datetime],
        state: State | None = None,
        *,
        seen: bool = False,
    ) -> Changes:
        """Put payments that a list showed in their places, and the state: all in one transaction.

        A payment that the copy holds in a newer version stays as it is. It becomes a candidate, unless that
        version was written between the two moments of `lagging`: then the list may just not show it yet. One
        that the list shows as the copy holds it, or newer, is no candidate any more.
        If `seen`, note that they came. Raises ResponseDecodeError for a payment that cannot be read.
        """
        with self._transaction() as database:
            came = _Rows.read(database, batch)
            inserted, updated, older, unclear = _compared(database, came, lagging)
            came.write(database, inserted, updated)
            as_held_or_newer = came.payments.keys() - {*older, *unclear}
            database.remove(_CANDIDATES, list(as_held_or_newer))
            database.upsert(_CANDIDATES, [(one, 0) for one in older])
            if seen:
                database.upsert(_SEEN, [(payment_id,) for payment_id in came.payments])
            if state is not None:
                _put(database, state)
        changed = len(inserted) + len(updated)
        return Changes(len(inserted), len(updated), len(came.payments) - changed)

    def would_take(
        self, batch: Sequence[Mapping[str, Any]], lagging: tuple[datetime, datetime] | None = None
    ) -> set[int]:
        """Give the ids of those payments that `keep` would put in the place of another version, or of none.

        Without `lagging`, of those that `settle` would. Raises as they do.
        """
        with self._writing() as database:
            came = _Rows.read(database, batch)
            inserted, updated, *others = _compared(database, came, lagging or (_EVER, _EVER))
            return {*inserted, *updated, *([] if lagging else [*others[0], *others[1]])}

    def latest_seen(self, until: datetime) -> datetime | None:
        """Give when the latest of the payments seen was updated, of those updated by `until`.

        Of candidates the copy does not hold what was seen: they do not count.
        """
        updated = PAYMENTS.columns[_UPDATED]
        with self._writing() as database:
            cell = database.readable(updated)
            ((latest,),) = database.execute(
                f"SELECT max({cell}) FROM {PAYMENTS.name} WHERE {cell} <= ? "  # noqa: S608
                f"AND id IN (SELECT id FROM {_SEEN.name}) AND id NOT IN (SELECT id FROM {_CANDIDATES.name})",
                [database.as_read(updated, microseconds_of(until))],
            ).fetchall()
            return None if latest is None else database.moment(latest)

    def end_reading(self, state: State, *, complete: bool) -> None:
        """Make the payments that were not seen candidates, if the reading was complete."""
        with self._transaction() as database:
            if complete:
                database.execute(
                    f"INSERT OR REPLACE INTO {_CANDIDATES.name} SELECT id, 1 FROM {PAYMENTS.name} "  # noqa: S608
                    f"WHERE id NOT IN (SELECT id FROM {_SEEN.name})"
                )
            database.execute(f"DROP TABLE {_SEEN.name}")
            _put(database, state)

    def candidates(self, most: int) -> Candidates:
        """Count the candidates, and choose so many of them at the most, at random."""
        with self._writing() as database:
            statement = f"SELECT id, missing FROM {_CANDIDATES.name} ORDER BY random() LIMIT ?"  # noqa: S608
            chosen = {one: bool(missing) for one, missing in database.execute(statement, [most]).fetchall()}
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
            came = _Rows.read(database, there)
            held = _held(database, list(came.payments))
            ids = [one for one in came.payments if came.as_read(database, one) != held.get(one)]
            came.write(database, [], ids)
            for table in TABLES:
                database.remove(table, gone)
            database.remove(_CANDIDATES, [*came.payments, *gone])

    def close(self, *, complete: bool) -> None:  # noqa: ARG002 - what was committed stays either way
        """Let go."""
        database, self._database = self._database, None
        if database is not None:
            with suppress(self._kind.failures()):
                database.close()
        self._lock.release()

    @contextmanager
    def _writing(self) -> Iterator[Database]:
        """Give the database, opened when it is first used; what it raises becomes a sentence."""
        if not self._lock.held:
            raise ConfigurationError(f"{self._path} is not open: call open() first.")
        with writing(self._path), told(self._kind, self._path):
            self._database = self._database or self._kind.connect(self._target)
            yield self._database

    @contextmanager
    def _transaction(self) -> Iterator[Database]:
        """Do the same in one transaction: all of it, or nothing."""
        with self._writing() as database, database.transaction():
            yield database

    def _state(self, database: Database) -> State:
        rows = database.execute(f"SELECT state FROM {SYNCED}").fetchall()  # noqa: S608
        try:
            state = State.unpack(rows[0][0])
        except (ValueError, LookupError, TypeError):
            raise ExportError(
                f"What {self._path} says of itself is damaged: sync into another file."
            ) from None
        if state is None:
            raise ExportError(
                f"{self._path} was kept in step by another version of this library: use that one, or "
                "sync into another file."
            )
        return state

    def _check_tables(self, database: Database, there: set[str]) -> None:
        for table in TABLES:
            if table.name not in there or not database.holds(table):
                raise ConfigurationError(
                    f"The table {table.name} of {self._path} is not as a sync made it: it is left alone. "
                    "Sync into another file."
                )


def _put(database: Database, state: State) -> None:
    database.execute(f"DELETE FROM {SYNCED}")  # noqa: S608
    database.execute(f"INSERT INTO {SYNCED} VALUES (?)", [state.pack()])  # noqa: S608


def _compared(
    database: Database, came: _Rows, lagging: tuple[datetime, datetime]
) -> tuple[list[int], list[int], list[int], list[int]]:
    """Give the ids of those that are not in the copy, or there in an older version, or in a newer one, which
    the list should show, or may just not show yet.
    """
    held = _held(database, list(came.payments))
    inserted, updated, older, unclear = list[int](), list[int](), list[int](), list[int]()
    for payment_id, row in came.payments.items():
        if payment_id not in held:
            inserted.append(payment_id)
        elif came.as_read(database, payment_id) == held[payment_id]:
            continue
        elif moment_of(row[_UPDATED]) < (written := database.moment(held[payment_id][0][_UPDATED])):
            (unclear if lagging[0] < written <= lagging[1] else older).append(payment_id)
        else:
            updated.append(payment_id)
    return inserted, updated, older, unclear


def _held(database: Database, payment_ids: Sequence[int]) -> dict[int, Held]:
    held: dict[int, Held] = {row[0]: (row, []) for row in database.found(PAYMENTS, payment_ids)}
    for line in database.found(LINE_ITEMS, list(held)):
        held[line[0]][1].append(line)
    return held


@frozen
class _Rows:
    """Payments as rows of the copy, by id, and their line items."""

    payments: Mapping[int, Row]
    lines: Mapping[int, Sequence[Row]]

    @classmethod
    def read(cls, database: Database, batch: Sequence[Mapping[str, Any]]) -> _Rows:
        """Read payments as the service sent them."""
        rows = Rows.of_objects(batch, whole=True, decimal=database.decimal)
        payments: dict[int, Row] = {}
        lines: dict[int, list[Row]] = {}
        for row, its in rows.by_payment():
            payments[row[0]], lines[row[0]] = row, its
        return cls(payments, lines)

    def as_read(self, database: Database, payment_id: int) -> Held:
        """Give a payment as the database will give it, once it was written."""
        lines = [_as_read(database, LINE_ITEMS, line) for line in self.lines[payment_id]]
        return _as_read(database, PAYMENTS, self.payments[payment_id]), lines

    def write(self, database: Database, inserted: Sequence[int], updated: Sequence[int]) -> None:
        """Write these payments."""
        if updated:
            database.remove(LINE_ITEMS, updated)
        if written := [*inserted, *updated]:
            database.upsert(PAYMENTS, [self.payments[one] for one in written])
            its = list(chain.from_iterable(self.lines[one] for one in written))
            database.upsert(LINE_ITEMS, its)


def _as_read(database: Database, table: Table, row: Row) -> Row:
    return tuple(map(database.as_read, table.columns, row))
