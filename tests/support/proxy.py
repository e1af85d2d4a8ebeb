"""A small proxy on loopback: it tunnels (CONNECT) and forwards, or refuses."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class Proxy:
    """Listens on loopback, and brings every host's requests to one port of this machine.

    `asked` holds what was asked of it, `credentials` the user names and passwords that came. `status` is a
    refusal to answer everything with, `wanted` the user name and password without which it answers 407.
    """

    def __init__(self, port: int = 0, *, status: int | None = None, wanted: str | None = None) -> None:
        self._to = port
        self._status = status
        self._wanted = wanted
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.asked: list[str] = []
        self.credentials: list[str] = []
        self.port = 0

    @property
    def url(self) -> str:
        """The proxy's address."""
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Carry out one request; False where nothing can follow it on this connection."""
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
    """Hand on whatever comes, until it ends."""
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()
