"""The copy itself: what is in it, and each change to it in one transaction with what is said of it.

Beside `payments` and `line_items` there are two tables: ``b2b_payments_sync`` holds the state, a row of JSON,
and ``b2b_payments_sync_seen``, while the whole store is being read, the ids that came. Other tables are
left alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any

from b2b_payments.errors import ConfigurationError, PaginationError
from b2b_payments.export.columns import LINE_ITEMS, PAYMENTS, Column, Kind, Row, Table, rows_of
from b2b_payments.export.database import Database
from b2b_payments.export.database_sink import EXPORTED, SYNCED
from b2b_payments.export.file import ExportError
from b2b_payments.sync.report import Changes
from b2b_payments.sync.state import State
from b2b_payments.sync.store import Store

_SEEN = Table(f"{SYNCED}_seen", (Column("id", Kind.INTEGER),), ("id",))
_TABLES = (PAYMENTS, LINE_ITEMS)
_UPDATED = PAYMENTS.names.index("updated_at")

Held = tuple[Row, list[Row]]
"""A payment and its line items, as the database gives them."""


class Copy:
    """A copy that is opened, changed and closed, by one thread after the other. All of it blocks.

    Its methods raise ExportError where the database cannot be read or written.
    """

    def __init__(self, store: Store) -> None:
        self._path = store.path
        self._file = store.file()

    def open(self) -> State | None:
        """Give what the copy says of itself, None where there is none yet.

        Raises ExportError while another sync or export writes to it, ConfigurationError for tables that are
        not a sync's.
        """
        self._file.lock()
        with self._file.writing() as database:
            there = database.tables()
            if SYNCED in there:
                self._check_tables(database, there)
                return self._state(database)
            for name in (EXPORTED, *(table.name for table in _TABLES)):
                if name in there:
                    raise ConfigurationError(
                        f"{self._path} has a table {name} that no sync made, an export's perhaps: it is left "
                        "alone. Give another file, which a first sync fills."
                    )
            return None

    def begin_reading(self, state: State) -> None:
        """Make ready for every payment of the store; nothing was seen yet."""
        with self._file.transaction() as database:
            if SYNCED not in database.tables():
                database.execute(f"CREATE TABLE {SYNCED} (state {database.types[Kind.TEXT]})")
                for table in _TABLES:
                    database.create(table, table.name)
            database.execute(f"DROP TABLE IF EXISTS {_SEEN.name}")
            database.create(_SEEN, _SEEN.name)
            _put(database, state)
        self._file.is_wanted()

    def keep(
        self,
        batch: Sequence[Mapping[str, Any]],
        settled: datetime | None,
        state: State | None = None,
        *,
        seen: bool = False,
    ) -> Changes:
        """Put payments in their places, with their line items, and the state: all in one transaction.

        A payment that the copy holds in a newer version stays as it is: the list may lag, and show an older
        one. But of what was written by `settled` the list shows the latest version, whatever its time.
        If `seen`, note that they came. Raises ResponseDecodeError for a payment that cannot be read.
        """
        payments, items = rows_of(batch)
        with self._file.transaction() as database:
            rows = {row[0]: row for row in PAYMENTS.fitted(payments, decimal=database.decimal)}
            flat = LINE_ITEMS.fitted(list(chain.from_iterable(items)), decimal=database.decimal)
            lines: dict[int, list[Row]] = {payment_id: [] for payment_id in rows}
            for line in flat:
                lines[line[0]].append(line)
            held = _held(database, list(rows))
            changes, written = Changes(), []
            for payment_id, row in rows.items():
                came = _as_read(database, row, lines[payment_id])
                if payment_id not in held:
                    changes.inserted += 1
                elif came == held[payment_id] or _is_older(database, row, held[payment_id], settled):
                    changes.unchanged += 1
                    continue
                else:
                    changes.updated += 1
                written.append(payment_id)
            if written:
                if changes.updated:
                    database.remove(LINE_ITEMS, written)
                database.upsert(PAYMENTS, PAYMENTS.name, [rows[one] for one in written])
                its = list(chain.from_iterable(lines[one] for one in written))
                database.upsert(LINE_ITEMS, LINE_ITEMS.name, its)
            if seen:
                database.upsert(_SEEN, _SEEN.name, [(payment_id,) for payment_id in rows])
            if state is not None:
                _put(database, state)
        return changes

    def end_reading(self, state: State, *, complete: bool) -> int:
        """Remove the payments that were not seen, if the reading was complete; give how many those were.

        Raises PaginationError where none was seen, and the copy holds some: an answer gone wrong is likelier
        than a store that is empty all at once. The reading stays under way then.
        """
        unseen = f"NOT IN (SELECT id FROM {_SEEN.name})"  # noqa: S608
        with self._file.transaction() as database:
            deleted = 0
            if complete:
                deleted = _count(database, f"{PAYMENTS.name} WHERE id {unseen}")
                if deleted and not _count(database, _SEEN.name):
                    raise PaginationError(
                        f"The list of payments came empty, and {self._path} holds {deleted:,}: nothing was "
                        "removed. Sync again; should the store really be empty, sync into another file."
                    )
            if deleted:
                for table in _TABLES:
                    database.execute(f"DELETE FROM {table.name} WHERE {table.key[0]} {unseen}")  # noqa: S608
            database.execute(f"DROP TABLE {_SEEN.name}")
            _put(database, state)
        return deleted

    def close(self, *, complete: bool) -> None:  # noqa: ARG002 - what was committed stays either way
        """Let go. A new database into which nothing came is removed."""
        self._file.let_go()

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
                f"{self._path} was kept in step by another version of this library: go on with that one, or "
                "sync into another file."
            )
        return state

    def _check_tables(self, database: Database, there: set[str]) -> None:
        for table in _TABLES:
            if table.name not in there or database.columns(table.name) != table.names:
                raise ConfigurationError(
                    f"The table {table.name} of {self._path} is not as a sync made it: it is left alone. "
                    "Sync into another file."
                )


def _count(database: Database, rows: str) -> int:
    ((count,),) = database.execute(f"SELECT count(*) FROM {rows}").fetchall()  # noqa: S608
    return int(count)


def _put(database: Database, state: State) -> None:
    database.execute(f"DELETE FROM {SYNCED}")  # noqa: S608
    database.execute(f"INSERT INTO {SYNCED} VALUES (?)", [state.pack()])  # noqa: S608


def _held(database: Database, payment_ids: Sequence[int]) -> dict[int, Held]:
    held: dict[int, Held] = {row[0]: (row, []) for row in database.found(PAYMENTS, payment_ids)}
    for line in database.found(LINE_ITEMS, list(held)):
        held[line[0]][1].append(line)
    return held


def _as_read(database: Database, row: Row, lines: Sequence[Row]) -> Held:
    def read(table: Table, row: Row) -> Row:
        return tuple(map(database.as_read, table.columns, row))

    return read(PAYMENTS, row), [read(LINE_ITEMS, line) for line in lines]


def _is_older(database: Database, row: Row, held: Held, settled: datetime | None) -> bool:
    """Whether a list that lags may show this version where there was the one that is held."""
    before = database.moment(held[0][_UPDATED])
    came: datetime = row[_UPDATED]
    return came < before and (settled is None or before > settled)
