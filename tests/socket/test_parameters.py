"""Every parameter of the vendor's document, checked where it arrives: on the sandbox's side of the socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from decimal import Decimal
from typing import Any

import pytest

from b2b_payments import (
    ConfigurationError,
    OfflineLineItem,
    OfflinePayment,
    Operation,
    OrderBy,
    PaginationError,
    PaymentsClient,
    ProcessingStatus,
    SearchBy,
    SortBy,
)
from b2b_payments._protocol.query import ChannelEncoding
from b2b_payments.sandbox import Rules, Sandbox, SeenRequest
from tests.support.clients import client_of
from tests.support.examples import CREATE_OFFLINE_BODY

ALWAYS = [("offset", "0"), ("limit", "1"), ("orderBy", "ASC"), ("sortBy", "createdAt")]
# One row of a channel would say little about whether the service reads channelIds.
WHOLE_PAGE = ("limit", "250")


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Yield a sandbox of 30 payments."""
    async with Sandbox(30) as one:
        yield one


def last(sandbox: Sandbox) -> SeenRequest:
    """Return the request that arrived last; it was answered as a success."""
    seen = sandbox.requests[-1]
    assert seen.status == 200
    return seen


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"offset": 7}, [("offset", "7"), *ALWAYS[1:]]),
        ({"order_by": OrderBy.DESC}, [*ALWAYS[:2], ("orderBy", "DESC"), ALWAYS[3]]),
        *(({"sort_by": key}, [*ALWAYS[:3], ("sortBy", key.value)]) for key in SortBy),
        *(({"search_by": key, "q": "7"}, [*ALWAYS, ("searchBy", key.value), ("q", "7")]) for key in SearchBy),
        ({"search_by": "externalId", "q": "ERP-1"}, [*ALWAYS, ("searchBy", "externalId"), ("q", "ERP-1")]),
        ({"customer_name": "Søren & Co"}, [*ALWAYS, ("customerName", "Søren & Co")]),
        ({"invoice_id": 13}, [*ALWAYS, ("invoiceId", "13")]),
        *(
            ({"processing_status": status}, [*ALWAYS, ("processingStatus", str(status.value))])
            for status in ProcessingStatus
        ),
        ({"channel_ids": [2]}, [ALWAYS[0], WHOLE_PAGE, *ALWAYS[2:], ("channelIds", "2")]),
        (
            {"channel_ids": [3, 1]},
            [ALWAYS[0], WHOLE_PAGE, *ALWAYS[2:], ("channelIds", "3"), ("channelIds", "1")],
        ),
        ({"q": 7}, [*ALWAYS, ("q", "7")]),
        ({}, ALWAYS),
    ],
)
async def test_each_parameter_of_the_list_arrives(
    sandbox: Sandbox, client: PaymentsClient, given: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    """A filter arrives under its documented name; zero is a value; what was left out is not sent."""
    await client.payments.list(**given).first()
    assert last(sandbox).query == expected
    assert last(sandbox).path == "/api/v3/io/ip/payments"


EXACT = [
    " both ends ", "a+b", "a b", "a&b=c;d", "%41", "100%", "#x?y=z", "[]{}", "/../", "\\", '"', "a,b", "=",
    "\x00", "line\r\nline", "\t\x1b[2J\x7f", "x\x85\u2028\u2029x", "\u202eabc", "\ufeff", "e\u0301", "é", "ﬀ",
    "\U0001f600", "\uffff", "long" * 1_000,
]  # fmt: skip


async def test_text_arrives_as_it_was_given(sandbox: Sandbox, client: PaymentsClient) -> None:
    """Whatever characters a filter or a payment's text has, they arrive one for one."""
    for text in EXACT:
        await client.payments.list(customer_name=text, q=text).first()
        assert last(sandbox).query[-2:] == [("q", text), ("customerName", text)]
        sent = OfflinePayment(
            "1", "USD", [OfflineLineItem(1, 1)], {text: [text]}, text, payer_name=text, payer_customer_id=text
        )
        await client.payments.update_offline(1, sent)
        body = last(sandbox).body
        assert (body["details"], body["externalId"]) == ({text: [text]}, text)
        assert (body["payerName"], body["payerCustomerId"]) == (text, text)


@pytest.mark.parametrize("name", ["customer_name", "q"])
@pytest.mark.parametrize("text", ["\ud800", "Zo\udceb", "\udcff\ud800x"])
async def test_text_that_cannot_be_sent_is_refused(
    sandbox: Sandbox, client: PaymentsClient, name: str, text: str
) -> None:
    """A filter with half of a surrogate pair is refused by name: sent, it would be another filter."""
    given: dict[str, Any] = {name: text}
    for walk in (client.payments.list, client.payments.stream):
        with pytest.raises(ConfigurationError, match=rf"{name} cannot be sent: its character \d is half of"):
            walk(**given)
    assert sandbox.request_count == 0


async def test_the_page_size_arrives_as_the_limit(sandbox: Sandbox, client: PaymentsClient) -> None:
    """`limit` is the page size: 250 rows unless told otherwise."""
    await client.payments.list().collect()
    assert ("limit", "250") in last(sandbox).query
    sandbox.requests.clear()
    await client.payments.list(page_size=20).collect()
    limits = [dict(seen.query)["limit"] for seen in sandbox.requests]
    # The page that proves the end is as long as pages are.
    assert sorted(set(limits)) == ["20", "250"]
    assert limits.count("250") == 1


async def test_each_filter_filters(sandbox: Sandbox, client: PaymentsClient) -> None:
    """What comes back is what the sandbox's store holds under each filter."""
    rows = list(sandbox.store.all_wire())
    one = rows[11]

    async def ids(**given: Any) -> set[int]:
        return {payment.id async for payment in client.payments.list(**given)}

    assert await ids() == {row["id"] for row in rows}
    for status in ProcessingStatus:
        expected = {row["id"] for row in rows if row["processingStatus"] == status.value}
        assert await ids(processing_status=status) == expected
    assert await ids(search_by="id", q=str(one["id"])) == {one["id"]}
    assert one["id"] in await ids(customer_name=one["customerName"])
    assert one["id"] in await ids(invoice_id=one["lineItems"][0]["invoiceId"])
    assert await ids(channel_ids=[2]) == {row["id"] for row in rows if row["channelId"] == "2"}


@pytest.mark.parametrize(
    ("understood", "encoding"),
    [
        ("repeat", ChannelEncoding.REPEAT),
        ("brackets", ChannelEncoding.BRACKETS),
        ("brackets-comma", ChannelEncoding.BRACKETS_COMMA),
        ("comma", ChannelEncoding.COMMA),
    ],
)
async def test_the_client_finds_the_encoding_of_channels(understood: Any, encoding: ChannelEncoding) -> None:
    """Whichever way the service reads `channelIds`, the client finds it, and remembers it."""
    async with Sandbox(60, rules=Rules(channel_encoding=understood)) as sandbox, client_of(sandbox) as client:
        wanted = {row["id"] for row in sandbox.store.all_wire() if row["channelId"] in {"1", "2"}}
        for _ in range(2):
            assert {payment.id async for payment in client.payments.list(channel_ids=[1, 2])} == wanted
            assert last(sandbox).query[4:] == encoding.pairs([1, 2])
        tried = list(ChannelEncoding).index(encoding)
        # What is misread is asked for twice, and each walk is proven from its other end.
        assert sandbox.request_count == 2 * tried + 4


async def test_a_service_that_ignores_channels_is_found_out() -> None:
    """Where no encoding is understood, the walk ends in an error and gives no foreign row."""
    async with Sandbox(60, rules=Rules(channel_encoding=())) as sandbox, client_of(sandbox) as client:
        walk = client.payments.list(channel_ids=[1])
        with pytest.raises(PaginationError, match="misreads channelIds however it is written"):
            await walk.collect()
        assert walk.report.rows == 0
        assert sandbox.request_count == 2 * len(ChannelEncoding)  # each may have got another's answer


async def test_a_service_that_takes_one_of_several_channels_is_found_out() -> None:
    """Where a repeated key's last value alone counts, the client finds another way; no channel is lost."""
    rules = Rules(channel_encoding=("repeat-last", "comma"))
    async with Sandbox(100, rules=rules) as sandbox, client_of(sandbox) as client:
        wanted = {row["id"] for row in sandbox.store.all_wire() if row["channelId"] in {"1", "2"}}
        walk = client.payments.list(channel_ids=[1, 2])
        assert {payment.id async for payment in walk} == wanted
        assert walk.report.complete
        assert last(sandbox).query[4:] == [("channelIds", "1,2")]


async def test_a_service_that_takes_one_channel_however_asked_is_found_out() -> None:
    """Where no way to write several channels gives all of them, the walk ends in an error, not in a part."""
    async with (
        Sandbox(100, rules=Rules(channel_encoding=("repeat-last",))) as sandbox,
        client_of(sandbox) as client,
    ):
        with pytest.raises(PaginationError, match="or leaves out some"):
            await client.payments.list(channel_ids=[1, 2]).collect()


async def test_channels_of_which_only_one_has_payments_are_no_misreading() -> None:
    """Asked for a channel with payments and one without, the walk gives what there is."""
    async with Sandbox(40, channels=(1, 2, 3)) as sandbox, client_of(sandbox) as client:
        for payment_id in sandbox.store.ids():
            if sandbox.store.channel(payment_id) == 2:
                sandbox.store.delete(payment_id)
        wanted = [payment_id for payment_id in sandbox.store.ids() if sandbox.store.channel(payment_id) == 1]
        walk = client.payments.list(channel_ids=[1, 2])
        assert sorted([payment.id async for payment in walk]) == sorted(wanted)
        assert walk.report.complete


async def test_a_count_is_not_that_of_another_channel() -> None:
    """Where channelIds is ignored, counting a channel ends in an error, as walking it does."""
    async with Sandbox(100, rules=Rules(channel_encoding=())) as sandbox, client_of(sandbox) as client:
        with pytest.raises(PaginationError, match="misreads channelIds"):
            await client.payments.list(channel_ids=[1]).count()


async def test_the_report_counts_every_request() -> None:
    """Refused page sizes are requests too."""
    rules = Rules(quota=False, max_limit=100, over_limit="refuse")
    async with Sandbox(300, rules=rules) as sandbox, client_of(sandbox) as client:
        walk = client.payments.list()
        assert len(await walk.collect()) == 300
        assert walk.report.requests == sandbox.request_count


async def test_a_walk_is_neither_awaited_nor_iterated_at_once() -> None:
    """`await walk` and `for payment in walk` fail, and a type checker says so before."""
    async with Sandbox(5) as sandbox, client_of(sandbox) as client:
        walk = client.payments.list()
        with pytest.raises(TypeError, match="await"):
            await walk  # type: ignore[misc]
        with pytest.raises(TypeError, match="not iterable"):
            list(walk)  # type: ignore[call-overload]


@pytest.mark.parametrize("kind", ["list", "stream"])
async def test_each_loop_has_its_own_account(kind: str) -> None:
    """Two loops over one walk at once do not write over each other's report and checkpoint."""
    async with Sandbox(30) as sandbox, client_of(sandbox) as client:
        walk = client.payments.list(page_size=10) if kind == "list" else client.payments.stream(page_size=10)
        async with aclosing(walk.pages()) as first, aclosing(walk.pages()) as second:
            ids = [payment.id for payment in (await anext(first)).items]
            others = [payment.id async for page in second for payment in page.items]
            # A stream's walks read ahead of what it gives out.
            assert first.report.complete is (kind == "stream")
            assert (second.report.rows, second.report.complete) == (30, True)
            assert walk.report == second.report
            before = first.checkpoint()
            assert before != second.checkpoint() == walk.checkpoint()
            ids += [payment.id async for page in first for payment in page.items]
            assert first.report.complete
        assert sorted(ids) == sorted(others)
        rest = await client.payments.list(page_size=10, checkpoint=before).collect()
        assert {payment.id for payment in rest} == set(others)


def offline(**more: Any) -> OfflinePayment:
    """Return an offline payment with the required fields and these."""
    return OfflinePayment("113", "USD", [OfflineLineItem(13, Decimal("20.00"))], **more)


REQUIRED = {
    "lineItems": [{"invoiceId": 13, "amount": "20.00"}],
    "currency": "USD",
    "details": {},
    "customerId": "113",
}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, {}),
        ({"details": {"memo": "Test"}}, {"details": {"memo": "Test"}}),
        ({"external_id": "INV-7"}, {"externalId": "INV-7"}),
        ({"external_customer_id": "C1"}, {"externalCustomerId": "C1"}),
        ({"payer_name": ""}, {"payerName": ""}),
        ({"payer_customer_id": "113"}, {"payerCustomerId": "113"}),
        ({"processing_status": ProcessingStatus.AWAITING_PROCESSING}, {"processingStatus": 1}),
        ({"channel_id": 2}, {"channelId": 2}),
        ({"funding_status": 0}, {"fundingStatus": 0}),
    ],
)
async def test_each_field_of_an_offline_payment_arrives(
    sandbox: Sandbox, client: PaymentsClient, more: dict[str, Any], expected: dict[str, Any]
) -> None:
    """A field arrives in the body under the documented name, in create and update; no null is sent."""
    payment_id = await client.payments.create_offline(offline(**more))
    assert last(sandbox).body == {**REQUIRED, **expected}
    assert await client.payments.update_offline(payment_id, offline(**more)) == payment_id
    assert last(sandbox).body == {**REQUIRED, **expected}


async def test_the_documents_own_bodies_arrive(sandbox: Sandbox, client: PaymentsClient) -> None:
    """The bodies of the document's examples arrive as they stand there."""
    example = offline(
        details={"memo": "Test"},
        payer_name="Store offline payment",
        payer_customer_id="113",
        processing_status=3,
        funding_status=2,
    )
    payment_id = await client.payments.create_offline(example)
    assert last(sandbox).body == CREATE_OFFLINE_BODY
    await client.payments.perform_operation(payment_id, Operation.APPLY_TO_INVOICES)
    assert last(sandbox).body == {"operationCode": 0}
    await client.payments.update_processing_status(payment_id, ProcessingStatus.COMPLETED)
    assert last(sandbox).body == {"processingStatus": 3}
    sandbox.store.update(payment_id, allowedStatuses=["0", "1"])
    await client.payments.update_processing_status(payment_id, ProcessingStatus.INCOMPLETE)
    assert last(sandbox).body == {"processingStatus": 0}
