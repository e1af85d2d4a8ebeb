"""The lifecycle of a client and its walks: opened, used, left early, closed."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from b2b_payments import B2BPaymentsError, ConfigurationError, Payment, PaymentsClient, Quota, RetryPolicy
from b2b_payments._walk.pager import Pager
from b2b_payments.events import RequestStarted
from b2b_payments.sandbox import Fault, Rules, Sandbox
from tests.support.clients import client_of

USES: list[Callable[[PaymentsClient], Awaitable[object]]] = [
    lambda client: client.payments.get(1),
    lambda client: client.payments.delete(1),
    lambda client: client.channels.list(),
    lambda client: client.payments.list().collect(),
    lambda client: client.payments.list().first(),
    lambda client: client.payments.list().count(),
    lambda client: client.payments.stream(channel_ids=[1, 2]).collect(),
]


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Yield a sandbox of 600 payments that answers after 10 ms, so that requests are always in flight."""
    async with Sandbox(600, rules=Rules(latency=0.01, quota=False)) as one:
        yield one


def ours() -> list[asyncio.Task[Any]]:
    """Return the library's running tasks, except the clients' own."""
    return [task for task in asyncio.all_tasks() if task.get_name().startswith("b2b_payments.")]


def owners() -> int:
    """Return the number of the clients' own tasks."""
    return sum(task.get_name() == "b2b_payments" for task in asyncio.all_tasks() if not task.done())


@pytest.mark.parametrize("use", USES)
async def test_client_is_usable_inside_async_with_only(
    sandbox: Sandbox, use: Callable[[PaymentsClient], Awaitable[object]]
) -> None:
    """Before and after its `async with`, every use is a clear error, and sends nothing."""
    client = client_of(sandbox)
    with pytest.raises(ConfigurationError, match=r"The client is not open.* inside `async with"):
        await use(client)
    async with client:
        pass
    with pytest.raises(ConfigurationError, match=r"The client is not open.* inside `async with"):
        await use(client)
    assert sandbox.request_count == 0


async def test_client_is_entered_once(sandbox: Sandbox) -> None:
    """A second `async with` is refused, and leaves the first unchanged."""
    async with client_of(sandbox) as client:
        with pytest.raises(ConfigurationError, match="open already"):
            await client.__aenter__()
        assert (await client.payments.get(1)).id == 1
    with pytest.raises(ConfigurationError, match="was closed; make a new one"):
        await client.__aenter__()
    assert owners() == 0


async def test_client_may_be_closed_twice(sandbox: Sandbox) -> None:
    """Closing again, even concurrently, does nothing, as does closing a client that was never opened."""
    client = client_of(sandbox)
    async with client:
        await client.payments.get(1)
        async with anyio.create_task_group() as group:
            group.start_soon(client.aclose)
            group.start_soon(client.aclose)
        await client.aclose()
    await client_of(sandbox).aclose()
    assert owners() == 0


async def test_client_may_be_closed_in_another_task(sandbox: Sandbox) -> None:
    """A client opened in one task, as by a fixture, can be used in a second and closed in a third."""
    client = client_of(sandbox)
    await asyncio.create_task(client.__aenter__())
    assert len(await asyncio.create_task(client.payments.list().collect())) == 600
    await asyncio.create_task(client.aclose())
    assert owners() == 0


async def test_open_can_be_cancelled(sandbox: Sandbox) -> None:
    """A client whose opening is cancelled leaves no task and no session behind."""
    client = client_of(sandbox)
    opening = asyncio.create_task(client.__aenter__())
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert owners() == 0
    with pytest.raises(ConfigurationError):
        client._transport.require_open()


class Interrupt(BaseException):
    """Stands for KeyboardInterrupt, which would stop the test run itself."""


@pytest.mark.parametrize("raised", [ValueError("own"), asyncio.CancelledError("own"), Interrupt("own")])
@pytest.mark.parametrize("walking", [False, True])
async def test_callers_error_is_not_wrapped(sandbox: Sandbox, raised: BaseException, walking: bool) -> None:
    """An error of the caller's body comes out unchanged, in no group, beside or inside a walk."""

    async def body() -> None:
        async with client_of(sandbox) as client:
            if not walking:
                raise raised
            async for _ in client.payments.list(page_size=10):
                raise raised

    with pytest.raises(type(raised)) as caught:
        await body()
    assert caught.value is raised
    assert owners() == 0


def take(paged: Pager) -> AsyncGenerator[Payment, None]:
    """Return the generator behind `async for`."""
    payments = aiter(paged)
    assert isinstance(payments, AsyncGenerator)
    return payments


async def break_early(paged: Pager) -> None:
    """Leave the loop by `break`."""
    async with aclosing(take(paged)) as payments:
        taken = 0
        async for _ in payments:
            taken += 1
            if taken == 35:
                break


async def raise_inside(paged: Pager) -> None:
    """Leave the loop by an exception."""
    taken = 0
    with suppress(ZeroDivisionError):
        async with aclosing(take(paged)) as payments:
            async for _ in payments:
                taken += 1
                taken / (35 - taken)


async def run_out_of_time(paged: Pager) -> None:
    """Leave the loop by a timeout around it, while it waits for a page."""
    taken = 0

    async def consume() -> None:
        nonlocal taken
        with anyio.fail_after(60) as scope:
            async for _ in paged:
                taken += 1
                if taken == 35:
                    scope.deadline = anyio.current_time()

    with pytest.raises(TimeoutError):
        await consume()
    assert taken < 600


async def be_cancelled(paged: Pager) -> None:
    """Leave the loop by being cancelled as a task."""
    reached = anyio.Event()

    async def consume() -> None:
        taken = 0
        async with aclosing(take(paged)) as payments:
            async for _ in payments:
                taken += 1
                if taken == 35:
                    reached.set()
                    await anyio.sleep_forever()

    task = asyncio.create_task(consume())
    task.add_done_callback(lambda _: reached.set())
    await reached.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def drop(paged: Pager) -> None:
    """Leave the generator to the garbage collector, which makes the event loop close it in a task."""
    payments = take(paged)
    for _ in range(35):
        await anext(payments)
    others = asyncio.all_tasks()
    del payments
    gc.collect()
    await checkpoint()
    # It has begun to close; what was about to be sent meanwhile may still be.
    closing = asyncio.all_tasks() - others - set(ours())
    assert closing
    await asyncio.wait(closing)


WALKS: dict[str, Callable[[PaymentsClient], Pager]] = {
    "list": lambda client: client.payments.list(page_size=10, concurrency=4),
    "stream": lambda client: client.payments.stream(channel_ids=[1, 2, 3], page_size=10, concurrency=4),
    "ordered": lambda client: client.payments.stream(
        channel_ids=[1, 2, 3], page_size=10, concurrency=4, ordered=True
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("leave", [break_early, raise_inside, run_out_of_time, be_cancelled, drop])
@pytest.mark.parametrize("walk", WALKS.values(), ids=WALKS)
async def test_walk_left_early_leaves_nothing_behind(
    sandbox: Sandbox,
    walk: Callable[[PaymentsClient], Pager],
    leave: Callable[[Pager], Awaitable[None]],
) -> None:
    """However a walk is left, no request starts and no task stays, and the client keeps working."""
    started: list[object] = []

    def note(event: object) -> None:
        if isinstance(event, RequestStarted):
            started.append(event)

    async with client_of(sandbox, on_event=note) as client:
        await leave(walk(client))
        before = len(started)
        assert 3 < before < 60
        if tasks := ours():
            await asyncio.wait(tasks, timeout=20)
        assert not ours()
        assert (await client.payments.get(1)).id == 1
        assert len(started) == before + 1
        assert sandbox.request_count <= before + 1
        assert len({payment.id async for payment in walk(client)}) == 600
    assert not ours()
    assert owners() == 0


@pytest.mark.parametrize("walk", WALKS.values(), ids=WALKS)
async def test_closing_the_client_ends_a_walk_with_an_error(
    sandbox: Sandbox, walk: Callable[[PaymentsClient], Pager]
) -> None:
    """A walk whose client was closed ends in a clear error, never silently, and sends nothing more."""
    client = client_of(sandbox)
    payments = take(walk(client))
    taken = 0

    async def the_rest() -> None:
        nonlocal taken
        async for _ in payments:
            taken += 1

    async with client:
        for _ in range(35):
            await anext(payments)
    before = sandbox.request_count
    with pytest.raises(
        ConfigurationError, match=r"The client was closed while a (walk|stream) was under way"
    ):
        await the_rest()
    assert taken < 500
    assert sandbox.request_count == before


@pytest.mark.parametrize("walk", WALKS.values(), ids=WALKS)
async def test_closing_the_client_ends_a_waiting_walk(
    sandbox: Sandbox, walk: Callable[[PaymentsClient], Pager]
) -> None:
    """A walk that waits for an answer when its client is closed ends at once."""
    sandbox.order(Fault.HANG_BEFORE, share=1)
    client = client_of(sandbox)
    arrived = anyio.Event()
    sandbox.answer_with(lambda _: arrived.set())
    async with client:
        walking = asyncio.create_task(walk(client).collect())
        walking.add_done_callback(lambda _: arrived.set())
        await arrived.wait()
    with pytest.raises(ConfigurationError, match="The client was closed"), anyio.fail_after(20):
        await walking


@pytest.mark.parametrize("retry", [RetryPolicy(attempts=1), RetryPolicy(base_delay=0.001)])
async def test_closing_the_client_ends_a_waiting_call(sandbox: Sandbox, retry: RetryPolicy) -> None:
    """A call that waits for an answer when its client is closed ends at once, in one of our errors."""
    sandbox.order(Fault.HANG_BEFORE, share=1)
    arrived = anyio.Event()
    sandbox.answer_with(lambda _: arrived.set())
    async with client_of(sandbox, retry=retry) as client:
        calling = asyncio.create_task(client.payments.get(1))
        calling.add_done_callback(lambda _: arrived.set())
        await arrived.wait()
    with pytest.raises(B2BPaymentsError), anyio.fail_after(20):
        await calling
    assert sandbox.request_count == 1


async def test_unclosed_client_warns(sandbox: Sandbox) -> None:
    """Deleting an open client gives a ResourceWarning that names it, but no credential."""
    clients = [await client_of(sandbox).__aenter__()]
    tasks, session = clients[0]._tasks, clients[0]._transport.require_open()
    with pytest.warns(ResourceWarning, match=r"PaymentsClient\(StoreAuth.* was not closed") as caught:
        clients.clear()
    assert not [one for one in caught if "access-token" in str(one.message)]
    await tasks.stop()
    await session.close()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"auth": "token"}, "auth must be a StoreAuth or a LegacyAuth, not str"),
        ({"quota": 150}, "quota is int; give a Quota, or None to turn it off"),
        ({"retry": None}, "retry is NoneType; give a RetryPolicy"),
        ({"timeout": 0}, "timeout must be seconds, more than 0, not 0"),
        ({"timeout": None}, "timeout must be seconds"),
        ({"timeout": True}, "timeout must be seconds"),
        ({"timeout": float("nan")}, "timeout must be seconds"),
        ({"deadline": float("inf")}, "deadline must be seconds"),
        ({"on_event": "print"}, "on_event is str; give a plain function"),
        ({"on_event": anyio.sleep}, "on_event is an async function"),
        ({"session": "mine"}, "session is str"),
    ],
)
async def test_invalid_setting_is_named(sandbox: Sandbox, settings: dict[str, Any], says: str) -> None:
    """An invalid setting is refused at once, by its name."""
    with pytest.raises(ConfigurationError, match=says):
        client_of(sandbox, **settings)


async def test_repr_shows_no_credential(sandbox: Sandbox) -> None:
    """A client's repr has its base URL and store, but no credential."""
    text = repr(client_of(sandbox))
    assert sandbox.base_url in text
    assert str(sandbox.auth.access_token) not in text


async def test_clients_of_one_store_share_a_gate(sandbox: Sandbox) -> None:
    """Two clients of one store have the same gate, one without quota has none."""
    quota = Quota(100, 60)
    async with (
        client_of(sandbox, quota=quota) as one,
        client_of(sandbox, quota=quota) as two,
        client_of(sandbox) as free,
    ):
        assert one._caller.quota.gate is two._caller.quota.gate is not None
        assert free._caller.quota.gate is None
