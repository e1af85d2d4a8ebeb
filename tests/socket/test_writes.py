"""Writes under faults: carried out at most once, and never reported falsely."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from typing import Any

import attrs
import pytest
from aiohttp import web

from b2b_payments import (
    BadRequestError,
    ConfigurationError,
    NotFoundError,
    OfflineLineItem,
    OfflinePayment,
    Operation,
    OutcomeUnknownError,
    PaymentsClient,
    RequestTimeoutError,
    TransportError,
    ValidationError,
)
from b2b_payments.sandbox import Fault, Rules, Sandbox, SeenRequest
from tests.support.clients import NEVER, client_of

OFFLINE = OfflinePayment(
    customer_id="95000",
    currency="USD",
    line_items=[OfflineLineItem(13, Decimal("20.00"))],
    details={"memo": "Cash"},
    external_id="INV-7",
)
LOST = [Fault.RESET_AFTER, Fault.RESET_DURING, Fault.TRUNCATED, Fault.ERROR_500_AFTER, Fault.HTML_502_AFTER]
UNREADABLE = [
    Fault.GARBAGE,
    Fault.EMPTY,
    Fault.WRONG_TYPE,
    Fault.OK_WITH_CODE_500_AFTER,
    Fault.NAN,
    Fault.DEEP,
]
NOT_DONE = [
    *(Fault.REFUSE, Fault.RESET_BEFORE, Fault.ERROR_500, Fault.ERROR_503),
    *(Fault.OK_WITH_CODE_500, Fault.OK_WITH_ODD_CODE),
]
UNCLEAR = [Fault.REDIRECT_AFTER, Fault.REFUSED_WITH_CODE_200_AFTER]
WRITES = ["POST", "PUT", "DELETE"]


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Yield a sandbox of 60 payments whose clock is the present."""
    async with Sandbox(60) as one:
        today(one)
        yield one


def today(sandbox: Sandbox) -> None:
    """Set the sandbox's clock to the present, so that a new payment is created now."""
    sandbox.store.clock = int(time.time())


def offline_payment(sandbox: Sandbox, **fields: Any) -> int:
    """Return the id of an offline payment with these fields."""
    payment_id = next(
        row["id"] for row in sandbox.store.all_wire() if row["moduleName"] == "payments_offline"
    )
    sandbox.store.update(payment_id, **fields)
    return int(payment_id)


def writes(sandbox: Sandbox) -> list[str]:
    """Return the methods of the writes that arrived."""
    return [seen.method for seen in sandbox.requests if seen.method != "GET"]


@pytest.mark.parametrize("fault", [*LOST, *UNREADABLE, *UNCLEAR])
async def test_create_with_lost_answer_is_found(
    sandbox: Sandbox, client: PaymentsClient, fault: Fault
) -> None:
    """A payment that was created, but its answer lost, is found by external id, and created once."""
    sandbox.order(fault, times=1, methods=WRITES)
    payment_id = await client.payments.create_offline(OFFLINE)
    assert sandbox.store.wire(payment_id)["externalId"] == "INV-7"
    assert sandbox.store.payments == 61
    assert writes(sandbox) == ["POST"]


@pytest.mark.parametrize("lead", [-86_400 * 900, -3_600, 3_600])
async def test_the_clocks_need_not_agree(sandbox: Sandbox, client: PaymentsClient, lead: int) -> None:
    """A payment is recognized as the one just sent, or as older, by the service's clock."""
    sandbox.store.clock = int(time.time()) + lead
    ours: dict[str, Any] = {
        "externalId": "INV-7",
        "customerId": "95000",
        "total": {"code": "USD", "value": "20.0000"},
    }
    sandbox.store.insert(**ours, createdAt=sandbox.store.clock - 1_800)
    sandbox.order(Fault.RESET_BEFORE, times=1, methods=WRITES)
    with pytest.raises(OutcomeUnknownError) as caught:
        await client.payments.create_offline(OFFLINE)
    async with client_of(sandbox) as other:
        assert await other.payments.settle(caught.value) is None
    sandbox.order(Fault.RESET_AFTER, times=1, methods=WRITES)
    payment_id = await client.payments.create_offline(OFFLINE)
    assert payment_id == 62
    async with client_of(sandbox) as other:
        assert await other.payments.settle(caught.value) == payment_id


@pytest.mark.parametrize("retry", ["settle", "create"])
async def test_the_clocks_need_not_agree_before_any_answer(sandbox: Sandbox, retry: str) -> None:
    """If nothing was answered when a create's outcome became unknown, later answers show the clock."""
    sandbox.store.clock = int(time.time()) - 3_600
    sandbox.order(Fault.RESET_AFTER, share=1, methods=WRITES)
    sandbox.order(Fault.HTML_502, share=1, methods=["GET"])
    async with client_of(sandbox) as client:
        with pytest.raises(OutcomeUnknownError) as caught:
            await client.payments.create_offline(OFFLINE)
    sandbox.clear_faults()
    async with client_of(sandbox) as other:
        if retry == "settle":
            assert await other.payments.settle(caught.value) == 61
            return
        sandbox.rules = attrs.evolve(sandbox.rules, hidden=[61])
        with pytest.raises(OutcomeUnknownError) as again:
            await other.payments.create_offline(OFFLINE, unless_exists=True)
        sandbox.rules = attrs.evolve(sandbox.rules, hidden=())
        assert await other.payments.settle(again.value) == 61


async def test_lagging_list_is_read_again() -> None:
    """A payment that the list does not show yet is found once it does."""
    async with Sandbox(60, rules=Rules(list_lag=0.002)) as sandbox, client_of(sandbox) as client:
        today(sandbox)
        sandbox.order(Fault.RESET_AFTER, times=1, methods=WRITES)
        payment_id = await client.payments.create_offline(OFFLINE)
        assert sandbox.store.wire(payment_id)["externalId"] == "INV-7"


@pytest.mark.parametrize("fault", NOT_DONE)
async def test_create_that_is_not_found_is_unknown(
    sandbox: Sandbox, client: PaymentsClient, fault: Fault
) -> None:
    """If the search finds nothing, the outcome is unknown, and the error says what to look for."""
    sandbox.order(fault, times=1, methods=WRITES)
    with pytest.raises(OutcomeUnknownError, match="Look for externalId=INV-7, customerId=95000 ") as caught:
        await client.payments.create_offline(OFFLINE)
    assert caught.value.look_for == {"externalId": "INV-7", "customerId": "95000"}
    assert caught.value.__cause__ is None
    assert writes(sandbox) == ["POST"]


async def test_create_without_external_id_is_unknown(sandbox: Sandbox, client: PaymentsClient) -> None:
    """Without an external id there is nothing to search for, and the error has what was sent."""
    sandbox.order(Fault.RESET_AFTER, times=1, methods=WRITES)
    with pytest.raises(OutcomeUnknownError) as caught:
        await client.payments.create_offline(attrs.evolve(OFFLINE, external_id=None))
    assert caught.value.look_for["lineItems"] == [{"invoiceId": 13, "amount": "20.00"}]
    assert sandbox.store.payments == 61
    assert sandbox.request_count == 1


@pytest.mark.parametrize(
    "other",
    [
        {"customerId": "95075"},
        {"externalId": "INV-77"},
        {"total": {"code": "USD", "value": "20.0001"}},
        {"total": {"code": "EUR", "value": "20.0000"}},
        {"total": "twenty"},
        {"createdAt": 1_700_000_000},
    ],
)
async def test_different_payment_is_not_mistaken_for_ours(
    sandbox: Sandbox, client: PaymentsClient, other: dict[str, Any]
) -> None:
    """A payment with our external id, but another customer, sum, currency or time, is not ours."""
    ours = {"externalId": "INV-7", "customerId": "95000", "total": {"code": "USD", "value": "20.0000"}}
    sandbox.store.insert(**(ours | other))
    sandbox.order(Fault.RESET_BEFORE, times=1, methods=WRITES)
    with pytest.raises(OutcomeUnknownError):
        await client.payments.create_offline(OFFLINE)


async def test_failed_search_leaves_the_outcome_unknown(sandbox: Sandbox, client: PaymentsClient) -> None:
    """If the service is down afterwards, a create's outcome is unknown."""
    sandbox.order(Fault.RESET_AFTER, share=1)
    with pytest.raises(OutcomeUnknownError):
        await client.payments.create_offline(OFFLINE)
    assert sandbox.store.payments == 61


async def test_create_answered_without_an_id_is_found(sandbox: Sandbox, client: PaymentsClient) -> None:
    """After a success that does not name the new payment, it is searched for too."""

    def forget(store: Any, _: Any) -> None:
        sandbox.clear_faults()

    sandbox.before_list = forget
    sandbox.order(Fault.NAN, share=1, methods=WRITES)
    payment_id = await client.payments.create_offline(OFFLINE)
    assert sandbox.store.wire(payment_id)["externalId"] == "INV-7"


Write = Callable[[PaymentsClient, int], Awaitable[object]]
REPEATABLE: dict[str, tuple[Write, dict[str, Any]]] = {
    "status": (
        lambda client, payment_id: client.payments.update_processing_status(payment_id, 2),
        {"processingStatus": 2},
    ),
    "update": (
        lambda client, payment_id: client.payments.update_offline(payment_id, OFFLINE),
        {"externalId": "INV-7", "details": {"memo": "Cash"}},
    ),
}


@pytest.mark.parametrize("fault", [*LOST, *UNREADABLE, *NOT_DONE, Fault.RATE_LIMITED])
@pytest.mark.parametrize(("write", "state"), REPEATABLE.values(), ids=REPEATABLE)
async def test_put_is_repeated(
    client: PaymentsClient, sandbox: Sandbox, write: Write, state: dict[str, Any], fault: Fault
) -> None:
    """A PUT whose answer was lost is sent again, and its state is right."""
    sandbox.rules = attrs.evolve(sandbox.rules, refusal_wait=0.001)
    payment_id = offline_payment(sandbox, processingStatus=1, allowedStatuses=["2"])
    sandbox.order(fault, times=1, methods=WRITES)
    await write(client, payment_id)
    assert writes(sandbox) == ["PUT", "PUT"]
    assert sandbox.store.wire(payment_id).items() >= state.items()


@pytest.mark.parametrize("fault", [*LOST, *UNCLEAR])
@pytest.mark.parametrize(("write", "state"), REPEATABLE.values(), ids=REPEATABLE)
async def test_unrepeated_put_is_judged_by_state(
    sandbox: Sandbox, write: Write, state: dict[str, Any], fault: Fault
) -> None:
    """A PUT that may not be sent again succeeded if the payment shows it."""
    payment_id = offline_payment(sandbox, processingStatus=1, allowedStatuses=["2"])
    sandbox.order(fault, times=1, methods=WRITES)
    async with client_of(sandbox, retry=NEVER) as client:
        await write(client, payment_id)
    assert writes(sandbox) == ["PUT"]
    assert sandbox.store.wire(payment_id).items() >= state.items()


@pytest.mark.parametrize("fault", NOT_DONE)
@pytest.mark.parametrize("write", [write for write, _ in REPEATABLE.values()], ids=REPEATABLE)
async def test_put_that_does_not_show_is_unknown(sandbox: Sandbox, write: Write, fault: Fault) -> None:
    """A PUT that the payment does not show may still be carried out: its outcome is unknown."""
    payment_id = offline_payment(sandbox, processingStatus=1, allowedStatuses=["2"])
    sandbox.order(fault, times=1, methods=WRITES)
    async with client_of(sandbox, retry=NEVER) as client:
        with pytest.raises(OutcomeUnknownError, match=f"Look for id={payment_id}[ ,]") as caught:
            await write(client, payment_id)
    assert caught.value.look_for["id"] == payment_id


async def test_put_refused_at_last_was_not_carried_out(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A PUT that was lost once and then refused raises that refusal."""
    payment_id = offline_payment(sandbox, processingStatus=1, allowedStatuses=["3"])
    sandbox.order(Fault.RESET_BEFORE, times=1, methods=WRITES)
    with pytest.raises(BadRequestError, match="Processing status 2 is not allowed"):
        await client.payments.update_processing_status(payment_id, 2)


@pytest.mark.parametrize("fault", [*LOST, *UNREADABLE, *NOT_DONE])
async def test_delete_is_repeated(sandbox: Sandbox, client: PaymentsClient, fault: Fault) -> None:
    """A DELETE whose answer was lost is sent again, and a 404 then means that it was carried out."""
    sandbox.order(fault, times=1, methods=WRITES)
    await client.payments.delete(7)
    assert writes(sandbox) == ["DELETE", "DELETE"]
    assert 7 not in sandbox.store


@pytest.mark.parametrize("fault", UNCLEAR)
async def test_delete_with_unclear_answer_is_judged_by_state(
    sandbox: Sandbox, client: PaymentsClient, fault: Fault
) -> None:
    """A DELETE answered with a redirect, or a refusal that says success, is judged by the payment."""
    sandbox.order(fault, times=1, methods=WRITES)
    await client.payments.delete(7)
    assert writes(sandbox) == ["DELETE"]
    assert 7 not in sandbox.store


async def test_redirected_create_is_unknown(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A create answered with a redirect may have been carried out: its outcome is unknown."""
    sandbox.order(Fault.REDIRECT, times=1, methods=WRITES)
    with pytest.raises(OutcomeUnknownError, match=r"redirects are not followed.* Look for externalId=INV-7"):
        await client.payments.create_offline(OFFLINE)
    assert writes(sandbox) == ["POST"]


@pytest.mark.parametrize("number", [2**63, 10**30, str(2**63), -5, 0, 17.5, True, "", None])
async def test_create_answered_with_an_impossible_id_is_found(
    sandbox: Sandbox, client: PaymentsClient, number: object
) -> None:
    """After an impossible id, the payment is searched for by its external id."""

    def answer(seen: SeenRequest) -> web.Response | None:
        body = {"code": 200, "data": {"paymentId": number}, "meta": {}}
        return web.json_response(body) if seen.method == "POST" else None

    sandbox.answer_with(answer)
    with pytest.raises(OutcomeUnknownError, match=r"id at \$\.data\.paymentId, found .* Look for externalId"):
        await client.payments.create_offline(OFFLINE)
    assert [dict(seen.query).get("q") for seen in sandbox.requests][1] == "INV-7"


async def test_delete_of_a_missing_payment_is_not_found(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A DELETE whose first answer is 404 raises NotFoundError."""
    with pytest.raises(NotFoundError):
        await client.payments.delete(999)
    assert sandbox.request_count == 1


async def test_delete_that_does_not_show_is_unknown(sandbox: Sandbox) -> None:
    """A DELETE that may not be sent again, of a payment that still exists, is unknown."""
    sandbox.order(Fault.RESET_BEFORE, times=1, methods=WRITES)
    async with client_of(sandbox, retry=NEVER) as client:
        with pytest.raises(OutcomeUnknownError, match=r"DELETE /ip/payments/7 was sent, and whether"):
            await client.payments.delete(7)


async def test_write_that_cannot_be_judged_is_unknown(sandbox: Sandbox, client: PaymentsClient) -> None:
    """If the payment cannot be read either, the outcome is unknown."""
    sandbox.order(Fault.RESET_BEFORE, share=1)
    with pytest.raises(OutcomeUnknownError):
        await client.payments.delete(7)


@pytest.mark.parametrize("operation", [Operation.APPLY_TO_INVOICES, Operation.REVERT_FROM_INVOICES])
@pytest.mark.parametrize("fault", [*LOST, *UNREADABLE, *UNCLEAR])
async def test_operation_with_lost_answer_is_judged(
    sandbox: Sandbox, client: PaymentsClient, operation: Operation, fault: Fault
) -> None:
    """Applying and reverting are carried out once, and seen in what the payment then allows."""
    payment_id = offline_payment(
        sandbox, processingStatus=3, appliedStatus=operation.value, allowedOperations=[operation.value]
    )
    sandbox.order(fault, times=1, methods=WRITES)
    await client.payments.perform_operation(payment_id, operation)
    assert writes(sandbox) == ["POST"]
    assert sandbox.store.wire(payment_id)["appliedStatus"] == 1 - operation.value


@pytest.mark.parametrize("fault", NOT_DONE)
async def test_operation_that_does_not_show_is_unknown(
    sandbox: Sandbox, client: PaymentsClient, fault: Fault
) -> None:
    """An operation that the payment does not show may still be carried out: unknown, and sent once."""
    payment_id = offline_payment(sandbox, processingStatus=3, appliedStatus=0, allowedOperations=[0])
    sandbox.order(fault, times=1, methods=WRITES)
    with pytest.raises(OutcomeUnknownError):
        await client.payments.perform_operation(payment_id, Operation.APPLY_TO_INVOICES)
    assert writes(sandbox) == ["POST"]


async def test_pull_with_lost_answer_is_unknown(sandbox: Sandbox, client: PaymentsClient) -> None:
    """An operation without a visible effect is unknown if its answer is lost."""
    payment_id = offline_payment(sandbox, processingStatus=3, appliedStatus=0, allowedOperations=[0, 2])
    sandbox.order(Fault.RESET_AFTER, times=1, methods=WRITES)
    with pytest.raises(OutcomeUnknownError):
        await client.payments.perform_operation(payment_id, Operation.PULL_FROM_ORDER)


@pytest.mark.parametrize("call", ["create", "operate"])
async def test_post_refused_by_the_quota_is_sent_again(
    sandbox: Sandbox, client: PaymentsClient, call: str
) -> None:
    """A 429 certainly changed nothing: the POST is sent again, and carried out once."""
    sandbox.rules = attrs.evolve(sandbox.rules, refusal_wait=0.001)
    sandbox.order(Fault.RATE_LIMITED, times=2, methods=WRITES)
    if call == "create":
        await client.payments.create_offline(OFFLINE)
        assert sandbox.store.payments == 61
    else:
        payment_id = offline_payment(sandbox, processingStatus=3, appliedStatus=0, allowedOperations=[0])
        await client.payments.perform_operation(payment_id, 0)
        assert sandbox.store.wire(payment_id)["appliedStatus"] == 1
    assert writes(sandbox) == ["POST"] * 3


async def test_post_that_did_not_connect_is_sent_again(sandbox: Sandbox) -> None:
    """Connection refused: the POST is sent again until the service listens, else it was not sent."""
    await sandbox.pause_listening()
    async with client_of(sandbox) as client:
        with pytest.raises(TransportError) as caught:
            await client.payments.create_offline(OFFLINE)
        assert not caught.value.sent
        await sandbox.resume_listening()
        await client.payments.create_offline(OFFLINE)
    assert sandbox.store.payments == 61


@pytest.mark.virtual_time
async def test_deadline_ends_a_write(sandbox: Sandbox) -> None:
    """A write that hangs until its deadline is unknown: no time is left to search."""
    sandbox.order(Fault.HANG, times=1, methods=WRITES)
    async with client_of(sandbox, deadline=0.05) as client:
        with pytest.raises(OutcomeUnknownError):
            await client.payments.delete(7)
    assert sandbox.request_count == 1


@pytest.mark.virtual_time
async def test_deadline_ends_a_read(sandbox: Sandbox) -> None:
    """A read that hangs ends at its deadline, before its timeout, and is not sent again."""
    sandbox.order(Fault.HANG, share=1)
    async with client_of(sandbox, deadline=0.05) as client:
        with pytest.raises(RequestTimeoutError, match=r"no complete answer within 0\.0"):
            await client.payments.get(7)
    assert sandbox.request_count == 1


@pytest.mark.parametrize("fault", [*LOST, *UNREADABLE, *NOT_DONE, Fault.INVALID_UTF8])
async def test_read_is_repeated(sandbox: Sandbox, client: PaymentsClient, fault: Fault) -> None:
    """A read that failed for a transient reason is sent again, up to four times."""
    sandbox.order(fault, times=4)
    assert (await client.payments.get(7)).id == 7
    assert sandbox.request_count == 5


async def test_invalid_argument_sends_nothing(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A write with an invalid argument is refused before anything is sent."""
    wrong: Any = "7"
    with pytest.raises(ConfigurationError):
        await client.payments.delete(wrong)
    with pytest.raises(ConfigurationError):
        await client.payments.perform_operation(7, 9)
    assert sandbox.request_count == 0


async def test_update_refused_for_its_state_is_unknown(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A 400 may be due to the first attempt: the service may have stored other values than were sent."""
    payment_id = offline_payment(sandbox)

    def refuse_the_second(seen: SeenRequest) -> web.Response | None:
        if seen.method == "PUT" and len(writes(sandbox)) > 1:
            # Carried out before, and now another module's, which cannot be updated.
            sandbox.store.update(payment_id, moduleName="payments_other", details={"memo": "CASH"})
        return None

    sandbox.answer_with(refuse_the_second)
    sandbox.order(Fault.RESET_AFTER, times=1, methods=WRITES)
    with pytest.raises(OutcomeUnknownError, match="Only offline payments can be updated"):
        await client.payments.update_offline(payment_id, OFFLINE)


async def test_update_refused_for_its_content_was_not_carried_out(
    sandbox: Sandbox, client: PaymentsClient
) -> None:
    """A 422 is about the content, so the first attempt was refused too."""
    payment_id = offline_payment(sandbox)
    sandbox.order(Fault.RESET_BEFORE, times=1, methods=WRITES)
    with pytest.raises(ValidationError):
        await client.payments.update_offline(payment_id, attrs.evolve(OFFLINE, channel_id=99))


async def test_lines_of_one_invoice_are_counted(sandbox: Sandbox) -> None:
    """An update with two lines for one invoice is not done if the payment shows only one."""
    line = OfflineLineItem(13, Decimal("20.00"))
    payment_id = offline_payment(sandbox)
    async with client_of(sandbox, retry=NEVER) as client:
        await client.payments.update_offline(payment_id, OFFLINE)
        sandbox.order(Fault.RESET_BEFORE, times=1, methods=WRITES)
        with pytest.raises(OutcomeUnknownError):
            await client.payments.update_offline(payment_id, attrs.evolve(OFFLINE, line_items=[line, line]))


async def test_update_of_a_payment_that_was_deleted_is_unknown(sandbox: Sandbox) -> None:
    """If the payment is gone after an update without an answer, nothing shows whether it was replaced."""
    payment_id = offline_payment(sandbox)
    async with client_of(sandbox, retry=NEVER) as client:
        sandbox.order(Fault.RESET_AFTER, times=1, methods=WRITES)

        def delete(seen: SeenRequest) -> None:
            if seen.method == "GET" and payment_id in sandbox.store:
                sandbox.store.delete(payment_id)

        sandbox.answer_with(delete)
        with pytest.raises(OutcomeUnknownError, match=f"Look for id={payment_id}"):
            await client.payments.update_offline(payment_id, OFFLINE)


async def test_known_payments_are_bounded(
    sandbox: Sandbox, client: PaymentsClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client remembers the ids of a bounded number of payments, the latest."""
    monkeypatch.setattr("b2b_payments._resources.writes._MAX_KNOWN", 2)
    for number in range(3):
        await client.payments.create_offline(attrs.evolve(OFFLINE, external_id=f"INV-{number}"))
    assert [*client.payments._writes.known] == [62, 63]


async def test_update_is_judged_by_its_channel_too(sandbox: Sandbox) -> None:
    """An update to another channel is not done if the payment is still in the old one."""
    payment_id = offline_payment(sandbox)
    async with client_of(sandbox, retry=NEVER) as client:
        await client.payments.update_offline(payment_id, attrs.evolve(OFFLINE, channel_id=1))
        moved = attrs.evolve(OFFLINE, channel_id=2)
        sandbox.order(Fault.RESET_BEFORE, times=1, methods=WRITES)
        with pytest.raises(OutcomeUnknownError):
            await client.payments.update_offline(payment_id, moved)
        sandbox.order(Fault.RESET_AFTER, times=1, methods=WRITES)
        assert await client.payments.update_offline(payment_id, moved) == payment_id
    assert sandbox.store.channel(payment_id) == 2
