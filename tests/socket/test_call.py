"""One call: its permit under the quota, its retries and its deadline, on virtual time over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from b2b_payments import PaymentsClient, Quota, RateLimitError, RequestTimeoutError, RetryPolicy, ServerError
from b2b_payments.events import Event, RequestStarted
from b2b_payments.sandbox import Fault, Rules, Sandbox
from tests.support.clients import NEVER, client_of
from tests.support.virtual_time import run

Body = Callable[[Sandbox, PaymentsClient], Awaitable[object]]


def played(body: Body, rules: Rules | None = None, **settings: Any) -> tuple[float, Sandbox]:
    """Run a body against a sandbox of 60 payments. Returns the virtual seconds taken, and the sandbox."""

    async def main() -> tuple[float, Sandbox]:
        async with (
            Sandbox(60, rules=rules or Rules(quota=False)) as sandbox,
            client_of(sandbox, **settings) as client,
        ):
            begun = anyio.current_time()
            await body(sandbox, client)
            return anyio.current_time() - begun, sandbox

    return run(main())


def test_wait_beyond_the_deadline_is_not_started() -> None:
    """A call that cannot get its permit in time ends at once, unsent, and says why."""

    async def body(_: Sandbox, client: PaymentsClient) -> None:
        await client.payments.get(1)
        with pytest.raises(
            RequestTimeoutError, match=r"would pass while waiting .* longer deadline"
        ) as caught:
            await client.payments.get(1)
        assert not caught.value.sent

    took, sandbox = played(body, quota=Quota(1, 60), deadline=5.0)
    assert took < 1
    assert sandbox.request_count == 1


def test_refusal_beyond_the_deadline_is_raised_at_once() -> None:
    """A 429 that asks to wait beyond the deadline is raised at once."""

    async def body(sandbox: Sandbox, client: PaymentsClient) -> None:
        sandbox.order(Fault.RATE_LIMITED, times=1)
        with pytest.raises(RateLimitError) as caught:
            await client.payments.get(1)
        assert caught.value.retry_after == 30.0

    took, sandbox = played(body, Rules(quota=False, refusal_wait=30.0), deadline=5.0)
    assert took < 1
    assert sandbox.request_count == 1


@pytest.mark.parametrize("quota", [None, Quota()])
@pytest.mark.parametrize(
    "headers", ["documented", "retry-after", "retry-after-date", "x-retry-after", "rate-limit"]
)
def test_refusal_is_waited_for_as_asked(quota: Quota | None, headers: Any) -> None:
    """Whichever header states the wait, it is kept, with little added."""

    async def body(sandbox: Sandbox, client: PaymentsClient) -> None:
        sandbox.order(Fault.RATE_LIMITED, times=1)
        await client.payments.get(1)

    rules = Rules(quota=False, refusal_wait=30.0, refusal_headers=headers)
    took, sandbox = played(body, rules, quota=quota)
    # A date has whole seconds, and the sandbox rounds up.
    assert 29 <= took < 33
    assert sandbox.request_count == 2


@pytest.mark.parametrize("quota", [None, Quota()])
def test_waits_grow_after_refusals_without_headers(quota: Quota | None) -> None:
    """Without headers the waits grow, so that the last attempt comes after any window."""

    async def body(sandbox: Sandbox, client: PaymentsClient) -> None:
        sandbox.order(Fault.RATE_LIMITED, times=4)
        await client.payments.get(1)

    rules = Rules(quota=False, refusal_headers=())
    took, sandbox = played(body, rules, quota=quota, retry=RetryPolicy())
    # Two windows at the most: the gate makes sure where its own first requests may still count.
    assert 50 < took < 130
    assert sandbox.request_count == 5


def test_walk_ends_at_its_deadline() -> None:
    """A walk's deadline counts from its start, and includes the caller's own time."""

    async def body(_: Sandbox, client: PaymentsClient) -> None:
        walk = client.payments.list(page_size=5, concurrency=1)

        async def slowly() -> None:
            async for _ in walk:
                await anyio.sleep(1)

        with pytest.raises(RequestTimeoutError, match="deadline"):
            await slowly()
        assert 5 <= walk.report.rows < 60
        assert not walk.report.complete

    took, _ = played(body, deadline=10.0)
    assert 10 <= took < 40


def test_failing_read_has_five_attempts() -> None:
    """A failing read is sent five times with growing delays, and the last error is raised."""

    async def body(sandbox: Sandbox, client: PaymentsClient) -> None:
        sandbox.order(Fault.ERROR_503, share=1)
        with pytest.raises(ServerError, match="Temporarily unavailable"):
            await client.payments.get(1)

    took, sandbox = played(body, retry=RetryPolicy(base_delay=2.0))
    # Between half and all of 2 + 4 + 8 + 16 seconds.
    assert 15 <= took < 31
    assert sandbox.request_count == 5


def test_call_can_be_cancelled_while_waiting() -> None:
    """A call cancelled while it waits for its permit sends nothing, and leaves the gate unchanged."""

    async def body(sandbox: Sandbox, client: PaymentsClient) -> None:
        await client.payments.get(1)
        waiting = asyncio.create_task(client.payments.get(2))
        await anyio.wait_all_tasks_blocked()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert sandbox.request_count == 1
        assert (await client.payments.get(3)).id == 3

    took, sandbox = played(body, quota=Quota(1, 20, margin=0))
    assert 19 < took < 22
    assert sandbox.request_count == 2


@pytest.mark.parametrize("ordered", [False, True])
def test_error_in_one_channel_ends_the_stream(ordered: bool) -> None:
    """An error in one channel comes out of the stream unchanged, and the client keeps working."""

    async def body(sandbox: Sandbox, client: PaymentsClient) -> None:
        stream = client.payments.stream(channel_ids=[1, 2, 3], ordered=ordered)
        sandbox.order(Fault.ERROR_500, times=1)
        with pytest.raises(ServerError):
            await stream.collect()
        failed = stream.report
        assert not failed.complete
        assert len(await stream.collect()) == 60
        ended = stream.report
        assert ended.complete
        assert ended.rows == sum(report.rows for report in stream.reports.values()) == 60
        assert set(stream.reports) == {1, 2, 3}

    played(body, retry=NEVER)


@pytest.mark.parametrize("quota", [None, Quota()])
def test_cancelled_call_sends_nothing(quota: Quota | None) -> None:
    """A call in a cancelled scope starts no request, even if a connection is ready."""
    started: list[RequestStarted] = []

    def note(event: Event) -> None:
        if isinstance(event, RequestStarted):
            started.append(event)

    async def body(sandbox: Sandbox, client: PaymentsClient) -> None:
        await client.payments.get(1)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await client.payments.get(2)
        assert scope.cancelled_caught
        assert len(started) == 1
        assert (await client.payments.get(3)).id == 3
        assert sandbox.request_count == 2

    played(body, quota=quota, on_event=note)
