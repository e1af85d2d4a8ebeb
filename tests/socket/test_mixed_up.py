"""Answers that reach another request than their own: what the caller gets, and what is told of a write."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from functools import partial
from itertools import pairwise
from typing import Any

import aiohttp
import attrs
import pytest
from aiohttp import web

from b2b_payments import (
    AnswerMismatchError,
    BadRequestError,
    NotFoundError,
    OfflineLineItem,
    OfflinePayment,
    Operation,
    OutcomeUnknownError,
    PaginationError,
    PaymentsClient,
    ResponseDecodeError,
    ValidationError,
)
from b2b_payments._protocol.query import ChannelEncoding
from b2b_payments.events import Event, RetryScheduled
from b2b_payments.sandbox import Fault, Rules, Sandbox, SeenRequest, Store
from tests.support import examples
from tests.support.clients import NEVER, client_of
from tests.support.raw_server import Connection, RawServer

pytestmark = pytest.mark.virtual_time

NEW = OfflinePayment(
    customer_id="95000",
    currency="USD",
    line_items=[OfflineLineItem(13, Decimal("20.00"))],
    external_id="INV-7",
)
WRITES = ["POST", "PUT", "DELETE"]


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Yield a sandbox of 30 payments whose clock is today's."""
    async with Sandbox(30, rules=Rules(quota=False)) as one:
        one.store.clock = int(time.time())
        yield one


@pytest.fixture(params=[False, True], ids=["own", "lent"])
async def client(request: pytest.FixtureRequest, sandbox: Sandbox) -> AsyncIterator[PaymentsClient]:
    """Yield a client of the sandbox, with a session of its own or a lent one."""
    async with (
        aiohttp.ClientSession() as session,
        client_of(sandbox, session=session if request.param else None) as one,
    ):
        yield one


def answered(data: Any, status: int = 200) -> web.Response:
    """Return an answer around this data."""
    return web.json_response({"code": status, "data": data, "meta": {"message": "…"}}, status=status)


def always(data: Any, _: SeenRequest) -> web.Response:
    """Answer any request with this data."""
    return answered(data)


def once(sandbox: Sandbox, response: Callable[[], web.Response], *, method: str) -> None:
    """Answer the next request of this method with something else, and carry nothing out."""

    def answer(seen: SeenRequest) -> web.Response | None:
        if seen.method != method:
            return None
        sandbox.answer_with(None)
        return response()

    sandbox.answer_with(answer)


def methods(sandbox: Sandbox) -> list[str]:
    """Name the methods of the requests that came."""
    return [seen.method for seen in sandbox.requests]


@pytest.mark.parametrize("fault", [Fault.STRAY, Fault.DOUBLED])
@pytest.mark.parametrize("after", [0.0, None])
async def test_get_gives_the_payment_that_was_asked_for(
    sandbox: Sandbox, client: PaymentsClient, fault: Fault, after: float | None
) -> None:
    """Whatever comes unasked, behind an answer or in front of the next, each get gives its own payment."""
    sandbox.rules = attrs.evolve(sandbox.rules, stray_after=after)
    sandbox.order(fault, share=1)
    for payment_id in range(1, 16):
        assert (await client.payments.get(payment_id)).id == payment_id
    assert sandbox.mixed_up > 0


async def test_a_stray_refusal_is_no_404(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A 404 that another request got, in front of the answer on a kept connection, is looked at again."""
    sandbox.rules = attrs.evolve(sandbox.rules, stray_after=None)
    await client.payments.get(1)
    with pytest.raises(NotFoundError):
        await client.payments.get(999)
    sandbox.order(Fault.STRAY, times=1)
    await client.payments.get(2)
    assert (await client.payments.get(3)).id == 3


async def test_a_404_on_a_kept_connection_costs_one_request_more(
    sandbox: Sandbox, client: PaymentsClient
) -> None:
    """A payment that does not exist is believed once the 404 has come on a connection of its own."""
    await client.payments.get(1)
    with pytest.raises(NotFoundError):
        await client.payments.get(999)
    assert sandbox.request_count == 3
    await client.payments.get(2)
    assert not client._caller.mixups.lately


async def test_another_payment_is_never_given(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A service that answers with another payment however often it is asked ends in an error that says so."""
    sandbox.answer_with(lambda _: answered(sandbox.store.wire(6)))
    with pytest.raises(AnswerMismatchError, match=r"\$\.data\.id is 6, not 5") as caught:
        await client.payments.get(5)
    assert isinstance(caught.value, ResponseDecodeError)
    assert caught.value.paths == ["$.data.id"]
    assert sandbox.request_count == 5


async def test_an_exchange_that_repeats_itself_is_no_habit(sandbox: Sandbox, client: PaymentsClient) -> None:
    """Operations that come with another payment's id each time are not given, and neither is a bare id."""
    for other in (sandbox.store.wire(6), {"id": 6}):
        sandbox.answer_with(partial(always, other))
        with pytest.raises(AnswerMismatchError, match=r"\$\.data\.id is 6, not 5"):
            await client.payments.operations(5)
    sandbox.answer_with(None)
    assert (await client.payments.operations(5)).allowed_operations


async def test_attempts_1_asks_once(sandbox: Sandbox) -> None:
    """A policy without a second attempt raises the first mismatch of a get."""
    async with client_of(sandbox, retry=NEVER) as client:
        once(sandbox, lambda: answered(sandbox.store.wire(6)), method="GET")
        with pytest.raises(AnswerMismatchError):
            await client.payments.get(5)
        assert sandbox.request_count == 1


async def test_a_mix_up_can_be_watched(sandbox: Sandbox) -> None:
    """Each time that a read is sent again for a mix-up, an event says so."""
    events: list[Event] = []
    async with client_of(sandbox, on_event=events.append) as client:
        once(sandbox, lambda: answered(sandbox.store.wire(6)), method="GET")
        await client.payments.get(5)
    retries = [event for event in events if isinstance(event, RetryScheduled)]
    assert [(event.attempt, event.delay, event.reason) for event in retries] == [(1, 0.0, "mixed up")]


@pytest.mark.parametrize("status", [304, 412, 416, 302])
async def test_an_old_answer_to_a_condition_ends_no_walk(
    sandbox: Sandbox, client: PaymentsClient, status: int
) -> None:
    """A page answered with what only another request can have got is asked for again."""
    walk = client.payments.list(page_size=10, concurrency=1).pages()
    await anext(walk)
    once(sandbox, lambda: web.Response(status=status), method="GET")
    assert sum([len(page.items) async for page in walk]) == 20
    assert walk.report.complete
    assert client.payments.mixed_up_lately


async def test_a_write_answered_as_if_it_stated_a_condition_is_told_by_its_payment(
    sandbox: Sandbox, client: PaymentsClient
) -> None:
    """A 412 to a create that was never carried out leaves it in doubt: it may be another's answer."""
    once(sandbox, lambda: web.Response(status=412), method="POST")
    with pytest.raises(OutcomeUnknownError, match=r"412 Precondition.* Look for externalId=INV-7"):
        await client.payments.create_offline(NEW)


@pytest.mark.parametrize("after", [0.0, None])
@pytest.mark.parametrize("fault", [Fault.STRAY, Fault.DOUBLED, Fault.SWAPPED])
async def test_a_walk_gets_its_own_pages(
    sandbox: Sandbox, client: PaymentsClient, fault: Fault, after: float | None
) -> None:
    """A walk whose pages get mixed up gives every payment once."""
    sandbox.rules = attrs.evolve(sandbox.rules, stray_after=after)
    sandbox.order(fault, share=0.3)
    walk = client.payments.list(page_size=4, concurrency=3)
    assert [payment.id async for payment in walk] == sandbox.store.ids()
    assert walk.report.complete
    assert sandbox.mixed_up > 0


@pytest.mark.parametrize("number", [1, 2])
async def test_a_page_in_another_order_is_asked_for_again(
    sandbox: Sandbox, client: PaymentsClient, number: int
) -> None:
    """One page in the opposite order, the walk's own or its proof, ends no walk and spoils no proof."""
    lists, own = 0, sandbox.rules

    def turn(_: Store, seen: SeenRequest) -> None:
        nonlocal lists
        lists += 1
        turned = attrs.evolve(
            own, ignores=("orderBy",), ignored_order="DESC" if ("orderBy", "ASC") in seen.query else "ASC"
        )
        sandbox.rules = turned if lists == number else own

    sandbox.before_list = turn
    walk = client.payments.list(page_size=20, concurrency=1)
    assert [payment.id async for payment in walk] == sandbox.store.ids()
    assert walk.report.complete
    assert client.payments.mixed_up_lately


@pytest.mark.parametrize("retry", [NEVER, None], ids=["attempts=1", "attempts=5"])
async def test_an_offset_that_is_always_zero_is_left_alone(sandbox: Sandbox, retry: Any) -> None:
    """A service that says offset 0 for every page is asked a few times more, once, and then believed."""
    sandbox.rules = attrs.evolve(sandbox.rules, echo_offset="zero")
    settings = {} if retry is None else {"retry": retry}
    async with client_of(sandbox, **settings) as client:
        requests = []
        for _ in range(3):
            before = sandbox.request_count
            walk = client.payments.list(page_size=4, concurrency=1)
            assert [payment.id async for payment in walk] == sandbox.store.ids()
            assert walk.report.complete
            requests.append(sandbox.request_count - before)
        assert requests[0] == requests[1] + 3
        assert requests[1] == requests[2]
        assert not client._caller.mixups.lately


@pytest.mark.parametrize("echo", ["asked", "clamped", None])
async def test_an_offset_that_contradicts_nothing_costs_nothing(sandbox: Sandbox, echo: Any) -> None:
    """An echoed offset, none, or one that stops at the number of rows, leads to no further request."""
    async with client_of(sandbox) as client:
        await client.payments.list(page_size=4).collect()
        honest = sandbox.request_count
        sandbox.rules = attrs.evolve(sandbox.rules, echo_offset=echo)
        await client.payments.list(page_size=4).collect()
        assert sandbox.request_count == 2 * honest


@pytest.mark.parametrize("lies", [{"total_count": "page"}, {"total_cap": 15}], ids=["page", "cap"])
@pytest.mark.parametrize("retry", [NEVER, None], ids=["attempts=1", "attempts=5"])
async def test_an_offset_named_as_a_total_that_is_wrong_is_left_alone(
    sandbox: Sandbox, lies: Any, retry: Any
) -> None:
    """A page beyond a wrong total, which names the total as its offset, costs three requests, once."""

    async def requests_of(client: PaymentsClient) -> int:
        before = sandbox.request_count
        walk = client.payments.list(page_size=6, concurrency=1)
        assert sorted([payment.id async for payment in walk]) == sandbox.store.ids()
        assert walk.report.complete
        return sandbox.request_count - before

    settings = {} if retry is None else {"retry": retry}
    sandbox.rules = attrs.evolve(sandbox.rules, max_limit=6, **lies)
    async with client_of(sandbox, **settings) as client:
        honest = await requests_of(client)
    sandbox.rules = attrs.evolve(sandbox.rules, echo_offset="clamped")
    async with client_of(sandbox, **settings) as client:
        assert [await requests_of(client) - honest for _ in range(2)] == [3, 0]
        assert not client.payments.mixed_up_lately


async def test_a_page_of_another_channel_is_asked_for_again(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A page of another channel's walk unlearns no spelling of `channelIds` that was understood before."""
    mine = [row["id"] for row in sandbox.store.all_wire() if row["channelId"] == "1"]
    others = [row for row in sandbox.store.all_wire() if row["channelId"] == "2"]
    assert await client.payments.list(channel_ids=[1]).count() == len(mine)
    once(sandbox, lambda: answered(others), method="GET")
    walk = client.payments.list(channel_ids=[1])
    assert [payment.id async for payment in walk] == mine
    assert client._caller.mixups.lately
    assert {name for seen in sandbox.requests for name, _ in seen.query if "channel" in name} == {
        "channelIds"
    }


@pytest.mark.parametrize("noticed", [False, True])
async def test_mixed_up_channels_unlearn_no_spelling(
    sandbox: Sandbox, client: PaymentsClient, *, noticed: bool
) -> None:
    """Pages of other channels, before any was right, leave every spelling of `channelIds` in use."""
    if noticed:
        client._caller.mixups.noticed()
    mine = [row["id"] for row in sandbox.store.all_wire() if row["channelId"] == "1"]
    others = [row for row in sandbox.store.all_wire() if row["channelId"] == "2"]
    pages = [others] * 3 if noticed else [others]

    def mixed_up(_: SeenRequest) -> web.Response | None:
        return answered(pages.pop()) if pages else None

    sandbox.answer_with(mixed_up)
    walk = client.payments.list(channel_ids=[1], concurrency=1)
    assert [payment.id async for payment in walk] == mine
    assert list(client.payments._walker.learned.spellings.useful) == list(ChannelEncoding)
    assert client._caller.mixups.lately


async def test_pages_that_stay_mixed_up_are_not_remembered(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A walk that only gets other channels' pages after a mix-up fails; the next one is as good as ever."""
    client._caller.mixups.noticed()
    mine = [row["id"] for row in sandbox.store.all_wire() if row["channelId"] == "1"]
    others = [row for row in sandbox.store.all_wire() if row["channelId"] == "2"]
    sandbox.answer_with(lambda _: answered(others))
    with pytest.raises(PaginationError):
        await client.payments.list(channel_ids=[1]).collect()
    sandbox.answer_with(None)
    assert [one.id for one in await client.payments.list(channel_ids=[1]).collect()] == mine


async def test_walks_side_by_side_keep_to_their_filters(sandbox: Sandbox, client: PaymentsClient) -> None:
    """Two walks that get one another's first pages give what they asked for, and all of it."""
    walks = [client.payments.list(processing_status=status) for status in (1, 3)]
    sandbox.rules = attrs.evolve(sandbox.rules, swap_within=5.0)
    sandbox.order(Fault.SWAPPED, times=1)
    came = await asyncio.gather(*(walk.collect() for walk in walks))
    assert sandbox.mixed_up == 2
    for walk, status, payments in zip(walks, (1, 3), came, strict=True):
        wanted = [row["id"] for row in sandbox.store.all_wire() if row["processingStatus"] == status]
        assert [one.id for one in payments] == wanted
        assert walk.report.complete
        assert not walk.report.ignored_filters


async def test_pages_that_nothing_tells_apart_are_not_under_way_together(
    sandbox: Sandbox, client: PaymentsClient
) -> None:
    """The whole store and a part of it are never asked for from one offset at the same time."""
    came: list[float] = []  # when each request for the first offset did

    async def walk(**filters: Any) -> list[int]:
        return [payment.id async for payment in client.payments.list(page_size=10, **filters)]

    def note(_: object, seen: SeenRequest) -> None:
        if dict(seen.query)["offset"] == "0":
            came.append(seen.at)

    sandbox.rules = attrs.evolve(sandbox.rules, latency=1.0)
    sandbox.before_list = note
    whole, part = await asyncio.gather(walk(), walk(invoice_id=12))
    assert whole == sandbox.store.ids()
    assert set(part) < set(whole)
    assert len(came) > 1
    assert all(later - earlier >= 1.0 for earlier, later in pairwise(sorted(came)))


@pytest.mark.parametrize("ignored", ["processingStatus", "invoiceId", "customerName"])
async def test_a_filter_that_is_ignored_is_told(
    sandbox: Sandbox, client: PaymentsClient, ignored: Any
) -> None:
    """A service that ignores a filter is asked twice more, once; each walk gives what comes, and says so."""
    sandbox.rules = attrs.evolve(sandbox.rules, ignores=[ignored])
    asked: dict[str, Any] = {"processing_status": 4, "invoice_id": 12, "customer_name": "gmbh"}
    name = {"processingStatus": "processing_status", "invoiceId": "invoice_id"}.get(ignored, "customer_name")
    requests = []
    for _ in range(2):
        before = sandbox.request_count
        walk = client.payments.list(**{name: asked[name]}, page_size=25, concurrency=1)
        assert [payment.id async for payment in walk] == sandbox.store.ids()
        assert walk.report.complete
        assert walk.report.ignored_filters == {ignored}
        assert str(walk.report).endswith(f"some payments do not match {ignored}")
        requests.append(sandbox.request_count - before)
    assert requests[0] == requests[1] + 3
    assert not client._caller.mixups.lately


async def test_a_list_of_which_payments_came_among_others_is_not_empty(
    sandbox: Sandbox, client: PaymentsClient
) -> None:
    """A page of the whole store held some that fit the filter: empty answers after it are not believed."""
    whole = list(sandbox.store.all_wire())
    pages = [whole, *([[]] * 3)]
    sandbox.answer_with(lambda _: answered(pages.pop(0)) if pages else None)
    walk = client.payments.list(processing_status=3)
    wanted = [row["id"] for row in whole if row["processingStatus"] == 3]
    assert [payment.id async for payment in walk] == wanted
    assert walk.report.complete
    pages = [whole, *([[]] * 30)]
    sandbox.answer_with(lambda _: answered(pages.pop(0)) if pages else None)
    walk = client.payments.list(processing_status=3)
    with pytest.raises(AnswerMismatchError, match="is empty, although an earlier one had payments"):
        await walk.collect()


@pytest.mark.slow
@pytest.mark.parametrize("empty", [1, 2])
@pytest.mark.parametrize("retry", [NEVER, None], ids=["attempts=1", "attempts=5"])
async def test_empty_answers_in_between_hide_no_ignored_filter(
    sandbox: Sandbox, retry: Any, empty: int
) -> None:
    """That a service ignores a filter is learned, though a few of the answers compared come empty."""
    sandbox.rules = attrs.evolve(sandbox.rules, ignores=["processingStatus"])
    asked = 0

    def answer(_: SeenRequest) -> web.Response | None:
        nonlocal asked
        asked += 1
        return answered([]) if 1 < asked <= 1 + empty else None

    sandbox.answer_with(answer)
    async with client_of(sandbox, **({} if retry is None else {"retry": retry})) as client:
        walk = client.payments.list(processing_status=3)
        assert [payment.id async for payment in walk] == sandbox.store.ids()
        assert walk.report.ignored_filters == {"processingStatus"}


async def test_a_doubled_page_is_no_other_lists(sandbox: Sandbox, client: PaymentsClient) -> None:
    """What comes twice for one filter reaches no walk, count or first payment of another filter."""
    sandbox.rules = attrs.evolve(sandbox.rules, stray_after=None)
    waiting = [row["id"] for row in sandbox.store.all_wire() if row["processingStatus"] == 1]
    sandbox.order(Fault.DOUBLED, share=1)
    await client.payments.list(processing_status=4).collect()
    assert [one.id for one in await client.payments.list(processing_status=1).collect()] == waiting
    await client.payments.list().count()
    assert await client.payments.list(processing_status=1).count() == len(waiting)
    await client.payments.list(processing_status=4).first()
    first = await client.payments.list(processing_status=1).first()
    assert first is not None
    assert first.id == waiting[0]


Write = Callable[[PaymentsClient], Awaitable[object]]
CHANGES: dict[str, tuple[Write, str, dict[str, Any], dict[str, Any]]] = {
    "status": (
        lambda client: client.payments.update_processing_status(7, 2),
        "PUT",
        {"processingStatus": 1, "allowedStatuses": ["2"]},
        {"processingStatus": 2},
    ),
    "operation": (
        lambda client: client.payments.perform_operation(7, Operation.APPLY_TO_INVOICES),
        "POST",
        {
            "moduleName": "payments_offline",
            "processingStatus": 3,
            "appliedStatus": 0,
            "allowedOperations": [0],
        },
        {"appliedStatus": 1},
    ),
    "update": (
        lambda client: client.payments.update_offline(7, NEW),
        "PUT",
        {"moduleName": "payments_offline"},
        {"externalId": "INV-7"},
    ),
}
changes = pytest.mark.parametrize(("write", "method", "before", "after"), CHANGES.values(), ids=CHANGES)
ANOTHERS: dict[str, Any] = {
    "another's id": {"id": 8},
    "another's paymentId": {"paymentId": "8"},
    "operations": {"allowedOperations": [], "allowedStatuses": []},
    "a list": [{"type": "OfflineTransaction"}],
}


@changes
@pytest.mark.parametrize("data", ANOTHERS.values(), ids=ANOTHERS)
async def test_a_write_that_was_refused_is_never_told_done(
    sandbox: Sandbox,
    client: PaymentsClient,
    write: Write,
    method: str,
    before: dict[str, Any],
    after: dict[str, Any],
    data: Any,
) -> None:
    """Where the service refuses each time, and another's success comes instead once, that is no success."""
    refused = {"processingStatus": 1, "allowedStatuses": [], "allowedOperations": [], "moduleName": "other"}
    sandbox.store.update(7, **before | refused)
    once(sandbox, lambda: answered(data), method=method)
    # A POST is not sent again, and an update need not show: whether it was carried out is then not known.
    with pytest.raises((OutcomeUnknownError, BadRequestError)):
        await write(client)
    row = sandbox.store.wire(7)
    assert not [name for name, value in after.items() if row.get(name) == value]


@changes
@pytest.mark.parametrize("written", ["right", "absent", "wrong"])
async def test_a_write_is_told_by_its_payment_where_the_answer_names_another(
    sandbox: Sandbox,
    client: PaymentsClient,
    write: Write,
    method: str,
    before: dict[str, Any],
    after: dict[str, Any],
    written: Any,
) -> None:
    """A service whose answers always name another payment costs more requests, and no write is told wrong."""
    sandbox.rules = attrs.evolve(sandbox.rules, written_ids=written)
    sandbox.store.update(7, **before)
    await write(client)
    assert sandbox.store.wire(7).items() >= after.items()
    sent = [method] if written != "wrong" else [method, *([] if method == "POST" else [method]), "GET"]
    assert methods(sandbox) == sent


async def test_a_delete_is_told_by_its_payment(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A delete whose answer names another payment is done where the payment is gone."""
    sandbox.rules = attrs.evolve(sandbox.rules, written_ids="wrong")
    await client.payments.delete(7)
    assert 7 not in sandbox.store
    assert methods(sandbox)[:2] == ["DELETE", "DELETE"]


@pytest.mark.parametrize("data", [{"id": 8}, {"id": 8, "total": {}}, [], {}, None, {"paymentId": None}])
async def test_a_create_that_was_refused_is_never_told_done(
    sandbox: Sandbox, client: PaymentsClient, data: Any
) -> None:
    """Another's success in a create's place leads to looking for the payment, and it is not there."""
    once(sandbox, lambda: answered(data), method="POST")
    with pytest.raises(OutcomeUnknownError, match="Look for externalId=INV-7"):
        await client.payments.create_offline(NEW)
    assert sandbox.store.payments == 30


async def test_a_create_gives_no_id_twice(sandbox: Sandbox, client: PaymentsClient) -> None:
    """The answer of an earlier create, come again, is none: the new payment is looked for, and found."""
    first = await client.payments.create_offline(NEW)

    def doubled(seen: SeenRequest) -> web.Response | None:
        return answered({"paymentId": first}) if seen.method == "POST" else None

    second = await client.payments.create_offline(attrs.evolve(NEW, external_id="INV-8"))
    sandbox.answer_with(doubled)
    with pytest.raises(OutcomeUnknownError, match="names another payment than the one created"):
        await client.payments.create_offline(attrs.evolve(NEW, external_id="INV-9"))
    assert first != second
    assert client._caller.mixups.lately


async def test_a_create_cannot_be_an_update(sandbox: Sandbox, client: PaymentsClient) -> None:
    """The answer to an update of this client in a create's place names a payment that was there before."""
    sandbox.store.update(7, moduleName="payments_offline")
    await client.payments.update_offline(7, NEW)
    once(sandbox, lambda: answered({"paymentId": 7}), method="POST")
    with pytest.raises(OutcomeUnknownError):
        await client.payments.create_offline(attrs.evolve(NEW, external_id="INV-8"))


async def test_looking_for_a_create_finds_no_earlier_one(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A payment that this client created before is not taken for one whose answer was lost."""
    await client.payments.create_offline(NEW)
    sandbox.order(Fault.RESET_BEFORE, times=1, methods=WRITES)
    with pytest.raises(OutcomeUnknownError):
        await client.payments.create_offline(NEW)
    assert sandbox.store.payments == 31


async def test_after_a_mix_up_a_create_is_read_back(sandbox: Sandbox, client: PaymentsClient) -> None:
    """While answers get mixed up, a create costs one request more, and another's id is found out."""
    await client.payments.create_offline(NEW)
    assert methods(sandbox) == ["POST"]
    client._caller.mixups.noticed()
    payment_id = await client.payments.create_offline(attrs.evolve(NEW, external_id="INV-8"))
    assert sandbox.store.wire(payment_id)["externalId"] == "INV-8"
    assert methods(sandbox)[1:] == ["POST", "GET"]
    once(sandbox, lambda: answered({"paymentId": 3}), method="POST")
    with pytest.raises(OutcomeUnknownError):
        await client.payments.create_offline(attrs.evolve(NEW, external_id="INV-9"))
    once(sandbox, lambda: answered({"paymentId": 3}), method="POST")
    with pytest.raises(OutcomeUnknownError, match="Look for customerId=95000, lineItems="):
        await client.payments.create_offline(attrs.evolve(NEW, external_id=None))


async def test_creates_swapped_after_a_mix_up_get_their_own_ids(sandbox: Sandbox) -> None:
    """Two creates that get one another's answers find their own payments, once something was noticed."""
    sandbox.rules = attrs.evolve(sandbox.rules, swap_within=5.0)
    async with client_of(sandbox) as client:
        client._caller.mixups.noticed()
        sandbox.order(Fault.SWAPPED, times=1, methods=WRITES)
        names = ["INV-1", "INV-2"]
        ids = await gathered(client, names)
    assert sandbox.mixed_up == 2
    assert [sandbox.store.wire(one)["externalId"] for one in ids] == names


async def gathered(client: PaymentsClient, names: list[str]) -> list[int]:
    """Create these payments at once."""
    creates = [client.payments.create_offline(attrs.evolve(NEW, external_id=name)) for name in names]
    return await asyncio.gather(*creates)


async def test_after_a_mix_up_a_writes_refusal_is_checked(sandbox: Sandbox, client: PaymentsClient) -> None:
    """While answers get mixed up, a refusal is told only where the payment shows that it may be true."""
    client._caller.mixups.noticed()
    sandbox.store.update(7, processingStatus=1, allowedStatuses=["2"])

    def refused(seen: SeenRequest) -> web.Response | None:
        if seen.method != "PUT":
            return None
        sandbox.store.update(7, processingStatus=2)
        return answered({"errMsg": "not allowed"}, 400)

    sandbox.answer_with(refused)
    await client.payments.update_processing_status(7, 2)
    sandbox.answer_with(None)
    sandbox.store.update(7, processingStatus=1, allowedStatuses=["4"])
    with pytest.raises(BadRequestError):
        await client.payments.update_processing_status(7, 2)


@pytest.mark.parametrize("status", [400, 404, 422, 429])
async def test_after_a_mix_up_a_create_that_was_refused_is_looked_for(
    sandbox: Sandbox, client: PaymentsClient, status: int
) -> None:
    """While answers get mixed up, a refused create is looked for, and not sent again."""
    client._caller.mixups.noticed()

    def refused(seen: SeenRequest) -> web.Response | None:
        if seen.method != "POST":
            return None
        made.append(sandbox.store.insert(customerId="95000", externalId="INV-7", total=total))
        return answered({"errMsg": "no"}, status)

    made: list[int] = []
    total = {"code": "USD", "value": "20.0000"}
    sandbox.answer_with(refused)
    assert await client.payments.create_offline(NEW) == made[0]
    assert len(made) == 1


async def test_after_a_mix_up_an_operations_refusal_is_not_believed(
    sandbox: Sandbox, client: PaymentsClient
) -> None:
    """An operation that was refused, of a payment that shows it, may have been carried out: not known."""
    client._caller.mixups.noticed()
    sandbox.store.update(
        7, moduleName="payments_offline", processingStatus=3, appliedStatus=1, allowedOperations=[1]
    )
    with pytest.raises(OutcomeUnknownError):
        await client.payments.perform_operation(7, Operation.APPLY_TO_INVOICES)


async def test_before_any_mix_up_a_refusal_is_a_refusal(sandbox: Sandbox, client: PaymentsClient) -> None:
    """Where nothing was noticed, a refused create is told at once, with one request."""
    with pytest.raises(ValidationError):
        await client.payments.create_offline(attrs.evolve(NEW, channel_id=99))
    assert methods(sandbox) == ["POST"]


async def test_a_stray_success_on_a_kept_connection_is_no_writes(sandbox: Sandbox) -> None:
    """The next answer on a kept connection is a create's: a create that the service refuses is refused."""

    async def play(connection: Connection) -> None:
        if connection.number == 1:
            payment = examples.LISTED_PAYMENT | {"storeHash": sandbox.auth.store_hash}
            await connection.answer(json.dumps(examples.answered(payment)).encode())
            await connection.answer(b'{"code":200,"data":{"paymentId":66}}')
        else:
            await connection.answer(b'{"code":422,"data":{"currency":["no"]}}', "422 No")

    async with RawServer(play) as server:
        auth = sandbox.auth
        async with PaymentsClient(auth, base_url=server.base_url, quota=None, retry=NEVER) as client:
            assert (await client.payments.get(70)).id == 70
            with pytest.raises(ValidationError):
                await client.payments.create_offline(NEW)
