"""Writes that are given up half way: whoever did so reads what to look for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import pytest
from aiohttp import web

from b2b_payments import OutcomeUnknownError, PaymentsClient, RetryPolicy
from b2b_payments.events import Event, WriteInterrupted
from b2b_payments.sandbox import Fault, Rules, Sandbox, SeenRequest
from tests.socket.test_writes import OFFLINE
from tests.support.clients import client_of

pytestmark = pytest.mark.virtual_time

AGAIN = "before sending it again"
Write = Callable[[PaymentsClient], Awaitable[object]]
WRITES: list[tuple[Write, str, str]] = [
    (
        lambda client: client.payments.create_offline(OFFLINE),
        "POST /ip/payments/offline",
        f"externalId=INV-7, customerId=95000 {AGAIN}; lists may lag a write by about 20 minutes",
    ),
    (
        lambda client: client.payments.update_offline(7, OFFLINE),
        "PUT /ip/payments/offline/7",
        "id=7 before sending it again",
    ),
    (
        lambda client: client.payments.update_processing_status(7, 3),
        "PUT /ip/payments/7/processing-status",
        "id=7, processingStatus=3 before sending it again",
    ),
    (
        lambda client: client.payments.perform_operation(7, 0),
        "POST /ip/payments/7/operations",
        "id=7 before sending it again",
    ),
    (
        lambda client: client.payments.delete(7),
        "DELETE /ip/payments/7",
        "id=7 before sending it again",
    ),
]


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Yield a sandbox of 20 payments."""
    async with Sandbox(20) as one:
        yield one


async def cancelled(sandbox: Sandbox, write: Write, event: anyio.Event) -> tuple[str, list[WriteInterrupted]]:
    """Cancel a write when something has happened; give the notes of what it ends in, and the events of it."""
    events: list[Event] = []
    async with client_of(sandbox, on_event=events.append) as client:
        writing = asyncio.ensure_future(write(client))
        await event.wait()
        writing.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await writing
    interrupted = [one for one in events if isinstance(one, WriteInterrupted)]
    return "\n".join(getattr(caught.value, "__notes__", [])), interrupted


def arrival(sandbox: Sandbox, number: int = 1) -> anyio.Event:
    """Return what is set when this request has arrived."""
    event = anyio.Event()

    def note(seen: SeenRequest) -> web.Response | None:
        if len(sandbox.requests) >= number:
            event.set()
        return None

    sandbox.answer_with(note)
    return event


@pytest.mark.parametrize(("write", "what", "look_for"), WRITES, ids=[what for _, what, _ in WRITES])
async def test_a_write_cancelled_after_it_left_says_what_to_look_for(
    sandbox: Sandbox, write: Write, what: str, look_for: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The CancelledError of a write that may have been carried out has a note, and the log a warning."""
    caplog.set_level(logging.WARNING, "b2b_payments")
    sandbox.order(Fault.HANG, share=1)
    notes, (event,) = await cancelled(sandbox, write, arrival(sandbox))
    doubt = "was sent, and whether it was carried out is not known: it was cancelled"
    assert notes == f"{what} {doubt}. Look for {look_for}."
    assert f"{event.method} {event.path}" == what
    (record,) = caplog.records
    assert record.getMessage().startswith("WriteInterrupted call=payments.")
    assert "INV-7" not in record.getMessage()


async def test_the_traceback_of_a_timeout_says_what_to_look_for(sandbox: Sandbox) -> None:
    """`asyncio.timeout` around a create: the note stands at the error that its TimeoutError comes from."""
    sandbox.order(Fault.HANG, share=1)
    async with client_of(sandbox) as client:
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.3):
                await client.payments.create_offline(OFFLINE)
    assert "Look for externalId=INV-7" in "".join(getattr(caught.value.__cause__, "__notes__", []))


async def test_a_deadline_that_ends_a_write_says_what_to_look_for(sandbox: Sandbox) -> None:
    """A deadline of the client's own ends a write in OutcomeUnknownError, at once."""
    sandbox.order(Fault.HANG, share=1)
    async with client_of(sandbox, deadline=0.3) as client:
        with pytest.raises(OutcomeUnknownError, match=r" s\. Look for id=7, processingStatus=3 "):
            await client.payments.update_processing_status(7, 3)


async def test_a_write_cancelled_while_it_is_looked_for_is_in_doubt(sandbox: Sandbox) -> None:
    """A create whose answer was lost is in doubt as long as it is looked for."""
    sandbox.order(Fault.RESET_AFTER, times=1)
    sandbox.order(Fault.HANG, share=1)
    notes, _ = await cancelled(sandbox, WRITES[0][0], arrival(sandbox, number=2))
    assert "Look for externalId=INV-7" in notes


@pytest.mark.parametrize("earlier", [None, Fault.ERROR_500, Fault.RATE_LIMITED])
async def test_a_pause_between_attempts_knows_what_came_before(earlier: Fault | None) -> None:
    """Cancelled between two attempts, a PUT is in doubt after a 500, not after a 429 or before the first."""
    async with Sandbox(20, rules=Rules(refusal_wait=60)) as sandbox:
        event = anyio.Event()
        if earlier is not None:
            sandbox.order(earlier, share=1)

        def note(event_: object) -> None:
            if type(event_).__name__ in ({"RetryScheduled"} if earlier else {"CallStarted"}):
                event.set()

        retry = RetryPolicy(base_delay=60)
        async with client_of(sandbox, retry=retry, on_event=note) as client:
            if earlier is None:
                await sandbox.pause_listening()
            writing = asyncio.ensure_future(client.payments.update_processing_status(7, 3))
            await event.wait()
            writing.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await writing
    assert hasattr(caught.value, "__notes__") == (earlier is Fault.ERROR_500)


async def test_a_read_that_is_cancelled_says_nothing(sandbox: Sandbox) -> None:
    """A read changes nothing, so there is nothing to look for."""
    sandbox.order(Fault.HANG, share=1)
    notes, events = await cancelled(sandbox, lambda client: client.payments.get(7), arrival(sandbox))
    assert (notes, events) == ("", [])
