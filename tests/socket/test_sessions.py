"""The aiohttp session of a client: its own or the caller's."""

from __future__ import annotations

import gzip
import socket
from typing import Any, NoReturn

import aiohttp
import pytest

from b2b_payments import ConfigurationError, TransportError
from b2b_payments._protocol.request import create_offline, get_payment
from b2b_payments._transport import Transport
from b2b_payments.sandbox import Sandbox
from tests.support.clients import client_of
from tests.support.raw_server import EMPTY, Connection, RawServer

READ = get_payment(70)


async def test_own_session_is_closed() -> None:
    """The session that the transport opened is closed with it."""
    async with RawServer(lambda connection: connection.answer()) as server:
        transport = Transport(server.base_url)
        await transport.open()
        session = transport.require_open()
        await transport.send(READ, {}, timeout=5.0)
        await transport.aclose()
        assert session.closed


async def test_given_session_stays_open() -> None:
    """The caller's session is still open afterwards, and works."""
    async with Sandbox(3) as sandbox, aiohttp.ClientSession() as session:
        async with client_of(sandbox, session=session) as client:
            assert (await client.payments.get(1)).id == 1
        assert not session.closed
        async with session.get(sandbox.base_url) as response:
            assert response.status == 401


async def test_given_sessions_middlewares_are_kept() -> None:
    """The middlewares of the caller's session still run, once per request."""
    seen: list[str] = []

    async def note(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        seen.append(request.url.path)
        request.headers["X-Noted"] = "yes"
        return await handler(request)

    async with Sandbox(3) as sandbox, aiohttp.ClientSession(middlewares=(note,)) as session:
        async with client_of(sandbox, session=session) as client:
            await client.payments.get(1)
        assert seen == ["/api/v3/io/ip/payments/1"]
        assert sandbox.requests[-1].headers["X-Noted"] == "yes"


async def test_refused_connection_of_a_session_with_middlewares() -> None:
    """If no connection can be made, the request was not sent, also on a session with middlewares."""

    async def pass_on(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        return await handler(request)

    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
    async with aiohttp.ClientSession(middlewares=(pass_on,)) as session:
        transport = Transport(address, session=session)
        await transport.open()
        with pytest.raises(TransportError, match=r"no connection to 127\.0\.0\.1") as caught:
            await transport.send(READ, {}, timeout=5.0)
        assert caught.value.sent is False
        await transport.aclose()


async def test_given_sessions_defaults_are_overridden() -> None:
    """A session that raises for statuses, does not decompress and has a short timeout works the same."""
    habits: dict[str, Any] = {
        "raise_for_status": True,
        "auto_decompress": False,
        "timeout": aiohttp.ClientTimeout(total=1e-6),
    }
    packed = gzip.compress(EMPTY)
    async with (
        RawServer(lambda connection: connection.answer(packed, "404 No", "Content-Encoding: gzip")) as server,
        aiohttp.ClientSession(**habits) as session,
    ):
        transport = Transport(server.base_url, session=session)
        await transport.open()
        answer = await transport.send(READ, {}, timeout=5.0)
    assert (answer.status, answer.body) == (404, EMPTY)


async def test_closed_session_is_named() -> None:
    """A session that is closed, before or after opening the client, is a clear error."""
    async with Sandbox(3) as sandbox:
        session = aiohttp.ClientSession()
        async with client_of(sandbox, session=session) as client:
            await session.close()
            with pytest.raises(ConfigurationError, match="has been closed; close it after the client"):
                await client.payments.get(1)
        with pytest.raises(ConfigurationError, match=r"The given session is closed; pass an open"):
            async with client_of(sandbox, session=session):
                pass
        assert sandbox.request_count == 0


async def test_sent_request_stays_sent() -> None:
    """A lost create may have been carried out, although a middleware failed to connect at first."""

    def refuse(request: aiohttp.ClientRequest) -> NoReturn:
        raise aiohttp.ClientConnectorError(request.connection_key, OSError())

    async def again(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        try:
            refuse(request)
        except aiohttp.ClientConnectorError:
            return await handler(request)

    async def drop(connection: Connection) -> None:
        connection.close()

    async with RawServer(drop) as server, aiohttp.ClientSession(middlewares=(again,)) as session:
        transport = Transport(server.base_url, session=session)
        await transport.open()
        with pytest.raises(TransportError, match="broke before the whole answer was received") as caught:
            await transport.send(create_offline({}), {}, timeout=5.0)
        assert caught.value.sent
