"""Every endpoint as a typed method against the sandbox: its result, and the documented errors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import attrs
import pytest

from b2b_payments import (
    APIError,
    AuthenticationError,
    BadRequestError,
    NotFoundError,
    OfflineLineItem,
    OfflinePayment,
    Operation,
    PaginationError,
    PaymentsClient,
    PermissionDeniedError,
    ServerError,
    StoreAuth,
    ValidationError,
    to_wire,
)
from b2b_payments.sandbox import Rules, Sandbox
from tests.support.clients import NEVER, client_of

MISSING = 999_999
OFFLINE = OfflinePayment(
    customer_id="95000",
    currency="EUR",
    line_items=[OfflineLineItem(13, Decimal("20.00")), OfflineLineItem(14, Decimal("0.5"))],
    details={"memo": "Cash"},
    external_id="INV-7",
    channel_id=2,
)


def some(sandbox: Sandbox, module: str = "payments_offline", **fields: Any) -> int:
    """Return the id of a payment of this module, with these fields."""
    payment_id = next(row["id"] for row in sandbox.store.all_wire() if row["moduleName"] == module)
    sandbox.store.update(payment_id, **fields)
    return int(payment_id)


async def test_list(sandbox: Sandbox, client: PaymentsClient) -> None:
    """The list returns every payment, each equal to the service's own object."""
    payments = await client.payments.list().collect()
    assert [to_wire(payment) for payment in payments] == list(sandbox.store.all_wire())


async def test_first_and_count(sandbox: Sandbox, client: PaymentsClient) -> None:
    """The first payment and the number of payments take one request each."""
    walk = client.payments.list()
    first = await walk.first()
    assert first is not None
    assert first.id == sandbox.store.ids()[0]
    assert sandbox.request_count == 1
    assert await walk.count() == 60
    assert sandbox.request_count == 2
    nobody = client.payments.list(customer_name="nobody of this name")
    assert await nobody.first() is None
    assert await nobody.count() == 0


async def test_count_without_a_total(sandbox: Sandbox, client: PaymentsClient) -> None:
    """If the service states no total, the error says to count while walking."""
    sandbox.rules = attrs.evolve(sandbox.rules, total_count="absent")
    with pytest.raises(PaginationError, match="states no total count for this list; walk it and count"):
        await client.payments.list().count()


async def test_stream(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A stream over channels yields the payments of each, in the order of the channels if requested."""
    channels = [
        payment.channel_id async for payment in client.payments.stream(channel_ids=[3, 1], ordered=True)
    ]
    expected = [row["channelId"] for row in sandbox.store.all_wire()]
    assert channels == [3] * expected.count("3") + [1] * expected.count("1")


async def test_get(sandbox: Sandbox, client: PaymentsClient) -> None:
    """One payment is returned complete."""
    for payment_id in sandbox.store.ids():
        assert to_wire(await client.payments.get(payment_id)) == sandbox.store.wire(payment_id)


async def test_delete(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A deleted payment is gone, and cannot be deleted twice."""
    await client.payments.delete(7)
    assert 7 not in sandbox.store
    with pytest.raises(NotFoundError):
        await client.payments.delete(7)


async def test_operations(sandbox: Sandbox, client: PaymentsClient) -> None:
    """Allowed operations and statuses are numbers, in whatever format they were sent."""
    payment_id = some(sandbox, allowedOperations=[0, "2", 3], allowedStatuses=["1", 4])
    found = await client.payments.operations(payment_id)
    assert list(found.allowed_operations) == [0, 2, 3]
    assert list(found.allowed_statuses) == [1, 4]


async def test_perform_operation(sandbox: Sandbox, client: PaymentsClient) -> None:
    """Applying changes the payment; an operation that is not allowed raises the service's own message."""
    payment_id = some(sandbox, appliedStatus=0, processingStatus=3, allowedOperations=[0])
    await client.payments.perform_operation(payment_id, Operation.APPLY_TO_INVOICES)
    assert sandbox.store.wire(payment_id)["appliedStatus"] == 1
    with pytest.raises(BadRequestError, match="Operation 0 is not allowed for this payment"):
        await client.payments.perform_operation(payment_id, Operation.APPLY_TO_INVOICES)
    await client.payments.perform_operation(payment_id, Operation.REVERT_FROM_INVOICES)
    assert sandbox.store.wire(payment_id)["appliedStatus"] == 0


async def test_update_processing_status(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A status is set if the payment allows it, and refused if not."""
    payment_id = some(sandbox, allowedStatuses=["2"])
    await client.payments.update_processing_status(payment_id, 2)
    assert sandbox.store.wire(payment_id)["processingStatus"] == 2
    with pytest.raises(BadRequestError, match="Processing status 4 is not allowed for this payment"):
        await client.payments.update_processing_status(payment_id, 4)


async def test_transactions(sandbox: Sandbox, client: PaymentsClient) -> None:
    """Every payment's transactions are returned, typed."""
    for row in sandbox.store.all_wire():
        found = await client.payments.transactions(row["id"])
        assert [one.type for one in found] == [one["type"] for one in row["moduleData"]["transactions"]]


async def test_create_offline(sandbox: Sandbox, client: PaymentsClient) -> None:
    """The new payment's id is returned, and the payment has the values that were sent."""
    payment_id = await client.payments.create_offline(OFFLINE)
    payment = await client.payments.get(payment_id)
    assert (payment.external_id, payment.customer_id, payment.channel_id) == ("INV-7", "95000", 2)
    assert (payment.total.currency, payment.total.amount) == ("EUR", Decimal("20.5"))
    assert sandbox.store.payments == 61


async def test_update_offline(sandbox: Sandbox, client: PaymentsClient) -> None:
    """An offline payment has its new state; another kind is refused, and a missing one is not found."""
    payment_id = some(sandbox)
    assert await client.payments.update_offline(payment_id, OFFLINE) == payment_id
    assert sandbox.store.wire(payment_id)["details"] == {"memo": "Cash"}
    with pytest.raises(BadRequestError, match="Only offline payments can be updated"):
        await client.payments.update_offline(some(sandbox, "payments_bigcommerce_sales_order"), OFFLINE)


@pytest.mark.parametrize("create", [True, False])
async def test_refused_body_names_its_fields(sandbox: Sandbox, client: PaymentsClient, create: bool) -> None:
    """A 422 says for each field what is wrong."""
    wrong = attrs.evolve(OFFLINE, channel_id=77)
    payments = client.payments
    call = payments.create_offline(wrong) if create else payments.update_offline(some(sandbox), wrong)
    with pytest.raises(ValidationError, match="channelId: Not a channel of this store") as caught:
        await call
    assert caught.value.errors == {"channelId": ["Not a channel of this store."]}
    assert sandbox.store.payments == 60


async def test_channels(sandbox: Sandbox, client: PaymentsClient) -> None:
    """Channels have BigCommerce's id, which lists accept."""
    assert [channel.channel_id for channel in await client.channels.list()] == [1, 2, 3]


async def test_one_channel(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A channel is read by BigCommerce's id; its other id is not found, and a single storefront refuses."""
    channel = await client.channels.get(2)
    assert channel == (await client.channels.list())[1]
    with pytest.raises(NotFoundError, match="Channel not found"):
        await client.channels.get(channel.id)
    sandbox.rules = Rules(multi_storefront=False, single_storefront_status=403)
    with pytest.raises(PermissionDeniedError, match="Multi storefront is not enabled"):
        await client.channels.get(2)


@pytest.mark.parametrize("status", [403, 422])
async def test_a_store_with_one_storefront_has_no_channels(status: Any) -> None:
    """If the service says that it has a single storefront, there are no channels, and no error."""
    rules = Rules(multi_storefront=False, single_storefront_status=status)
    async with Sandbox(3, rules=rules) as sandbox, client_of(sandbox) as client:
        assert await client.channels.list() == []


async def test_other_refusal_of_channels_is_an_error() -> None:
    """A 403 in other words is an error, not an empty list."""
    rules = Rules(missing_scope_status=403)
    async with Sandbox(3, rules=rules) as sandbox, client_of(sandbox) as client:
        with pytest.raises(PermissionDeniedError, match="lacks a scope"):
            await client.channels.list()


CALLS: dict[str, Callable[[PaymentsClient], Awaitable[object]]] = {
    "get": lambda client: client.payments.get(MISSING),
    "delete": lambda client: client.payments.delete(MISSING),
    "operations": lambda client: client.payments.operations(MISSING),
    "perform_operation": lambda client: client.payments.perform_operation(MISSING, 0),
    "update_processing_status": lambda client: client.payments.update_processing_status(MISSING, 1),
    "transactions": lambda client: client.payments.transactions(MISSING),
    "update_offline": lambda client: client.payments.update_offline(MISSING, OFFLINE),
}
OTHERS: dict[str, Callable[[PaymentsClient], Awaitable[object]]] = {
    "list": lambda client: client.payments.list().collect(),
    "first": lambda client: client.payments.list().first(),
    "count": lambda client: client.payments.list().count(),
    "stream": lambda client: client.payments.stream(channel_ids=[1, 2]).collect(),
    "create_offline": lambda client: client.payments.create_offline(OFFLINE),
    "channels": lambda client: client.channels.list(),
    "channel": lambda client: client.channels.get(2),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_missing_payment_is_not_found(
    sandbox: Sandbox, client: PaymentsClient, call: Callable[[PaymentsClient], Awaitable[object]]
) -> None:
    """Every call about a missing payment raises after one request, with the request id."""
    with pytest.raises(NotFoundError, match="Payment not found") as caught:
        await call(client)
    assert sandbox.request_count == 1
    assert caught.value.request_id is not None
    assert f"/ip/payments/{'offline/' if 'offline' in caught.value.url else ''}{MISSING}" in caught.value.url


@pytest.mark.parametrize("call", (CALLS | OTHERS).values(), ids=CALLS | OTHERS)
async def test_wrong_token_fails_at_once(
    sandbox: Sandbox, client: PaymentsClient, call: Callable[[PaymentsClient], Awaitable[object]]
) -> None:
    """Every call with an invalid token ends in a 401, and is not sent again."""
    sandbox.rotate_token()
    with pytest.raises(AuthenticationError, match="401 Invalid or missing token"):
        await call(client)
    assert sandbox.request_count <= 2


@pytest.mark.parametrize(
    ("status", "kind"), [(401, AuthenticationError), (403, PermissionDeniedError), (404, NotFoundError)]
)
async def test_a_missing_scope_is_an_error(status: Any, kind: type[APIError]) -> None:
    """A missing scope is answered with 401, 403 or 404, and raises the error of that status."""
    async with (
        Sandbox(3, rules=Rules(missing_scope_status=status)) as sandbox,
        client_of(sandbox) as client,
    ):
        with pytest.raises(kind):
            await client.payments.get(1)


async def test_a_wrong_store_hash_is_the_services_error(sandbox: Sandbox) -> None:
    """A wrong store hash is answered with 5xx, which is raised after the last attempt."""
    auth = StoreAuth("another", sandbox.auth.access_token)
    async with client_of(sandbox, auth=auth, retry=NEVER) as client:
        with pytest.raises(ServerError):
            await client.payments.get(1)


async def test_the_older_credential_works(sandbox: Sandbox) -> None:
    """`authToken` alone is accepted for reads and writes."""
    async with client_of(sandbox, auth=sandbox.legacy_auth) as client:
        assert (await client.payments.get(1)).id == 1
        await client.payments.delete(1)
    assert 1 not in sandbox.store


async def test_rows_without_a_channel_come_once() -> None:
    """If rows name no channel and the service ignores the filter, a stream yields none twice."""
    async with Sandbox(20, rules=Rules(channel_encoding=())) as sandbox, client_of(sandbox) as client:
        for payment_id in sandbox.store.ids():
            sandbox.store.update(payment_id, channelId="")
        payments = await client.payments.stream(channel_ids=[1, 2]).collect()
        assert sorted(payment.id for payment in payments) == sandbox.store.ids()
