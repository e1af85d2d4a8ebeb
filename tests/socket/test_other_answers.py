"""Documented answers other than the sandbox's default ones."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import attrs
import pytest

from b2b_payments import (
    APIError,
    BadRequestError,
    OfflineLineItem,
    OfflinePayment,
    OutcomeUnknownError,
    PaymentsClient,
    ResponseDecodeError,
    ValidationError,
)
from b2b_payments.sandbox import Fault, Rules, Sandbox
from tests.support.clients import NEVER, client_of

OFFLINE = OfflinePayment(
    customer_id="95000",
    currency="EUR",
    line_items=[OfflineLineItem(13, Decimal("20.00"))],
    external_id="INV-7",
)


async def everything(client: PaymentsClient) -> None:
    """Call each endpoint once, successfully."""
    assert len(await client.payments.list(page_size=25).collect()) == 60
    payment_id = await client.payments.create_offline(OFFLINE)
    assert (await client.payments.get(payment_id)).external_id == "INV-7"
    assert 0 in (await client.payments.operations(payment_id)).allowed_operations
    await client.payments.perform_operation(payment_id, 0)
    await client.payments.update_processing_status(payment_id, 1)
    assert await client.payments.update_offline(payment_id, OFFLINE) == payment_id
    assert len(await client.payments.transactions(payment_id)) == 1
    await client.payments.delete(payment_id)
    channels = await client.channels.list()
    assert await client.channels.get(1) == channels[0]


@pytest.mark.parametrize(
    "rules",
    [
        *(Rules(success_status=status) for status in (201, 202, 203)),
        *(Rules(success_status=status, success_code=200) for status in (201, 202)),
        Rules(success_code=201),
        Rules(success_status={"POST": 201, "PUT": 202, "DELETE": 204}),
        *(
            Rules(success_status={"PUT": s, "DELETE": s}, without_body=("PUT", "DELETE"))
            for s in (201, 202, 204)
        ),
    ],
)
async def test_any_2xx_is_a_success(sandbox: Sandbox, client: PaymentsClient, rules: Rules) -> None:
    """Any 2xx, with a body or without, completes each call at the first attempt."""
    sandbox.rules = rules
    await everything(client)
    assert sandbox.request_count == 3 + 10


@pytest.mark.parametrize("status", [201, 202, 204])
async def test_operation_answered_without_a_body_is_done(
    sandbox: Sandbox, client: PaymentsClient, status: int
) -> None:
    """An operation without a visible effect is believed by its status, and sent once."""
    payment_id = await client.payments.create_offline(OFFLINE)
    sandbox.store.update(payment_id, allowedOperations=[2])
    sandbox.rules = Rules(success_status={"POST": status}, without_body=("POST",))
    await client.payments.perform_operation(payment_id, 2)
    assert sandbox.request_count == 2


@pytest.mark.parametrize("status", [201, 202, 204])
async def test_create_answered_without_an_id_is_found(
    sandbox: Sandbox, client: PaymentsClient, status: int
) -> None:
    """After a success without an id, the payment is searched for, and the create sent once."""
    sandbox.rules = Rules(success_status={"POST": status}, without_body=("POST",))
    payment_id = await client.payments.create_offline(OFFLINE)
    assert sandbox.store.wire(payment_id)["externalId"] == "INV-7"
    assert [seen.method for seen in sandbox.requests] == ["POST", "GET"]
    with pytest.raises(OutcomeUnknownError, match="lists may lag"):
        await client.payments.create_offline(attrs.evolve(OFFLINE, external_id=None))


@pytest.mark.parametrize(
    "rules", [Rules(success_status=204), Rules(success_status=202, without_body=("GET",))]
)
async def test_read_needs_data(sandbox: Sandbox, client: PaymentsClient, rules: Rules) -> None:
    """A read answered without a body is repeated, and then fails."""
    sandbox.rules = rules
    with pytest.raises(ResponseDecodeError, match="the answer is empty"):
        await client.payments.get(1)
    with pytest.raises(ResponseDecodeError, match="the answer is empty"):
        await client.payments.list().collect()
    assert sandbox.request_count == 10


async def test_every_request_has_the_content_type(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A service may require `Content-Type: application/json` on every request, GET too."""
    sandbox.rules = Rules(content_type_required=True)
    await everything(client)
    assert {seen.status for seen in sandbox.requests} == {200}


async def test_byte_order_mark_is_skipped(sandbox: Sandbox, client: PaymentsClient) -> None:
    """Answers that start with a byte-order mark are read at the first attempt."""
    sandbox.order(Fault.BYTE_ORDER_MARK, share=1)
    await everything(client)
    assert sandbox.request_count == 3 + 10
    assert await client.payments.list().count() == 60
    assert (await anext(aiter(client.payments.list().raw())))["id"] == 1
    with pytest.raises(APIError, match="404 Payment not found"):
        await client.payments.get(999)


@pytest.mark.parametrize(("status", "kind"), [(422, ValidationError), (400, BadRequestError)])
async def test_nested_field_errors_are_paths(
    sandbox: Sandbox, client: PaymentsClient, status: Any, kind: type[APIError]
) -> None:
    """A wrong line item is named by its path, in the error and in its text."""
    sandbox.rules = Rules(field_errors="nested", field_errors_status=status)
    wrong = OfflinePayment(
        "1", "EUR", [OfflineLineItem(13, Decimal(1)), OfflineLineItem(14, Decimal("0.00001"))]
    )
    with pytest.raises(kind) as caught:
        await client.payments.create_offline(wrong)
    assert caught.value.errors == {"line_items[1].amount": ["Must be a decimal as string."]}
    assert "line_items[1].amount: Must be a decimal as string." in str(caught.value)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault.WRONG_TYPE, "the answer is HTML, not JSON: a gateway's page, or base_url is wrong."),
        (Fault.GARBAGE, "the answer is not JSON: "),
        (Fault.EMPTY, "the answer is empty."),
        (Fault.DEEP, "the answer is nested too deeply to be read."),
        (Fault.FLOOD, "the answer has more than 20,000 objects, "),
        (Fault.OK_WITH_ODD_CODE, "expected a number at $.code, found a string."),
    ],
)
async def test_unreadable_answer_names_its_request(fault: Fault, says: str) -> None:
    """Whatever is wrong with an answer, the error starts with its request."""
    async with Sandbox(3) as sandbox, client_of(sandbox, retry=NEVER) as client:
        sandbox.order(fault, share=1)
        for call, path in (
            (client.payments.get(1), "/ip/payments/1"),
            (client.payments.list().collect(), "/ip/payments"),
            (client.channels.list(), "/channels"),
        ):
            with pytest.raises(ResponseDecodeError) as caught:
                await call
            assert str(caught.value).startswith(f"GET {path}: {says}")
