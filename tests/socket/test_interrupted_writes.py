"""Writes that are cancelled half way: the caller is told what to look for."""

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
    """Cancel a write when an event is set; return the notes of its error, and its events."""
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
    """Return an event that is set when the request of this number has arrived."""
    event = anyio.Event()

    def note(seen: SeenRequest) -> web.Response | None:
        if len(sandbox.requests) >= number:
            event.set()
        return None

    sandbox.answer_with(note)
    return event


@pytest.mark.parametrize(("write", "what", "look_for"), WRITES, ids=[what for _, what, _ in WRITES])
async def test_cancelled_write_says_what_to_look_for(
    sandbox: Sandbox, write: Write, what: str, look_for: str, caplog: pytest.LogCaptureFixture
) -> None:
    """If a cancelled write may have been carried out, its error has a note, and the log a warning."""
    caplog.set_level(logging.WARNING, "b2b_payments")
    sandbox.order(Fault.HANG, share=1)
    notes, (event,) = await cancelled(sandbox, write, arrival(sandbox))
    doubt = "was sent, and whether it was carried out is not known: it was cancelled"
    assert notes == f"{what} {doubt}. Look for {look_for}."
    assert f"{event.method} {event.path}" == what
    (record,) = caplog.records
    assert record.getMessage().startswith("WriteInterrupted call=payments.")
    assert "INV-7" not in record.getMessage()


async def test_timeout_traceback_says_what_to_look_for(sandbox: Sandbox) -> None:
    """With `asyncio.timeout`, the note is on the error that the TimeoutError comes from."""
    sandbox.order(Fault.HANG, share=1)
    async with client_of(sandbox) as client:
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.3):
                await client.payments.create_offline(OFFLINE)
    assert "Look for externalId=INV-7" in "".join(getattr(caught.value.__cause__, "__notes__", []))


async def test_deadline_of_a_write_says_what_to_look_for(sandbox: Sandbox) -> None:
    """The client's own deadline ends a write with OutcomeUnknownError, at once."""
    sandbox.order(Fault.HANG, share=1)
    async with client_of(sandbox, deadline=0.3) as client:
        with pytest.raises(OutcomeUnknownError, match=r" s\. Look for id=7, processingStatus=3 "):
            await client.payments.update_processing_status(7, 3)


async def test_write_cancelled_during_the_search_is_unknown(sandbox: Sandbox) -> None:
    """A create whose answer was lost is uncertain while it is searched for."""
    sandbox.order(Fault.RESET_AFTER, times=1)
    sandbox.order(Fault.HANG, share=1)
    notes, _ = await cancelled(sandbox, WRITES[0][0], arrival(sandbox, number=2))
    assert "Look for externalId=INV-7" in notes


@pytest.mark.parametrize("earlier", [None, Fault.ERROR_500, Fault.RATE_LIMITED])
async def test_cancelled_pause_knows_the_previous_attempt(earlier: Fault | None) -> None:
    """Cancelled between attempts, a PUT is uncertain after a 500, not after a 429 or before the first."""
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


async def test_cancelled_read_has_no_note(sandbox: Sandbox) -> None:
    """A read changes nothing, so there is nothing to look for."""
    sandbox.order(Fault.HANG, share=1)
    notes, events = await cancelled(sandbox, lambda client: client.payments.get(7), arrival(sandbox))
    assert (notes, events) == ("", [])
