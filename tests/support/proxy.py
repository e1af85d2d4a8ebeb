"""A small proxy on loopback: it tunnels (CONNECT) and forwards, or refuses."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from contextlib import suppress
from urllib.parse import urlsplit

from tests.support.local_server import LocalServer


class Proxy(LocalServer):
    """Listens on loopback, and forwards requests for any host to one port of this machine.

    `asked` holds what was asked of it, `credentials` the user names and passwords that came. `status` is a
    refusal to answer everything with, `wanted` the user name and password without which it answers 407.
    """

    def __init__(self, port: int = 0, *, status: int | None = None, wanted: str | None = None) -> None:
        super().__init__()
        self._to = port
        self._status = status
        self._wanted = wanted
        self.asked: list[str] = []
        self.credentials: list[str] = []

    @property
    def url(self) -> str:
        """The proxy's address."""
        return f"http://127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await self._one(reader, writer):
                pass

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Handle one request. Returns False if the connection cannot be used again."""
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, version = lines[0].split(" ")
        self.asked.append(f"{method} {target}")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        given = b64decode(headers.pop("proxy-authorization", "").removeprefix("Basic ")).decode()
        self.credentials.append(given)
        status = 407 if self._wanted is not None and given != self._wanted else self._status
        if status is not None:
            writer.write(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()
            return False
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        else:
            url = urlsplit(target)
            path = f"{url.path}?{url.query}" if url.query else url.path
            head = [
                f"{method} {path} {version}",
                *(f"{name}: {text}" for name, text in headers.items() if name),
            ]
            back.write("\r\n".join([*head, "connection: close", "", ""]).encode() + body)
        await asyncio.gather(pump(reader, back), pump(there, writer))
        return False


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Forward all bytes until the end of the stream."""
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()
