"""The sandbox as a server: starting and stopping, credentials and quota."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from email.utils import formatdate, parsedate_to_datetime
from typing import Literal

import aiohttp
import pytest
from aiohttp import web

from b2b_payments._errors import ConfigurationError
from b2b_payments.sandbox import Drift, Fault, Rules, Sandbox, SeenRequest, Store


async def _status(
    sandbox: Sandbox, headers: Mapping[str, str] | None = None, path: str = "/ip/payments/1"
) -> int:
    async with (
        aiohttp.ClientSession(headers=sandbox.headers if headers is None else headers) as session,
        session.get(sandbox.base_url + path) as response,
    ):
        await response.read()
        return response.status


async def test_start_is_fast() -> None:
    """A sandbox of 10,000 payments starts in well under a second."""
    began = time.perf_counter()
    async with Sandbox(payments=10_000) as sandbox:
        assert await _status(sandbox) == 200
        assert time.perf_counter() - began < 1.0


async def test_base_url() -> None:
    """The address is on loopback with the service's root path, and exists once the sandbox is running."""
    sandbox = Sandbox(payments=1)
    with pytest.raises(ConfigurationError, match="until it is started"):
        assert sandbox.base_url
    await sandbox.start()
    assert sandbox.base_url == f"http://127.0.0.1:{sandbox.port}/api/v3/io"
    with pytest.raises(ConfigurationError, match="already running"):
        await sandbox.start()
    await sandbox.stop()
    await sandbox.stop()


async def test_port_is_kept() -> None:
    """A sandbox listens on the given port, and on the same port after a restart."""
    first = Sandbox(payments=1)
    async with first:
        with pytest.raises(OSError, match="in use"):
            await Sandbox(payments=1, port=first.port).start()
        port = first.port
    async with first:
        assert first.port == port
        assert await _status(first) == 200


async def test_stop_is_prompt() -> None:
    """A sandbox stops at once, even with answers that hang, drip, or are not read by the client."""
    sandbox = Sandbox(payments=300, rules=Rules(drip_interval=60))
    await sandbox.start()
    everyone = asyncio.Event()

    def count(_: Store, seen: SeenRequest) -> None:
        if len(sandbox.requests) == 7:
            everyone.set()

    sandbox.before_list = count
    sandbox.order(Fault.HANG, times=3)
    sandbox.order(Fault.DRIP, times=3)
    sandbox.order(Fault.HUGE, times=1)
    async with aiohttp.ClientSession(headers=sandbox.headers) as session:

        async def ask() -> None:
            async with session.get(f"{sandbox.base_url}/ip/payments") as response:
                await response.content.readexactly(1)
                await asyncio.Event().wait()

        asked = [asyncio.create_task(ask()) for _ in range(7)]
        await asyncio.wait_for(everyone.wait(), 10)
        began = time.perf_counter()
        await sandbox.stop()
        assert time.perf_counter() - began < 1.0
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


@pytest.mark.parametrize("turns", range(6))
async def test_stop_while_connections_arrive(turns: int) -> None:
    """A connection that arrives while the sandbox stops is closed like the others."""
    sandbox = Sandbox(payments=1)
    await sandbox.start()
    coming = [asyncio.create_task(asyncio.open_connection("127.0.0.1", sandbox.port)) for _ in range(20)]
    for _ in range(turns):
        await asyncio.sleep(0)
    await sandbox.stop()
    for opened in await asyncio.gather(*coming, return_exceptions=True):
        if isinstance(opened, BaseException):
            assert isinstance(opened, OSError)
        else:
            reader, writer = opened
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
            with suppress(ConnectionResetError):
                await writer.wait_closed()


async def test_pause_refuses_connections() -> None:
    """While listening is paused, connections are refused; afterwards the same address works again."""
    async with (
        Sandbox(payments=5) as sandbox,
        aiohttp.ClientSession(headers=sandbox.headers) as session,
    ):
        url = f"{sandbox.base_url}/ip/payments/1"
        async with session.get(url) as response:
            assert response.status == 200
        await sandbox.pause_listening()
        await sandbox.pause_listening()
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(url)
        await sandbox.resume_listening()
        await sandbox.resume_listening()
        async with session.get(url) as response:
            assert response.status == 200
    with pytest.raises(ConfigurationError, match="not running"):
        await sandbox.resume_listening()


_STORE = Sandbox(payments=0).headers
_LEGACY = {"authToken": str(Sandbox(payments=0).legacy_auth.auth_token)}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param(_STORE, 200, id="store"),
        pytest.param(_LEGACY, 200, id="legacy"),
        pytest.param({}, 401, id="none"),
        pytest.param(_STORE | {"X-Auth-Token": "wrong"}, 401, id="wrong token"),
        pytest.param({"X-Auth-Token": _STORE["X-Auth-Token"]}, 401, id="no store hash"),
        pytest.param({"authToken": "wrong"}, 401, id="wrong legacy token"),
        pytest.param(_STORE | {"X-Store-Hash": "other"}, 500, id="wrong store hash"),
        pytest.param(_LEGACY | {"X-Store-Hash": _STORE["X-Store-Hash"]}, 500, id="both ways at once"),
    ],
)
async def test_credentials(headers: dict[str, str], status: int) -> None:
    """Both kinds of credentials are accepted, and nothing else."""
    async with Sandbox(payments=1) as sandbox:
        assert await _status(sandbox, headers) == status
        assert sandbox.requests[-1].status == status
        assert "token" not in repr(sandbox.requests[-1])


async def test_rotation() -> None:
    """After a rotation, the old tokens are refused and the new ones accepted."""
    async with Sandbox(payments=1) as sandbox:
        old = sandbox.headers
        assert sandbox.rotate_token() == sandbox.auth != Sandbox(payments=0).auth
        new_legacy = {"authToken": str(sandbox.legacy_auth.auth_token)}
        given = (old, _LEGACY, sandbox.headers, new_legacy)
        assert [await _status(sandbox, headers) for headers in given] == [401, 401, 200, 200]


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_missing_scope(status: Literal[401, 403, 404]) -> None:
    """A missing scope is answered with the status in the rules."""
    async with Sandbox(payments=1, rules=Rules(missing_scope_status=status)) as sandbox:
        assert await _status(sandbox) == status


async def test_quota() -> None:
    """Requests over the quota are refused with 429, and every answer states what remains."""
    async with (
        Sandbox(payments=1, rules=Rules(requests=2, per=3600)) as sandbox,
        aiohttp.ClientSession(headers=sandbox.headers) as session,
    ):
        left = []
        for _ in range(3):
            async with session.get(f"{sandbox.base_url}/ip/payments/1") as response:
                left.append((response.status, response.headers["X-Requests-Remaining"]))
                assert response.headers["X-Requests-Allocated"] == "2 times/3600 s"
                assert response.headers["X-Request-Window-Resets-After"].endswith(" s")
        assert left == [(200, "1 times"), (200, "0 times"), (429, "0 times")]
        sandbox.rules = Rules(requests=2, per=3600, latency=1e-6)
        assert await _status(sandbox) == 429
        sandbox.rules = Rules(requests=3, per=3600)
        assert await _status(sandbox) == 200
        sandbox.rules = Rules(quota=False)
        async with session.get(f"{sandbox.base_url}/ip/payments/1") as response:
            assert response.status == 200
            assert "X-Requests-Remaining" not in response.headers


async def test_denied_requests_do_not_count() -> None:
    """Requests without a valid credential do not count against the store's quota."""
    async with Sandbox(payments=1, rules=Rules(requests=1, per=3600)) as sandbox:
        assert [await _status(sandbox, {}), await _status(sandbox, {}), await _status(sandbox)] == [
            401,
            401,
            200,
        ]


async def test_concurrent_limit() -> None:
    """More concurrent requests than the rules allow are refused."""
    async with Sandbox(payments=1, rules=Rules(concurrent=1, latency=0.05)) as sandbox:
        statuses = await asyncio.gather(*(_status(sandbox) for _ in range(3)))
        assert sorted(statuses) == [200, 429, 429]


async def _date(sandbox: Sandbox, path: str = "/ip/payments/1") -> str | None:
    async with (
        aiohttp.ClientSession(headers=sandbox.headers) as session,
        session.get(sandbox.base_url + path) as response,
    ):
        return response.headers.get("Date")


@pytest.mark.parametrize("fault", [None, Fault.HTML_502, Fault.RATE_LIMITED, Fault.DRIP])
async def test_date_is_the_stores(fault: Fault | None) -> None:
    """Every answer's Date is the store's clock, as in createdAt; the rules can turn it off."""
    async with Sandbox(payments=9, rules=Rules(drip_interval=0)) as sandbox:
        if fault is not None:
            sandbox.order(fault, share=1)
        sandbox.store.insert()
        created = sandbox.store.wire(10)["createdAt"]
        assert await _date(sandbox) == formatdate(created, usegmt=True)
        sandbox.store.advance(90)
        assert await _date(sandbox) == formatdate(created + 90, usegmt=True)
        sandbox.rules = Rules(drip_interval=0, date_header=False)
        assert await _date(sandbox) is None


@pytest.mark.parametrize("dated", [True, False])
async def test_retry_after_as_a_date(*, dated: bool) -> None:
    """The date is relative to the answer's Date; without one, to this machine's time."""
    rules = Rules(refusal_wait=30.0, refusal_headers=("retry-after-date",), date_header=dated)
    async with (
        Sandbox(payments=1, rules=rules) as sandbox,
        aiohttp.ClientSession(headers=sandbox.headers) as session,
    ):
        sandbox.order(Fault.RATE_LIMITED, times=1)
        began = time.time()
        async with session.get(f"{sandbox.base_url}/ip/payments/1") as response:
            until = parsedate_to_datetime(response.headers["Retry-After"]).timestamp()
        if dated:
            assert until == sandbox.store.clock + 30
        else:
            assert began + 30 <= until < time.time() + 32


async def test_date_of_a_replaced_answer() -> None:
    """An answer of a callable has the store's time, too."""
    async with Sandbox(payments=1) as sandbox:
        sandbox.answer_with(lambda _: web.Response(status=418))
        assert await _date(sandbox) == formatdate(sandbox.store.clock, usegmt=True)


async def test_before_list() -> None:
    """The store can be changed before each list is answered, and only then."""
    calls: list[str] = []

    def change(store: Store, seen: SeenRequest) -> None:
        calls.append(seen.path)
        store.delete(store.ids()[0])

    async with Sandbox(payments=5) as sandbox:
        sandbox.before_list = change
        assert await _status(sandbox, path="/ip/payments/3") == 200
        assert await _status(sandbox, path="/ip/payments?limit=1") == 200
        assert calls == ["/api/v3/io/ip/payments"]
        assert sandbox.store.ids() == [2, 3, 4, 5]
        sandbox.before_list = Drift(1, rate=50, delete=0, update=0)
        await _status(sandbox, path="/ip/payments")
        assert sandbox.store.payments > 20


async def test_answer_with() -> None:
    """A callable can answer instead of the service; then nothing is carried out."""

    def answers(seen: SeenRequest) -> web.Response | None:
        return web.Response(status=418) if seen.method == "DELETE" else None

    async with (
        Sandbox(payments=2) as sandbox,
        aiohttp.ClientSession(headers=sandbox.headers) as session,
    ):
        sandbox.answer_with(answers)
        assert await _status(sandbox) == 200
        async with session.delete(f"{sandbox.base_url}/ip/payments/1") as response:
            assert response.status == sandbox.requests[-1].status == 418
        assert 1 in sandbox.store
        sandbox.answer_with(None)
        async with session.delete(f"{sandbox.base_url}/ip/payments/1") as response:
            assert response.status == 200


async def test_requests_are_recorded() -> None:
    """The sandbox records requests: decoded, in order, with the status of the answer."""
    async with Sandbox(payments=1) as sandbox:
        began = asyncio.get_running_loop().time()
        await _status(sandbox, path="/ip/payments?q=a%20b%2Cc+d&channelIds=1&channelIds=2&customerName=")
        await _status(sandbox, path="/ip/payments/99")
        assert sandbox.request_count == len(sandbox.requests) == 2
        first, second = sandbox.requests
        assert first.query == [
            ("q", "a b,c d"),
            ("channelIds", "1"),
            ("channelIds", "2"),
            ("customerName", ""),
        ]
        assert (second.method, second.path, second.body) == ("GET", "/api/v3/io/ip/payments/99", None)
        assert (first.status, second.status) == (200, 404)
        assert began <= first.at <= second.at
        assert first.headers["x-STORE-hash"] == sandbox.auth.store_hash


async def test_list_lag() -> None:
    """Lists lag a write as long as the rules say, by the event loop's clock."""
    async with Sandbox(payments=3, rules=Rules(list_lag=3600)) as sandbox:
        new = sandbox.store.insert()
        async with (
            aiohttp.ClientSession(headers=sandbox.headers) as session,
            session.get(f"{sandbox.base_url}/ip/payments") as response,
        ):
            body = await response.json()
        assert [row["id"] for row in body["data"]] == [3, 2, 1]
        assert await _status(sandbox, path=f"/ip/payments/{new}") == 200
