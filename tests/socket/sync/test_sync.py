"""Keeping a copy in sync with a sandbox, over a socket."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import attrs
import msgspec
import pytest
from aiohttp import web

from b2b_payments import Change, ConfigurationError, PaymentsClient, TransportError, WalkReport
from b2b_payments.export import ExportError
from b2b_payments.sandbox import Fault, Sandbox, SeenRequest
from b2b_payments.sync import PostgresStore, SQLiteStore, Store, SyncReport, store_for, sync
from b2b_payments.sync import _readings as readings
from b2b_payments.sync._copy import Copy
from b2b_payments.sync._state import Reading, State
from tests.socket.sync.conftest import RULES
from tests.support.clients import NEVER, client_of
from tests.support.synced import held_in, hours_pass, tables_of, versions_of


def counts(report: SyncReport) -> tuple[int, int, int, int]:
    """Return the numbers of inserted, updated, deleted and unchanged payments."""
    return report.inserted, report.updated, report.deleted, report.unchanged


async def test_first_changes_sweep(any_copy: Store, sandbox: Sandbox, client: PaymentsClient) -> None:
    """The first sync copies everything, the next one what changed, and a sweep finds what was deleted."""
    store, copy = sandbox.store, any_copy
    first = await sync(client, copy)
    assert held_in(any_copy) == versions_of(store)
    assert counts(first) == (200, 0, 0, 0)
    assert (first.complete, first.swept, first.resumed) == (True, True, False)
    assert first.requests == sandbox.request_count
    assert first.watermark is not None

    hours_pass(store)
    for payment_id in (5, 60, 61, 150):
        store.update(payment_id, payerName=f"O'Brien\n“{payment_id}”", lineItems=[])
    for _ in range(3):
        store.insert()
    store.delete(7)
    before = sandbox.request_count
    second = await sync(client, copy)
    assert (second.inserted, second.updated, second.deleted, second.swept) == (3, 4, 0, False)
    assert sandbox.request_count - before == second.requests == 1
    assert second.watermark is not None
    assert second.watermark.timestamp() == store.clock
    assert {7} == held_in(any_copy).keys() - versions_of(store).keys()

    third = await sync(client, copy, sweep=True)
    assert counts(third) == (0, 0, 1, 202)
    assert held_in(any_copy) == versions_of(store)
    assert str(third) == (
        "in sync: 0 inserted, 0 updated, 1 deleted, 202 unchanged, 1 looked up by id (0 still there), "
        f"{third.requests} requests"
    )
    assert "deletions not checked" in str(second)


@pytest.mark.parametrize("line_break", [b"", b"\n"])
async def test_one_spelling(any_copy: Store, line_break: bytes) -> None:
    """A payment's text is the service's, whichever way it was read, so unchanged payments are not updated."""
    details = b'{"a": 1.50,"b":"caf\\u00e9\\/", "c":1e5,%b"a":2}' % line_break
    async with Sandbox(payments=30, rules=RULES) as sandbox, client_of(sandbox) as client:
        for payment_id in sandbox.store.ids():
            sandbox.store.update(payment_id, details=msgspec.Raw(details), fees=msgspec.Raw(b"[1.50]"))
        texts: list[bytes] = []
        await sync(client, any_copy, on_change=lambda change: texts.append(change.text))
        assert [details in text for text in texts] == [True] * 30
        first = tables_of(any_copy)
        for _ in range(2):
            inserted = sandbox.store.insert()
            assert counts(await sync(client, any_copy))[:2] == (1, 0)  # from the feed
            assert counts(await sync(client, any_copy, sweep=True))[:2] == (0, 0)
            sandbox.store.delete(inserted)
        hours_pass(sandbox.store)
        sandbox.rules = attrs.evolve(RULES, shown=10)
        report = await sync(client, any_copy, sweep=True)
        assert (report.put_right, report.deleted) == (20, 1)
        assert tables_of(any_copy) == first
    if not isinstance(any_copy, PostgresStore):
        compact = details.replace(line_break, b"").replace(b" ", b"") if line_break else details
        assert first[0][0]["details"] == compact.decode()


@pytest.mark.parametrize("kind", ["duckdb", "sqlite"])
@pytest.mark.parametrize("replaced", [True, False])
async def test_copy_that_is_removed_or_replaced(tmp_path: Path, kind: str, *, replaced: bool) -> None:
    """If another program removes or replaces the file during a sync, it is not reported as in sync."""
    copy = store_for(tmp_path / f"copy.{kind}")
    async with Sandbox(payments=300, rules=RULES) as sandbox, client_of(sandbox) as client:
        await sync(client, copy)
        if kind == "sqlite":
            with closing(sqlite3.connect(tmp_path / "copy.sqlite")) as db:
                db.execute("PRAGMA journal_mode = wal")
        sandbox.store.update(7, payerName="new")

        def meddle(_: Change) -> None:
            path = tmp_path / f"copy.{kind}"
            if replaced:
                shutil.copy(path, tmp_path / "other")
                (tmp_path / "other").replace(path)
            else:
                path.unlink()

        with pytest.raises(ExportError, match="was removed or replaced while it was being written"):
            await sync(client, copy, on_change=meddle)
        assert (await sync(client, copy)).complete
        assert held_in(copy) == versions_of(sandbox.store)


@pytest.mark.slow
async def test_empty_store(any_copy: Store) -> None:
    """A store without payments is in sync at once; later inserts and deletes are found."""
    async with Sandbox(payments=0, rules=RULES) as sandbox, client_of(sandbox) as client:
        report = await sync(client, any_copy)
        assert counts(report) == (0, 0, 0, 0)
        assert report.complete
        assert report.watermark is None
        ids = [sandbox.store.insert() for _ in range(3)]
        assert counts(await sync(client, any_copy)) == (3, 0, 0, 0)
        for payment_id in ids[1:]:
            sandbox.store.delete(payment_id)
        # No payment is older than the last sync, so only a full read shows that no change is missing.
        assert counts(await sync(client, any_copy)) == (0, 0, 2, 1)
        assert held_in(any_copy) == versions_of(sandbox.store)


@pytest.mark.parametrize("sweep", [False, True])
async def test_resumed(
    monkeypatch: pytest.MonkeyPatch,
    sandbox: Sandbox,
    client: PaymentsClient,
    copy: SQLiteStore,
    *,
    sweep: bool,
) -> None:
    """The next sync resumes a full read that failed, and then reads what changed meanwhile."""
    monkeypatch.setattr(readings, "BATCH_ROWS", 40)
    store = sandbox.store
    if sweep:
        await sync(client, copy)
        store.delete(9)
    sandbox.order(Fault.ERROR_503, share=1, path="offset=1[0-9][0-9]")
    calls = 0

    def fail(seen: SeenRequest) -> web.Response | None:
        nonlocal calls
        calls += 1
        return web.Response(status=503) if int(dict(seen.query)["offset"]) > 110 else None

    sandbox.answer_with(fail)
    with pytest.raises(Exception, match="503"):
        await sync(client, copy, sweep=sweep)
    sandbox.answer_with(None)
    sandbox.clear_faults()
    held = held_in(copy.path)
    assert len(held) == 200 if sweep else 80 <= len(held) < 160
    hours_pass(store)
    store.update(1, payerName="meanwhile")
    new = store.insert()
    before = sandbox.request_count
    report = await sync(client, copy)
    assert (report.resumed, report.swept, report.complete) == (True, True, True)
    assert report.deleted == (1 if sweep else 0)
    assert report.requests == sandbox.request_count - before < (14 if sweep else 11)
    assert held_in(copy.path) == versions_of(store)
    assert new in held_in(copy.path)


async def test_resumed_and_incomplete(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore
) -> None:
    """If a resumed full read is not proven complete, changes are not read, and the report says so."""
    monkeypatch.setattr(readings, "BATCH_ROWS", 40)
    sandbox.answer_with(
        lambda seen: web.Response(status=503) if int(dict(seen.query)["offset"]) > 110 else None
    )
    with pytest.raises(Exception, match="503"):
        await sync(client, copy)
    sandbox.answer_with(None)
    sandbox.rules = attrs.evolve(RULES, paging_window=40)
    report = await sync(client, copy)
    assert (report.resumed, report.swept, report.complete) == (True, True, False)
    sandbox.rules = RULES
    assert (await sync(client, copy)).complete
    assert held_in(copy.path) == versions_of(sandbox.store)


async def test_payment_that_names_no_store(
    sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore
) -> None:
    """A payment without a store hash is copied; another payment names the store of the copy."""
    sandbox.store.update(1, storeHash=None)
    assert (await sync(client, copy)).inserted == 200
    assert held_in(copy.path) == versions_of(sandbox.store)
    async with client_of(sandbox, retry=NEVER) as again:
        assert (await sync(again, copy, sweep=True)).unchanged == 200


async def test_failure_leaves_no_file(tmp_path: Path, sandbox: Sandbox) -> None:
    """A first sync that receives no answer leaves no file."""
    sandbox.order(Fault.REFUSE, share=1)
    async with client_of(sandbox, retry=NEVER) as client:
        with pytest.raises(TransportError):
            await sync(client, store_for(tmp_path / "copy.duckdb"))
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("ways", ["scope", "task"])
async def test_cancelled(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore, ways: str
) -> None:
    """If a first sync, changes or a sweep is cancelled at any page, later syncs bring the copy in sync."""
    monkeypatch.setattr(readings, "BATCH_ROWS", 40)
    for round_, sweep in enumerate([False, False, True]):
        for pages in range(1, 12, 2):
            hours_pass(sandbox.store)
            for payment_id in range(1, 100, 3):
                sandbox.store.update(payment_id, payerName=f"{round_} {pages}")
            sandbox.store.delete(sandbox.store.ids()[-1])
            await _cancelled_at(client, copy, pages, ways, sweep=sweep)
        await sync(client, copy)
        report = await sync(client, copy, sweep=True)
        assert not report.resumed
        assert held_in(copy.path) == versions_of(sandbox.store)


async def _cancelled_at(
    client: PaymentsClient, copy: SQLiteStore, pages: int, way: str, *, sweep: bool
) -> None:
    left = pages

    def count(_: WalkReport) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            scope.cancel() if way == "scope" else task.cancel()

    work = sync(client, copy, sweep=sweep, on_progress=count)
    if way == "scope":
        with anyio.CancelScope() as scope:
            await work
    else:
        task = asyncio.create_task(work)
        await asyncio.wait([task])


async def test_two_at_once(sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore) -> None:
    """A second sync of one database is refused, and sends no request."""
    other_copy = Copy(copy)
    other_copy.open()
    with pytest.raises(ExportError, match="wait until it has ended"):
        await sync(client, copy)
    other_copy.close(complete=True)
    assert sandbox.request_count == 0


async def test_other_store(
    tmp_path: Path, sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore
) -> None:
    """A copy of another store is refused before anything is sent, and not changed."""
    await sync(client, copy)
    async with Sandbox(payments=5) as other, client_of(other) as another:
        with pytest.raises(ConfigurationError, match=r"is a copy of another store .*: use another file"):
            await sync(another, copy)
        assert other.request_count == 0
    assert len(held_in(copy.path)) == 200


async def test_other_store_with_a_legacy_credential(sandbox: Sandbox, copy: SQLiteStore) -> None:
    """A legacy credential does not name its store, but payments do: those of another store are refused."""
    async with client_of(sandbox, auth=sandbox.legacy_auth) as client:
        await sync(client, copy)
    async with client_of(sandbox, auth=sandbox.legacy_auth) as client:
        rows = [row | {"storeHash": "another"} for row in sandbox.store.all_wire()][::-1]
        rows.sort(key=lambda row: -row["updatedAt"])

        def another(seen: SeenRequest) -> web.Response:
            meta: dict[str, Any] = {"message": "", "pagination": {"totalCount": 200}}
            body = {"code": 200, "data": rows[:20], "meta": meta}
            return web.Response(text=json.dumps(body), content_type="application/json")

        sandbox.answer_with(another)
        for sweep in (False, True):
            with pytest.raises(ConfigurationError, match="the service sent payments of 'another'"):
                await sync(client, copy, sweep=sweep)
    assert held_in(copy.path) == versions_of(sandbox.store)


@pytest.mark.parametrize("overlap", [-1, float("nan"), float("inf"), "30", True, 10**12])
async def test_overlap(client: PaymentsClient, copy: SQLiteStore, overlap: Any) -> None:
    """An overlap that is not a number of seconds is refused."""
    with pytest.raises(ConfigurationError, match="overlap must be seconds"):
        await sync(client, copy, overlap=overlap)


async def test_checkpoint_of_another_version(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore
) -> None:
    """A full read starts again if its checkpoint is from another version of the library."""
    other_copy, moment = Copy(copy), datetime.now(UTC)
    other_copy.open()
    name = client.payments.list().checkpoint()["store"]
    other_copy.begin_reading(State(name, reading=Reading(None, {"version": 99})))
    other_copy.keep([sandbox.store.wire(3) | {"id": 7_777}], (moment, moment), seen=True)
    other_copy.close(complete=True)
    report = await sync(client, copy)
    assert report.deleted == 1
    assert held_in(copy.path) == versions_of(sandbox.store)


@pytest.mark.virtual_time
@pytest.mark.slow
async def test_list_that_becomes_empty_is_not_believed(sandbox: Sandbox, copy: SQLiteStore) -> None:
    """If the list shows the newest payment, and then none at all, the report is not complete."""
    lists = 0

    def empty_from_the_second_on(*_: object) -> None:
        nonlocal lists
        lists += 1
        if lists == 1:
            sandbox.order(Fault.EMPTY_LIST, share=1)

    sandbox.before_list = empty_from_the_second_on
    async with client_of(sandbox) as client:
        report = await sync(client, copy)
        assert not report.complete
        assert "not read completely: the list no longer shows payments that are still there" in str(report)
        sandbox.before_list = None
        sandbox.clear_faults()
        assert (await sync(client, copy)).complete
