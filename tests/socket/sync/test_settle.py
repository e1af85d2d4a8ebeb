"""Payments that the list contradicts: none leaves a copy because of a list alone."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from aiohttp import web

from b2b_payments import ConfigurationError, PaymentsClient, ServerError
from b2b_payments.events import Event, RequestEnded, RequestStarted
from b2b_payments.sandbox import Fault, Sandbox, SeenRequest, Store
from b2b_payments.sync import SQLiteStore, sync
from b2b_payments.sync import _settle as settle
from tests.socket.sync.conftest import RULES
from tests.support.clients import NEVER, client_of
from tests.support.synced import held_in, hours_pass, versions_of

BY_ID = r"/payments/\d+$"
OWN_404 = {"code": 404, "data": {"errMsg": "Payment not found"}, "meta": {"message": "Not Found"}}


def by_id(seen: SeenRequest) -> bool:
    """Whether a request is for one payment."""
    return seen.path.rpartition("/")[2].isdigit()


def delete(store: Store, *payment_ids: int) -> None:
    """Delete payments, long ago."""
    for payment_id in payment_ids:
        store.delete(payment_id)
    hours_pass(store)


async def test_list_shows_a_part(sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore) -> None:
    """A payment that a consistent list does not show, but GET by id returns, stays and is corrected."""
    store = sandbox.store
    await sync(client, copy)
    hours_pass(store)
    store.update(150, payerName="changed", lineItems=[])
    sandbox.rules = attrs.evolve(RULES, shown=10)
    before = sandbox.request_count
    report = await sync(client, copy, sweep=True, most_lookups=120)
    assert (report.looked_up, report.put_right, report.deleted, report.candidates) == (120, 120, 0, 70)
    assert not report.complete
    assert str(report).endswith("; the list contradicts 70 more: sync again to look up the rest")
    report = await sync(client, copy)
    assert (report.looked_up, report.put_right, report.candidates) == (70, 70, 0)
    assert report.complete
    assert held_in(copy.path) == versions_of(store)
    assert sandbox.request_count - before < 10 + 190


@pytest.mark.virtual_time
@pytest.mark.slow
async def test_empty_list(sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore) -> None:
    """A list that is suddenly empty is not believed; when it shows payments again, the copy is in sync."""
    store = sandbox.store
    async with client_of(sandbox) as other:
        await sync(other, copy)
        sandbox.order(Fault.EMPTY_LIST, share=1)
        # This client has seen some of those payments itself.
        report = await sync(other, copy, sweep=True)
        assert (report.complete, report.candidates) == (False, 0)
        assert "the list no longer shows payments that are still there" in str(report)
    report = await sync(client, copy, sweep=True)
    assert (report.complete, report.candidates, report.looked_up) == (False, 200, 0)
    assert "the list shows no payment" in str(report)
    assert held_in(copy.path) == versions_of(store)
    sandbox.clear_faults()
    report = await sync(client, copy)
    assert (report.complete, report.candidates, report.looked_up, report.unchanged) == (True, 0, 0, 200)


@pytest.mark.parametrize("way", ["scope", "gateway", "empty"])
async def test_untrustworthy_404(
    sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore, way: str
) -> None:
    """While GET by id answers 404 for a payment that the list shows, no 404 deletes anything."""
    await sync(client, copy)
    delete(sandbox.store, 3, 4, 5)

    def not_found(seen: SeenRequest) -> web.Response | None:
        if not by_id(seen):
            return None
        return web.json_response(OWN_404, status=404) if way == "scope" else web.Response(status=404)

    if way == "gateway":
        sandbox.order(Fault.HTML_404, share=1, path=BY_ID)
    else:
        sandbox.answer_with(not_found)
    report = await sync(client, copy, sweep=True)
    assert (report.complete, report.candidates, report.looked_up, report.deleted) == (False, 3, 0, 0)
    assert report.caveat is not None
    assert "404 even for a payment that its list shows" in report.caveat
    assert len(held_in(copy.path)) == 200
    sandbox.answer_with(None)
    sandbox.clear_faults()
    report = await sync(client, copy)
    assert (report.complete, report.swept, report.deleted, report.candidates) == (True, False, 3, 0)
    assert held_in(copy.path) == versions_of(sandbox.store)


async def test_404_for_another_payment(sandbox: Sandbox, copy: SQLiteStore) -> None:
    """If answers were mixed up, no 404 deletes an existing payment, and gone payments are still deleted."""
    store, first = sandbox.store, set[str]()
    async with client_of(sandbox) as client:
        await sync(client, copy)
        delete(store, 3)
        sandbox.rules = attrs.evolve(RULES, shown=190)
        hidden = store.ids()[-1]

        def swap(seen: SeenRequest) -> web.Response | None:
            swapped = {"3": {"code": 200, "data": store.wire(hidden), "meta": {}}, str(hidden): OWN_404}
            answer = swapped.get(name := seen.path.rpartition("/")[2])
            if answer is None or name in first:
                return None
            first.add(name)
            return web.json_response(answer, status=int(str(answer["code"])))

        sandbox.answer_with(swap)
        report = await sync(client, copy, sweep=True)
    assert first == {"3", str(hidden)}
    assert (report.deleted, report.put_right, report.candidates) == (1, 9, 0)
    assert held_in(copy.path) == versions_of(store)


async def test_gateway_404_for_one(sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore) -> None:
    """A candidate for which a gateway answers 404 stays; the others are deleted."""
    await sync(client, copy)
    delete(sandbox.store, 3, 4, 5)
    sandbox.order(Fault.HTML_404, share=1, path="/payments/4$")
    report = await sync(client, copy, sweep=True)
    assert (report.complete, report.looked_up, report.deleted, report.candidates) == (False, 3, 2, 1)
    assert report.caveat == (
        "the list contradicts 1 more: some 404s were not from the service itself: sync again"
    )
    assert held_in(copy.path).keys() - versions_of(sandbox.store).keys() == {4}


@pytest.mark.parametrize("way", ["gateway", "scope"])
async def test_unconfirmed_404_after_a_mix_up(sandbox: Sandbox, copy: SQLiteStore, way: str) -> None:
    """If answers were mixed up and a 404 cannot be confirmed, the payment stays until it can be."""
    asked = controls = 0

    def not_again(seen: SeenRequest) -> web.Response | None:
        nonlocal asked, controls
        if seen.path.endswith("/3"):
            asked += 1
            return web.Response(status=404) if way == "gateway" and asked > 1 else None
        controls += by_id(seen) and asked > 0
        # The scope is lost after the control that follows the first lookup.
        return web.json_response(OWN_404, status=404) if way == "scope" and controls > 1 else None

    async with client_of(sandbox, retry=NEVER) as client:
        await sync(client, copy)
        delete(sandbox.store, 3)
        client._caller.mixups.record()
        sandbox.answer_with(not_again)
        report = await sync(client, copy, sweep=True)
        assert (report.complete, report.deleted, report.candidates) == (False, 0, 1)
        assert 3 in held_in(copy.path)
        sandbox.answer_with(None)
        report = await sync(client, copy)
    assert (report.complete, report.deleted) == (True, 1)
    assert held_in(copy.path) == versions_of(sandbox.store)


async def test_scope_lost_during_lookups(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore
) -> None:
    """If the scope is lost while candidates are looked up, no later 404 deletes anything."""
    monkeypatch.setattr(settle, "_BATCH", 10)
    store, asked = sandbox.store, 0
    await sync(client, copy)
    sandbox.rules = attrs.evolve(RULES, shown=170)

    def lost(seen: SeenRequest) -> web.Response | None:
        nonlocal asked
        asked += by_id(seen)
        return web.json_response(OWN_404, status=404) if by_id(seen) and asked > 15 else None

    sandbox.answer_with(lost)
    report = await sync(client, copy, sweep=True)
    assert (report.deleted, report.complete, report.looked_up) == (0, False, 20)
    assert report.put_right + report.candidates == 30
    assert held_in(copy.path) == versions_of(store)


async def test_deleted_control_payment(sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore) -> None:
    """If the payments used as controls are deleted meanwhile, other deletions still count."""
    store = sandbox.store
    await sync(client, copy)
    delete(store, 3)

    def meanwhile(seen: SeenRequest) -> None:
        for payment_id in [one for one in (181, 185, 189, 193) if by_id(seen) and one in store]:
            store.delete(payment_id)

    sandbox.answer_with(meanwhile)
    report = await sync(client, copy, sweep=True)
    assert (report.deleted, report.complete) == (1, True)


async def test_restored_backup(sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore) -> None:
    """After the service was restored from a backup, one sweep makes the copy equal to it."""
    store = sandbox.store
    backup = store.snapshot()
    for payment_id in range(30, 80):
        store.update(payment_id, payerName="after the backup")
    for _ in range(30):
        store.insert()
    store.delete(120)
    await sync(client, copy)
    hours_pass(store)
    store.restore(backup)
    report = await sync(client, copy, sweep=True)
    assert (report.inserted, report.deleted, report.looked_up, report.put_right) == (1, 30, 80, 50)
    assert report.complete
    assert held_in(copy.path) == versions_of(store)
    # Later writes are read as usual, although they are older than the previous watermark.
    store.update(7, payerName="new")
    assert (await sync(client, copy)).complete
    assert held_in(copy.path) == versions_of(store)


async def test_corrected_future_time(sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore) -> None:
    """A payment whose updatedAt was in the future, and no longer is, is corrected by the next sync."""
    store = sandbox.store
    store.update(5, updatedAt=4_102_444_800)
    await sync(client, copy)
    store.update(5, updatedAt=store.clock)
    report = await sync(client, copy)
    assert (report.looked_up, report.put_right, report.complete) == (1, 1, True)
    assert held_in(copy.path) == versions_of(store)


async def test_limit_of_lookups(sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore) -> None:
    """Candidates beyond the limit are settled by the next syncs; only then is the copy in sync."""
    store = sandbox.store
    await sync(client, copy)
    delete(store, *range(20, 50))
    left = 30
    for settled in (12, 12, 6):
        before = sandbox.request_count
        report = await sync(client, copy, sweep=left == 30, most_lookups=12)
        assert report.requests == sandbox.request_count - before
        left -= settled
        assert (report.looked_up, report.deleted, report.candidates) == (settled, settled, left)
        assert report.complete == (left == 0)
    assert held_in(copy.path) == versions_of(store)


async def test_incomplete_read(sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore) -> None:
    """It makes no payment missing, and older candidates are still settled."""
    store = sandbox.store
    await sync(client, copy)
    delete(store, *range(20, 50))
    assert (await sync(client, copy, sweep=True, most_lookups=12)).candidates == 18
    sandbox.rules = attrs.evolve(RULES, paging_window=40)
    for deleted in (12, 6):
        report = await sync(client, copy, sweep=True, most_lookups=12)
        assert (report.complete, report.looked_up, report.deleted) == (False, deleted, deleted)
        assert "the store was not read completely: " in str(report)
    assert report.candidates == 0
    assert held_in(copy.path) == versions_of(store)


async def test_mass_deletion(sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore) -> None:
    """If more than a fifth of a copy is missing, nothing is deleted unless that is allowed."""
    store = sandbox.store
    await sync(client, copy)
    delete(store, *range(100, 141))
    for sweep in (True, False):
        report = await sync(client, copy, sweep=sweep)
        assert (report.complete, report.deleted, report.candidates) == (False, 0, 41)
        assert "41 of 200 payments are missing, too many to delete unasked" in str(report)
        assert "--allow-mass-deletion" in str(report)
    assert len(held_in(copy.path)) == 200
    report = await sync(client, copy, allow_mass_deletion=True)
    assert (report.complete, report.deleted) == (True, 41)
    assert held_in(copy.path) == versions_of(store)


async def test_lookups_stop_early_if_too_many_are_missing(
    sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore
) -> None:
    """If too many are missing and GET by id finds none of a batch, no further batch is looked up."""
    await sync(client, copy)
    sandbox.rules = attrs.evolve(RULES, hidden=range(1, 181))
    report = await sync(client, copy, sweep=True)
    assert (report.looked_up, report.deleted, report.candidates) == (50, 0, 180)


async def test_small_copy(sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore) -> None:
    """Up to ten payments may always be deleted, however small the copy is."""
    store = sandbox.store
    delete(store, *range(13, 201))
    await sync(client, copy)
    delete(store, *range(1, 11))
    assert (await sync(client, copy, sweep=True)).deleted == 10
    assert held_in(copy.path) == versions_of(store)


async def test_missing_share_counts_lookups(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore
) -> None:
    """Payments that GET by id finds do not count as missing: the few others are deleted in the same sync."""
    monkeypatch.setattr(settle, "_BATCH", 200)
    store = sandbox.store
    await sync(client, copy)
    delete(store, *range(1, 21))
    sandbox.rules = attrs.evolve(RULES, shown=20)
    report = await sync(client, copy, sweep=True)
    assert (report.complete, report.deleted, report.put_right) == (True, 20, 160)
    assert held_in(copy.path) == versions_of(store)


async def test_failed_lookup(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, client: PaymentsClient, copy: SQLiteStore
) -> None:
    """An error during lookups ends the sync; settled candidates stay settled, and the next sync resumes."""
    monkeypatch.setattr(settle, "_BATCH", 10)
    store, asked = sandbox.store, 0
    await sync(client, copy)
    delete(store, *range(20, 50))

    def fail(seen: SeenRequest) -> web.Response | None:
        nonlocal asked
        asked += by_id(seen)
        return web.Response(status=503) if asked == 18 else None

    sandbox.answer_with(fail)
    with pytest.raises(ServerError, match="503"):
        await sync(client, copy, sweep=True)
    assert len(held_in(copy.path)) == 190
    report = await sync(client, copy)
    assert (report.swept, report.deleted, report.complete) == (False, 20, True)
    assert held_in(copy.path) == versions_of(store)


async def test_at_most_eight_lookups_at_once(sandbox: Sandbox, copy: SQLiteStore) -> None:
    """No more than eight payments are looked up at once."""
    in_flight = most = 0

    def count(event: Event) -> None:
        nonlocal in_flight, most
        if isinstance(event, RequestStarted | RequestEnded) and event.call == "payments.get":
            in_flight += 1 if isinstance(event, RequestStarted) else -1
            most = max(most, in_flight)

    async with client_of(sandbox, on_event=count) as client:
        await sync(client, copy)
        sandbox.rules = attrs.evolve(RULES, shown=100, latency=0.01)
        assert (await sync(client, copy, sweep=True)).looked_up == 100
    assert most == 8


@pytest.mark.parametrize("most", [0, -1, 1.5, True, "9"])
async def test_most_lookups(client: PaymentsClient, copy: SQLiteStore, most: Any) -> None:
    """A limit that is not a whole number of at least 1 is refused."""
    with pytest.raises(ConfigurationError, match="most_lookups must be a whole number of at least 1"):
        await sync(client, copy, most_lookups=most)
