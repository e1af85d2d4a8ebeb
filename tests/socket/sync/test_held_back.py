"""What a user's database changes or holds back of a sync's writes, and what is refused at the start."""

from __future__ import annotations

from pathlib import Path

import pytest

from b2b_payments import B2BPaymentsError, ConfigurationError, PaymentsClient
from b2b_payments.export import ExportError
from b2b_payments.sandbox import Sandbox
from b2b_payments.sync import PostgresStore, SQLiteStore, Store, sync
from b2b_payments.sync._copy import Candidates, Copy
from b2b_payments.sync._state import State
from tests.socket.sync.test_copy import LAGGING, ROWS, STATE, changed, opened
from tests.support.synced import KINDS, connected, held_in, hours_pass, store_in, version_of

NEW = [changed(row, 5, payerName=f"new {number}") for number, row in enumerate(ROWS[:20])]
"""New versions of payments that the copy holds; the others are new to it."""
HELD = ROWS[5:25]
_FUNCTION = (
    "CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT "
    "AS $$ BEGIN {} END $$; "
)
_ALTERS = "NEW.payer_name := 'mine'; RETURN NEW;"
_TRIGGER = "CREATE {} ON {} FOR EACH ROW EXECUTE FUNCTION mine()"


def _postgres(body: str, event: str, table: str = "payments") -> tuple[str, str]:
    return "postgres", _FUNCTION.format(body) + _TRIGGER.format(f"TRIGGER mine {event}", table)


def _sqlite(event: str, body: str) -> tuple[str, str]:
    return "sqlite", f"CREATE TRIGGER mine {event} BEGIN {body}; END"


WRITES = [
    _sqlite("BEFORE INSERT ON payments", "SELECT RAISE(IGNORE)"),
    _sqlite("BEFORE INSERT ON line_items", "SELECT RAISE(IGNORE)"),
    _sqlite("BEFORE UPDATE ON payments", "SELECT RAISE(IGNORE)"),
    _sqlite("BEFORE DELETE ON line_items", "SELECT RAISE(IGNORE)"),
    _sqlite("AFTER INSERT ON payments", "DELETE FROM payments WHERE id = NEW.id"),
    _sqlite("AFTER UPDATE ON payments", "UPDATE payments SET payer_name = 'mine' WHERE id = NEW.id"),
    _sqlite("AFTER INSERT ON line_items", "UPDATE payments SET total = '0' WHERE id = NEW.payment_id"),
    _sqlite("AFTER INSERT ON line_items", "DELETE FROM line_items WHERE position = 1"),
    _postgres("RETURN NULL;", "BEFORE INSERT"),
    _postgres("RETURN NULL;", "BEFORE INSERT", "line_items"),
    _postgres("RETURN NULL;", "BEFORE UPDATE"),
    _postgres("RETURN NULL;", "BEFORE DELETE", "line_items"),
    _postgres(_ALTERS, "BEFORE INSERT OR UPDATE"),
    _postgres("DELETE FROM payments WHERE id = NEW.id; RETURN NULL;", "AFTER INSERT"),
    (
        "postgres",
        _FUNCTION.format("DELETE FROM payments WHERE id = NEW.id; RETURN NULL;")
        + _TRIGGER.format("CONSTRAINT TRIGGER mine AFTER INSERT", "payments DEFERRABLE INITIALLY DEFERRED"),
    ),
    ("postgres", "CREATE RULE mine AS ON DELETE TO line_items DO INSTEAD NOTHING"),
    ("postgres", "CREATE RULE mine AS ON INSERT TO payments DO INSTEAD NOTHING"),
]


def _execute(store: Store, *statements: str) -> None:
    with connected(store) as db:
        for statement in statements:
            db.execute(statement)
        if isinstance(store, SQLiteStore):
            db.commit()


def _store(kind: str, folder: Path, request: pytest.FixtureRequest) -> Store:
    return store_in(kind, folder, request.getfixturevalue("postgres") if kind == "postgres" else "")


def _filled(store: Store, count: int = len(HELD)) -> None:
    with opened(store) as copy:
        copy.keep(HELD[:count], LAGGING, STATE, seen=True)
        copy.end_reading(State("a store"), complete=True)


@pytest.mark.parametrize(("kind", "statement"), WRITES)
def test_held_back_writes(tmp_path: Path, request: pytest.FixtureRequest, kind: str, statement: str) -> None:
    """A batch that the user's trigger or rule changes or holds back is an error, and nothing of it stays."""
    store = _store(kind, tmp_path, request)
    _filled(store)
    before = held_in(store)
    _execute(store, statement)
    fewer = [{**row, "lineItems": row["lineItems"][:-1]} for row in NEW]
    with opened(store) as copy, pytest.raises(ExportError, match="as written: a trigger, a rule"):
        copy.keep(fewer, LAGGING)
    assert held_in(store) == before


DELETIONS = [
    _sqlite("BEFORE DELETE ON payments", "SELECT RAISE(IGNORE)"),
    _sqlite("AFTER DELETE ON payments", "INSERT INTO line_items SELECT * FROM line_items LIMIT 0"),
    _postgres("RETURN NULL;", "BEFORE DELETE"),
    ("postgres", "CREATE RULE mine AS ON DELETE TO payments DO INSTEAD NOTHING"),
]


@pytest.mark.parametrize(("kind", "statement"), DELETIONS)
def test_held_back_deletions(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str, statement: str
) -> None:
    """A deletion that the user's trigger or rule holds back is an error; one that it only sees is done."""
    store = _store(kind, tmp_path, request)
    _filled(store)
    _execute(store, statement)
    gone = [HELD[0]["id"]]
    with opened(store) as copy:
        if "LIMIT 0" in statement:
            copy.settle([], gone)
            assert gone[0] not in held_in(store)
        else:
            with pytest.raises(ExportError, match=r"^Payment 6 would not be in"):
                copy.settle([], gone)
            assert len(held_in(store)) == len(HELD)


async def test_row_policy(postgres: str, tmp_path: Path, sandbox: Sandbox, client: PaymentsClient) -> None:
    """A row policy that hides payments from the sync's own role is an error, not a copy in sync."""
    store = store_in("postgres", tmp_path, postgres)
    assert isinstance(store, PostgresStore)
    role = f"loader_{store.place.schema.removeprefix('copy ')}"
    _execute(store, f'CREATE ROLE {role} LOGIN; CREATE SCHEMA "{store.place.schema}" AUTHORIZATION {role}')
    limited = PostgresStore(store.place.dsn.replace("postgres:@", f"{role}@"), schema=store.place.schema)
    assert (await sync(client, limited)).complete
    _execute(
        store,
        "ALTER TABLE payments ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE payments FORCE ROW LEVEL SECURITY",
        "CREATE POLICY mine ON payments USING (payer_name != 'hidden') WITH CHECK (true)",
    )
    hours_pass(sandbox.store)
    sandbox.store.update(5, payerName="hidden")
    with pytest.raises(ExportError, match=r"as written|row-level security"):
        await sync(client, limited)


def test_deleted_by_a_trigger_on_others(tmp_path: Path) -> None:
    """Payments that a trigger deletes when others are written are looked up, and written again."""
    store = store_in("sqlite", tmp_path, "")
    with opened(store) as copy:
        copy.keep(ROWS[:5], LAGGING, STATE, seen=True)
        _execute(
            store, "CREATE TRIGGER mine AFTER INSERT ON payments BEGIN DELETE FROM payments WHERE id = 2; END"
        )
        copy.keep(ROWS[5:], LAGGING, STATE, seen=True)
        copy.end_reading(State("a store"), complete=True)
        assert copy.candidates(9) == Candidates(1, 0, {2: False}, 29)
        with pytest.raises(ExportError, match="as written"):
            copy.settle([ROWS[1]], [])
        _execute(store, "DROP TRIGGER mine")
        copy.settle([ROWS[1]], [])
        assert copy.candidates(9).total == 0
    assert held_in(store) == {row["id"]: version_of(row) for row in ROWS}


def test_encoding(tmp_path: Path) -> None:
    """A text that SQLite changes in a database in UTF-16 is an error, and others are kept."""
    store = store_in("sqlite", tmp_path, "")
    _execute(store, "PRAGMA encoding = 'UTF-16'", "CREATE TABLE notes (mine)")
    _filled(store)
    with opened(store) as copy:
        with pytest.raises(ExportError, match="the encoding of the database"):
            copy.keep([changed(HELD[0], 5, payerName="a\ufffe")], LAGGING)
        copy.keep([changed(HELD[0], 5, payerName="ü")], LAGGING)
    assert held_in(store)[HELD[0]["id"]][2] == "ü"


REFUSED = [
    *[
        (kind, f"CREATE UNIQUE INDEX mine ON {on}", r"unique index mine on \w+ of .* that is not unique")
        for kind in KINDS
        for on in (
            "payments (external_id)",
            "line_items (invoice_number, amount)",
            "payments (lower(payer_name))",
        )
    ],
    *[
        ("sqlite", f"CREATE UNIQUE INDEX mine ON {on}", "unique index mine on payments")
        for on in ("payments (external_id) WHERE external_id != ''", "payments (payer_name COLLATE NOCASE)")
    ],
    (
        "postgres",
        "ALTER TABLE payments ADD CONSTRAINT mine UNIQUE (external_id) DEFERRABLE INITIALLY DEFERRED",
        "unique index mine on payments",
    ),
    (
        "postgres",
        "CREATE UNIQUE INDEX mine ON payments (external_id) INCLUDE (id)",
        "unique index mine on payments",
    ),
    ("duckdb", "CREATE UNIQUE INDEX mine ON payments (id)", "unique index mine on payments"),
    (
        "duckdb",
        "CREATE TRIGGER mine AFTER UPDATE ON payments FOR EACH STATEMENT INSERT INTO notes VALUES (1)",
        "The trigger mine is on payments in .*: drop it",
    ),
    (
        "duckdb",
        "CREATE TABLE books (id BIGINT, line BIGINT, FOREIGN KEY (id, line) REFERENCES line_items)",
        "A foreign key of the table books refers to line_items in .*: drop it",
    ),
    ("sqlite", "CREATE TRIGGER mine AFTER INSERT ON payments BEGIN DELETE FROM gone; END", "no such table"),
    ("postgres", "CREATE RULE mine AS ON UPDATE TO payments DO ALSO NOTHING", "INSERT or UPDATE rules"),
    (
        "postgres",
        "ALTER TABLE line_items DROP CONSTRAINT line_items_pkey",
        "no unique or exclusion constraint",
    ),
    *[
        (kind, f"CREATE {what}", f"table {name} of .* not made by a sync: it is left alone")
        for kind in KINDS
        for name in ("b2b_payments_sync_seen", "b2b_payments_sync_candidates")
        for what in (f"TABLE {name} (id BIGINT PRIMARY KEY, mine BIGINT)", f"VIEW {name} AS SELECT 1 AS id")
    ],
    *[
        (kind, f"CREATE TABLE b2b_payments_sync_seen (id {type_} NOT NULL, PRIMARY KEY (id))", "left alone")
        for kind, type_ in (("sqlite", "INTEGER"), ("duckdb", "BIGINT"), ("postgres", "BIGINT"))
    ],
]


@pytest.mark.parametrize(("kind", "statement", "says"), REFUSED)
def test_refused(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str, statement: str, says: str
) -> None:
    """What would make a sync fail, and a table or view that is not the sync's, is refused at the start."""
    store = _store(kind, tmp_path, request)
    _filled(store, 1)
    setup = ["CREATE TABLE notes (mine BIGINT)"]
    if "sync_candidates" in statement:
        setup.append("DROP TABLE b2b_payments_sync_candidates")
    _execute(store, *setup, statement)
    copy = Copy(store)
    with pytest.raises(B2BPaymentsError, match=says):
        copy.open()
    copy.close(complete=False)
    assert len(held_in(store)) == 1
    if "_sync_" in statement:
        _execute(store, f"SELECT id FROM {statement.split()[2]}")  # noqa: S608


ALLOWED = [
    ("sqlite", "CREATE UNIQUE INDEX mine ON payments (id, external_id)"),
    ("sqlite", "CREATE UNIQUE INDEX mine ON line_items (position, payment_id)"),
    ("sqlite", "ALTER TABLE payments ADD COLUMN units AS (CAST(total AS INTEGER))"),
    ("duckdb", "CREATE INDEX mine ON payments (external_id)"),
    ("postgres", "CREATE UNIQUE INDEX mine ON payments (id, external_id)"),
    ("postgres", "ALTER TABLE payments ADD COLUMN number serial UNIQUE"),
    ("postgres", "ALTER TABLE payments ADD COLUMN units numeric GENERATED ALWAYS AS (total * 2) STORED"),
]


@pytest.mark.parametrize(("kind", "statement"), ALLOWED)
def test_allowed(tmp_path: Path, request: pytest.FixtureRequest, kind: str, statement: str) -> None:
    """Indexes and columns that no payment can violate are used as they are."""
    store = _store(kind, tmp_path, request)
    _filled(store)
    _execute(store, statement)
    with opened(store) as copy:
        copy.keep(NEW, LAGGING)
        copy.settle([], [HELD[-1]["id"]])
    held = {row["id"]: version_of(row) for row in [*HELD, *NEW]}
    del held[HELD[-1]["id"]]
    assert held_in(store) == held


@pytest.mark.parametrize("table", ["payments", "line_items", "b2b_payments_sync_candidates"])
def test_table_without_a_key(tmp_path: Path, table: str) -> None:
    """A DuckDB table with the columns of a copy's, but without its key, is left alone."""
    store = store_in("duckdb", tmp_path, "")
    _filled(store)
    _execute(
        store,
        f"CREATE TABLE again AS SELECT * FROM {table}",  # noqa: S608
        f"DROP TABLE {table}",
        f"ALTER TABLE again RENAME TO {table}",
    )
    copy = Copy(store)
    with pytest.raises(
        ConfigurationError, match=rf"table {table} of .* not made by a sync: it is left alone"
    ):
        copy.open()
    copy.close(complete=False)


def test_lost_table_of_a_full_read(any_copy: Store) -> None:
    """If the table of a full read in progress is gone, the read begins again."""
    with opened(any_copy) as copy:
        copy.keep(HELD, LAGGING, STATE, seen=True)
    _execute(any_copy, "DROP TABLE b2b_payments_sync_seen")
    copy = Copy(any_copy)
    state = copy.open()
    assert state is not None
    assert state.reading is None
    copy.close(complete=True)
