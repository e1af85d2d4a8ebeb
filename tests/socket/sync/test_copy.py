"""The copy: what a batch does to it, and which databases are refused."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from b2b_payments import AlreadyRunningError, ConfigurationError, ResponseDecodeError
from b2b_payments.export import ExportError, _postgres, sink_for
from b2b_payments.sandbox import Sandbox
from b2b_payments.sync import Store, store_for
from b2b_payments.sync._copy import Candidates, Copy
from b2b_payments.sync._report import Counts
from b2b_payments.sync._state import Reading, State
from tests.support.synced import connected, held_in, tables_of, version_of

ROWS: list[dict[str, Any]] = list(Sandbox(payments=30).store.all_wire())
SETTLED = datetime(2020, 1, 1, tzinfo=UTC)
LAGGING = SETTLED, SETTLED
"""An empty interval: no version counts as lagging."""
STATE = State("a store", reading=Reading(SETTLED, None))


@contextmanager
def opened(store: Store) -> Iterator[Copy]:
    """Yield an open copy that has its tables, and close it."""
    copy = Copy(store)
    try:
        if copy.open() is None:
            copy.begin_reading(STATE)
        yield copy
    finally:
        copy.close(complete=True)


def changed(row: dict[str, Any], seconds: int = 0, **fields: Any) -> dict[str, Any]:
    """Return the payment as updated that many seconds later, with these fields."""
    return {**row, "updatedAt": row["updatedAt"] + seconds, **fields}


def test_counts(any_copy: Store) -> None:
    """Payments are counted as inserted, updated or unchanged by the content of their rows and line items."""
    with opened(any_copy) as copy:
        assert copy.keep(ROWS, LAGGING) == Counts(inserted=30)
        assert copy.keep(ROWS, LAGGING) == Counts(unchanged=30)
        fewer = changed(ROWS[1], lineItems=ROWS[1]["lineItems"][:-1])
        later, same_time = changed(ROWS[0], 1), changed(ROWS[2], customerName="other")
        assert copy.keep([later, fewer, same_time, ROWS[3]], LAGGING) == Counts(updated=3, unchanged=1)
        assert copy.keep([], LAGGING) == Counts()
    expected = {row["id"]: version_of(row) for row in [*ROWS, later, fewer, same_time]}
    assert held_in(any_copy) == expected


def test_payment_twice_in_a_batch(any_copy: Store) -> None:
    """If a payment is twice in a batch, the last one is kept, with its line items."""
    later = changed(ROWS[1], 5, payerName="later", lineItems=ROWS[1]["lineItems"][:1])
    with opened(any_copy) as copy:
        assert copy.keep([*ROWS[:3], later], LAGGING) == Counts(inserted=3)
    assert held_in(any_copy) == {row["id"]: version_of(row) for row in (ROWS[0], later, ROWS[2])}


def test_hostile_text(any_copy: Store) -> None:
    """Quotes, newlines, other scripts and COPY's escapes are stored exactly, and compare as equal."""
    texts = [
        '"',
        "'; DROP TABLE payments; --",
        "a\nb\r\nc\t",
        "株式会社\u2028",
        "",
        " x ",
        "\\",
        "\\N",
        "\\.",
    ]
    rows = [changed(ROWS[0], id=number, customerName=text) for number, text in enumerate(texts, 1)]
    with opened(any_copy) as copy:
        assert copy.keep(rows, LAGGING) == Counts(inserted=len(rows))
        assert copy.keep(rows, LAGGING) == Counts(unchanged=len(rows))
    payments, _ = tables_of(any_copy)
    assert [row["customer_name"] for row in payments] == texts


@pytest.mark.parametrize("value", ["0", "-0.0000", "0.000000000001", "-12345678901234567890.5"])
def test_amounts_compare(any_copy: Store, value: str) -> None:
    """An amount compares as equal to itself, however the database stores it."""
    row = changed(ROWS[0], total={"code": "USD", "value": value})
    with opened(any_copy) as copy:
        copy.keep([row], LAGGING)
        assert copy.keep([row], LAGGING) == Counts(unchanged=1)


@pytest.mark.parametrize("fraction", [0, 0.5])
def test_older_version(any_copy: Store, fraction: float) -> None:
    """An older version does not replace a newer one, and contradicts it unless the list may lag that far."""
    newer = changed(ROWS[0], 60, payerName="newer")
    newer["updatedAt"] += fraction
    moment = datetime.fromtimestamp(newer["updatedAt"], UTC)
    with opened(any_copy) as copy:
        copy.keep([newer], LAGGING)
        a_little = timedelta(seconds=0.25)
        assert copy.keep([ROWS[0]], (moment - a_little, moment)) == Counts(unchanged=1)
        assert copy.candidates(9).total == 0
        for lagging in (moment, moment + a_little), (moment - 2 * a_little, moment - a_little):
            assert copy.keep([ROWS[0]], lagging) == Counts(unchanged=1)
            assert copy.candidates(9) == Candidates(1, 0, {1: False}, 1)
            assert copy.keep([newer], LAGGING) == Counts(unchanged=1)
            assert copy.candidates(9).total == 0
    assert held_in(any_copy)[1][2] == "newer"


def test_unseen_payments_become_candidates(any_copy: Store) -> None:
    """What a complete read did not see is a candidate until a list shows it, and stays in the copy."""
    with opened(any_copy) as copy:
        copy.keep(ROWS, LAGGING)
        copy.keep(ROWS[:10], LAGGING, STATE, seen=True)
        copy.end_reading(State("a store"), complete=False)
        assert copy.candidates(50) == Candidates(0, 0, {}, 30)
        copy.begin_reading(STATE)
        copy.keep(ROWS[:20], LAGGING, STATE, seen=True)
        copy.end_reading(State("a store"), complete=True)
        assert copy.candidates(50) == Candidates(10, 10, {row["id"]: True for row in ROWS[20:]}, 30)
    with opened(any_copy) as copy:
        some = copy.candidates(4)
        assert (some.total, len(some.chosen)) == (10, 4)
        copy.keep([ROWS[20], changed(ROWS[21], 1)], LAGGING)
        assert copy.candidates(50).chosen == {row["id"]: True for row in ROWS[22:]}
    assert len(held_in(any_copy)) == 30


def test_latest_seen(any_copy: Store) -> None:
    """`latest_seen` considers payments that were seen, up to a time, but no candidates."""
    last = sorted(ROWS, key=lambda row: row["updatedAt"])[-4:]
    moments = [datetime.fromtimestamp(row["updatedAt"], UTC) for row in last]
    with opened(any_copy) as copy:
        copy.keep(ROWS, LAGGING)
        copy.begin_reading(STATE)
        assert copy.latest_seen(moments[-1]) is None
        copy.keep([changed(last[1], -60), last[0], last[2]], LAGGING, seen=True)
        assert copy.latest_seen(moments[3]) == moments[2]
        assert copy.latest_seen(moments[2]) == moments[2]
        assert copy.latest_seen(moments[2] - timedelta(microseconds=1)) == moments[0]


def test_settling(any_copy: Store) -> None:
    """Existing payments are written as received, older or not; gone ones are deleted with their items."""
    kept = changed(ROWS[2], -60, payerName="older", lineItems=[])
    with opened(any_copy) as copy:
        copy.keep(ROWS, LAGGING)
        copy.end_reading(STATE, complete=True)
        assert copy.candidates(50).missing == 30
        copy.settle([ROWS[1], kept], [row["id"] for row in ROWS[3:]])
        assert copy.candidates(50) == Candidates(1, 1, {1: True}, 3)
        copy.settle([], [])
    assert held_in(any_copy) == {1: version_of(ROWS[0]), 2: version_of(ROWS[1]), 3: version_of(kept)}


def test_copy_of_an_earlier_version(any_copy: Store) -> None:
    """A copy without the candidates table gets it when it is opened."""
    with opened(any_copy) as copy:
        copy.keep(ROWS, LAGGING)
    with connected(any_copy) as db:
        db.execute("DROP TABLE b2b_payments_sync_candidates")
    with opened(any_copy) as copy:
        assert copy.candidates(50) == Candidates(0, 0, {}, 30)


def test_state_is_kept(any_copy: Store) -> None:
    """Opening the copy again returns the last state written, including the checkpoint."""
    reading = Reading(SETTLED + timedelta(seconds=0.5), {"at": [1, "x"]}, SETTLED)
    state = State("a store", "hash", reading=reading).in_sync_until(SETTLED)
    assert state.watermark == SETTLED
    with opened(any_copy) as copy:
        copy.keep(ROWS[:1], LAGGING, state)
    copy = Copy(any_copy)
    assert copy.open() == state
    copy.close(complete=True)


def test_state_of_version_1() -> None:
    """A state of version 1 can be read: it has the watermark."""
    packed = {"version": 1, "store": "a store", "store_hash": "hash", "watermark": SETTLED, "reading": None}
    assert State.unpack(json.dumps(packed, default=str)) == State("a store", "hash").in_sync_until(SETTLED)


def test_unreadable_payment(any_copy: Store) -> None:
    """An unreadable payment raises an error with its id, and nothing of its batch is written."""
    with opened(any_copy) as copy, pytest.raises(ResponseDecodeError, match=r"payment 2: \$\.total"):
        copy.keep([ROWS[0], changed(ROWS[1], total=5)], LAGGING, State("another"))
    assert held_in(any_copy) == {}


def test_indexes_and_other_tables_stay(any_copy: Store) -> None:
    """A user's own tables and indexes stay while payments are updated and deleted."""
    with opened(any_copy) as copy:
        copy.keep(ROWS, LAGGING)
    with connected(any_copy) as db:
        db.execute("CREATE TABLE notes (text VARCHAR)")
        db.execute("INSERT INTO notes VALUES ('mine')")
        db.execute("CREATE INDEX by_payer ON payments (payer_name)")
    with opened(any_copy) as copy:
        rows = [changed(row, 5, payerName="new") for row in ROWS]
        assert copy.keep(rows, LAGGING, STATE) == Counts(updated=30)
        copy.settle([], [rows[29]["id"]])
    with connected(any_copy) as db:
        assert db.execute("SELECT text FROM notes").fetchall() == [("mine",)]
        assert db.execute("SELECT count(*) FROM payments WHERE payer_name = 'new'").fetchall() == [(29,)]


def test_nothing_received(path: Path) -> None:
    """A new database into which nothing was written is removed, with its lock file."""
    copy = Copy(store_for(path))
    assert copy.open() is None
    copy.close(complete=False)
    assert list(path.parent.iterdir()) == []


def test_one_at_a_time(any_copy: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second sync of a copy is refused while the first one runs, but not afterwards."""
    monkeypatch.setattr(_postgres, "_LOCK_WITHIN", "1ms")
    second = Copy(any_copy)
    with opened(any_copy):
        with pytest.raises(AlreadyRunningError, match="wait until it has ended"):
            second.open()
        second.close(complete=False)
    assert second.open() is not None
    second.close(complete=True)


def test_no_export_during_a_sync(path: Path) -> None:
    """An export into a copy is refused while a sync runs."""
    with opened(store_for(path)), pytest.raises(AlreadyRunningError, match="wait until it has ended"):
        sink_for(path, path.suffix[1:]).open()
    assert held_in(path) == {}


def test_any_number_of_candidates(path: Path) -> None:
    """More candidates may be asked for than a database counts."""
    with opened(store_for(path)) as copy:
        assert copy.candidates(10**20).total == 0


def test_a_zero_byte(path: Path) -> None:
    """A zero byte in a text is kept."""
    row = changed(ROWS[0], customerName="a\x00b")
    with opened(store_for(path)) as copy:
        assert copy.keep([row], LAGGING) == Counts(inserted=1)
        assert copy.keep([row], LAGGING) == Counts(unchanged=1)
    assert tables_of(path)[0][0]["customer_name"] == "a\x00b"


def exported(path: Path, rows: list[dict[str, Any]], *, complete: bool) -> None:
    """Export into a database."""
    sink = sink_for(path, path.suffix[1:])
    try:
        sink.open()
        sink.write(rows)
        sink.commit({"at": 1})
    except BaseException:
        complete = False
        raise
    finally:
        sink.close(complete=complete)


def test_export_is_not_a_copy(path: Path) -> None:
    """A database that an export made is left alone."""
    exported(path, ROWS, complete=True)
    copy = Copy(store_for(path))
    with pytest.raises(
        ConfigurationError, match=r"has a table \w+ that was not made by a sync.*Use another file"
    ):
        copy.open()
    copy.close(complete=False)
    exported(path, ROWS[:3], complete=True)
    assert len(held_in(path)) == 3


@pytest.mark.parametrize("how", ["open", "resume"])
def test_export_does_not_replace_a_copy(path: Path, how: str) -> None:
    """An export into a copy is refused and does not change it, including its full read in progress."""
    with opened(store_for(path)) as copy:
        copy.keep(ROWS[:5], LAGGING, STATE, seen=True)
    sink = sink_for(path, path.suffix[1:])
    with pytest.raises(ConfigurationError, match="holds a synced copy, which an export must not replace"):
        getattr(sink, how)()
    sink.close(complete=False)
    with opened(store_for(path)) as copy:
        copy.end_reading(State("a store"), complete=True)
    assert len(held_in(path)) == 5


@pytest.mark.parametrize("name", ["Payments", "LINE_ITEMS", "B2B_payments_sync_seen"])
@pytest.mark.parametrize("kind", ["TABLE", "VIEW"])
def test_user_tables(path: Path, name: str, kind: str) -> None:
    """A user's tables and views with the names of a copy's, in any letter case, are left alone."""
    with connected(path) as db:
        db.execute(f'CREATE {kind} "{name}" {"(mine INTEGER)" if kind == "TABLE" else "AS SELECT 1 AS mine"}')
    copy = Copy(store_for(path))
    with pytest.raises(
        ConfigurationError, match=r"has a table \w+ that was not made by a sync.*Use another file"
    ):
        copy.open()
    copy.close(complete=False)
    with connected(path) as db:
        db.execute(f'SELECT mine FROM "{name}"')  # noqa: S608


@pytest.mark.parametrize(
    ("state", "says"),
    [("{", "is damaged"), ("[]", "is damaged"), ('{"version":9}', "by another version of this library")],
)
def test_unreadable_state(any_copy: Store, state: str, says: str) -> None:
    """A state that this version cannot read is refused with one sentence, and stays."""
    with opened(any_copy) as copy, copy._transaction() as database:
        database.execute(f"UPDATE {database.schema}.b2b_payments_sync SET state = ?", [state])  # noqa: S608
    copy = Copy(any_copy)
    with pytest.raises(ExportError, match=says):
        copy.open()
    copy.close(complete=False)
    with connected(any_copy) as db:
        assert db.execute("SELECT state FROM b2b_payments_sync").fetchall() == [(state,)]


def test_changed_table(path: Path) -> None:
    """A copy whose tables were changed is refused."""
    with opened(store_for(path)):
        pass
    with connected(path) as db:
        db.execute("ALTER TABLE payments ADD COLUMN note VARCHAR")
    copy = Copy(store_for(path))
    with pytest.raises(ConfigurationError, match=r"table payments of .* was changed, or not made by a sync"):
        copy.open()
    copy.close(complete=False)


def test_not_a_database(path: Path) -> None:
    """A file that is not a database is refused with one sentence, and not changed."""
    path.write_text("These are the notes of last night. " * 50)
    copy = Copy(store_for(path))
    with pytest.raises(ExportError, match="could not be written: "):
        copy.open()
    copy.close(complete=False)
    assert path.read_text().startswith("These are")


def test_sqlite_under_another_name(tmp_path: Path) -> None:
    """A SQLite database named like one of DuckDB is refused, and no extension is downloaded to read it."""
    path = tmp_path / "copy.duckdb"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE notes (text VARCHAR)")
        db.commit()
    copy = Copy(store_for(path))
    with pytest.raises(ExportError, match=r"copy\.duckdb is a SQLite database, not one of DuckDB"):
        copy.open()
    copy.close(complete=False)


def test_state_table_of_another_program(path: Path) -> None:
    """A table with the name of the sync state, but other columns, is left alone."""
    with connected(path) as db:
        db.execute("CREATE TABLE b2b_payments_sync (mine INTEGER)")
    copy = Copy(store_for(path))
    with pytest.raises(ConfigurationError, match=r"table b2b_payments_sync .*not made by a sync"):
        copy.open()
    copy.close(complete=False)
    with connected(path) as db:
        db.execute("SELECT mine FROM b2b_payments_sync")
