"""Repeatable creates (`unless_exists`), and settling writes whose outcome is unknown."""

from __future__ import annotations

import asyncio
import math
import pickle
import threading
from collections.abc import AsyncIterator, Coroutine
from decimal import Decimal
from typing import Any

import anyio
import attrs
import pytest
from aiohttp import web

from b2b_payments import (
    ConfigurationError,
    ExternalIdTakenError,
    OfflineLineItem,
    OutcomeUnknownError,
    PaginationError,
    PaymentsClient,
    RequestTimeoutError,
    ValidationError,
)
from b2b_payments._resources.particulars import Particulars
from b2b_payments._resources.turns import TURNS, LatestCreate, Turns
from b2b_payments.sandbox import Fault, Rules, Sandbox, SeenRequest
from tests.socket.test_writes import OFFLINE, WRITES, today, writes
from tests.support.clients import NEVER, client_of
from tests.support.virtual_time import run

OURS: dict[str, Any] = {
    "externalId": "INV-7",
    "customerId": "95000",
    "total": {"code": "USD", "value": "20.0000"},
}


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Yield a sandbox of 60 payments without a quota, whose clock is the present."""
    async with Sandbox(60, rules=Rules(quota=False)) as one:
        today(one)
        yield one


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read an empty list again without a pause."""
    monkeypatch.setattr("b2b_payments._walk.proof._WAITS", (0.0,))
    monkeypatch.setattr("b2b_payments._walk.proof._EMPTY_WAITS", (0.0,))


def named(sandbox: Sandbox, external_id: str | None = "INV-7") -> list[int]:
    """Return the ids of the payments with this external id."""
    return [int(row["id"]) for row in sandbox.store.all_wire() if row.get("externalId") == external_id]


async def test_fifty_concurrent_calls_create_one(sandbox: Sandbox, client: PaymentsClient) -> None:
    """Fifty calls at once create one payment and return its id; so does a call after a restart."""
    again = [client.payments.create_offline(OFFLINE, unless_exists=True) for _ in range(50)]
    assert set(await asyncio.gather(*again)) == {61}
    assert sandbox.request_count == 5  # four to see that there is none
    TURNS.forget()
    async with client_of(sandbox) as another:
        assert await another.payments.create_offline(OFFLINE, unless_exists=True) == 61
    assert writes(sandbox) == ["POST"]


async def test_search_may_return_similar_ids(sandbox: Sandbox, client: PaymentsClient) -> None:
    """The exact id is found after sixty payments whose ids start with it."""
    [sandbox.store.insert(**OURS | {"externalId": f"INV-7{number}"}) for number in range(30)]
    ours = sandbox.store.insert(**OURS)
    [sandbox.store.insert(**OURS | {"externalId": f"INV-7{number}"}) for number in range(30, 300)]
    assert await client.payments.create_offline(OFFLINE, unless_exists=True) == ours
    other = attrs.evolve(OFFLINE, external_id="INV-")
    assert await client.payments.create_offline(other, unless_exists=True) == 362


@pytest.mark.parametrize(
    "rules",
    [
        {"ignores": ["q"]},
        {"ignores": ["searchBy"]},
        {"search": "words"},
        {"search": "parts"},
        {"ids_as": "string"},
        {"ids_as": "fraction"},
    ],
    ids=str,
)
@pytest.mark.parametrize("is_there", [True, False])
async def test_services_that_search_in_other_ways(rules: dict[str, Any], *, is_there: bool) -> None:
    """However the service searches, an existing id is found and a new one created."""
    async with Sandbox(60, rules=Rules(quota=False, **rules)) as sandbox, client_of(sandbox) as client:
        today(sandbox)
        for external_id in ("inv 7", "7-INV", "INV-77", "inv-7", "", None):
            sandbox.store.insert(**OURS | {"externalId": external_id})
        ours = sandbox.store.insert(**OURS) if is_there else 67
        assert await client.payments.create_offline(OFFLINE, unless_exists=True) == ours
        assert named(sandbox) == [ours]


@pytest.mark.parametrize(
    ("other", "differences"),
    [
        ({"customerId": "95075"}, {"customer_id": ("95075", "95000")}),
        ({"total": {"code": "EUR", "value": "20.0000"}}, {"currency": ("EUR", "USD")}),
        ({"total": {"code": "USD", "value": "20.0001"}}, {"sum": ("20.0001", "20.00")}),
        (
            {"total": {"code": "EUR", "value": "2"}, "customerId": "1"},
            {"customer_id": ("1", "95000"), "currency": ("EUR", "USD"), "sum": ("2", "20.00")},
        ),
    ],
)
async def test_different_payment_with_this_id_is_refused(
    sandbox: Sandbox, client: PaymentsClient, other: dict[str, Any], differences: dict[str, tuple[str, str]]
) -> None:
    """If a different payment has the id, the error names the fields that differ, without values."""
    taken = sandbox.store.insert(**OURS | other)
    with pytest.raises(ExternalIdTakenError, match=f"Payment {taken} has this external_id, but") as caught:
        await client.payments.create_offline(OFFLINE, unless_exists=True)
    assert (caught.value.payment_id, caught.value.differences) == (taken, differences)
    assert "95000" not in str(caught.value)
    assert writes(sandbox) == []


async def test_oldest_equal_payment_is_returned(sandbox: Sandbox, client: PaymentsClient) -> None:
    """If several payments have the id, the oldest equal one counts."""
    different = sandbox.store.insert(**OURS | {"customerId": "95075"})
    same, _ = sandbox.store.insert(**OURS), sandbox.store.insert(**OURS)
    assert await client.payments.create_offline(OFFLINE, unless_exists=True) == same
    another = attrs.evolve(OFFLINE, currency="EUR")
    with pytest.raises(ExternalIdTakenError) as caught:
        await client.payments.create_offline(another, unless_exists=True)
    # The one known last is asked for first.
    assert caught.value.payment_id in {different, same}


@pytest.mark.parametrize("external_id", [None, "", " ", "%", "--"])
async def test_unsearchable_id_is_refused(
    sandbox: Sandbox, client: PaymentsClient, external_id: str | None
) -> None:
    """An external id that is missing, or has no letter or digit, is refused, and nothing is sent."""
    payment = attrs.evolve(OFFLINE, external_id=external_id)
    with pytest.raises(ConfigurationError, match="unless_exists searches for the payment by its external_id"):
        await client.payments.create_offline(payment, unless_exists=True)
    assert sandbox.request_count == 0


async def test_id_none_is_a_text(sandbox: Sandbox, client: PaymentsClient) -> None:
    """The external id `None` is not that of payments that have none."""
    payment = attrs.evolve(OFFLINE, external_id="None")
    assert await client.payments.create_offline(payment, unless_exists=True) == 61


async def test_lagging_list_does_not_hide_own_creates() -> None:
    """A created payment is known without the list, and returned while GET by id shows it."""
    async with Sandbox(60, rules=Rules(quota=False, list_lag=1200)) as sandbox:
        today(sandbox)
        async with client_of(sandbox) as client:
            assert await client.payments.create_offline(OFFLINE) == 61
        async with client_of(sandbox) as client:  # another client of the same process
            assert await client.payments.create_offline(OFFLINE, unless_exists=True) == 61
            sandbox.store.update(61, total={"code": "USD", "value": "21.0000"})
            with pytest.raises(ExternalIdTakenError):
                await client.payments.create_offline(OFFLINE, unless_exists=True)
            sandbox.store.delete(61)
            assert await client.payments.create_offline(OFFLINE, unless_exists=True) == 62


async def test_lagging_list_may_show_deleted_or_renamed_payments() -> None:
    """A row that the list still shows counts only if GET by id confirms it."""
    async with Sandbox(60, rules=Rules(quota=False)) as sandbox, client_of(sandbox) as client:
        today(sandbox)
        gone, renamed, changed = (sandbox.store.insert(**OURS) for _ in range(3))
        sandbox.rules = attrs.evolve(sandbox.rules, list_lag=1200)
        sandbox.store.delete(gone)
        sandbox.store.update(renamed, externalId="INV-8")
        sandbox.store.update(changed, customerId="95075")
        with pytest.raises(ExternalIdTakenError, match=f"Payment {changed} "):
            await client.payments.create_offline(OFFLINE, unless_exists=True)
        sandbox.store.delete(changed)
        assert await client.payments.create_offline(OFFLINE, unless_exists=True) == 64


async def test_missing_scope_creates_no_duplicate(sandbox: Sandbox, client: PaymentsClient) -> None:
    """If every GET by id is answered 404, as without a scope, the list's rows count."""
    ours = sandbox.store.insert(**OURS)

    def hide(seen: SeenRequest) -> web.Response | None:
        body = {"code": 404, "data": {}, "meta": {"message": "Payment does not exist"}}
        is_list = seen.path.endswith("/payments")
        return None if is_list else web.json_response(body, status=404)

    sandbox.answer_with(hide)
    assert await client.payments.create_offline(OFFLINE, unless_exists=True) == ours


async def test_incomplete_search_creates_nothing(sandbox: Sandbox, client: PaymentsClient) -> None:
    """If the service reports more matches than it returns, it is unknown whether the id exists."""
    sandbox.rules = attrs.evolve(sandbox.rules, paging_window=20, ignores=["q"])
    with pytest.raises(PaginationError, match="cannot be known, and this call created nothing"):
        await client.payments.create_offline(OFFLINE, unless_exists=True)
    assert writes(sandbox) == []


@pytest.mark.parametrize("fault", [Fault.RESET_AFTER, Fault.RESET_BEFORE])
async def test_unknown_create_is_not_sent_again(fault: Fault) -> None:
    """While lists may lag, an unknown create stays unknown, and its error can be settled later."""
    async with Sandbox(60, rules=Rules(quota=False, list_lag=1200)) as sandbox:
        today(sandbox)
        async with client_of(sandbox, retry=NEVER) as client:
            sandbox.order(fault, times=1, methods=WRITES)
            for _ in range(3):
                with pytest.raises(OutcomeUnknownError) as caught:
                    await client.payments.create_offline(OFFLINE, unless_exists=True)
            assert "an earlier create of this external_id got no answer" in str(caught.value)
            sandbox.rules = attrs.evolve(sandbox.rules, list_lag=0)
            assert await client.payments.settle(caught.value) is None
        assert writes(sandbox) == ["POST"]


def test_create_is_sent_again_after_the_lag() -> None:
    """An unknown create that the lists do not show after their lag was not carried out."""

    async def main() -> list[int]:
        rules = Rules(quota=False, list_lag=1199)
        async with Sandbox(60, rules=rules) as sandbox, client_of(sandbox, retry=NEVER) as client:
            today(sandbox)
            made = []
            for number, fault in enumerate([Fault.RESET_AFTER, Fault.RESET_BEFORE]):
                payment = attrs.evolve(OFFLINE, external_id=f"INV-{number}")
                sandbox.order(fault, times=1, methods=WRITES)
                for _ in range(2):
                    with pytest.raises(OutcomeUnknownError):
                        await client.payments.create_offline(payment, unless_exists=True)
                await anyio.sleep(1200)
                await client.payments.create_offline(payment, unless_exists=True)
                made.append(len(named(sandbox, payment.external_id)))
            return made

    assert run(main()) == [1, 1]


async def test_cancelled_create_is_remembered(sandbox: Sandbox) -> None:
    """A create cancelled after it was sent is unknown, and the next call searches before it says so."""
    sandbox.order(Fault.HANG, times=1, methods=WRITES)
    async with client_of(sandbox) as client:
        arrived = anyio.Event()
        sandbox.answer_with(lambda seen: arrived.set() if seen.method == "POST" else None)
        writing = asyncio.ensure_future(client.payments.create_offline(OFFLINE, unless_exists=True))
        await arrived.wait()
        waiting = asyncio.ensure_future(client.payments.create_offline(OFFLINE, unless_exists=True))
        await anyio.lowlevel.checkpoint()
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert await waiting == 61
    assert writes(sandbox) == ["POST"]


async def test_cancelled_waiter_leaves_the_queue(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A call that is cancelled while it waits leaves the queue, and the next one runs."""
    arrived, go_on = anyio.Event(), anyio.Event()
    calls = [client.payments.create_offline(OFFLINE, unless_exists=True) for _ in range(4)]

    async def first() -> None:
        async with TURNS.turn((client._caller.quota.store, "INV-7"), math.inf):
            arrived.set()
            await go_on.wait()

    holder = asyncio.ensure_future(first())
    await arrived.wait()
    waiting = [asyncio.ensure_future(call) for call in calls]
    await anyio.lowlevel.checkpoint()
    waiting[0].cancel()
    waiting[2].cancel()
    await anyio.lowlevel.checkpoint()
    go_on.set()
    await holder
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert [one if isinstance(one, int) else type(one) for one in ended] == [
        *(asyncio.CancelledError, 61, asyncio.CancelledError, 61)
    ]


async def test_deadline_ends_the_wait_in_the_queue(sandbox: Sandbox) -> None:
    """A call waits for another create no longer than its deadline, and sends nothing."""
    client = client_of(sandbox, deadline=0.01)
    async with client, TURNS.turn((client._caller.quota.store, "INV-7"), math.inf):
        with pytest.raises(RequestTimeoutError, match="another create of this external_id") as caught:
            await client.payments.create_offline(OFFLINE)
    assert not caught.value.sent
    assert sandbox.request_count == 0


async def test_closed_loop_holds_up_nobody() -> None:
    """A create whose event loop was closed before it ended leaves the queue, whenever it is discarded."""
    turns, key, ran = Turns(), ("a store", "INV-7"), list[str]()

    async def take(name: str, wait: float) -> None:
        async with turns.turn(key, math.inf):
            ran.append(name)
            await asyncio.sleep(wait)

    def abandon() -> Coroutine[Any, Any, None]:
        loop, left = asyncio.new_event_loop(), take("left", 3_600)
        loop.create_task(left)._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        return left

    left = await asyncio.to_thread(abandon)
    await take("next", 0)
    assert ran == ["left", "next"]
    left.close()
    await take("last", 0)
    assert ran == ["left", "next", "last"]
    assert not turns._queues


def test_remembered_creates_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more creates than are remembered, the oldest are forgotten."""
    monkeypatch.setattr("b2b_payments._resources.turns._MAX_REMEMBERED", 2)

    async def main() -> list[bool]:
        turns, now = Turns(), anyio.current_time()
        keys = [("a store", name) for name in "abc"]
        for payment_id, key in enumerate(keys):
            turns.remember(key, LatestCreate(payment_id, Particulars("1", "USD", Decimal(1)), now, now + 60))
        return [turns.recall(key) is not None for key in keys]

    assert run(main()) == [False, True, True]


async def test_threads_create_one(sandbox: Sandbox) -> None:
    """Eight threads, each with an event loop and a client, create one payment."""
    ids: list[int] = []

    async def create() -> None:
        async with client_of(sandbox) as client:
            ids.append(await client.payments.create_offline(OFFLINE, unless_exists=True))

    threads = [threading.Thread(target=asyncio.run, args=(create(),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert ids == [61] * 8
    assert writes(sandbox) == ["POST"]


async def test_refused_create_is_certain(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A refused create is not unknown: each call is refused, and a valid one is carried out."""
    wrong = attrs.evolve(OFFLINE, channel_id=99)
    calls = [client.payments.create_offline(wrong, unless_exists=True) for _ in range(3)]
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(one) for one in ended] == [ValidationError] * 3
    assert await client.payments.create_offline(OFFLINE, unless_exists=True) == 61


async def unknown_outcome(
    client: PaymentsClient, sandbox: Sandbox, fault: Fault, call: Any
) -> OutcomeUnknownError:
    """Return the error of a write whose answer was lost, as another process unpickles it."""
    sandbox.order(fault, times=1, methods=WRITES)
    sandbox.order(Fault.ERROR_500, share=1)
    with pytest.raises(OutcomeUnknownError) as caught:
        await call
    sandbox.clear_faults()
    error: OutcomeUnknownError = pickle.loads(pickle.dumps(caught.value))  # noqa: S301
    return error


@pytest.mark.parametrize(("fault", "settled"), [(Fault.RESET_AFTER, 61), (Fault.RESET_BEFORE, None)])
async def test_create_is_settled_from_a_pickled_error(
    sandbox: Sandbox, fault: Fault, settled: int | None
) -> None:
    """A create is settled by its external id: the new payment's id, or None."""
    sandbox.store.insert(**OURS, createdAt=1_700_000_000)  # an older one is not it
    sandbox.store.insert(**OURS | {"externalId": "INV-77"})
    async with client_of(sandbox, retry=NEVER) as client:
        error = await unknown_outcome(client, sandbox, fault, client.payments.create_offline(OFFLINE))
    async with client_of(sandbox) as client:
        assert await client.payments.settle(error) == (None if settled is None else 63)
    assert writes(sandbox) == ["POST"]


OTHERS: dict[str, Any] = {
    "delete": lambda client: client.payments.delete(7),
    "status": lambda client: client.payments.update_processing_status(7, 2),
    "operation": lambda client: client.payments.perform_operation(7, 0),
    "update": lambda client: client.payments.update_offline(7, OFFLINE),
}


@pytest.mark.parametrize(("fault", "settled"), [(Fault.RESET_AFTER, 7), (Fault.RESET_BEFORE, None)])
@pytest.mark.parametrize("call", OTHERS.values(), ids=OTHERS)
async def test_other_writes_are_settled_by_their_payment(
    sandbox: Sandbox, call: Any, fault: Fault, settled: int | None
) -> None:
    """A delete, a status, an operation and an update are settled by what the payment shows."""
    allowed = {"processingStatus": 1, "allowedStatuses": ["2"], "allowedOperations": [0], "appliedStatus": 0}
    sandbox.store.update(7, moduleName="payments_offline", **allowed)
    async with client_of(sandbox, retry=NEVER) as client:
        error = await unknown_outcome(client, sandbox, fault, call(client))
        assert await client.payments.settle(error) == settled
    assert len(writes(sandbox)) == 1


async def test_write_to_an_unreadable_payment_stays_unknown(sandbox: Sandbox) -> None:
    """While GET by id returns 404 for every payment, a lost delete cannot be settled."""
    async with client_of(sandbox, retry=NEVER) as client:
        error = await unknown_outcome(client, sandbox, Fault.RESET_AFTER, client.payments.delete(7))
        sandbox.answer_with(_not_found)
        with pytest.raises(OutcomeUnknownError) as caught:
            await client.payments.settle(error)
    assert caught.value is error


def _not_found(seen: SeenRequest) -> web.Response | None:
    if not seen.path.rpartition("/")[2].isdigit():
        return None
    return web.json_response({"code": 404, "data": {"errMsg": "Payment not found"}, "meta": {}}, status=404)


async def test_operation_without_trace_stays_unknown(sandbox: Sandbox) -> None:
    """An operation that nothing shows cannot be settled: the error is raised again."""
    sandbox.store.update(7, allowedOperations=[2])
    async with client_of(sandbox, retry=NEVER) as client:
        call = client.payments.perform_operation(7, 2)
        error = await unknown_outcome(client, sandbox, Fault.RESET_AFTER, call)
        with pytest.raises(OutcomeUnknownError) as caught:
            await client.payments.settle(error)
    assert caught.value is error


async def test_unsettleable_errors_are_refused(sandbox: Sandbox, client: PaymentsClient) -> None:
    """An error of another store, of a create without external id, or of no write, is refused."""
    async with client_of(sandbox, retry=NEVER) as other:
        bare = attrs.evolve(OFFLINE, external_id=None)
        error = await unknown_outcome(other, sandbox, Fault.RESET_AFTER, other.payments.create_offline(bare))
    asked = sandbox.request_count
    with pytest.raises(ConfigurationError, match="had no external_id to search for"):
        await client.payments.settle(error)
    error.write["store"] = "https://elsewhere.test abc"
    with pytest.raises(ConfigurationError, match="settle it with a client for the same store"):
        await client.payments.settle(error)
    wrong: Any = ValueError()
    for one in (OutcomeUnknownError("Mine."), wrong):
        with pytest.raises(ConfigurationError, match="takes the OutcomeUnknownError that a method of"):
            await client.payments.settle(one)
    assert sandbox.request_count == asked


async def test_equal_sums_may_have_other_digits(sandbox: Sandbox, client: PaymentsClient) -> None:
    """Sums are compared as numbers, over all line items, and ids as text."""
    ours = sandbox.store.insert(**OURS)
    lines = [OfflineLineItem(13, Decimal("19.5")), OfflineLineItem(14, Decimal("0.50000"))]
    payment = attrs.evolve(OFFLINE, customer_id=95000, currency="usd", line_items=lines)
    assert await client.payments.create_offline(payment, unless_exists=True) == ours


@pytest.mark.parametrize("rules", [{}, {"ignores": ["offset"], "total_count": "absent"}], ids=str)
async def test_lost_create_is_found_after_newer_ones(
    sandbox: Sandbox, client: PaymentsClient, rules: dict[str, Any]
) -> None:
    """After a lost answer, all newer matches are read, over several pages, but not for ever."""
    sandbox.rules = attrs.evolve(sandbox.rules, max_limit=50, **rules)

    def crowd(store: Any, _: SeenRequest) -> None:
        sandbox.before_list = None
        for number in range(120):
            store.insert(**OURS | {"externalId": f"INV-7{number}"})

    sandbox.before_list = crowd
    sandbox.order(Fault.RESET_AFTER, times=1, methods=WRITES)
    if rules:
        with pytest.raises(OutcomeUnknownError):
            await client.payments.create_offline(OFFLINE)
        assert sandbox.request_count < 20
    else:
        assert await client.payments.create_offline(OFFLINE) == 61
