"""A service with many stores, in its own process: each store has its own path and its own quota.

All stores have the same payments, encoded once. ``/record`` returns what arrived, by store.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import attrs
import msgspec
import psutil
from aiohttp import web

from b2b_payments.sandbox import Sandbox
from b2b_payments.sandbox._data import STORE_HASH

TOKEN = "token-of-the-fleet"
"""The token that the service accepts; the exports read it from `VARIABLE`."""
VARIABLE = "FLEET_TOKEN"


@attrs.define
class _Record:
    """What arrived for one store: requests, refused ones, the most in a window, and seconds in progress."""

    requests: int = 0
    refused: int = 0
    most: int = 0
    busy: float = 0.0
    under_way: int = 0
    since: float = 0.0
    window: deque[float] = attrs.field(factory=deque)

    def admit(self, now: float, limit: int, per: float) -> bool:
        while self.window and self.window[0] + per <= now:
            self.window.popleft()
        self.requests += 1
        if len(self.window) >= limit:
            self.refused += 1
            return False
        self.window.append(now)
        self.most = max(self.most, len(self.window))
        return True

    def begin(self, now: float) -> None:
        self.since = self.since if self.under_way else now
        self.under_way += 1

    def end(self, now: float) -> None:
        self.under_way -= 1
        self.busy += 0.0 if self.under_way else now - self.since


@attrs.frozen
class Kill:
    """An order to kill the one of `pids` that sends this request of a store, `after` seconds later."""

    store: str
    request: int
    after: float
    pids: Sequence[int]

    def prepare(self, request: web.Request) -> None:
        """Schedule the kill of a request's sender."""
        assert request.transport is not None
        address = request.transport.get_extra_info("peername")
        for pid in self.pids:
            if any(tuple(one.laddr) == address[:2] for one in psutil.Process(pid).net_connections("tcp")):
                asyncio.get_running_loop().call_later(self.after, os.kill, pid, signal.SIGKILL)


class Service:
    """The endpoints of all stores."""

    def __init__(self, payments: int, latency: float, requests: int, per: float) -> None:
        rows = Sandbox(payments, seed=payments).store.all_wire()
        self._rows = [msgspec.json.encode(row) for row in rows]
        self._reversed = self._rows[::-1]
        self._latency = latency
        self._quota = (requests, per)
        self._records: defaultdict[str, _Record] = defaultdict(_Record)
        self._kill: Kill | None = None

    async def kill(self, request: web.Request) -> web.Response:
        """Accept an order to kill the sender of a future request."""
        self._kill = Kill(**await request.json())
        return web.Response()

    async def payments(self, request: web.Request) -> web.Response:
        """Answer with a page of a store's list."""
        store = request.match_info["store"]
        if request.headers.get("X-Auth-Token") != TOKEN or request.headers.get("X-Store-Hash") != store:
            return web.json_response({"code": 401, "message": "denied"}, status=401)
        record, now = self._records[store], time.monotonic()
        if not record.admit(now, *self._quota):
            return web.json_response({"code": 429}, status=429, headers={"Retry-After": "1"})
        if (kill := self._kill) and (store, record.requests) == (kill.store, kill.request):
            self._kill = None
            kill.prepare(request)
        record.begin(now)
        try:
            await asyncio.sleep(self._latency)
        finally:
            record.end(time.monotonic())
        return self._page(request.query, store)

    def _page(self, query: Mapping[str, str], store: str) -> web.Response:
        offset, limit = int(query.get("offset", 0)), min(250, int(query.get("limit", 10)))
        order = query.get("orderBy", "DESC")
        rows = (self._rows if order == "ASC" else self._reversed)[offset : offset + limit]
        pagination = msgspec.json.encode({"totalCount": len(self._rows), "offset": offset, "limit": limit})
        body = b'{"code":200,"data":[%b],"meta":{"message":"SUCCESS","pagination":%b}}' % (
            b",".join(rows).replace(STORE_HASH.encode(), store.encode()),
            pagination,
        )
        return web.Response(body=body, content_type="application/json")

    async def record(self, _: web.Request) -> web.Response:
        """Return what arrived, and reset the record."""
        kept, self._records = self._records, defaultdict(_Record)
        return web.json_response(
            {
                store: {
                    "requests": one.requests,
                    "refused": one.refused,
                    "most": one.most,
                    "busy": one.busy,
                }
                for store, one in kept.items()
            }
        )


async def _serve(settings: Mapping[str, Any]) -> None:
    service = Service(**settings)
    app = web.Application()
    app.router.add_get("/{store}/ip/payments", service.payments)
    app.router.add_get("/record", service.record)
    app.router.add_post("/kill", service.kill)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
    await site.start()
    host, port = runner.addresses[0][:2]
    print(f"http://{host}:{port}", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


@attrs.frozen
class Served:
    """A running service, for those who measure."""

    url: str
    process: psutil.Process

    @property
    def cpu(self) -> float:
        """CPU seconds that it has used."""
        used = self.process.cpu_times()
        return float(used.user + used.system)

    async def record(self) -> dict[str, dict[str, float]]:
        """Return what arrived since the last call, by store."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/record") as answer:
            found: dict[str, dict[str, float]] = await answer.json()
            return found

    async def kill(self, order: Kill) -> None:
        """Order the kill of a process."""
        async with aiohttp.ClientSession() as session:
            await session.post(f"{self.url}/kill", json=attrs.asdict(order))


@asynccontextmanager
async def serving(
    *, payments: int, latency: float, requests: int = 150, per: float = 60.0
) -> AsyncIterator[Served]:
    """Run the service in its own process."""
    settings = {"payments": payments, "latency": latency, "requests": requests, "per": per}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.fleets_service", json.dumps(settings)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        url = (await process.stdout.readline()).decode().strip()
        yield Served(url, psutil.Process(process.pid))
    finally:
        process.stdin.close()
        await process.wait()


def names(stores: int) -> Sequence[str]:
    """Return the names of `stores` stores, which are also their hashes."""
    width = len(STORE_HASH)
    return [f"s{number:0{width - 1}}" for number in range(stores)]


if __name__ == "__main__":
    asyncio.run(_serve(json.loads(sys.argv[1])))
