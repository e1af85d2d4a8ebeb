"""Copies in PostgreSQL: users' own objects, values it cannot hold, lost connections, passwords."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import psycopg
import pytest

from b2b_payments import AlreadyRunningError, ConfigurationError, PaymentsClient
from b2b_payments._tables.columns import PAYMENTS
from b2b_payments._walk.report import WalkReport
from b2b_payments.export import ExportError, _postgres
from b2b_payments.sandbox import Sandbox
from b2b_payments.sync import PostgresStore, store_for, sync
from b2b_payments.sync._copy import Copy
from b2b_payments.sync._state import State
from tests.socket.cli.fleet import rows, serving, three_stores, write
from tests.socket.sync.test_copy import LAGGING, ROWS, STATE, opened
from tests.support.program import invoke
from tests.support.synced import connected, held_in, hours_pass, store_in, tables_of, versions_of

PASSWORD = "hunter2/geheim"
SEE = """
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO payments_seen VALUES (coalesce(NEW.id, OLD.id), TG_OP); RETURN NEW; END $$
"""


@pytest.fixture
def copy(postgres: str, tmp_path: Path) -> PostgresStore:
    """Return a store in a schema that does not exist yet."""
    store = store_in("postgres", tmp_path, postgres)
    assert isinstance(store, PostgresStore)
    return store


@pytest.fixture
def db(copy: PostgresStore) -> Iterator[Any]:
    """Yield a user's connection to the copy's schema."""
    with connected(copy) as connection:
        yield connection


async def test_types(copy: PostgresStore, sandbox: Sandbox, client: PaymentsClient, db: Any) -> None:
    """Amounts are numeric with all their digits, times are timestamptz, JSON is jsonb that can be queried."""
    store = sandbox.store
    digits = "12345678901234567890123456789.123456789012345678900"
    store.update(5, total={"code": "USD", "value": digits}, details={"po": [{"n": 1.50}], "a": "\N{BULLET}"})
    await sync(client, copy)
    kinds = dict(
        db.execute(
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = %s "
            "AND table_name = 'payments'",
            [copy.place.schema],
        ).fetchall()
    )
    assert {name: kinds[name] for name in ("id", "total", "updated_at", "details", "customer_name")} == {
        "id": "bigint",
        "total": "numeric",
        "updated_at": "timestamp with time zone",
        "details": "jsonb",
        "customer_name": "text",
    }
    found = db.execute("SELECT total::text, details->'po'->0->>'n' FROM payments WHERE id = 5").fetchone()
    assert found == (digits, "1.5")
    assert (await sync(client, copy, sweep=True)).updated == 0


async def test_users_objects_stay(
    copy: PostgresStore, sandbox: Sandbox, client: PaymentsClient, db: Any
) -> None:
    """A user's views, indexes, grants, triggers, keys and columns stay; triggers see only what changed."""
    store = sandbox.store
    await sync(client, copy)
    role = f"analyst {copy.place.schema}"
    for statement in (
        "ALTER TABLE payments ADD COLUMN note text DEFAULT 'new'",
        "ALTER TABLE line_items ADD COLUMN booked boolean NOT NULL DEFAULT false",
        "CREATE VIEW totals AS SELECT currency, sum(total) AS total FROM payments GROUP BY currency",
        "CREATE INDEX by_payer ON payments (payer_name)",
        f'CREATE ROLE "{role}"',
        f'GRANT SELECT ON payments, totals TO "{role}"',
        "CREATE TABLE payments_seen (id bigint, what text)",
        SEE,
        "CREATE TRIGGER see AFTER INSERT OR UPDATE OR DELETE ON payments FOR EACH ROW EXECUTE FUNCTION see()",
        "UPDATE payments SET note = 'mine'",
        "UPDATE line_items SET booked = true",
        "CREATE TABLE bookings (payment_id bigint REFERENCES payments ON DELETE SET NULL)",
        "INSERT INTO bookings SELECT id FROM payments",
        "TRUNCATE payments_seen",
        f'ALTER FUNCTION see() SET search_path = "{copy.place.schema}"',
    ):
        db.execute(statement)
    hours_pass(store)
    store.update(7, payerName="other")
    fewer = store.wire(8)["lineItems"][:1]
    store.update(8, lineItems=fewer)
    store.delete(9)
    new = store.insert()
    report = await sync(client, copy, sweep=True)
    assert (report.inserted, report.updated, report.deleted) == (1, 2, 1)
    assert held_in(copy) == versions_of(store)
    seen = db.execute("SELECT id, what FROM payments_seen ORDER BY id").fetchall()
    assert seen == [(7, "UPDATE"), (8, "UPDATE"), (9, "DELETE"), (new, "INSERT")]
    assert db.execute("SELECT id FROM payments WHERE note != 'mine'").fetchall() == [(new,)]
    assert db.execute("SELECT DISTINCT payment_id FROM line_items WHERE NOT booked").fetchall() == [(new,)]
    assert db.execute("SELECT count(*), count(payment_id) FROM bookings").fetchone() == (200, 199)
    assert db.execute("SELECT sum(total) FROM totals").fetchone()[0] > Decimal(0)
    assert db.execute("SELECT count(*) FROM pg_indexes WHERE indexname = 'by_payer'").fetchone()[0] >= 1
    granted = (
        "SELECT has_table_privilege(%s, 'payments', 'SELECT'), has_table_privilege(%s, 'totals', 'SELECT')"
    )
    assert db.execute(granted, [role, role]).fetchone() == (True, True)


async def test_column_of_a_newer_version(
    copy: PostgresStore, sandbox: Sandbox, client: PaymentsClient, db: Any
) -> None:
    """Columns that an older version of the library did not have are added, and filled by a full read."""
    await sync(client, copy)
    db.execute("ALTER TABLE payments DROP COLUMN payer_name, ADD COLUMN mine text DEFAULT 'kept'")
    db.execute("ALTER TABLE line_items DROP COLUMN invoice_number")
    report = await sync(client, copy)
    assert (report.swept, report.updated, report.complete) == (True, 200, True)
    assert held_in(copy) == versions_of(sandbox.store)
    assert {row["mine"] for row in tables_of(copy)[0]} == {"kept"}
    assert not (await sync(client, copy)).swept


async def test_column_of_another_type(copy: PostgresStore, client: PaymentsClient, db: Any) -> None:
    """A table whose columns were changed is refused, and left alone."""
    await sync(client, copy)
    db.execute("ALTER TABLE payments ALTER COLUMN total TYPE double precision")
    with pytest.raises(
        ConfigurationError, match=r"table payments of .* was changed, or not made by a sync.*schema"
    ):
        await sync(client, copy)


@pytest.mark.parametrize("name", ["payments", "line_items", "b2b_payments_sync_seen"])
@pytest.mark.parametrize("kind", ["TABLE", "VIEW", "MATERIALIZED VIEW"])
def test_user_tables(copy: PostgresStore, db: Any, name: str, kind: str) -> None:
    """A user's tables and views with the names of a copy's are left alone."""
    db.execute(f'CREATE SCHEMA "{copy.place.schema}"')
    db.execute(f"CREATE {kind} {name} {'(mine integer)' if kind == 'TABLE' else 'AS SELECT 1 AS mine'}")
    opened = Copy(copy)
    with pytest.raises(
        ConfigurationError, match=r"has a table \w+ that was not made by a sync.*Use another schema"
    ):
        opened.open()
    opened.close(complete=False)
    db.execute(f"SELECT mine FROM {name}")  # noqa: S608


async def test_other_schemas_are_not_touched(copy: PostgresStore, client: PaymentsClient, db: Any) -> None:
    """Tables of the same names in other schemas are not touched; names may have capitals and spaces."""
    other = f"{copy.place.schema} Payments"
    db.execute(f'CREATE SCHEMA "{other}"')
    db.execute(f'CREATE TABLE "{other}".payments (mine text)')
    assert (await sync(client, copy)).inserted == 200
    assert db.execute(f'SELECT count(*) FROM "{other}".payments').fetchone() == (0,)  # noqa: S608
    with pytest.raises(ConfigurationError, match="that was not made by a sync"):
        await sync(client, PostgresStore(copy.place.dsn, schema=other))


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"payerName": "a\x00b"}, "payer_name"),
        ({"details": {"a": "\x00"}}, "details"),
        ({"unknownToUs": "a\x00"}, "extra"),
        ({"payerName": "\x00", "moduleData": {"\x00": 1}}, "payer_name and module_data"),
        ({"lineItems": [{"invoiceNumber": "\x00"}]}, "invoice_number"),
    ],
)
async def test_zero_byte(
    copy: PostgresStore, sandbox: Sandbox, client: PaymentsClient, fields: dict[str, Any], names: str
) -> None:
    """A zero byte is refused with the payment's id, and nothing of its batch is written; later syncs work."""
    store = sandbox.store
    await sync(client, copy)
    held = held_in(copy)
    hours_pass(store)
    if "lineItems" in fields:
        fields = {"lineItems": [{**store.wire(11)["lineItems"][0], **fields["lineItems"][0]}]}
    before = store.wire(11)
    store.update(10, payerName="new")
    store.update(11, **fields)
    with pytest.raises(ExportError, match=rf"^{names} of payment 11 cannot be held by PostgreSQL"):
        await sync(client, copy)
    assert held_in(copy) == held
    store.update(11, **{name: before.get(name) for name in fields})
    assert (await sync(client, copy)).updated >= 1
    assert held_in(copy) == versions_of(store)


async def test_role_with_few_privileges(
    copy: PostgresStore, sandbox: Sandbox, client: PaymentsClient, db: Any
) -> None:
    """A role needs only the right to create tables in an existing schema; without it, the error says so."""
    role = f"loader_{copy.place.schema.removeprefix('copy ')}"
    db.execute(f'CREATE ROLE {role} LOGIN; CREATE SCHEMA "{copy.place.schema}"')
    store = PostgresStore(copy.place.dsn.replace("postgres:@", f"{role}@"), schema=copy.place.schema)
    with pytest.raises(ExportError, match=r"could not be written: permission denied for schema"):
        await sync(client, store)
    db.execute(f'GRANT USAGE, CREATE ON SCHEMA "{copy.place.schema}" TO {role}')
    assert (await sync(client, store)).complete
    assert held_in(copy) == versions_of(sandbox.store)
    elsewhere = PostgresStore(store.place.dsn, schema=f"{copy.place.schema} 2")
    with pytest.raises(ExportError, match=r"could not be written: permission denied for database"):
        await sync(client, elsewhere)


async def test_two_at_once(
    copy: PostgresStore, sandbox: Sandbox, client: PaymentsClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two syncs at once the second is refused, and the first is complete."""
    monkeypatch.setattr(_postgres, "_LOCK_WITHIN", "1ms")
    completed: list[object] = []
    paused, second_refused = anyio.Event(), anyio.Event()

    async def wait(_: object) -> None:
        paused.set()
        await second_refused.wait()

    async def first() -> None:
        completed.append((await sync(client, copy, on_change=wait)).complete)

    async with anyio.create_task_group() as group:
        group.start_soon(first)
        await paused.wait()
        with pytest.raises(AlreadyRunningError, match=r"^Another sync is writing postgresql://.*wait until"):
            await sync(client, PostgresStore(copy.place.dsn, schema=copy.place.schema))
        second_refused.set()
    assert completed == [True]
    assert held_in(copy) == versions_of(sandbox.store)


async def test_lost_connection(
    copy: PostgresStore, sandbox: Sandbox, client: PaymentsClient, monkeypatch: pytest.MonkeyPatch, db: Any
) -> None:
    """A lost connection is reported in one sentence, no batch is half written, and the next sync resumes."""
    monkeypatch.setattr("b2b_payments.sync._readings.BATCH_ROWS", 50)
    pages = 0

    def cut_off(report: WalkReport) -> None:
        nonlocal pages
        pages += 1
        if pages == 8:
            db.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE application_name = 'b2b-payments' AND pid != pg_backend_pid()"
            )

    with pytest.raises(ExportError, match=r"^postgresql://[^\n]* could not be written: [^\n]*$") as caught:
        await sync(client, copy, on_progress=cut_off)
    assert "terminating connection" in str(caught.value)
    held = held_in(copy)
    assert 0 < len(held) < 200
    assert held.items() <= versions_of(sandbox.store).items()
    report = await sync(client, copy)
    assert (report.resumed, report.complete) == (True, True)
    assert report.inserted == 200 - len(held)
    assert held_in(copy) == versions_of(sandbox.store)


async def test_unreachable_server(client: PaymentsClient, sandbox: Sandbox, tmp_path: Path) -> None:
    """An unreachable server is reported in one sentence, before anything is sent."""
    copy = PostgresStore(f"postgresql://u:{PASSWORD.replace('/', '%2F')}@/db?host={tmp_path}")
    with pytest.raises(ExportError, match=r"^postgresql:///db\?host=.* could not be reached: .*") as caught:
        await sync(client, copy)
    assert "\n" not in str(caught.value)
    assert sandbox.request_count == 0


def test_passwords_are_never_shown(
    postgres: str, copy: PostgresStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are in no repr, report, progress, log, error or line of the command's output."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("PGPASSWORD", "geheim-from-env")
    secret = "geheim-in-the-address"
    info = psycopg.conninfo.conninfo_to_dict(postgres)
    to = f"postgresql://postgres:{secret}@/postgres?host={info['host']}"
    store = PostgresStore(to, schema=copy.place.schema)
    options = ("--schema", copy.place.schema, "--verbose")
    with serving({"one": Sandbox(payments=30)}) as fleet:
        first, second = (invoke(fleet["one"], "sync", "--to", to, *options) for _ in range(2))
        nobody = to.replace(str(info["host"]), "/nowhere")
        absent = invoke(fleet["one"], "sync", "--to", nobody, *options)
        with store.held():
            monkeypatch.setattr(_postgres, "_LOCK_WITHIN", "1ms")
            running = invoke(fleet["one"], "sync", "--to", to, *options)
    codes = [result.exit_code for result in (first, second, absent, running)]
    assert codes == [0, 0, 1, 4], first.stderr
    shown = [repr(store), str(store.place), repr(store.place), caplog.text]
    for result in (first, second, absent, running):
        shown += [result.output, result.stderr]
    assert f"postgresql:///postgres?host={info['host']} (schema {copy.place.schema}): in sync" in first.stderr
    assert "could not be reached: " in absent.stderr
    assert not [text for text in shown if "geheim" in text]


async def test_report_of_a_copy(
    copy: PostgresStore, client: PaymentsClient, sandbox: Sandbox, tmp_path: Path
) -> None:
    """The report of a copy equals that of the same payments in SQLite, and its page shows no password."""
    sandbox.store.update(5, total={"code": "USD", "value": "0.10000000000000000000000001"})
    await sync(client, copy)
    await sync(client, store_for(tmp_path / "copy.sqlite"))
    to = str(copy.place.dsn).replace("postgres:@", "postgres:geheim@")
    assert "geheim" in to
    here = invoke(None, "report", str(tmp_path / "copy.sqlite"))
    there = invoke(None, "report", to, "--schema", copy.place.schema)
    assert (here.exit_code, there.exit_code) == (0, 0), there.stderr
    assert "200 payments" in here.stdout
    assert there.stdout == here.stdout
    page = tmp_path / "report.html"
    invoke(None, "report", to, "--schema", copy.place.schema, "--html", str(page))
    assert "geheim" not in page.read_text()
    nothing = invoke(None, "report", to, "--schema", "nowhere")
    assert 'could not be read: relation "nowhere.payments" does not exist' in nothing.stderr


@pytest.mark.usefixtures("tokens")
def test_many_stores(postgres: str, copy: PostgresStore, tmp_path: Path) -> None:
    """Each store of a file has its own schema in one database; its name contains the store's name."""
    pattern = f"{copy.place.schema} {{name}}"
    with serving(three_stores()) as fleet:
        path = write(tmp_path, fleet)
        for found in ({"north": "300", "east": "700", "south": "500"}, dict.fromkeys(fleet, "0")):
            result = invoke(None, "sync", "--stores", path, "--to", postgres, "--schema", pattern)
            assert result.exit_code == 0, result.stderr
            assert {name: row[:2] for name, row in rows(result.stderr).items()} == {
                name: ["complete", count] for name, count in found.items()
            }
        for name in found:
            one = PostgresStore(postgres, schema=pattern.replace("{name}", name))
            assert held_in(one) == versions_of(fleet[name].store)
        page = (Path(__file__).parents[3] / "docs" / "exports.md").read_text(encoding="utf-8")
        (view,) = re.findall(r"```sql\n(.*?)```", page, flags=re.DOTALL)
        view = re.sub(r"b2b_payments_(\w+)", f'"{copy.place.schema} \\1"', view)
        with psycopg.connect(postgres) as connection:
            connection.execute(view)
            assert connection.execute("SELECT count(*) FROM all_payments").fetchone() == (300 + 700,)
            connection.rollback()  # other tests use this database, too
        result = invoke(None, "sync", "--stores", path, "--to", postgres, "--schema", "one")
        assert "is one schema, and each store has its own: use a pattern" in result.stderr
        result = invoke(
            None, "sync", "--stores", path, "--to", str(tmp_path / "{name}.db"), "--schema", "one"
        )
        assert "Only a database on a server has schemas" in result.stderr


def test_large_copy(postgres: str, tmp_path: Path) -> None:
    """A full read of many payments ends within seconds: the server does not compare each with all others."""
    limit = "options=-c%20statement_timeout%3D20s%20-c%20work_mem%3D64kB"  # as if of many more payments
    copy = store_in("postgres", tmp_path, f"{postgres}{'&' if '?' in postgres else '?'}{limit}")
    rest = ", ".join(PAYMENTS.names[1:])
    with opened(copy) as reading:
        reading.keep(ROWS[:1], LAGGING, STATE, seen=True)
        with connected(copy) as db:
            numbers = "generate_series(1000001, 1100000) AS number"
            db.execute(f"INSERT INTO payments (id, {rest}) SELECT number, {rest} FROM payments, {numbers}")  # noqa: S608
            db.execute(f"INSERT INTO b2b_payments_sync_seen SELECT number + 1 FROM {numbers}")  # noqa: S608
            db.execute("ANALYZE payments; ANALYZE b2b_payments_sync_seen")
        reading.latest_seen(datetime.now(UTC))
        reading.end_reading(State("a store"), complete=True)
        found = reading.candidates(10)
    assert (found.total, found.chosen) == (2, {1_000_001: True, 1_100_001: False})
