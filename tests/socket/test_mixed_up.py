"""Answers that reach the wrong request: what the caller gets, and what is reported of a write."""

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
    """Yield a sandbox of 30 payments whose clock is the present."""
    async with Sandbox(30, rules=Rules(quota=False)) as one:
        one.store.clock = int(time.time())
        yield one


@pytest.fixture(params=[False, True], ids=["own", "lent"])
async def client(request: pytest.FixtureRequest, sandbox: Sandbox) -> AsyncIterator[PaymentsClient]:
    """Yield a client of the sandbox, with its own session or a given one."""
    async with (
        aiohttp.ClientSession() as session,
        client_of(sandbox, session=session if request.param else None) as one,
    ):
        yield one


def answered(data: Any, status: int = 200) -> web.Response:
    """Return an answer with this data."""
    return web.json_response({"code": status, "data": data, "meta": {"message": "…"}}, status=status)


def always(data: Any, _: SeenRequest) -> web.Response:
    """Answer every request with this data."""
    return answered(data)


def once(sandbox: Sandbox, response: Callable[[], web.Response], *, method: str) -> None:
    """Answer the next request of this method with something else, without carrying it out."""

    def answer(seen: SeenRequest) -> web.Response | None:
        if seen.method != method:
            return None
        sandbox.answer_with(None)
        return response()

    sandbox.answer_with(answer)


def methods(sandbox: Sandbox) -> list[str]:
    """Return the methods of the requests that arrived."""
    return [seen.method for seen in sandbox.requests]


@pytest.mark.parametrize("fault", [Fault.STRAY, Fault.DOUBLED])
@pytest.mark.parametrize("after", [0.0, None])
async def test_get_returns_the_requested_payment(
    sandbox: Sandbox, client: PaymentsClient, fault: Fault, after: float | None
) -> None:
    """Despite extra answers after one, or before the next, each get returns its own payment."""
    sandbox.rules = attrs.evolve(sandbox.rules, stray_after=after)
    sandbox.order(fault, share=1)
    for payment_id in range(1, 16):
        assert (await client.payments.get(payment_id)).id == payment_id
    assert sandbox.mixed_up > 0


async def test_stray_404_is_checked(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A 404 that is another request's, read from a reused connection, is checked again."""
    sandbox.rules = attrs.evolve(sandbox.rules, stray_after=None)
    await client.payments.get(1)
    with pytest.raises(NotFoundError):
        await client.payments.get(999)
    sandbox.order(Fault.STRAY, times=1)
    await client.payments.get(2)
    assert (await client.payments.get(3)).id == 3


async def test_404_on_a_reused_connection_costs_one_request(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A 404 is believed once it was received on a new connection."""
    await client.payments.get(1)
    with pytest.raises(NotFoundError):
        await client.payments.get(999)
    assert sandbox.request_count == 3
    await client.payments.get(2)
    assert not client._caller.mixups.recent


async def test_other_payment_is_never_returned(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A service that always answers with another payment causes an error that says so."""
    sandbox.answer_with(lambda _: answered(sandbox.store.wire(6)))
    with pytest.raises(AnswerMismatchError, match=r"\$\.data\.id is 6, not 5") as caught:
        await client.payments.get(5)
    assert isinstance(caught.value, ResponseDecodeError)
    assert caught.value.paths == ["$.data.id"]
    assert sandbox.request_count == 5


async def test_repeated_swap_is_not_a_constant(sandbox: Sandbox, client: PaymentsClient) -> None:
    """Operations with another payment's id every time are not returned, and neither is a bare id."""
    for other in (sandbox.store.wire(6), {"id": 6}):
        sandbox.answer_with(partial(always, other))
        with pytest.raises(AnswerMismatchError, match=r"\$\.data\.id is 6, not 5"):
            await client.payments.operations(5)
    sandbox.answer_with(None)
    assert (await client.payments.operations(5)).allowed_operations


async def test_one_attempt_sends_one_request(sandbox: Sandbox) -> None:
    """A policy with one attempt raises the first mismatch of a get."""
    async with client_of(sandbox, retry=NEVER) as client:
        once(sandbox, lambda: answered(sandbox.store.wire(6)), method="GET")
        with pytest.raises(AnswerMismatchError):
            await client.payments.get(5)
        assert sandbox.request_count == 1


async def test_mix_up_emits_an_event(sandbox: Sandbox) -> None:
    """Each time a read is repeated because of a mix-up, an event is emitted."""
    events: list[Event] = []
    async with client_of(sandbox, on_event=events.append) as client:
        once(sandbox, lambda: answered(sandbox.store.wire(6)), method="GET")
        await client.payments.get(5)
    retries = [event for event in events if isinstance(event, RetryScheduled)]
    assert [(event.attempt, event.delay, event.reason) for event in retries] == [(1, 0.0, "mixed up")]


@pytest.mark.parametrize("status", [304, 412, 416, 302])
async def test_walk_survives_a_conditional_answer(
    sandbox: Sandbox, client: PaymentsClient, status: int
) -> None:
    """A page answered with a status of conditional requests is read again."""
    walk = client.payments.list(page_size=10, concurrency=1).pages()
    await anext(walk)
    once(sandbox, lambda: web.Response(status=status), method="GET")
    assert sum([len(page.items) async for page in walk]) == 20
    assert walk.report.complete
    assert client.payments.recently_mixed_up


async def test_write_with_conditional_answer_is_judged_by_its_payment(
    sandbox: Sandbox, client: PaymentsClient
) -> None:
    """A 412 to a create leaves its outcome unknown: the 412 may be another request's."""
    once(sandbox, lambda: web.Response(status=412), method="POST")
    with pytest.raises(OutcomeUnknownError, match=r"412 Precondition.* Look for externalId=INV-7"):
        await client.payments.create_offline(NEW)


@pytest.mark.parametrize("after", [0.0, None])
@pytest.mark.parametrize("fault", [Fault.STRAY, Fault.DOUBLED, Fault.SWAPPED])
async def test_walk_gets_its_own_pages(
    sandbox: Sandbox, client: PaymentsClient, fault: Fault, after: float | None
) -> None:
    """A walk whose pages get mixed up yields every payment once."""
    sandbox.rules = attrs.evolve(sandbox.rules, stray_after=after)
    sandbox.order(fault, share=0.3)
    walk = client.payments.list(page_size=4, concurrency=3)
    assert [payment.id async for payment in walk] == sandbox.store.ids()
    assert walk.report.complete
    assert sandbox.mixed_up > 0


@pytest.mark.parametrize("number", [1, 2])
async def test_page_in_another_order_is_read_again(
    sandbox: Sandbox, client: PaymentsClient, number: int
) -> None:
    """One page in the opposite order, in the walk or its proof, does no harm."""
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
    assert client.payments.recently_mixed_up


@pytest.mark.parametrize("retry", [NEVER, None], ids=["attempts=1", "attempts=5"])
async def test_constant_zero_offset_is_ignored(sandbox: Sandbox, retry: Any) -> None:
    """A service that reports offset 0 for every page costs a few requests once, and is then believed."""
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
        assert not client._caller.mixups.recent


@pytest.mark.parametrize("echo", ["asked", "clamped", None])
async def test_correct_or_missing_offset_costs_nothing(sandbox: Sandbox, echo: Any) -> None:
    """An echoed, missing or clamped offset causes no extra request."""
    async with client_of(sandbox) as client:
        await client.payments.list(page_size=4).collect()
        honest = sandbox.request_count
        sandbox.rules = attrs.evolve(sandbox.rules, echo_offset=echo)
        await client.payments.list(page_size=4).collect()
        assert sandbox.request_count == 2 * honest


@pytest.mark.parametrize("lies", [{"total_count": "page"}, {"total_cap": 15}], ids=["page", "cap"])
@pytest.mark.parametrize("retry", [NEVER, None], ids=["attempts=1", "attempts=5"])
async def test_offset_clamped_to_a_wrong_total_is_ignored(sandbox: Sandbox, lies: Any, retry: Any) -> None:
    """A page beyond a wrong total, reported as the offset, costs three requests once."""

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
        assert not client.payments.recently_mixed_up


async def test_page_of_another_channel_is_read_again(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A page of another channel does not discard a `channelIds` encoding that worked before."""
    mine = [row["id"] for row in sandbox.store.all_wire() if row["channelId"] == "1"]
    others = [row for row in sandbox.store.all_wire() if row["channelId"] == "2"]
    assert await client.payments.list(channel_ids=[1]).count() == len(mine)
    once(sandbox, lambda: answered(others), method="GET")
    walk = client.payments.list(channel_ids=[1])
    assert [payment.id async for payment in walk] == mine
    assert client._caller.mixups.recent
    assert {name for seen in sandbox.requests for name, _ in seen.query if "channel" in name} == {
        "channelIds"
    }


@pytest.mark.parametrize("noticed", [False, True])
async def test_mixed_up_channels_discard_no_encoding(
    sandbox: Sandbox, client: PaymentsClient, *, noticed: bool
) -> None:
    """Pages of other channels, before any was right, discard no encoding of `channelIds`."""
    if noticed:
        client._caller.mixups.record()
    mine = [row["id"] for row in sandbox.store.all_wire() if row["channelId"] == "1"]
    others = [row for row in sandbox.store.all_wire() if row["channelId"] == "2"]
    pages = [others] * 3 if noticed else [others]

    def mixed_up(_: SeenRequest) -> web.Response | None:
        return answered(pages.pop()) if pages else None

    sandbox.answer_with(mixed_up)
    walk = client.payments.list(channel_ids=[1], concurrency=1)
    assert [payment.id async for payment in walk] == mine
    assert list(client.payments._walker.learned.encodings.useful) == list(ChannelEncoding)
    assert client._caller.mixups.recent


async def test_permanent_mix_up_is_not_remembered(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A walk that only gets other channels' pages fails; the next walk works again."""
    client._caller.mixups.record()
    mine = [row["id"] for row in sandbox.store.all_wire() if row["channelId"] == "1"]
    others = [row for row in sandbox.store.all_wire() if row["channelId"] == "2"]
    sandbox.answer_with(lambda _: answered(others))
    with pytest.raises(PaginationError):
        await client.payments.list(channel_ids=[1]).collect()
    sandbox.answer_with(None)
    assert [one.id for one in await client.payments.list(channel_ids=[1]).collect()] == mine


async def test_concurrent_walks_keep_their_filters(sandbox: Sandbox, client: PaymentsClient) -> None:
    """Two walks that get one another's first pages yield their own payments, completely."""
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


async def test_indistinguishable_pages_are_not_concurrent(sandbox: Sandbox, client: PaymentsClient) -> None:
    """The whole store and a part of it are never requested with the same offset at once."""
    arrivals: list[float] = []  # of the requests with offset 0

    async def walk(**filters: Any) -> list[int]:
        return [payment.id async for payment in client.payments.list(page_size=10, **filters)]

    def note(_: object, seen: SeenRequest) -> None:
        if dict(seen.query)["offset"] == "0":
            arrivals.append(seen.at)

    sandbox.rules = attrs.evolve(sandbox.rules, latency=1.0)
    sandbox.before_list = note
    whole, part = await asyncio.gather(walk(), walk(invoice_id=12))
    assert whole == sandbox.store.ids()
    assert set(part) < set(whole)
    assert len(arrivals) > 1
    assert all(later - earlier >= 1.0 for earlier, later in pairwise(sorted(arrivals)))


@pytest.mark.parametrize("ignored", ["processingStatus", "invoiceId", "customerName"])
async def test_ignored_filter_is_reported(sandbox: Sandbox, client: PaymentsClient, ignored: Any) -> None:
    """A service that ignores a filter costs two requests once; each walk yields its rows and says so."""
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
        assert str(walk.report).endswith(f"some payments may not match {ignored}")
        requests.append(sandbox.request_count - before)
    assert requests[0] == requests[1] + 3
    assert not client._caller.mixups.recent


async def test_list_that_had_matches_is_not_empty(sandbox: Sandbox, client: PaymentsClient) -> None:
    """After a page of the whole store with some matches, empty answers are not believed."""
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
async def test_empty_answers_do_not_hide_an_ignored_filter(sandbox: Sandbox, retry: Any, empty: int) -> None:
    """An ignored filter is detected although some of the compared answers are empty."""
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


async def test_duplicate_page_reaches_no_other_list(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A duplicate page of one filter reaches no walk, count or first payment of another."""
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
async def test_refused_write_is_never_reported_done(
    sandbox: Sandbox,
    client: PaymentsClient,
    write: Write,
    method: str,
    before: dict[str, Any],
    after: dict[str, Any],
    data: Any,
) -> None:
    """If the service refuses every time, a stray success of another request is not believed."""
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
async def test_write_naming_another_payment_is_judged_by_its_own(
    sandbox: Sandbox,
    client: PaymentsClient,
    write: Write,
    method: str,
    before: dict[str, Any],
    after: dict[str, Any],
    written: Any,
) -> None:
    """If answers always name another payment, it costs more requests, but no write is reported wrong."""
    sandbox.rules = attrs.evolve(sandbox.rules, written_ids=written)
    sandbox.store.update(7, **before)
    await write(client)
    assert sandbox.store.wire(7).items() >= after.items()
    sent = [method] if written != "wrong" else [method, *([] if method == "POST" else [method]), "GET"]
    assert methods(sandbox) == sent


async def test_delete_is_judged_by_its_payment(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A delete whose answer names another payment is done if the payment is gone."""
    sandbox.rules = attrs.evolve(sandbox.rules, written_ids="wrong")
    await client.payments.delete(7)
    assert 7 not in sandbox.store
    assert methods(sandbox)[:2] == ["DELETE", "DELETE"]


@pytest.mark.parametrize("data", [{"id": 8}, {"id": 8, "total": {}}, [], {}, None, {"paymentId": None}])
async def test_refused_create_is_never_reported_done(
    sandbox: Sandbox, client: PaymentsClient, data: Any
) -> None:
    """After another request's success, the payment is searched for, and does not exist."""
    once(sandbox, lambda: answered(data), method="POST")
    with pytest.raises(OutcomeUnknownError, match="Look for externalId=INV-7"):
        await client.payments.create_offline(NEW)
    assert sandbox.store.payments == 30


async def test_create_returns_no_id_twice(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A duplicate of an earlier create's answer is refused: the new payment is searched for and found."""
    first = await client.payments.create_offline(NEW)

    def doubled(seen: SeenRequest) -> web.Response | None:
        return answered({"paymentId": first}) if seen.method == "POST" else None

    second = await client.payments.create_offline(attrs.evolve(NEW, external_id="INV-8"))
    sandbox.answer_with(doubled)
    with pytest.raises(OutcomeUnknownError, match="names a payment other than the one created"):
        await client.payments.create_offline(attrs.evolve(NEW, external_id="INV-9"))
    assert first != second
    assert client._caller.mixups.recent


async def test_answer_to_an_update_is_not_a_create(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A create answered with the id of a payment updated before is not believed."""
    sandbox.store.update(7, moduleName="payments_offline")
    await client.payments.update_offline(7, NEW)
    once(sandbox, lambda: answered({"paymentId": 7}), method="POST")
    with pytest.raises(OutcomeUnknownError):
        await client.payments.create_offline(attrs.evolve(NEW, external_id="INV-8"))


async def test_search_does_not_find_an_earlier_create(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A payment that this client created before is not mistaken for one whose answer was lost."""
    await client.payments.create_offline(NEW)
    sandbox.order(Fault.RESET_BEFORE, times=1, methods=WRITES)
    with pytest.raises(OutcomeUnknownError):
        await client.payments.create_offline(NEW)
    assert sandbox.store.payments == 31


async def test_create_is_read_back_after_a_mix_up(sandbox: Sandbox, client: PaymentsClient) -> None:
    """While answers get mixed up, a create costs one more request, and a wrong id is detected."""
    await client.payments.create_offline(NEW)
    assert methods(sandbox) == ["POST"]
    client._caller.mixups.record()
    payment_id = await client.payments.create_offline(attrs.evolve(NEW, external_id="INV-8"))
    assert sandbox.store.wire(payment_id)["externalId"] == "INV-8"
    assert methods(sandbox)[1:] == ["POST", "GET"]
    once(sandbox, lambda: answered({"paymentId": 3}), method="POST")
    with pytest.raises(OutcomeUnknownError):
        await client.payments.create_offline(attrs.evolve(NEW, external_id="INV-9"))
    once(sandbox, lambda: answered({"paymentId": 3}), method="POST")
    with pytest.raises(OutcomeUnknownError, match="Look for customerId=95000, lineItems="):
        await client.payments.create_offline(attrs.evolve(NEW, external_id=None))


async def test_create_that_cannot_be_read_back_after_a_mix_up(
    sandbox: Sandbox, client: PaymentsClient
) -> None:
    """While answers get mixed up, a create whose payment cannot be read is searched for, or unknown."""
    client._caller.mixups.record()
    sandbox.answer_with(
        lambda seen: answered({}, 400) if seen.method == "GET" and seen.path[-1].isdigit() else None
    )
    payment_id = await client.payments.create_offline(NEW)
    assert sandbox.store.wire(payment_id)["externalId"] == NEW.external_id
    with pytest.raises(OutcomeUnknownError, match="Look for customerId=95000"):
        await client.payments.create_offline(attrs.evolve(NEW, external_id=None))
    assert methods(sandbox).count("POST") == 2


async def test_creates_swapped_after_a_mix_up_get_their_own_ids(sandbox: Sandbox) -> None:
    """Two creates with swapped answers find their own payments, once a mix-up was noticed."""
    sandbox.rules = attrs.evolve(sandbox.rules, swap_within=5.0)
    async with client_of(sandbox) as client:
        client._caller.mixups.record()
        sandbox.order(Fault.SWAPPED, times=1, methods=WRITES)
        names = ["INV-1", "INV-2"]
        ids = await gathered(client, names)
    assert sandbox.mixed_up == 2
    assert [sandbox.store.wire(one)["externalId"] for one in ids] == names


async def gathered(client: PaymentsClient, names: list[str]) -> list[int]:
    """Create these payments at once."""
    creates = [client.payments.create_offline(attrs.evolve(NEW, external_id=name)) for name in names]
    return await asyncio.gather(*creates)


async def test_refusal_is_checked_after_a_mix_up(sandbox: Sandbox, client: PaymentsClient) -> None:
    """While answers get mixed up, a refusal is raised only if the payment confirms it."""
    client._caller.mixups.record()
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
async def test_refused_create_is_searched_for_after_a_mix_up(
    sandbox: Sandbox, client: PaymentsClient, status: int
) -> None:
    """While answers get mixed up, a refused create is searched for, and not sent again."""
    client._caller.mixups.record()

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


async def test_refused_operation_is_unknown_after_a_mix_up(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A refused operation whose effect shows may have been carried out: unknown."""
    client._caller.mixups.record()
    sandbox.store.update(
        7, moduleName="payments_offline", processingStatus=3, appliedStatus=1, allowedOperations=[1]
    )
    with pytest.raises(OutcomeUnknownError):
        await client.payments.perform_operation(7, Operation.APPLY_TO_INVOICES)


async def test_refusal_is_believed_before_any_mix_up(sandbox: Sandbox, client: PaymentsClient) -> None:
    """If no mix-up was noticed, a refused create raises at once, after one request."""
    with pytest.raises(ValidationError):
        await client.payments.create_offline(attrs.evolve(NEW, channel_id=99))
    assert methods(sandbox) == ["POST"]


async def test_stray_success_on_a_reused_connection(sandbox: Sandbox) -> None:
    """A stray create's answer on a reused connection does not make a refused create a success."""

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
