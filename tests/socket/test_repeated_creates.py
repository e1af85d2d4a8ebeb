"""Creates that can be repeated (`unless_exists`), and writes in doubt that are settled later."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import AsyncIterator
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
from b2b_payments._resources.turns import TURNS
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
    """Yield a sandbox of 60 payments without a quota, whose clock is today's."""
    async with Sandbox(60, rules=Rules(quota=False)) as one:
        today(one)
        yield one


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a list that comes empty be asked again at once."""
    monkeypatch.setattr("b2b_payments._walk.proof._WAITS", (0.0,))
    monkeypatch.setattr("b2b_payments._walk.proof._EMPTY_WAITS", (0.0,))


def named(sandbox: Sandbox, external_id: str | None = "INV-7") -> list[int]:
    """Return the ids of the payments with this external id."""
    return [int(row["id"]) for row in sandbox.store.all_wire() if row.get("externalId") == external_id]


async def test_fifty_at_once_and_again_after_a_restart_make_one(
    sandbox: Sandbox, client: PaymentsClient
) -> None:
    """Fifty calls at once create one payment and give its id, and so does one that remembers nothing."""
    again = [client.payments.create_offline(OFFLINE, unless_exists=True) for _ in range(50)]
    assert set(await asyncio.gather(*again)) == {61}
    assert sandbox.request_count == 5  # four to see that there is none
    TURNS.forget()
    async with client_of(sandbox) as another:
        assert await another.payments.create_offline(OFFLINE, unless_exists=True) == 61
    assert writes(sandbox) == ["POST"]


async def test_the_search_may_give_anything(sandbox: Sandbox, client: PaymentsClient) -> None:
    """The one that has exactly this id is found behind sixty whose ids begin with it."""
    [sandbox.store.insert(**OURS | {"externalId": f"INV-7{number}"}) for number in range(30)]
    ours = sandbox.store.insert(**OURS)
    [sandbox.store.insert(**OURS | {"externalId": f"INV-7{number}"}) for number in range(30, 300)]
    assert await client.payments.create_offline(OFFLINE, unless_exists=True) == ours
    other = attrs.evolve(OFFLINE, external_id="INV-")
    assert await client.payments.create_offline(other, unless_exists=True) == 362


@pytest.mark.parametrize(
    "rules",
    [{"ignores": ["q"]}, {"ignores": ["searchBy"]}, {"search": "words"}, {"ids_as": "string"}],
    ids=str,
)
@pytest.mark.parametrize("is_there", [True, False])
async def test_services_that_search_in_other_ways(rules: dict[str, Any], *, is_there: bool) -> None:
    """Whatever a service makes of the search, an id that is there is found and one that is not is created."""
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
async def test_another_payment_with_this_id_is_refused(
    sandbox: Sandbox, client: PaymentsClient, other: dict[str, Any], differences: dict[str, tuple[str, str]]
) -> None:
    """Another payment that has the id is not taken: the error says in what it differs, without values."""
    taken = sandbox.store.insert(**OURS | other)
    with pytest.raises(ExternalIdTakenError, match=f"Payment {taken} has this external_id, but") as caught:
        await client.payments.create_offline(OFFLINE, unless_exists=True)
    assert (caught.value.payment_id, caught.value.differences) == (taken, differences)
    assert "95000" not in str(caught.value)
    assert writes(sandbox) == []


async def test_of_several_the_oldest_that_agrees_is_given(sandbox: Sandbox, client: PaymentsClient) -> None:
    """Where several payments have the id, the oldest that is the same counts."""
    different = sandbox.store.insert(**OURS | {"customerId": "95075"})
    same, _ = sandbox.store.insert(**OURS), sandbox.store.insert(**OURS)
    assert await client.payments.create_offline(OFFLINE, unless_exists=True) == same
    another = attrs.evolve(OFFLINE, currency="EUR")
    with pytest.raises(ExternalIdTakenError) as caught:
        await client.payments.create_offline(another, unless_exists=True)
    # The one known last is asked for first.
    assert caught.value.payment_id in {different, same}


@pytest.mark.parametrize("external_id", [None, "", " ", "%", "--"])
async def test_an_id_that_no_search_finds_is_refused(
    sandbox: Sandbox, client: PaymentsClient, external_id: str | None
) -> None:
    """Without an external id, or by one without words, nothing can be found: nothing is sent."""
    payment = attrs.evolve(OFFLINE, external_id=external_id)
    with pytest.raises(ConfigurationError, match="unless_exists searches for the payment by its external_id"):
        await client.payments.create_offline(payment, unless_exists=True)
    assert sandbox.request_count == 0


async def test_an_id_that_reads_like_nothing_is_one(sandbox: Sandbox, client: PaymentsClient) -> None:
    """`None` is not the external id of payments that have none."""
    payment = attrs.evolve(OFFLINE, external_id="None")
    assert await client.payments.create_offline(payment, unless_exists=True) == 61


async def test_a_list_that_lags_does_not_hide_what_this_process_created() -> None:
    """What was created is known without the list, and given as long as GET by id shows it."""
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


async def test_a_list_that_lags_shows_payments_that_are_gone_or_renamed() -> None:
    """What the list still shows under this id counts only if GET by id shows it so."""
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


async def test_a_scope_that_hides_payments_by_id_makes_none_twice(
    sandbox: Sandbox, client: PaymentsClient
) -> None:
    """Where every GET by id is answered 404, as without a scope, what the list shows counts."""
    ours = sandbox.store.insert(**OURS)

    def hide(seen: SeenRequest) -> web.Response | None:
        body = {"code": 404, "data": {}, "meta": {"message": "Payment does not exist"}}
        is_list = seen.path.endswith("/payments")
        return None if is_list else web.json_response(body, status=404)

    sandbox.answer_with(hide)
    assert await client.payments.create_offline(OFFLINE, unless_exists=True) == ours


async def test_a_search_that_hides_rows_creates_nothing(sandbox: Sandbox, client: PaymentsClient) -> None:
    """Where the service says that more rows match than it gives, whether the id exists is not known."""
    sandbox.rules = attrs.evolve(sandbox.rules, paging_window=20, ignores=["q"])
    with pytest.raises(PaginationError, match="cannot be known, and this call created nothing"):
        await client.payments.create_offline(OFFLINE, unless_exists=True)
    assert writes(sandbox) == []


@pytest.mark.parametrize("fault", [Fault.RESET_AFTER, Fault.RESET_BEFORE])
async def test_an_earlier_create_in_doubt_is_not_sent_again(fault: Fault) -> None:
    """While a list may not show it, a create in doubt stays so, and the error can be settled later."""
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


def test_after_the_lag_a_create_that_no_list_shows_is_sent() -> None:
    """Once lists have to show it, an earlier create in doubt that they do not show was not carried out."""

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


async def test_a_cancelled_create_is_remembered(sandbox: Sandbox) -> None:
    """A create that was cancelled after it left is in doubt, and the next call looks before it says so."""
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


async def test_cancelling_one_that_waits_leaves_the_others_in_line(
    sandbox: Sandbox, client: PaymentsClient
) -> None:
    """A call that is cancelled while it waits for its turn is out of the line, and the next one goes on."""
    arrived, go_on = anyio.Event(), anyio.Event()
    calls = [client.payments.create_offline(OFFLINE, unless_exists=True) for _ in range(4)]

    async def first() -> None:
        async with TURNS.turn((client._caller.quota.store, "INV-7"), None):
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


async def test_a_deadline_ends_the_wait_for_a_turn(sandbox: Sandbox) -> None:
    """Who waits for another create of this id waits no longer than the deadline, and sends nothing."""
    client = client_of(sandbox, deadline=0.01)
    async with client, TURNS.turn((client._caller.quota.store, "INV-7"), None):
        with pytest.raises(RequestTimeoutError, match="another create of this external_id") as caught:
            await client.payments.create_offline(OFFLINE)
    assert not caught.value.sent
    assert sandbox.request_count == 0


async def test_threads_with_loops_of_their_own_make_one(sandbox: Sandbox) -> None:
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


async def test_a_refusal_is_nobody_elses(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A create that the service refuses is no doubt: each call is refused, and a right one is carried out."""
    wrong = attrs.evolve(OFFLINE, channel_id=99)
    calls = [client.payments.create_offline(wrong, unless_exists=True) for _ in range(3)]
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(one) for one in ended] == [ValidationError] * 3
    assert await client.payments.create_offline(OFFLINE, unless_exists=True) == 61


async def in_doubt(client: PaymentsClient, sandbox: Sandbox, fault: Fault, call: Any) -> OutcomeUnknownError:
    """Return the error of a write whose answer was lost, as another process reads it."""
    sandbox.order(fault, times=1, methods=WRITES)
    sandbox.order(Fault.ERROR_500, share=1)
    with pytest.raises(OutcomeUnknownError) as caught:
        await call
    sandbox.clear_faults()
    error: OutcomeUnknownError = pickle.loads(pickle.dumps(caught.value))  # noqa: S301
    return error


@pytest.mark.parametrize(("fault", "settled"), [(Fault.RESET_AFTER, 61), (Fault.RESET_BEFORE, None)])
async def test_a_create_is_settled_from_a_pickled_error(
    sandbox: Sandbox, fault: Fault, settled: int | None
) -> None:
    """A create in doubt is settled by its external id: the new payment's id, or that there is none."""
    sandbox.store.insert(**OURS, createdAt=1_700_000_000)  # an older one is not it
    sandbox.store.insert(**OURS | {"externalId": "INV-77"})
    async with client_of(sandbox, retry=NEVER) as client:
        error = await in_doubt(client, sandbox, fault, client.payments.create_offline(OFFLINE))
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
        error = await in_doubt(client, sandbox, fault, call(client))
        assert await client.payments.settle(error) == settled
    assert len(writes(sandbox)) == 1


async def test_what_leaves_no_trace_stays_unknown(sandbox: Sandbox) -> None:
    """An operation that nothing shows cannot be settled: the error itself is raised again."""
    sandbox.store.update(7, allowedOperations=[2])
    async with client_of(sandbox, retry=NEVER) as client:
        call = client.payments.perform_operation(7, 2)
        error = await in_doubt(client, sandbox, Fault.RESET_AFTER, call)
        with pytest.raises(OutcomeUnknownError) as caught:
            await client.payments.settle(error)
    assert caught.value is error


async def test_what_cannot_be_settled_is_refused(sandbox: Sandbox, client: PaymentsClient) -> None:
    """An error of another store, of a create without an external id, or of no write is refused."""
    async with client_of(sandbox, retry=NEVER) as other:
        bare = attrs.evolve(OFFLINE, external_id=None)
        error = await in_doubt(other, sandbox, Fault.RESET_AFTER, other.payments.create_offline(bare))
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


async def test_a_payment_that_is_there_in_other_digits_is_the_same(
    sandbox: Sandbox, client: PaymentsClient
) -> None:
    """Sums are compared as numbers, over all line items, and ids as text."""
    ours = sandbox.store.insert(**OURS)
    lines = [OfflineLineItem(13, Decimal("19.5")), OfflineLineItem(14, Decimal("0.50000"))]
    payment = attrs.evolve(OFFLINE, customer_id=95000, currency="usd", line_items=lines)
    assert await client.payments.create_offline(payment, unless_exists=True) == ours


@pytest.mark.parametrize("rules", [{}, {"ignores": ["offset"], "total_count": "absent"}], ids=str)
async def test_a_lost_create_is_found_behind_newer_ones_of_other_ids(
    sandbox: Sandbox, client: PaymentsClient, rules: dict[str, Any]
) -> None:
    """After a lost answer all newer hits are read, more than a page holds, and none for ever."""
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
