"""A client belongs to the event loop and the process in which it was opened."""

from __future__ import annotations

import asyncio
import inspect
import io
import os
import re
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from b2b_payments import (
    ConfigurationError,
    OfflineLineItem,
    OfflinePayment,
    OutcomeUnknownError,
    Payment,
    PaymentsClient,
    StoreAuth,
)
from b2b_payments._walk.pager import Pager
from b2b_payments._walk.stream import PaymentStream
from b2b_payments._walk.walk import Walk
from b2b_payments.export import JSONLSink, export
from b2b_payments.sandbox import Sandbox
from b2b_payments.sync import store_for, sync
from tests.support.clients import client_of

Use = Callable[[PaymentsClient], Awaitable[object]]

NEW = OfflinePayment("1", "USD", [OfflineLineItem(1, "2.00")], external_id="ERP-1")
OTHER_LOOP = "The client was opened in another event loop; open one in each"
ENDED_LOOP = "The client was opened in an event loop that has ended; open one in each"
FORKED = "The client was opened before this process was forked"


async def _all(pages: AsyncIterator[Any]) -> list[Any]:
    return [page async for page in pages]


def unknown_outcome(client: PaymentsClient) -> OutcomeUnknownError:
    """Return the error of a DELETE of this client's store that was not settled."""
    write = {
        "store": client.payments._walker.store,
        "id": 1,
        "call": "payments.delete",
        "body": None,
        "begun": None,
    }
    return OutcomeUnknownError("not known", write=write)


CALLS: dict[str, Use] = {
    "get": lambda client: client.payments.get(1),
    "look_up": lambda client: client.payments.look_up(1),
    "look_up_text": lambda client: client.payments.look_up_text(1),
    "delete": lambda client: client.payments.delete(1),
    "operations": lambda client: client.payments.operations(1),
    "perform_operation": lambda client: client.payments.perform_operation(1, 0),
    "update_processing_status": lambda client: client.payments.update_processing_status(1, 3),
    "transactions": lambda client: client.payments.transactions(1),
    "create_offline": lambda client: client.payments.create_offline(NEW),
    "update_offline": lambda client: client.payments.update_offline(1, NEW),
    "settle": lambda client: client.payments.settle(unknown_outcome(client)),
}
CHANNELS: dict[str, Use] = {
    "get": lambda client: client.channels.get(1),
    "list": lambda client: client.channels.list(),
}
WALKS: dict[str, Use] = {
    "first": lambda client: client.payments.list().first(),
    "count": lambda client: client.payments.list().count(),
    "collect": lambda client: client.payments.list().collect(),
    "pages": lambda client: _all(client.payments.list().pages()),
    "raw": lambda client: _all(client.payments.list().raw()),
    "raw_pages": lambda client: _all(client.payments.list().raw_pages()),
    "arrow_batches": lambda client: _all(client.payments.list().arrow_batches()),
    "to_arrow": lambda client: client.payments.list().to_arrow(),
    "to_pandas": lambda client: client.payments.list().to_pandas(),
    "to_polars": lambda client: client.payments.list().to_polars(),
    "joined": lambda client: _all(client.payments.list().joined()),
    "__aiter__": lambda client: _all(aiter(client.payments.list())),
}
STREAMS: dict[str, Use] = {
    "collect": lambda client: client.payments.stream(channel_ids=[1, 2]).collect(),
    "pages": lambda client: _all(client.payments.stream().pages()),
    "raw": lambda client: _all(client.payments.stream(ordered=True).raw()),
    "raw_pages": lambda client: _all(client.payments.stream().raw_pages()),
    "arrow_batches": lambda client: _all(client.payments.stream().arrow_batches()),
    "to_arrow": lambda client: client.payments.stream().to_arrow(),
    "to_pandas": lambda client: client.payments.stream().to_pandas(),
    "to_polars": lambda client: client.payments.stream().to_polars(),
    "joined": lambda client: _all(client.payments.stream().joined()),
    "__aiter__": lambda client: _all(aiter(client.payments.stream())),
}
OWN: dict[str, Use] = {
    "open": lambda client: client.open(),
    "ping": lambda client: client.ping(),
    "request": lambda client: client.request("GET", "/ip/payments"),
    "aclose": lambda client: client.aclose(),
    "__aenter__": lambda client: client.__aenter__(),
    "__aexit__": lambda client: client.__aexit__(None, None, None),
}
OPENING = (OWN["open"], OWN["__aenter__"])
CLOSING = (OWN["aclose"], OWN["__aexit__"])
RESOURCES = {"payments": CALLS, "channels": CHANNELS}
USES = [use for uses in (*RESOURCES.values(), WALKS, STREAMS, OWN) for use in uses.values()]


def test_every_public_coroutine_is_listed() -> None:
    """The tables above list every coroutine and asynchronous generator of a client."""
    client = PaymentsClient(StoreAuth(store_hash="abc123", access_token="token"))
    resources = {
        name: type(value)
        for name, value in vars(client).items()
        if type(value).__module__.startswith("b2b_payments._resources.") and not name.startswith("_")
    }
    assert resources.keys() == RESOURCES.keys()
    everything: list[tuple[type, dict[str, Use]]] = [
        *((resources[name], uses) for name, uses in RESOURCES.items()),
        (Walk, WALKS),
        (PaymentStream, STREAMS),
        (PaymentsClient, OWN),
    ]
    for offers, uses in everything:
        members = inspect.getmembers(offers, inspect.isfunction)
        names = {
            name
            for name, member in members
            if (
                inspect.iscoroutinefunction(member)
                or re.search(r"Async|Iteration", str(inspect.signature(member)))
            )
            and (not name.startswith("_") or name.startswith("__a"))
        }
        assert names == uses.keys()


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Yield a sandbox of 300 payments."""
    async with Sandbox(300) as one:
        yield one


def in_a_loop_of_its_own(work: Callable[[], Awaitable[Any]]) -> Any:
    """Run a coroutine to its end in a new event loop."""

    async def run() -> Any:
        return await work()

    return asyncio.run(run())


def refused(use: Use, client: PaymentsClient, says: str) -> None:
    """Check that a use is refused, in this thread with a new event loop, and without any."""
    with pytest.raises(ConfigurationError, match=says):
        in_a_loop_of_its_own(lambda: use(client))
    with pytest.raises(ConfigurationError, match=says):
        coroutine(use(client)).send(None)


async def coroutine(awaitable: Awaitable[object]) -> object:
    """Make a coroutine of an awaitable."""
    return await awaitable


async def test_other_loop_is_refused(sandbox: Sandbox) -> None:
    """In another thread, with an event loop or without one, every use is refused and sends nothing."""
    async with client_of(sandbox) as client:
        await client.payments.get(1)  # leaves a connection in the pool
        for use in USES:
            await asyncio.to_thread(refused, use, client, "is open already" if use in OPENING else OTHER_LOOP)
        assert sandbox.request_count == 1
        assert len(await client.payments.list().collect()) == 300


async def test_a_loop_that_has_ended_is_named(sandbox: Sandbox) -> None:
    """A client left open when its event loop ended is refused in the next, with the reason."""

    def use_later() -> None:
        client = client_of(sandbox)
        in_a_loop_of_its_own(client.__aenter__)
        session = client._transport._session
        assert session is not None
        try:
            for use in USES:
                refused(use, client, "is open already" if use in OPENING else ENDED_LOOP)
        finally:
            client._open = False
            in_a_loop_of_its_own(session.close)

    await asyncio.to_thread(use_later)
    assert sandbox.request_count == 0


async def test_a_forked_child_is_refused(sandbox: Sandbox) -> None:
    """In a forked child every use is refused and sends nothing; the parent's client keeps working."""
    async with client_of(sandbox) as client:
        await client.payments.get(1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # about forking with threads
            child = os.fork()
        if child == 0:
            status = 1
            try:
                for use in USES:
                    refused(use, client, "is open already" if use in OPENING else FORKED)
                status = 0
            finally:
                os._exit(status)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert status == 0
        assert sandbox.request_count == 1
        assert len(await client.payments.list().collect()) == 300


async def test_a_closed_client_is_refused_anywhere(sandbox: Sandbox) -> None:
    """Once closed, a client is refused in every event loop; closing it again does nothing."""
    async with client_of(sandbox) as client:
        pass

    def uses() -> None:
        for use in USES:
            if use in OPENING:
                refused(use, client, "was closed; make a new one")
            elif use in CLOSING:
                in_a_loop_of_its_own(partial(use, client))
            else:
                refused(use, client, "The client is not open")

    await asyncio.to_thread(uses)
    assert sandbox.request_count == 0


async def test_a_client_made_elsewhere_is_opened_here(sandbox: Sandbox) -> None:
    """Only opening binds a client to a loop: where it and its walks were created does not matter."""

    async def make() -> tuple[PaymentsClient, Walk]:
        client = client_of(sandbox)
        return client, client.payments.list()

    client, walk = await asyncio.to_thread(asyncio.run, make())
    async with client:
        assert len(await walk.collect()) == 300


async def test_calls_from_other_threads_are_served(sandbox: Sandbox) -> None:
    """A thread can submit its call to the client's event loop."""
    loop = asyncio.get_running_loop()
    async with client_of(sandbox) as client:

        def call() -> Payment:
            return asyncio.run_coroutine_threadsafe(client.payments.get(2), loop).result(10)

        assert (await asyncio.to_thread(call)).id == 2


async def test_a_session_of_another_loop_is_refused(sandbox: Sandbox) -> None:
    """A session that was made in another event loop is refused when the client is opened."""

    async def borrow(session: aiohttp.ClientSession) -> None:
        with pytest.raises(ConfigurationError, match="The given session belongs to another event loop"):
            await client_of(sandbox, session=session).__aenter__()

    async with aiohttp.ClientSession() as session:
        await asyncio.to_thread(in_a_loop_of_its_own, lambda: borrow(session))
    assert sandbox.request_count == 0


async def test_exports_and_copies_are_refused(sandbox: Sandbox, tmp_path: Path) -> None:
    """Exports and syncs are refused as well, and leave no file behind."""
    stream, store = io.BytesIO(), store_for(tmp_path / "copy.sqlite")
    async with client_of(sandbox) as client:
        uses: list[Use] = [
            lambda client: export(client.payments.list(), JSONLSink(stream)),
            lambda client: export(client.payments.list(), JSONLSink(tmp_path / "all.jsonl")),
            lambda client: sync(client, store),
        ]
        for use in uses:
            with pytest.raises(ConfigurationError, match=OTHER_LOOP):
                await asyncio.to_thread(in_a_loop_of_its_own, partial(use, client))
    assert stream.getvalue() == b""
    assert not (tmp_path / "all.jsonl").exists()
    assert sandbox.request_count == 0


async def nothing_is_left() -> None:
    """Check that the walks' tasks have ended or are about to."""
    ours = [task for task in asyncio.all_tasks() if task.get_name().startswith("b2b_payments.")]
    if ours:
        _, left = await asyncio.wait(ours, timeout=5)
        assert not left


PAGED: dict[str, Callable[[PaymentsClient], Pager]] = {
    "walk": lambda client: client.payments.list(page_size=20, concurrency=2),
    "stream": lambda client: client.payments.stream(channel_ids=[1, 2, 3], page_size=20, concurrency=2),
    "ordered": lambda client: client.payments.stream(
        channel_ids=[1, 2, 3], page_size=20, concurrency=2, ordered=True
    ),
}


@pytest.mark.parametrize("walk", PAGED.values(), ids=PAGED)
async def test_a_walk_is_not_continued_elsewhere(
    sandbox: Sandbox, walk: Callable[[PaymentsClient], Pager]
) -> None:
    """A walk begun here and continued in another event loop ends there in an error at its next page.

    What it had asked for ahead is given up here, and the client goes on working.
    """

    async def rest(payments: AsyncGenerator[Payment, None]) -> None:
        async for payment in payments:
            taken.append(payment.id)  # noqa: PERF401 - payments before the error count

    def continue_here(payments: AsyncGenerator[Payment, None]) -> None:
        with pytest.raises(ConfigurationError, match=OTHER_LOOP):
            in_a_loop_of_its_own(lambda: rest(payments))

    taken: list[int] = []
    async with client_of(sandbox) as client:
        payments = aiter(walk(client))
        assert isinstance(payments, AsyncGenerator)
        taken.append((await anext(payments)).id)
        await asyncio.to_thread(continue_here, payments)
        assert len(taken) <= 20
        await nothing_is_left()
        assert len(await walk(client).collect()) == 300


async def test_a_walk_is_closed_elsewhere(sandbox: Sandbox) -> None:
    """A walk closed by another thread cancels its requests in its own loop."""
    async with client_of(sandbox) as client:
        payments = aiter(client.payments.list(page_size=20, concurrency=2))
        assert isinstance(payments, AsyncGenerator)
        await anext(payments)
        await asyncio.to_thread(in_a_loop_of_its_own, payments.aclose)
        await nothing_is_left()
        assert (await client.payments.get(1)).id == 1
