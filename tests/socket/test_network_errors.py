"""Network failures named by their cause: answers that aiohttp refuses, and connections that fail."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from aiohttp import hdrs

from b2b_payments import B2BPaymentsError, ResponseDecodeError, TransportError
from b2b_payments._protocol import request as requests
from b2b_payments._protocol.request import Request
from b2b_payments._transport import Transport
from tests.support.raw_server import EMPTY, Connection, RawServer

SECRET = "planted-credential"
HEADERS = {"X-Auth-Token": SECRET}
OK = "HTTP/1.1 200 OK\r\n"
READ = requests.get_payment(70)
WRITE = requests.create_offline({})


async def failure_of(server: RawServer, request: Request, **settings: Any) -> B2BPaymentsError:
    """Return the error that a request raises."""
    transport = Transport(server.base_url, **settings)
    await transport.open()
    try:
        with pytest.raises(B2BPaymentsError) as caught:
            await transport.send(request, HEADERS, timeout=5.0)
    finally:
        await transport.aclose()
    error = caught.value
    assert error.message.startswith(f"{request.method} {request.path}: ")
    assert error.message.endswith(".")
    assert error.__cause__ is error.__context__ is None
    assert SECRET not in f"{error} {error!r} {vars(error)}"
    return error


def answering(head: str, body: bytes = EMPTY) -> Any:
    """Return a play that answers with this head and closes."""

    async def play(connection: Connection) -> None:
        lines = f"{head}Content-Length: {len(body)}\r\nX-Echo: {SECRET}\r\n\r\n"
        await connection.send(lines.encode("latin-1") + body)
        connection.close()

    return play


@pytest.mark.parametrize("request_", [READ, WRITE], ids=lambda one: one.method)
@pytest.mark.parametrize(
    ("head", "says"),
    [
        (
            f"{OK}X: {SECRET}{'a' * 70_000}\r\n",
            "a header of the answer is longer than 65,536 bytes; check what",
        ),
        (
            f"{OK}{'a' * 70_000}: {SECRET}\r\n",
            "a header of the answer is longer than 65,536 bytes; check what",
        ),
        (
            OK + "".join(f"X{n}: 1\r\n" for n in range(600)),
            "the answer has more than 500 headers and cannot",
        ),
        (f"SSH-2.0-{SECRET}\r\n\r\n", "the answer is not HTTP; check base_url: http or https, and its port"),
        ("\x15\x03\x01\x00\x02\x02\x46", "the answer is not HTTP; check base_url"),
        (f"{OK}no colon {SECRET}\r\n", "the answer is broken HTTP and cannot be read"),
        (f"{OK}Content-Length: {SECRET}\r\n", "the answer is broken HTTP and cannot be read"),
    ],
    ids=["long header", "long name", "many headers", "not HTTP", "a TLS alert", "no header", "no length"],
)
async def test_invalid_http_is_named(head: str, says: str, request_: Request) -> None:
    """The cause is named without quoting the answer, and the request may have been carried out."""
    async with RawServer(answering(head)) as server:
        error = await failure_of(server, request_)
    assert type(error) is TransportError
    assert error.sent
    assert says in error.message


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, br", "x-gzip", "gzip", "deflate"])
async def test_unsupported_encoding_is_named(encoding: str) -> None:
    """If a body cannot be decompressed, the error names the encoding."""
    async with RawServer(answering(f"{OK}Content-Encoding: {encoding}\r\n")) as server:
        error = await failure_of(server, READ)
    assert type(error) is ResponseDecodeError
    assert "cannot be decompressed: its Content-Encoding is unsupported or wrong" in error.message


@pytest.mark.parametrize("name", ["Content-Security-Policy", "X-Long"])
async def test_long_headers_are_read(name: str) -> None:
    """Headers longer than aiohttp's default limit, and many of them, are read."""
    head = f"{OK}{name}: {'a' * 60_000}\r\n" + "".join(f"X{n}: 1\r\n" for n in range(300))
    async with RawServer(answering(head)) as server:
        transport = Transport(server.base_url)
        await transport.open()
        assert (await transport.send(READ, HEADERS, timeout=5.0)).body == EMPTY
        await transport.aclose()


@pytest.mark.parametrize("encoding", ["identity", "", "Identity"])
async def test_identity_encoding_is_read(encoding: str) -> None:
    """The identity encoding is read as no encoding."""
    async with RawServer(answering(f"{OK}Content-Encoding: {encoding}\r\n")) as server:
        transport = Transport(server.base_url)
        await transport.open()
        assert (await transport.send(READ, HEADERS, timeout=5.0)).body == EMPTY
        await transport.aclose()


async def test_only_supported_encodings_are_requested() -> None:
    """A request accepts gzip, and no encoding whose library is missing."""
    async with RawServer(lambda connection: connection.answer()) as server:
        transport = Transport(server.base_url)
        await transport.open()
        await transport.send(READ, HEADERS, timeout=5.0)
        await transport.aclose()
        [(head, _)] = server.requests
    [offered] = [line for line in head.splitlines() if line.lower().startswith("accept-encoding:")]
    assert offered == f"Accept-Encoding: {aiohttp.ClientRequest.DEFAULT_HEADERS[hdrs.ACCEPT_ENCODING]}"
    assert "gzip" in offered


async def test_failed_tls_is_named() -> None:
    """A failed TLS handshake is named, and nothing was sent."""

    async def speak_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    listener = await asyncio.start_server(speak_http, "127.0.0.1", 0)
    async with listener, RawServer(answering(OK)) as server:
        server.base_url = f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        error = await failure_of(server, WRITE)
    assert isinstance(error, TransportError)
    assert not error.sent
    assert "no secure connection to 127.0.0.1: " in error.message


async def test_wrong_fingerprint_is_named() -> None:
    """A session that pins another certificate is named, and nothing was sent."""
    error = aiohttp.ServerFingerprintMismatch(b"1" * 32, b"2" * 32, "127.0.0.1", 443)

    class Pinned(aiohttp.TCPConnector):
        async def connect(self, *_: Any, **__: Any) -> Any:
            raise error

    async with (
        RawServer(lambda connection: connection.answer()) as server,
        aiohttp.ClientSession(connector=Pinned()) as session,
    ):
        ours = await failure_of(server, WRITE, session=session)
    assert isinstance(ours, TransportError)
    assert not ours.sent
    assert "127.0.0.1 has a different certificate than the given session expects." in ours.message


async def test_drop_names_the_host() -> None:
    """A connection that breaks in the middle of the answer is not reported as broken HTTP."""

    async def half(connection: Connection) -> None:
        await connection.send(f"{OK}Content-Length: 999\r\n\r\n{{".encode())
        connection.close()

    async with RawServer(half) as server:
        error = await failure_of(server, READ)
    assert "the connection to 127.0.0.1 broke before the whole answer was received" in error.message


async def test_407_is_always_a_proxys() -> None:
    """A 407 is a proxy's answer, even if the client knows of no proxy."""
    async with RawServer(lambda connection: connection.answer(EMPTY, "407 Who")) as server:
        error = await failure_of(server, READ)
    assert isinstance(error, TransportError)
    assert not error.sent
    assert "the proxy requires a user name and password" in error.message
