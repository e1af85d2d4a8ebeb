"""Which connection a request is sent on: none with unread bytes that nobody requested."""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler

from b2b_payments import TransportError
from b2b_payments._mixups import MixUps
from b2b_payments._protocol import request as requests
from b2b_payments._protocol.answer import Answer
from b2b_payments._protocol.request import Request
from b2b_payments._transport import Transport
from b2b_payments._transport.connections import Exchange, SpeaksFirstError
from b2b_payments._transport.failures import Way, failure
from tests.support.raw_server import Connection, RawServer

GET = requests.get_payment(70)
OWN = [
    requests.get_operations(70),
    requests.get_transactions(70),
    requests.list_channels(),
    requests.get_channel(1),
    requests.delete_payment(70),
    requests.perform_operation(70, 0),
    requests.update_processing_status(70, 2),
    requests.create_offline({}),
    requests.update_offline(70, {}),
]
STRAY = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray"


def answer_to(connection: Connection) -> bytes:
    """Return the body that answers this request: its number."""
    return str(connection.number).encode()


async def answer(connection: Connection) -> None:
    """Answer with the request's number."""
    await connection.answer(answer_to(connection))


@asynccontextmanager
async def opened(server: RawServer, *, lent: bool = False, **settings: Any) -> AsyncIterator[Transport]:
    """Yield a transport with its own session, or a lent one."""
    session = aiohttp.ClientSession() if lent else None
    transport = Transport(server.base_url, session=session, **settings)
    await transport.open()
    try:
        yield transport
    finally:
        await transport.aclose()
        if session is not None:
            await session.close()


def page(offset: int, order: str = "ASC", **filters: str) -> Request:
    """Ask for a page."""
    return requests.list_payments((("offset", str(offset)), ("orderBy", order), *filters.items()))


async def sent(transport: Transport, request: Request = GET) -> Answer:
    """Send a request."""
    return await transport.send(request, {}, timeout=5.0)


async def bodies(transport: Transport, *to_send: Request) -> list[bytes]:
    """Send requests one after another. Returns the bodies of their answers."""
    return [(await sent(transport, request)).body for request in to_send]


both = pytest.mark.parametrize("lent", [False, True], ids=["own", "lent"])


@both
@pytest.mark.parametrize(
    "to_send", [[GET] * 5, [page(0), page(9), GET, page(18), page(27, "DESC")]], ids=["payments", "pages"]
)
async def test_kept_connection_is_reused(to_send: list[Request], *, lent: bool) -> None:
    """Requests whose answers name what they are about share one connection, and report that."""
    async with RawServer(answer) as server, opened(server, lent=lent) as transport:
        answers = [await sent(transport, request) for request in to_send]
        assert [one.reused for one in answers] == [False, True, True, True, True]
        assert server.connections == 1
        assert not transport.mixups.recent


@both
@pytest.mark.parametrize("request_", OWN, ids=lambda one: one.call)
async def test_unidentifiable_answer_gets_a_new_connection(request_: Request, *, lent: bool) -> None:
    """A write, and a read whose answer does not name what it is about, is sent on a new connection."""
    async with RawServer(answer) as server, opened(server, lent=lent) as transport:
        assert await bodies(transport, GET, request_, request_, GET) == [b"1", b"2", b"3", b"4"]
        assert server.connections == 3  # the last one reuses the third


@both
@pytest.mark.parametrize(
    "other",
    [page(0), page(0, "DESC"), page(9, q="7"), page(9, sortBy="updatedAt"), requests.get_transactions(70)],
    ids=["same page", "other end", "other filter", "other order", "other list"],
)
async def test_pages_that_could_be_confused_share_no_connection(other: Request, *, lent: bool) -> None:
    """A page with the same offset, or another list, is sent on another connection than a page before."""
    async with RawServer(answer) as server, opened(server, lent=lent) as transport:
        await bodies(transport, page(0), other)
        assert server.connections == 2
        await bodies(transport, page(18))
        assert server.connections == (2 if other.listed == page(0).listed else 3)


class Kept:
    """A server that remembers its latest connection, to do something to it between two requests."""

    def __init__(self) -> None:
        self._connection: Connection | None = None

    async def __call__(self, connection: Connection) -> None:
        """Answer with the request's number."""
        self._connection = connection
        await answer(connection)

    def write(self, data: bytes) -> None:
        """Send at once, without a turn of the event loop."""
        os.write(self._socket.fileno(), data)

    def close(self) -> None:
        """Close at once, without a turn of the event loop."""
        self._socket.shutdown(socket.SHUT_RDWR)

    @property
    def _socket(self) -> Any:
        assert self._connection is not None
        return self._connection._writer.get_extra_info("socket")


def wait_for_bytes(transport: Transport) -> None:
    """Wait until bytes have arrived on the kept connection, without a turn of the event loop."""
    connector: Any = transport.require_open().connector
    [[(protocol, _)]] = connector._conns.values()
    poller = select.poll()
    poller.register(protocol.transport.get_extra_info("socket").fileno(), select.POLLIN)
    assert poller.poll(5_000)


async def turns(number: int) -> None:
    """Let the event loop read what has arrived."""
    for _ in range(number):
        await asyncio.sleep(0)


@both
@pytest.mark.parametrize("read", [0, 5], ids=["still in the kernel", "read by the loop"])
async def test_stray_answer_on_an_idle_connection_reaches_nobody(*, lent: bool, read: int) -> None:
    """A connection on which unrequested bytes arrived is closed, and counts as a mix-up."""
    kept = Kept()
    async with RawServer(kept) as server, opened(server, lent=lent) as transport:
        assert await bodies(transport, GET) == [b"1"]
        kept.write(STRAY)
        wait_for_bytes(transport)
        await turns(read)
        assert await bodies(transport, GET, GET) == [b"2", b"3"]
        assert server.connections == 3  # from then on each has its own
        assert transport.mixups.recent


@both
@pytest.mark.parametrize("read", [0, 5], ids=["still in the kernel", "read by the loop"])
async def test_closed_connection_is_replaced(*, lent: bool, read: int) -> None:
    """A kept connection that the service has closed is replaced, without a failure, and is no mix-up."""
    kept = Kept()
    async with RawServer(kept) as server, opened(server, lent=lent) as transport:
        assert await bodies(transport, GET) == [b"1"]
        kept.close()
        wait_for_bytes(transport)
        await turns(read)
        assert await bodies(transport, GET) == [b"2"]
        assert server.connections == 2
        assert not transport.mixups.recent


@pytest.mark.parametrize(
    "stray", [STRAY[:30], STRAY[:-2], STRAY * 3, b"HTTP/1.1 200 OK\r\n", b"\r\n\r\nnothing", b"\r\n"]
)
async def test_pieces_of_an_answer_reach_nobody(stray: bytes) -> None:
    """After half an answer, several, or none at all, the next request gets its own answer, or an error."""
    kept = Kept()
    async with RawServer(kept) as server, opened(server) as transport:
        assert await bodies(transport, GET) == [b"1"]
        kept.write(stray)
        wait_for_bytes(transport)
        with suppress(TransportError):
            assert await bodies(transport, GET) == [b"2"]
        assert await bodies(transport, GET) == [b"3"]


async def test_no_connection_is_reused_after_a_mix_up() -> None:
    """Once a mix-up was noticed, every request gets its own connection."""
    async with RawServer(answer) as server, opened(server) as transport:
        await bodies(transport, GET, GET)
        transport.mixups.record()
        answers = [await sent(transport) for _ in range(3)]
        assert not any(one.reused for one in answers)
        assert server.connections == 4


async def test_answer_can_close_its_connection() -> None:
    """The connection of a rejected answer is closed, whether it is idle or used again by now."""
    async with RawServer(answer) as server, opened(server) as transport:
        first = await sent(transport)
        first.hang_up()
        first.hang_up()
        assert (await sent(transport)).body == b"2"
        assert server.connections == 2


async def test_two_clients_of_one_session_know_each_others_connections() -> None:
    """A connection used by one client of a session is known as a kept one to the other, too."""
    async with RawServer(answer) as server, aiohttp.ClientSession() as session:
        one, other = (Transport(server.base_url, session=session) for _ in range(2))
        await one.open()
        await other.open()
        await bodies(one, GET)
        await bodies(other, requests.delete_payment(70))
        assert server.connections == 2
        assert (await sent(other)).reused


async def test_server_that_speaks_first_is_an_error() -> None:
    """Bytes on a new connection before any request are an error, and nothing is sent."""
    protocol = ResponseHandler(asyncio.get_running_loop())
    protocol.data_received(b"220 mail.example ready\r\n")
    exchange = Exchange(GET, MixUps())
    with pytest.raises(SpeaksFirstError):
        await exchange._look_at(cast("Any", SimpleNamespace(protocol=protocol)))
    error = failure("POST /x", SpeaksFirstError(), Way("https://x.example", "x.example"), sent=False)
    assert isinstance(error, TransportError)
    assert not error.sent
    assert error.message.startswith("POST /x: x.example sent data before any request; check base_url")


async def test_a_lent_sessions_own_retries_keep_their_middleware() -> None:
    """If a lent session's middleware sends a request again, it gets another connection and its own answer."""

    async def twice(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        first = await handler(request)
        await first.read()
        return await handler(request)

    async with RawServer(answer) as server, aiohttp.ClientSession(middlewares=(twice,)) as session:
        transport = Transport(server.base_url, session=session)
        await transport.open()
        assert await bodies(transport, requests.delete_payment(70)) == [b"2"]
        assert server.connections == 2
