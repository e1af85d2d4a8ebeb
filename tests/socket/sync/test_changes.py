"""What changed, read by updatedAt."""

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
    """Changes of many pages come whole, while deletes and updates go on in front of the reader."""
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


async def test_a_run_longer_than_a_page(sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore) -> None:
    """Many payments that were updated in one second come whole, in whatever order they are listed."""
    await sync(client, copy)
    hours_pass(sandbox.store)
    for payment_id in range(20, 130):
        sandbox.store.update(payment_id, payerName="import", updatedAt=sandbox.store.clock)
    report = await sync(client, copy)
    assert (report.updated, report.swept, report.complete) == (110, False, True)
    assert held_in(copy.path) == versions_of(sandbox.store)


async def test_a_list_that_is_not_sorted(sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore) -> None:
    """Where the service does not sort by updatedAt, the whole store is read, and the report says so."""
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
async def test_a_list_of_changes_that_ends_early(
    sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore, lie: str
) -> None:
    """A list of changes that ends before it reaches the last reading loses none: by createdAt they come."""
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


async def test_changes_behind_a_window_that_is_refused(
    sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore
) -> None:
    """Where the service refuses to list so many changes, the whole is read, from both of its ends."""
    await sync(client, copy)
    hours_pass(sandbox.store)
    for payment_id in range(1, 160):
        sandbox.store.update(payment_id, payerName="new")
    sandbox.rules = attrs.evolve(RULES, paging_window=140, beyond_window=422)
    report = await sync(client, copy)
    assert (report.complete, report.updated) == (True, 159)
    assert held_in(copy.path) == versions_of(sandbox.store)


async def test_an_order_that_is_ignored(sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore) -> None:
    """Where a first page of equals comes from the wrong end, no change is missed: the whole is read."""
    store = sandbox.store
    for payment_id in range(1, 31):
        store.update(payment_id, payerName="import", updatedAt=store.created(1))
    await sync(client, copy)
    hours_pass(store)
    store.update(100, payerName="new")
    sandbox.rules = attrs.evolve(RULES, ignores={"orderBy"}, max_limit=20)
    report = await sync(client, copy)
    # Its end cannot be proven, since that takes the other order.
    assert (report.swept, report.complete, report.updated) == (True, False, 1)
    assert held_in(copy.path) == versions_of(store)


async def test_a_sort_that_is_ignored(sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore) -> None:
    """Where the list is not sorted by updatedAt, each sync reads the whole, and misses no change."""
    store = sandbox.store
    for payment_id in range(1, 201):  # by id, the newest ones look as if they were sorted by updatedAt
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


async def test_a_list_that_is_older_than_before(
    sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore
) -> None:
    """Where the list shows nothing as new as before, the whole is read without being asked for."""
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
    """A service that does not count costs a whole reading only where the list's end had to be found."""
    sandbox.rules = attrs.evolve(RULES, total_count="absent")
    await sync(client, copy)
    hours_pass(sandbox.store)
    sandbox.store.update(3, payerName="new")
    assert not (await sync(client, copy)).swept
    report = await sync(client, copy, overlap=365 * 86_400 * 1.0)
    assert report.complete
    assert held_in(copy.path) == versions_of(sandbox.store)


async def test_now_is_the_service_s_clock(
    copy: SQLiteStore, sandbox: Sandbox, client: PaymentsClient
) -> None:
    """What is later than now is judged by the answer's own date: our clock may be years ahead of it."""
    store = sandbox.store
    sandbox.store.update(5, updatedAt=store.clock + 86_400)
    now = datetime.fromtimestamp(store.clock, UTC)

    def dated(seen: SeenRequest) -> web.Response:
        query = [(name, str(value)) for name, value in seen.query]
        answered = answer(store, seen.method, seen.path, query, None)
        return web.Response(body=answered.body, headers={"Date": format_datetime(now, usegmt=True)})

    sandbox.answer_with(dated)
    assert (await sync(client, copy)).watermark == now


async def test_who_is_told_of_changes(sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore) -> None:
    """Each version that the copy takes is told before it is put down, and again where telling it failed."""
    told: list[int] = []

    def note(change: Change) -> None:
        told.append(change.payment.id)
        if len(told) == 202:
            raise KeyError

    await sync(client, copy, on_change=note)
    assert sorted(told) == list(range(1, 201))
    for payment_id in (5, 6, 7):
        sandbox.store.update(payment_id, payerName="new")
    with pytest.raises(KeyError):
        await sync(client, copy, on_change=note)
    assert held_in(copy.path)[5] != versions_of(sandbox.store)[5]

    async def later(change: Change) -> None:
        told.append(change.payment.id)

    report = await sync(client, copy, on_change=later)
    assert told[200:] == [5, 6, 5, 6, 7]
    assert report.updated == 3
    await sync(client, copy, sweep=True, on_change=later)
    assert len(told) == 205


async def test_a_sync_that_runs_already(sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore) -> None:
    """Another sync of the same copy is refused by an error of its own, before anything is sent."""

    async def another(_: Change) -> None:
        asked = sandbox.request_count
        with pytest.raises(AlreadyRunningError, match="wait until it has ended"):
            await sync(client, SQLiteStore(copy.path))
        assert sandbox.request_count == asked

    await sync(client, copy)
    sandbox.store.update(5, payerName="new")
    assert (await sync(client, copy, on_change=another)).updated == 1


async def test_a_time_in_the_future_hides_nothing(
    copy: SQLiteStore, sandbox: Sandbox, client: PaymentsClient
) -> None:
    """A payment that claims to be updated years from now does not keep later changes from coming."""
    store = sandbox.store
    store.update(5, updatedAt=4_102_444_800)
    report = await sync(client, copy)
    assert report.watermark is not None
    assert report.watermark <= datetime.now(UTC)
    for payment_id in (60, 61, 150):
        store.update(payment_id, payerName="Changed", updatedAt=int(time.time()) + 3_600)
    assert (await sync(client, copy)).updated == 3
    assert held_in(copy.path) == versions_of(store)
