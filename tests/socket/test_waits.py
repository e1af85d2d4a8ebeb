"""What the service says about waiting, and what is retried: on real sockets and virtual time."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import anyio
import pytest

from b2b_payments import (
    APIError,
    OfflineLineItem,
    OfflinePayment,
    PaymentsClient,
    Quota,
    RateLimitError,
    RetryPolicy,
    ServerError,
)
from b2b_payments.events import RetryScheduled
from b2b_payments.sandbox import Fault, Rules, Sandbox
from tests.support.clients import client_of
from tests.support.virtual_time import run

Body = Callable[[Sandbox, PaymentsClient], Awaitable[object]]
OFFLINE = OfflinePayment("95000", "EUR", [OfflineLineItem(13, Decimal("20.00"))], external_id="INV-7")


def played(body: Body, rules: Rules | None = None, **settings: Any) -> tuple[float, Sandbox]:
    """Run a body against a sandbox of 300 payments. Returns the virtual seconds taken, and the sandbox."""

    async def main() -> tuple[float, Sandbox]:
        async with (
            Sandbox(300, rules=rules or Rules(quota=False)) as sandbox,
            client_of(sandbox, **{"retry": RetryPolicy()} | settings) as client,
        ):
            begun = anyio.current_time()
            await body(sandbox, client)
            return anyio.current_time() - begun, sandbox

    return run(main())


@pytest.mark.parametrize("fault", [Fault.ERROR_408, Fault.ERROR_421, Fault.ERROR_425])
def test_unprocessed_read_is_sent_again(fault: Fault) -> None:
    """A page and a call that are answered 408, 421 or 425 are requested once more."""

    async def body(sandbox: Sandbox, client: PaymentsClient) -> None:
        sandbox.order(fault, times=1)
        assert (await client.payments.get(1)).id == 1
        sandbox.order(fault, times=1)
        assert len(await client.payments.list().collect()) == 300

    took, sandbox = played(body)
    assert took < 2
    assert [seen.status for seen in sandbox.requests if seen.status != 200] == [int(fault.value)] * 2


@pytest.mark.parametrize("fault", [Fault.ERROR_421, Fault.ERROR_425])
def test_unprocessed_write_is_sent_again(fault: Fault) -> None:
    """421 and 425 mean not processed: even a create is sent again, and carried out once."""

    async def body(sandbox: Sandbox, client: PaymentsClient) -> None:
        sandbox.order(fault, times=1)
        payment_id = await client.payments.create_offline(OFFLINE)
        sandbox.order(fault, times=1)
        await client.payments.delete(payment_id)
        assert sandbox.store.payments == 300

    _, sandbox = played(body)
    assert [seen.method for seen in sandbox.requests] == ["POST", "POST", "DELETE", "DELETE"]


@pytest.mark.parametrize("fault", [Fault.ERROR_408, Fault.ERROR_408_AFTER])
def test_write_that_may_have_been_processed_is_verified(fault: Fault) -> None:
    """After 408 a delete is sent again, and a create is looked for and never carried out twice."""

    async def body(sandbox: Sandbox, client: PaymentsClient) -> None:
        sandbox.store.clock = int(time.time())
        sandbox.order(fault, times=1)
        await client.payments.delete(1)
        assert 1 not in sandbox.store
        sandbox.order(fault, times=1)
        if fault.carried_out:
            payment_id = await client.payments.create_offline(OFFLINE)
            assert sandbox.store.wire(payment_id)["externalId"] == "INV-7"
        else:
            with pytest.raises(Exception, match="whether it was carried out is not known"):
                await client.payments.create_offline(OFFLINE)
        assert sandbox.store.payments == 299 + fault.carried_out

    _, sandbox = played(body)
    assert [seen.method for seen in sandbox.requests].count("POST") == 1


@pytest.mark.parametrize("quota", [None, Quota()])
@pytest.mark.parametrize("headers", ["retry-after", "documented", ()])
def test_walk_survives_refusals(quota: Quota | None, headers: Any) -> None:
    """However often a page is refused in a row because others use up the quota, the walk is complete."""

    async def body(sandbox: Sandbox, client: PaymentsClient) -> None:
        sandbox.order(Fault.RATE_LIMITED, times=24)
        walk = client.payments.list(page_size=50)
        assert [payment.id async for payment in walk] == sandbox.store.ids()
        assert walk.report.complete

    rules = Rules(quota=False, refusal_wait=40.0, refusal_headers=headers)
    took, sandbox = played(body, rules, quota=quota)
    assert took > (24 - 7) * 40.0 / 8
    assert len([seen for seen in sandbox.requests if seen.status == 429]) == 24


def test_first_refusal_after_other_failures_waits_as_announced() -> None:
    """A page that is first refused after four server errors closes the quota for the announced wait only."""

    async def body(sandbox: Sandbox, client: PaymentsClient) -> None:
        sandbox.order(Fault.ERROR_503, times=4)
        sandbox.order(Fault.RATE_LIMITED, times=1)
        await anext(client.payments.list(concurrency=1).pages())

    announced: list[float] = []

    def on_event(event: object) -> None:
        if isinstance(event, RetryScheduled):
            announced.append(event.delay)

    rules = Rules(quota=False, refusal_headers=())
    took, sandbox = played(body, rules, quota=Quota(), on_event=on_event)
    assert [seen.status for seen in sandbox.requests][:6] == [503] * 4 + [429, 200]
    assert 60 / 16 <= announced[4] < 60 / 8
    assert took < sum(announced) + 1


def test_call_ends_after_five_refusals() -> None:
    """A call is refused five times, waits as long as each one says, and then raises the error."""

    async def body(sandbox: Sandbox, client: PaymentsClient) -> None:
        sandbox.order(Fault.RATE_LIMITED, share=1)
        with pytest.raises(RateLimitError, match="the service asks to wait 40 s"):
            await client.payments.get(1)

    took, sandbox = played(body, Rules(quota=False, refusal_wait=40.0))
    assert 160 <= took < 165
    assert sandbox.request_count == 5


def test_walk_ends_after_an_hour_of_refusals() -> None:
    """If there are only refusals for an hour, the walk ends with the last one."""

    async def body(sandbox: Sandbox, client: PaymentsClient) -> None:
        sandbox.order(Fault.RATE_LIMITED, share=1)
        with pytest.raises(RateLimitError):
            await client.payments.list().collect()

    took, _ = played(body, Rules(quota=False, refusal_wait=600.0))
    assert 3_600 <= took < 3_610


@pytest.mark.parametrize("quota", [None, Quota()])
@pytest.mark.parametrize("call", ["get", "list"])
def test_longest_honoured_wait_is_an_hour(quota: Quota | None, call: str) -> None:
    """A wait of an hour is kept; a longer one is raised with its length."""

    async def body(sandbox: Sandbox, client: PaymentsClient) -> None:
        async def ask() -> None:
            await (client.payments.get(1) if call == "get" else client.payments.list().collect())

        sandbox.order(Fault.RATE_LIMITED, times=1)
        await ask()
        assert 3_600 <= anyio.current_time() < 3_602
        sandbox.rules = Rules(quota=False, refusal_wait=3_601.0)
        for _ in range(2):
            sandbox.order(Fault.RATE_LIMITED, times=1)
            with pytest.raises(
                RateLimitError, match=r"wait 3,601 s, and this client gives up on waits of over 3,600 s"
            ) as caught:
                await ask()
            assert caught.value.retry_after == 3_601.0

    took, _ = played(body, Rules(quota=False, refusal_wait=3_600.0), quota=quota)
    # After a refusal a quota's gate lets half of its window pass.
    assert took < 3_602 + (0 if quota is None else quota.span)


def test_page_waits_for_retry_after_of_a_503() -> None:
    """Pages wait for the `Retry-After` of a 503; a call that somebody waits for does not."""

    async def body(sandbox: Sandbox, client: PaymentsClient) -> None:
        sandbox.order(Fault.ERROR_503, times=1)
        assert len(await client.payments.list().collect()) == 300
        assert 400 <= anyio.current_time() < 402
        sandbox.order(Fault.ERROR_503, times=1_000)
        with pytest.raises(ServerError, match="the service asks to wait 400 s") as caught:
            await client.payments.get(1)
        assert caught.value.retry_after == 400.0

    took, _ = played(body, Rules(quota=False, unavailable_wait=400.0))
    assert took < 402 + 15


def test_other_errors_have_no_retry_after() -> None:
    """An error that states no wait has none."""

    async def body(_: Sandbox, client: PaymentsClient) -> None:
        with pytest.raises(APIError) as caught:
            await client.payments.get(999)
        assert caught.value.retry_after is None
        assert "wait" not in str(caught.value)

    played(body)
