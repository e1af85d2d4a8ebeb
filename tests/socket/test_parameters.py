"""Every parameter of the vendor's document, checked where it arrives: on the sandbox's side of the socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from b2b_payments import (
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
from b2b_payments.protocol.query import ChannelEncoding
from b2b_payments.sandbox import Rules, Sandbox, SeenRequest
from tests.clients import client_of
from tests.examples import CREATE_OFFLINE_BODY

ALWAYS = [("offset", "0"), ("limit", "1"), ("orderBy", "ASC"), ("sortBy", "createdAt")]


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Give a sandbox of 30 payments."""
    async with Sandbox(30) as one:
        yield one


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[PaymentsClient]:
    """Give a client of the sandbox."""
    async with client_of(sandbox) as one:
        yield one


def last(sandbox: Sandbox) -> SeenRequest:
    """Give the request that arrived last; it was answered as a success."""
    seen = sandbox.requests[-1]
    assert seen.status == 200
    return seen


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"offset": 7}, [("offset", "7"), *ALWAYS[1:]]),
        ({"order_by": OrderBy.DESC}, [*ALWAYS[:2], ("orderBy", "DESC"), ALWAYS[3]]),
        *(({"sort_by": key}, [*ALWAYS[:3], ("sortBy", key.value)]) for key in SortBy),
        *(({"search_by": key}, [*ALWAYS, ("searchBy", key.value)]) for key in SearchBy),
        ({"search_by": "externalId", "q": "ERP-1"}, [*ALWAYS, ("searchBy", "externalId"), ("q", "ERP-1")]),
        ({"q": ""}, [*ALWAYS, ("q", "")]),
        ({"customer_name": "Søren & Co"}, [*ALWAYS, ("customerName", "Søren & Co")]),
        ({"invoice_id": 13}, [*ALWAYS, ("invoiceId", "13")]),
        *(
            ({"processing_status": status}, [*ALWAYS, ("processingStatus", str(status.value))])
            for status in ProcessingStatus
        ),
        ({"channel_ids": [2]}, [*ALWAYS, ("channelIds", "2")]),
        ({"channel_ids": [3, 1]}, [*ALWAYS, ("channelIds", "3"), ("channelIds", "1")]),
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


async def test_the_page_size_arrives_as_the_limit(sandbox: Sandbox, client: PaymentsClient) -> None:
    """`limit` is the page size: 250 rows unless told otherwise."""
    await client.payments.list().collect()
    assert ("limit", "250") in last(sandbox).query
    await client.payments.list(page_size=20).collect()
    assert ("limit", "20") in last(sandbox).query


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
        assert sandbox.request_count == tried + 2


async def test_a_service_that_ignores_channels_is_found_out() -> None:
    """Where no encoding is understood, the walk ends in an error and gives no foreign row."""
    async with Sandbox(60, rules=Rules(channel_encoding=())) as sandbox, client_of(sandbox) as client:
        walk = client.payments.list(channel_ids=[1])
        with pytest.raises(PaginationError, match="however channelIds is written"):
            await walk.collect()
        assert walk.report.rows == 0
        assert sandbox.request_count == len(ChannelEncoding)


def offline(**more: Any) -> OfflinePayment:
    """Give an offline payment with the required fields and these."""
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
