"""A server that handles its connections as a test wants."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Self

from tests.support.local_server import LocalServer

EMPTY = b'{"code":200,"data":[],"meta":{}}'


class Connection:
    """One connection, and actions on it. `number` counts the requests of the server, from 1."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.number = 0

    async def request(self) -> tuple[str, str] | None:
        """Read one request: head and body. Returns None if the client has closed."""
        try:
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = next(
                (int(line[15:]) for line in head.splitlines() if line.lower().startswith("content-length:")),
                0,
            )
            return head, (await self._reader.readexactly(length)).decode()
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def send(self, data: bytes) -> None:
        """Send bytes as they are; a client that has gone is not an error."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except ConnectionError:
            return

    async def answer(self, body: bytes = EMPTY, status: str = "200 OK", *headers: str) -> None:
        """Send a whole answer, and keep the connection open."""
        lines = [
            f"HTTP/1.1 {status}",
            f"Content-Length: {len(body)}",
            "Content-Type: application/json",
            *headers,
        ]
        await self.send("\r\n".join([*lines, "", ""]).encode() + body)

    async def hang(self) -> None:
        """Do nothing until the client closes."""
        try:
            await self._reader.read()
        except ConnectionError:
            return

    def close(self) -> None:
        """Close normally (FIN)."""
        self._writer.close()

    def reset(self) -> None:
        """Close with RST."""
        endpoint = self._writer.get_extra_info("socket")
        endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


Play = Callable[[Connection], Awaitable[object]]


class RawServer(LocalServer):
    """Listens on loopback, records each request, and lets `play` answer it.

    `requests` holds method, target and the rest of each head, and the body; `connections` counts.
    """

    def __init__(self, play: Play) -> None:
        super().__init__()
        self._play = play
        self.requests: list[tuple[str, str]] = []
        self.connections = 0
        self.base_url = ""

    @property
    def lines(self) -> list[str]:
        """The first line of each request, without the protocol."""
        return [head.splitlines()[0].removesuffix(" HTTP/1.1") for head, _ in self.requests]

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self.base_url = f"http://127.0.0.1:{self.port}/io"
        return self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = Connection(reader, writer)
        while not writer.is_closing() and (request := await connection.request()) is not None:
            self.requests.append(request)
            connection.number = len(self.requests)
            await self._play(connection)
