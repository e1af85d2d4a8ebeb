"""A request that waits for a connection has not been sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from b2b_payments import (
    OfflineLineItem,
    OfflinePayment,
    OutcomeUnknownError,
    PaymentsClient,
    RequestTimeoutError,
    RetryPolicy,
    StoreAuth,
)
from b2b_payments._protocol import request as requests
from b2b_payments._transport import Transport
from b2b_payments.events import Event, RetryScheduled
from b2b_payments.sandbox import Rules, Sandbox
from tests.support.clients import NEVER, client_of
from tests.support.raw_server import Connection, RawServer
from tests.support.virtual_time import run

pytestmark = pytest.mark.virtual_time

READ = requests.get_payment(70)
WRITES = [requests.delete_payment(70), requests.create_offline({}), requests.update_processing_status(70, 1)]


class Busy:
    """Hangs with the first request, and answers the others."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()

    async def __call__(self, connection: Connection) -> None:
        """Hang, or answer."""
        if connection.number > 1:
            await connection.answer()
            return
        self.arrived.set()
        await connection.hang()


@asynccontextmanager
async def one_connection(server: RawServer, *, lent: bool) -> AsyncIterator[Transport]:
    """Yield a transport that has one connection."""
    if not lent:
        transport = Transport(server.base_url, connections=1)
        await transport.open()
        yield transport
        await transport.aclose()
        return
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
        transport = Transport(server.base_url, session=session)
        await transport.open()
        yield transport


@pytest.mark.parametrize("lent", [False, True], ids=["own", "lent"])
@pytest.mark.parametrize("request_", [READ, *WRITES], ids=lambda one: one.call)
async def test_request_without_a_connection_was_not_sent(request_: Any, *, lent: bool) -> None:
    """A timeout while all connections are in use says so, and that nothing was sent."""
    busy = Busy()
    async with RawServer(busy) as server, one_connection(server, lent=lent) as transport:
        first = asyncio.create_task(transport.send(READ, {}, timeout=5.0))
        await busy.arrived.wait()
        with pytest.raises(RequestTimeoutError) as caught:
            await transport.send(request_, {}, timeout=0.02)
        assert not caught.value.sent
        assert caught.value.message == (
            f"{request_.method} {request_.path}: not sent, since no connection to 127.0.0.1 became free or "
            "could be opened within 0.02 s; make fewer calls at once, or use a longer timeout."
        )
        assert len(server.requests) == 1
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert (await transport.send(request_, {}, timeout=5.0)).status == 200


@pytest.mark.parametrize("request_", [READ, *WRITES], ids=lambda one: one.call)
async def test_request_that_was_sent_may_have_arrived(request_: Any) -> None:
    """After a timeout of a request that was sent, it is unknown whether it was carried out."""
    async with RawServer(Busy()) as server:
        transport = Transport(server.base_url)
        await transport.open()
        with pytest.raises(RequestTimeoutError, match="no complete answer within") as caught:
            await transport.send(request_, {}, timeout=0.05)
        await transport.aclose()
    assert caught.value.sent


async def test_connect_timeout_was_not_sent() -> None:
    """A timeout while connecting is not a timeout of the answer."""

    class Never(aiohttp.TCPConnector):
        async def _create_connection(self, *_: Any, **__: Any) -> Any:
            await asyncio.Event().wait()

    async with aiohttp.ClientSession(connector=Never()) as session:
        transport = Transport("http://127.0.0.1:9", session=session)
        await transport.open()
        with pytest.raises(RequestTimeoutError) as caught:
            await transport.send(WRITES[1], {}, timeout=0.02)
    assert not caught.value.sent


@pytest.mark.slow
def test_creates_that_never_left_are_not_unknown() -> None:
    """Of 250 creates with a slow service, those that got no connection are reported as not sent."""

    async def main() -> tuple[list[object], Sandbox]:
        rules = Rules(quota=False, latency=6.0)
        async with (
            Sandbox(1, rules=rules) as sandbox,
            client_of(sandbox, timeout=10.0, retry=NEVER) as client,
        ):
            line_items = [OfflineLineItem(1, "2.00")]
            creates = [
                client.payments.create_offline(
                    OfflinePayment("1", "USD", line_items, external_id=f"X-{number}")
                )
                for number in range(250)
            ]
            return await asyncio.gather(*creates, return_exceptions=True), sandbox

    results, sandbox = run(main())
    made = [one for one in results if isinstance(one, int)]
    not_sent = [one for one in results if isinstance(one, RequestTimeoutError) and not one.sent]
    unknown = [one for one in results if isinstance(one, OutcomeUnknownError)]
    assert len(made) + len(not_sent) + len(unknown) == 250
    assert len(not_sent) == 50
    writes = [seen for seen in sandbox.requests if seen.method == "POST"]
    assert len(writes) == len(made) + len(unknown) == 200


@pytest.mark.parametrize("attempts", [1, 50])
async def test_a_lent_session_that_is_full_delays_a_write(attempts: int) -> None:
    """If others use all connections of a lent session, a POST waits, and is sent once."""
    busy = Busy()
    async with (
        RawServer(busy) as server,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session,
    ):
        others = asyncio.create_task(session.get(server.base_url))
        await busy.arrived.wait()

        def make_room(event: Event) -> None:
            if isinstance(event, RetryScheduled):
                assert event.reason == "not sent"
                others.cancel()

        settings: dict[str, Any] = {"quota": None, "timeout": 0.2, "session": session}
        settings |= {"retry": RetryPolicy(attempts=attempts, base_delay=0.001), "on_event": make_room}
        async with PaymentsClient(
            StoreAuth("abc123", "token"), base_url=server.base_url, **settings
        ) as client:
            if attempts > 1:
                await client.payments.perform_operation(1, 0)
            else:
                with pytest.raises(RequestTimeoutError, match="not sent, since no connection") as caught:
                    await client.payments.perform_operation(1, 0)
                assert not caught.value.sent
        others.cancel()
        await asyncio.gather(others, return_exceptions=True)
        assert len([line for line in server.lines if line.startswith("POST")]) == (attempts > 1)
