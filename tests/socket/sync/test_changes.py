"""Syncs that read only what changed, by updatedAt."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from email.utils import format_datetime

import attrs
import pytest
from aiohttp import web

from b2b_payments import AlreadyRunningError, Change, PaymentsClient
from b2b_payments.sandbox import Drift, Sandbox, SeenRequest
from b2b_payments.sandbox._service import answer
from b2b_payments.sync import SQLiteStore, sync
from tests.socket.sync.conftest import RULES
from tests.support.synced import held_in, hours_pass, versions_of


async def test_changes_over_many_pages(sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore) -> None:
    """Changes on many pages are all read, while payments ahead of the reader are deleted and updated."""
    await sync(client, copy)
    hours_pass(sandbox.store)
    for payment_id in range(1, 160):
        sandbox.store.update(payment_id, payerName="new")
    before = versions_of(sandbox.store)
    drift = sandbox.before_list = Drift(5, rate=1.0, insert=1, delete=3, update=2)
    report = await sync(client, copy)
    sandbox.before_list = None
    assert report.complete
    assert not report.swept
    lasting = before.keys() - drift.deleted - drift.updated
    assert len(lasting) > 150
    held = held_in(copy.path)
    assert {one: held[one] for one in lasting} == {one: before[one] for one in lasting}
    await sync(client, copy)
    held = held_in(copy.path)
    assert all(held[one] == version for one, version in versions_of(sandbox.store).items())


async def test_many_updates_in_one_second(
    sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore
) -> None:
    """More updates in one second than a page holds are all read, whatever order the list has them in."""
    await sync(client, copy)
    hours_pass(sandbox.store)
    for payment_id in range(20, 130):
        sandbox.store.update(payment_id, payerName="import", updatedAt=sandbox.store.clock)
    report = await sync(client, copy)
    assert (report.updated, report.swept, report.complete) == (110, False, True)
    assert held_in(copy.path) == versions_of(sandbox.store)


async def test_unsorted_list(sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore) -> None:
    """If the service does not sort by updatedAt, the whole store is read, and the report says so."""
    await sync(client, copy)
    sandbox.store.update(3, payerName="new")

    def unsorted(seen: SeenRequest) -> web.Response | None:
        if dict(seen.query).get("sortBy") != "updatedAt":
            return None
        rows = [*sandbox.store.all_wire()][::7][: int(dict(seen.query)["limit"])]
        meta = {"message": "SUCCESS", "pagination": {"totalCount": 200, "offset": 0, "limit": 20}}
        return web.json_response({"code": 200, "data": rows, "meta": meta})

    sandbox.answer_with(unsorted)
    report = await sync(client, copy)
    assert report.swept
    assert report.complete
    assert held_in(copy.path) == versions_of(sandbox.store)


@pytest.mark.parametrize("lie", ["capped", "empty"])
async def test_list_of_changes_ends_early(
    sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore, lie: str
) -> None:
    """If the list of changes ends before it reaches the last sync, the changes are read by createdAt."""
    await sync(client, copy)
    hours_pass(sandbox.store)
    for payment_id in range(1, 100):
        sandbox.store.update(payment_id, payerName="new")
    rows = sorted(sandbox.store.all_wire(), key=lambda row: -int(row["updatedAt"]))

    def shortened(seen: SeenRequest) -> web.Response | None:
        query = dict(seen.query)
        if query.get("sortBy") != "updatedAt":
            return None
        offset = int(query["offset"])
        shown = rows[offset : min(offset + 20, 40)] if lie == "capped" else rows[: 20 * (offset == 0)]
        meta = {"message": "SUCCESS", "pagination": {"totalCount": 40 if shown else 0}}
        return web.json_response({"code": 200, "data": shown, "meta": meta})

    sandbox.answer_with(shortened)
    report = await sync(client, copy)
    assert (report.complete, report.updated) == (True, 99)
    assert held_in(copy.path) == versions_of(sandbox.store)


async def test_changes_beyond_the_paging_window(
    sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore
) -> None:
    """If the service refuses to list so many changes, the whole store is read, from both ends of the list."""
    await sync(client, copy)
    hours_pass(sandbox.store)
    for payment_id in range(1, 160):
        sandbox.store.update(payment_id, payerName="new")
    sandbox.rules = attrs.evolve(RULES, paging_window=140, beyond_window=422)
    report = await sync(client, copy)
    assert (report.complete, report.updated) == (True, 159)
    assert held_in(copy.path) == versions_of(sandbox.store)


async def test_ignored_order(sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore) -> None:
    """If the first page is from the wrong end, and all of one second, a full read finds every change."""
    store = sandbox.store
    for payment_id in range(1, 31):
        store.update(payment_id, payerName="import", updatedAt=store.created(1))
    await sync(client, copy)
    hours_pass(store)
    store.update(100, payerName="new")
    sandbox.rules = attrs.evolve(RULES, ignores={"orderBy"}, max_limit=20)
    report = await sync(client, copy)
    # Not complete: proving the end of the list takes the other order.
    assert (report.swept, report.complete, report.updated) == (True, False, 1)
    assert held_in(copy.path) == versions_of(store)


async def test_ignored_sort(sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore) -> None:
    """If the list is not sorted by updatedAt, each sync reads the whole store, and misses no change."""
    store = sandbox.store
    for payment_id in range(1, 201):  # so that the newest ones, sorted by id, look sorted by updatedAt
        store.update(payment_id, updatedAt=store.created(payment_id))
    hours_pass(store)
    store.update(50, payerName="new")
    hours_pass(store)
    sandbox.rules = attrs.evolve(RULES, ignores={"sortBy"}, equals="stable")
    assert (await sync(client, copy)).watermark is None
    hours_pass(store)
    store.update(60, payerName="new")
    report = await sync(client, copy)
    assert (report.swept, report.complete, report.updated, report.watermark) == (True, True, 1, None)
    assert held_in(copy.path) == versions_of(store)
    sandbox.rules = RULES
    assert (await sync(client, copy)).swept
    assert not (await sync(client, copy)).swept


async def test_list_is_older_than_the_last_sync(
    sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore
) -> None:
    """If the list shows nothing as new as the last sync saw, the whole store is read, without `sweep`."""
    store = sandbox.store
    backup = store.snapshot()
    hours_pass(store)
    for payment_id in range(30, 60):
        store.update(payment_id, payerName="after the backup")
    await sync(client, copy)
    hours_pass(store)
    store.restore(backup)
    report = await sync(client, copy)
    assert (report.swept, report.complete, report.put_right) == (True, True, 30)
    assert held_in(copy.path) == versions_of(store)
    assert (await sync(client, copy)).requests == 1


async def test_without_a_total(sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore) -> None:
    """Without a total, the whole store is read only if the end of the list had to be found."""
    sandbox.rules = attrs.evolve(RULES, total_count="absent")
    await sync(client, copy)
    hours_pass(sandbox.store)
    sandbox.store.update(3, payerName="new")
    assert not (await sync(client, copy)).swept
    report = await sync(client, copy, overlap=365 * 86_400 * 1.0)
    assert report.complete
    assert held_in(copy.path) == versions_of(sandbox.store)


async def test_the_service_s_clock_counts(
    copy: SQLiteStore, sandbox: Sandbox, client: PaymentsClient
) -> None:
    """Whether a time is in the future is judged by the answer's Date header: our clock may be years ahead."""
    store = sandbox.store
    sandbox.store.update(5, updatedAt=store.clock + 86_400)
    now = datetime.fromtimestamp(store.clock, UTC)

    def dated(seen: SeenRequest) -> web.Response:
        query = [(name, str(value)) for name, value in seen.query]
        answered = answer(store, seen.method, seen.path, query, None)
        return web.Response(body=answered.body, headers={"Date": format_datetime(now, usegmt=True)})

    sandbox.answer_with(dated)
    assert (await sync(client, copy)).watermark == now


async def test_on_change(sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore) -> None:
    """`on_change` gets each version before it is written, and again if it raised."""
    reported: list[int] = []

    def note(change: Change) -> None:
        reported.append(change.payment.id)
        if len(reported) == 202:
            raise KeyError

    await sync(client, copy, on_change=note)
    assert sorted(reported) == list(range(1, 201))
    for payment_id in (5, 6, 7):
        sandbox.store.update(payment_id, payerName="new")
    with pytest.raises(KeyError):
        await sync(client, copy, on_change=note)
    assert held_in(copy.path)[5] != versions_of(sandbox.store)[5]

    async def later(change: Change) -> None:
        reported.append(change.payment.id)

    report = await sync(client, copy, on_change=later)
    assert reported[200:] == [5, 6, 5, 6, 7]
    assert report.updated == 3
    await sync(client, copy, sweep=True, on_change=later)
    assert len(reported) == 205


async def test_sync_already_running(sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore) -> None:
    """A second sync of the same copy raises AlreadyRunningError before it sends anything."""

    async def another(_: Change) -> None:
        requests = sandbox.request_count
        with pytest.raises(AlreadyRunningError, match="wait until it has ended"):
            await sync(client, SQLiteStore(copy.path))
        assert sandbox.request_count == requests

    await sync(client, copy)
    sandbox.store.update(5, payerName="new")
    assert (await sync(client, copy, on_change=another)).updated == 1


async def test_future_time_hides_no_changes(
    copy: SQLiteStore, sandbox: Sandbox, client: PaymentsClient
) -> None:
    """A payment with an updatedAt years in the future does not hide later changes."""
    store = sandbox.store
    store.update(5, updatedAt=4_102_444_800)
    report = await sync(client, copy)
    assert report.watermark is not None
    assert report.watermark <= datetime.now(UTC)
    for payment_id in (60, 61, 150):
        store.update(payment_id, payerName="Changed", updatedAt=int(time.time()) + 3_600)
    assert (await sync(client, copy)).updated == 3
    assert held_in(copy.path) == versions_of(store)
