"""The transport over real sockets: timeouts, drops, redirects, sizes and sessions."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import anyio
import pytest

from b2b_payments import (
    APIError,
    B2BPaymentsError,
    PaymentsClient,
    RequestTimeoutError,
    ResponseDecodeError,
    StoreAuth,
    TransportError,
)
from b2b_payments._protocol import request as requests
from b2b_payments._protocol.answer import Answer
from b2b_payments._protocol.request import Request
from b2b_payments._transport import Transport
from b2b_payments.sandbox import Fault, Rules, Sandbox
from tests.support.clients import NEVER, client_of
from tests.support.raw_server import EMPTY, Connection, Play, RawServer

TOKEN = "planted-credential"
AUTH = StoreAuth("abc123", TOKEN)
HEADERS = AUTH.headers(TOKEN)

READ = requests.get_payment(70)
PUT = requests.update_processing_status(70, 1)
DELETE = requests.delete_payment(70)
POST = requests.perform_operation(70, 0)
ALL_METHODS = pytest.mark.parametrize("request_", [READ, PUT, DELETE, POST], ids=lambda one: one.method)


@asynccontextmanager
async def opened(base_url: str, **settings: Any) -> AsyncIterator[Transport]:
    """Yield an open transport."""
    transport = Transport(base_url, **settings)
    await transport.open()
    try:
        yield transport
    finally:
        await transport.aclose()


async def sent(transport: Transport, request: Request = READ, timeout: float = 5.0) -> Answer:
    """Send a request with the planted credential."""
    return await transport.send(request, HEADERS, timeout=timeout)


async def failure_of(play: Play, request: Request = READ, timeout: float = 5.0) -> B2BPaymentsError:
    """Return the error that a request raises if the server does this."""
    async with RawServer(play) as server, opened(server.base_url, max_body=1000) as transport:
        with pytest.raises(B2BPaymentsError) as caught:
            await sent(transport, request, timeout)
        assert len(server.requests) == 1
    return caught.value


async def drip(connection: Connection) -> None:
    """Send a byte now and then, for ever: each pause is shorter than the timeout, the whole answer is not."""
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(1000):
        await connection.send(b" ")
        await asyncio.sleep(0.01)


async def hang(connection: Connection) -> None:
    """Never answer."""
    await connection.hang()


async def hang_in_the_body(connection: Connection) -> None:
    """Stop in the middle of the answer."""
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
    await connection.hang()


@pytest.mark.virtual_time
@ALL_METHODS
@pytest.mark.parametrize("play", [drip, hang, hang_in_the_body])
async def test_timeout_covers_the_whole_answer(play: Play, request_: Request) -> None:
    """A slow or hanging answer, in head or body, times out, and may have been carried out."""
    begun = anyio.current_time()
    error = await failure_of(play, request_, timeout=0.1)
    assert anyio.current_time() - begun < 2.0
    assert type(error) is RequestTimeoutError
    assert error.sent
    assert error.message == f"{request_.method} {request_.path}: no complete answer within 0.1 s."


async def reset(connection: Connection) -> None:
    """Reset the connection instead of answering."""
    connection.reset()


async def close(connection: Connection) -> None:
    """Close the connection instead of answering."""
    connection.close()


async def reset_in_the_head(connection: Connection) -> None:
    """Reset the connection in the middle of the answer's head."""
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Le")
    connection.reset()


async def reset_in_the_body(connection: Connection) -> None:
    """Reset the connection in the middle of the answer's body."""
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{")
    connection.reset()


async def truncate(connection: Connection) -> None:
    """Close the connection cleanly before the body is complete."""
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{")
    connection.close()


async def truncate_a_chunk(connection: Connection) -> None:
    """Close the connection cleanly before the last chunk."""
    await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[1,2,\r\n")
    connection.close()


@ALL_METHODS
@pytest.mark.parametrize(
    "play", [reset, close, reset_in_the_head, reset_in_the_body, truncate, truncate_a_chunk]
)
async def test_broken_answer_is_ambiguous(play: Play, request_: Request) -> None:
    """A drop at any point has a one-sentence error, may have been sent, and chains nothing of aiohttp."""
    error = await failure_of(play, request_)
    assert type(error) is TransportError
    assert error.sent
    assert error.message.startswith(f"{request_.method} {request_.path}: the connection to 127.0.0.1 broke")
    assert error.__cause__ is None
    assert error.__context__ is None
    assert TOKEN not in f"{error} {error!r}"


async def test_refused_connection_was_not_sent() -> None:
    """Connection refused: certainly not sent, with the operating system's reason."""
    async with RawServer(hang) as server:
        base_url = server.base_url
    async with opened(base_url) as transport:
        with pytest.raises(
            TransportError, match=r"no connection to 127\.0\.0\.1: Connection refused\.$"
        ) as caught:
            await sent(transport, POST)
    assert not caught.value.sent
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


async def answer_first_then_drop(connection: Connection) -> None:
    """Answer the first request, keep the connection, and drop it at every later request."""
    if connection.number == 1:
        await connection.answer()
    else:
        connection.close()


@ALL_METHODS
async def test_dropped_request_is_not_resent(request_: Request) -> None:
    """If a reused connection drops, exactly one request was sent: aiohttp's own retry is off."""
    async with RawServer(answer_first_then_drop) as server, opened(server.base_url) as transport:
        await sent(transport)
        with pytest.raises(TransportError):
            await sent(transport, request_)
        assert server.lines == ["GET /io/ip/payments/70", f"{request_.method} /io{request_.path}"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_aiohttp_alone_would_resend(method: str) -> None:
    """Without our middleware aiohttp sends again: if this test fails, the middleware can go."""
    async with RawServer(answer_first_then_drop) as server, aiohttp.ClientSession() as session:
        await (await session.get(server.base_url)).read()
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await session.request(method, server.base_url)
        assert len(server.requests) == 3


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temp", "308 Permanent"])
async def test_redirect_does_not_forward_the_credential(status: str) -> None:
    """A redirect to another server is an error, and that server receives nothing."""
    async with RawServer(lambda connection: connection.answer()) as other:

        async def redirect(connection: Connection) -> None:
            await connection.answer(b"", status, f"Location: {other.base_url}/ip/payments/70")

        async with (
            RawServer(redirect) as server,
            PaymentsClient(AUTH, base_url=server.base_url, retry=NEVER) as client,
        ):
            with pytest.raises(APIError, match="redirects are not followed; check base_url") as caught:
                await client.payments.get(70)
        assert caught.value.status == int(status[:3])
        assert len(server.requests) == 1
        assert other.connections == 0


async def test_sandbox_redirect_is_not_followed() -> None:
    """The sandbox's own redirect is an error too."""
    async with RawServer(hang) as other, Sandbox(3, rules=Rules(redirect_to=other.base_url)) as sandbox:
        sandbox.order(Fault.REDIRECT, times=1)
        async with client_of(sandbox) as client:
            with pytest.raises(APIError, match="302"):
                await client.payments.get(1)
        assert other.connections == 0


class Oversize:
    """Sends an endless body in one way, and counts how many bytes the client read."""

    def __init__(self, head: bytes, piece: bytes) -> None:
        self._head = head
        self._piece = piece
        self.pieces = 0

    async def __call__(self, connection: Connection) -> None:
        """Send until the client has had enough."""
        await connection.send(b"HTTP/1.1 200 OK\r\n" + self._head + b"\r\n\r\n")
        while self.pieces < 100_000 and not connection._writer.is_closing():
            await connection.send(self._piece)
            self.pieces += 1


CHUNK = b"400\r\n" + b"x" * 1024 + b"\r\n"


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"Transfer-Encoding: chunked", CHUNK),
        (b"Connection: close", b"x" * 1024),
        (b"Content-Length: 5000000000", b"x" * 1024),
    ],
    ids=["chunked", "until it closes", "promised"],
)
async def test_reading_stops_at_the_limit(head: bytes, piece: bytes) -> None:
    """A body over the limit ends the request at once, with or without a declared length."""
    play = Oversize(head, piece)
    error = await failure_of(play)
    assert type(error) is ResponseDecodeError
    assert error.message == ("GET /ip/payments/70: the answer is larger than 1000 bytes; reading stopped.")
    assert error.__context__ is None
    assert play.pieces < 50_000


def packed(size: int, wbits: int) -> bytes:
    """Compress this many zeros."""
    packer = zlib.compressobj(9, wbits=wbits)
    return packer.compress(b"0" * size) + packer.flush()


@pytest.mark.parametrize(("encoding", "wbits"), [("gzip", 31), ("deflate", 15)])
async def test_limit_is_of_the_decompressed_body(encoding: str, wbits: int) -> None:
    """A small body that decompresses to a large one is refused."""
    error = await failure_of(
        lambda connection: connection.answer(
            packed(900_000, wbits), "200 OK", f"Content-Encoding: {encoding}"
        )
    )
    assert type(error) is ResponseDecodeError
    assert "larger than 1000 bytes" in error.message


@pytest.mark.slow
async def test_sandbox_oversized_bodies_are_refused() -> None:
    """64 MiB, plain or compressed, exceed the limit of 32 MiB."""
    async with Sandbox(3) as sandbox, client_of(sandbox, retry=NEVER) as client:
        for fault in (Fault.HUGE, Fault.GZIP_BOMB):
            sandbox.order(fault, times=1)
            with pytest.raises(ResponseDecodeError, match="larger than 33554432 bytes"):
                await client.payments.get(1)
        assert (await client.payments.get(1)).id == 1


async def test_body_at_the_limit_is_read() -> None:
    """A compressed body that decompresses to exactly the limit is returned decompressed."""
    body = gzip.compress(b"0" * 1000)
    async with (
        RawServer(lambda connection: connection.answer(body, "200 OK", "Content-Encoding: gzip")) as server,
        opened(server.base_url, max_body=1000) as transport,
    ):
        assert (await sent(transport)).body == b"0" * 1000


async def test_body_in_another_encoding_is_unreadable() -> None:
    """A body that does not match its Content-Encoding is an unreadable answer."""
    error = await failure_of(
        lambda connection: connection.answer(b"not gzip at all", "200 OK", "Content-Encoding: gzip")
    )
    assert type(error) is ResponseDecodeError
    assert error.message.startswith(
        "GET /ip/payments/70: the answer cannot be decompressed: its Content-Encoding"
    )


@pytest.mark.parametrize("status", [200, 404, 500])
async def test_every_answer_releases_its_connection(status: int) -> None:
    """A hundred answers of any status need only one connection."""
    async with (
        RawServer(lambda connection: connection.answer(EMPTY, f"{status} Status")) as server,
        opened(server.base_url, connections=1) as transport,
    ):
        for _ in range(100):
            assert (await sent(transport)).status == status
        assert server.connections == 1


@pytest.mark.slow
@pytest.mark.parametrize("play", [hang, hang_in_the_body, reset_in_the_body, Oversize(b"X: 1", b"x" * 9)])
async def test_every_failure_releases_its_connection(play: Play) -> None:
    """After a failure, the pool's only connection slot can be used again."""

    async def fail_first(connection: Connection) -> None:
        await (play(connection) if connection.number == 1 else connection.answer())

    async with (
        RawServer(fail_first) as server,
        opened(server.base_url, connections=1, max_body=1000) as transport,
    ):
        with pytest.raises(B2BPaymentsError):
            await sent(transport, timeout=0.1)
        assert (await sent(transport)).status == 200


async def test_cancelled_request_releases_its_connection() -> None:
    """A cancelled request raises none of our errors, and frees its connection."""
    arrived = anyio.Event()

    async def hang_first(connection: Connection) -> None:
        if connection.number == 1:
            arrived.set()
            await connection.hang()
        else:
            await connection.answer()

    async with RawServer(hang_first) as server, opened(server.base_url, connections=1) as transport:
        task = asyncio.create_task(sent(transport))
        task.add_done_callback(lambda _: arrived.set())
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await sent(transport)).status == 200


async def test_the_query_survives_the_wire() -> None:
    """Any text in a filter arrives unchanged."""
    odd = "a b+c&d=e%20f/#ü'\"\n[1]"
    async with Sandbox(3) as sandbox, client_of(sandbox) as client:
        await client.payments.list(q=odd, customer_name=odd).count()
        query = dict(sandbox.requests[-1].query)
        assert (query["q"], query["customerName"]) == (odd, odd)
