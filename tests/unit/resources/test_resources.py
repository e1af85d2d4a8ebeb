"""Every endpoint with the vendor's own examples: the documented request, the answer as typed objects."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from aioresponses import aioresponses
from yarl import URL

from b2b_payments import (
    AnswerMismatchError,
    ConfigurationError,
    LegacyAuth,
    OfflineLineItem,
    OfflinePayment,
    Operation,
    PaymentsClient,
    Quota,
    ResponseDecodeError,
    StoreAuth,
    to_wire,
)
from tests.support import examples
from tests.support.clients import NEVER

BASE = "https://api-b2b.bigcommerce.com/api/v3/io"
OFFLINE = OfflinePayment(
    customer_id="113",
    currency="USD",
    line_items=[OfflineLineItem(13, Decimal("20.00"))],
    details={"memo": "Test"},
    payer_name="Store offline payment",
    payer_customer_id="113",
    processing_status=3,
    funding_status=2,
)


@pytest.fixture
async def client() -> AsyncIterator[PaymentsClient]:
    """Yield a client of the default base URL."""
    async with PaymentsClient(StoreAuth("jexy81vb0h", "token-1"), retry=NEVER, quota=None) as one:
        yield one


def sent(played: aioresponses) -> tuple[str, str, Any]:
    """Return method, path below the base URL, and decoded body of the only request."""
    [((method, url), [call])] = played.requests.items()
    body = call.kwargs["data"]
    path = str(url.with_query(None)).removeprefix(BASE)
    return method, path, None if body is None else msgspec.json.decode(body)


async def test_list(played: aioresponses, client: PaymentsClient) -> None:
    """The list's example is read as payments, whose raw data is the service's own."""
    for order in ("ASC", "DESC"):
        query = f"?limit=250&offset=0&orderBy={order}&sortBy=createdAt"
        played.get(f"{BASE}/ip/payments{query}", payload=examples.listed(examples.LISTED_PAYMENT))
    [payment] = await client.payments.list().collect()
    assert to_wire(payment) == examples.LISTED_PAYMENT
    # The second request proves that this was all.
    assert [method for method, _ in played.requests] == ["GET", "GET"]


async def test_get(played: aioresponses, client: PaymentsClient) -> None:
    """The detail's example is read as a payment."""
    played.get(f"{BASE}/ip/payments/20", payload=examples.answered(examples.SHOWN_PAYMENT))
    assert to_wire(await client.payments.get(20)) == examples.SHOWN_PAYMENT


async def test_delete(played: aioresponses, client: PaymentsClient) -> None:
    """A delete has no body, and returns None."""
    played.delete(f"{BASE}/ip/payments/1", payload=examples.DELETED)
    await client.payments.delete(1)
    assert sent(played) == ("DELETE", "/ip/payments/1", None)


async def test_operations(played: aioresponses, client: PaymentsClient) -> None:
    """Allowed operations and statuses are numbers, though the example has strings."""
    played.get(f"{BASE}/ip/payments/4/operations", payload=examples.answered(examples.OPERATIONS))
    found = await client.payments.operations(4)
    assert (list(found.allowed_operations), list(found.allowed_statuses)) == ([], [1, 2, 3, 4])


async def test_perform_operation(played: aioresponses, client: PaymentsClient) -> None:
    """Operation 0 is sent as 0."""
    played.post(f"{BASE}/ip/payments/4/operations", payload=examples.PERFORMED)
    await client.payments.perform_operation(4, Operation.APPLY_TO_INVOICES)
    assert sent(played) == ("POST", "/ip/payments/4/operations", {"operationCode": 0})


async def test_update_processing_status(played: aioresponses, client: PaymentsClient) -> None:
    """The example's status 0 is sent as 0."""
    played.put(f"{BASE}/ip/payments/2/processing-status", payload=examples.STATUS_UPDATED)
    await client.payments.update_processing_status(2, 0)
    assert sent(played) == ("PUT", "/ip/payments/2/processing-status", {"processingStatus": 0})


async def test_transactions(played: aioresponses, client: PaymentsClient) -> None:
    """The example's card transaction is typed."""
    played.get(f"{BASE}/ip/payments/2/transactions", payload=examples.answered(examples.TRANSACTIONS))
    [transaction] = await client.payments.transactions(2)
    assert transaction.card is not None
    assert (transaction.type, transaction.card.expiry_year) == ("CreditCardTransaction", 2050)


async def test_create_offline(played: aioresponses, client: PaymentsClient) -> None:
    """The example's body is sent, and the new payment's id returned."""
    played.post(f"{BASE}/ip/payments/offline", payload=examples.OFFLINE_RECORDED)
    assert await client.payments.create_offline(OFFLINE) == 112
    assert sent(played) == ("POST", "/ip/payments/offline", examples.CREATE_OFFLINE_BODY)


async def test_update_offline(played: aioresponses, client: PaymentsClient) -> None:
    """The example's body is sent, and the payment's id returned."""
    played.put(f"{BASE}/ip/payments/offline/112", payload=examples.OFFLINE_RECORDED)
    assert await client.payments.update_offline(112, OFFLINE) == 112
    assert sent(played) == ("PUT", "/ip/payments/offline/112", examples.UPDATE_OFFLINE_BODY)


async def test_channels(played: aioresponses, client: PaymentsClient) -> None:
    """Channels have both of their ids."""
    played.get(f"{BASE}/channels", payload=examples.answered(examples.CHANNELS))
    [channel] = await client.channels.list()
    assert (channel.id, channel.channel_id, channel.name) == (12, 1, "Main storefront")


async def test_channel(played: aioresponses, client: PaymentsClient) -> None:
    """One channel is requested by BigCommerce's id."""
    played.get(f"{BASE}/channels/1", payload=examples.answered(examples.CHANNELS[0]))
    channel = await client.channels.get(1)
    assert (channel.id, channel.channel_id, channel.name) == (12, 1, "Main storefront")
    assert sent(played) == ("GET", "/channels/1", None)


async def test_another_channel_is_refused(played: aioresponses, client: PaymentsClient) -> None:
    """An answer about another channel is refused, even if its B2B Edition id is the requested number."""
    played.get(f"{BASE}/channels/12", payload=examples.answered(examples.CHANNELS[0]))
    says = r"GET /channels/12: the answer belongs to another request: \$\.data\.channelId is 1, not 12"
    with pytest.raises(AnswerMismatchError, match=says) as caught:
        await client.channels.get(12)
    assert caught.value.paths == ["$.data.channelId"]


@pytest.mark.parametrize(
    ("auth", "expected"),
    [
        (StoreAuth("jexy81vb0h", "token-1"), {"X-Auth-Token": "token-1", "X-Store-Hash": "jexy81vb0h"}),
        (LegacyAuth("token-2"), {"authToken": "token-2"}),
    ],
)
async def test_headers(played: aioresponses, auth: StoreAuth | LegacyAuth, expected: dict[str, str]) -> None:
    """Every request has only its own kind of credential, JSON in both directions, and a user agent."""
    played.get(f"{BASE}/channels", payload=examples.answered([]))
    async with PaymentsClient(auth, quota=None) as client:
        await client.channels.list()
    headers = dict(played.requests["GET", URL(f"{BASE}/channels")][0].kwargs["headers"])
    assert headers.pop("User-Agent").startswith("b2b-payments/")
    assert headers == {"Accept": "application/json", "Content-Type": "application/json", **expected}


@pytest.mark.parametrize("data", [None, [], "text", {"id": "?"}, 7])
async def test_data_of_another_type_is_refused(
    played: aioresponses, client: PaymentsClient, data: Any
) -> None:
    """An envelope whose data is not a payment raises an error with the path."""
    played.get(f"{BASE}/ip/payments/20", payload=examples.answered(data))
    with pytest.raises(ResponseDecodeError) as caught:
        await client.payments.get(20)
    assert caught.value.paths
    assert all(path.startswith("$.data") for path in caught.value.paths)


@pytest.mark.parametrize("wrong", [None, "x", [], 1 + 0j, math.nan, math.inf])
async def test_invalid_codes_are_not_sent(played: aioresponses, client: PaymentsClient, wrong: Any) -> None:
    """An invalid operation or status is refused before a request is built."""
    with pytest.raises(ConfigurationError, match="operation must be one of"):
        await client.payments.perform_operation(70, wrong)
    with pytest.raises(ConfigurationError, match="status must be one of"):
        await client.payments.update_processing_status(70, wrong)
    assert not played.requests


async def test_failed_open_leaves_no_session() -> None:
    """If the shared quota cannot be opened, `open` raises and closes what it had opened."""

    async def provider() -> str:
        return "token"

    client = PaymentsClient(LegacyAuth(provider), quota=Quota(shared=True))
    with pytest.raises(ConfigurationError, match="shared"):
        await client.__aenter__()
    with pytest.raises(ConfigurationError, match="not open"):
        client._transport.require_open()
