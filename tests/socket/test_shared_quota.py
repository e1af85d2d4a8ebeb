"""A window that processes share through a real Redis server, even if server or processes come to harm."""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from secrets import token_hex
from typing import Any

import anyio
import pytest

from b2b_payments import ConfigurationError, LegacyAuth, Quota
from b2b_payments._quota import Permit, Priority, QuotaGate, QuotaReading, TooLate, gate_for
from b2b_payments._quota import redis as redis_module
from b2b_payments._quota.backends import forget_all
from b2b_payments._quota.quota import without_credentials
from b2b_payments._quota.redis import RedisBackend
from b2b_payments._quota.window import Report, ReportKind
from tests.support.redis_server import RedisServer

STORE = ("https://service.example", "a store")


@pytest.fixture(scope="module")
def running() -> Iterator[RedisServer]:
    """Yield a server for all tests that do it no harm."""
    with RedisServer() as server:
        yield server


@pytest.fixture(autouse=True)
def a_new_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use another store in each test: the last test's reports may still be on their way."""
    monkeypatch.setattr(sys.modules[__name__], "STORE", ("https://service.example", token_hex(4)))


@pytest.fixture
def server(running: RedisServer) -> RedisServer:
    """Return a server without data of other tests."""
    with running.client as client:
        client.flushall()
    return running


@pytest.fixture
def mortal() -> Iterator[RedisServer]:
    """Yield a server for this test alone."""
    with RedisServer() as server:
        yield server


def backend_at(server: RedisServer, requests: int = 3, **more: float) -> RedisBackend:
    """Return one process's backend; several in one process stand for several processes."""
    return RedisBackend(STORE, Quota(requests, 3600, shared=server.url, **more))  # type: ignore[arg-type]


async def gets_permit(backend: RedisBackend, member: int = 1, priority: Priority = Priority.CALL) -> bool:
    """Try to acquire a permit, report its request as answered, and return whether there was one."""
    now = time.monotonic()
    verdict = await backend.try_acquire(member, priority, now, time.monotonic)
    assert verdict is not None
    if verdict.key is None:
        backend.report(Report(ReportKind.WITHDRAWN, member), now)
    else:
        backend.report(Report(ReportKind.ANSWERED, verdict.key, now), now)
    return verdict.key is not None


def exchange(backend: RedisBackend) -> None:
    """Let a backend that lost its server try it again, and wait for the result."""
    backend._submit(None).result()


async def test_processes_count_together(server: RedisServer) -> None:
    """One process's grants count for the others, and for processes that start later."""
    one, other = backend_at(server), backend_at(server)
    granted = [await gets_permit(backend) for backend in (one, other, one, other)]
    assert granted == [True, True, True, False]
    assert not await gets_permit(backend_at(server))
    assert await gets_permit(RedisBackend(("another", "store"), Quota(shared=server.url)))


async def test_permit_is_one_call(server: RedisServer) -> None:
    """One call requests a permit and reports how the requests before ended."""
    backend = backend_at(server, 9)
    assert await gets_permit(backend)
    with server.client as client:
        exchange(backend)
        client.config_resetstat()
        for _ in range(4):
            verdict = await backend.try_acquire(1, Priority.CALL, time.monotonic(), time.monotonic)
            assert verdict is not None
            assert verdict.key is not None
            backend._reports.append((Report(ReportKind.ANSWERED, verdict.key), 0.0))
        assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == 4


async def test_strictest_quota_of_all_processes_wins(server: RedisServer) -> None:
    """A process with a larger quota keeps to the smaller quota of another process."""
    assert await gets_permit(backend_at(server, 2))
    large = backend_at(server, 9)
    assert [await gets_permit(large) for _ in range(3)] == [True, False, False]


async def test_closed_gate_is_closed_in_all_processes(server: RedisServer) -> None:
    """A gate that a refusal closed in one process is closed in the others, for the time asked."""
    one, other = backend_at(server), backend_at(server)
    now = time.monotonic()
    verdict = await one.try_acquire(1, Priority.CALL, now, time.monotonic)
    assert verdict is not None
    assert verdict.key is not None
    one.report(Report(ReportKind.REFUSED, verdict.key, now, pause=50.0), now)
    exchange(one)
    assert not await gets_permit(other)
    assert other.closed_until == pytest.approx(now + 50, abs=5)
    assert one.closed_until == pytest.approx(other.closed_until, abs=5)


async def test_calls_go_first_then_first_come_first_served(server: RedisServer) -> None:
    """Among the waiters of several processes, calls go first, then the page that waits longest."""
    backends = [backend_at(server, 1) for _ in range(4)]
    now = time.monotonic()
    assert await gets_permit(backends[3])

    async def ahead(number: int, priority: Priority, came: float) -> int:
        verdict = await backends[number].try_acquire(number, priority, came, time.monotonic)
        assert verdict is not None
        assert verdict.key is None
        return verdict.ahead

    assert await ahead(0, Priority.PAGE, now - 1) == 0
    assert await ahead(1, Priority.PAGE, now - 2) == 0
    assert await ahead(2, Priority.CALL, now) == 0
    assert [await ahead(0, Priority.PAGE, now - 1), await ahead(1, Priority.PAGE, now - 2)] == [2, 1]


async def test_pages_leave_the_reserve(server: RedisServer) -> None:
    """The pages of all processes together leave the reserve to calls."""
    one, other = backend_at(server, 5, reserve=2), backend_at(server, 5, reserve=2)
    pages = [await gets_permit(backend, 1, Priority.PAGE) for backend in (one, other, one, other)]
    assert pages == [True, True, True, False]
    assert [await gets_permit(backend) for backend in (one, other, one)] == [True, True, False]


async def test_killed_server_stops_nothing(mortal: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """Without the server each process uses its part, logs that once, and shares again when it is back."""
    caplog.set_level(logging.INFO, "b2b_payments")
    one, other = backend_at(mortal, 8), backend_at(mortal, 8)
    assert [await gets_permit(backend) for backend in (one, other, one)] == [True] * 3
    mortal.kill()
    # Its part is four, and three grants are known.
    assert [await gets_permit(one) for _ in range(4)] == [True, False, False, False]
    assert caplog.text.count("cannot be shared") == 1
    assert "1/2 of it" in caplog.text
    mortal.start()
    exchange(one)
    assert "shared again" in caplog.text
    assert not await gets_permit(one)  # the grants of the others meanwhile are unknown
    assert not await gets_permit(other)
    assert not await gets_permit(backend_at(mortal, 8))
    assert len(one.latest.grants.times) == 8


async def test_grants_without_the_server_count_afterwards(mortal: RedisServer) -> None:
    """A server that was only unreachable gets the grants made meanwhile."""
    one, other = backend_at(mortal, 4), backend_at(mortal, 4)
    assert await gets_permit(one)
    one._mark_lost("a cable was drawn")
    one._server.retry_at = time.monotonic() + 60
    assert [await gets_permit(one) for _ in range(3)] == [True, True, True]
    exchange(one)
    assert not await gets_permit(one)
    assert not await gets_permit(other)
    assert len(other.latest.grants.times) == 4


async def test_lost_server_is_tried_again(server: RedisServer) -> None:
    """A process that lost the server asks it again after a while, without making a call wait for it."""
    backend = backend_at(server, 4)
    assert await gets_permit(backend)
    backend._mark_lost("a cable was drawn")
    backend._server.retry_at = time.monotonic() + 60
    assert await gets_permit(backend)
    backend._server.retry_at = 0.0
    assert await gets_permit(backend)
    await asyncio.wrap_future(backend._server.thread.submit(lambda: None))
    exchange(backend)
    assert not backend._server.lost
    other = backend_at(server, 4)
    assert [await gets_permit(other) for _ in range(2)] == [True, False]


async def test_permit_while_the_server_is_tried_again(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A permit granted without the server while it is asked again counts for others, too."""
    backend = backend_at(server, 4)
    assert await gets_permit(backend)
    backend._mark_lost("a cable was drawn")
    backend._server.retry_at = math.inf
    call, answered, granted = backend._server.call, threading.Event(), threading.Event()

    def call_meanwhile(name: str, args: tuple[Any, ...]) -> Any:
        reply = call(name, args)
        answered.set()
        assert granted.wait(10)
        return reply

    monkeypatch.setattr(backend._server, "call", call_meanwhile)
    job = backend._submit(None)
    assert await asyncio.to_thread(answered.wait, 10)
    verdict = await backend.try_acquire(1, Priority.CALL, time.monotonic(), time.monotonic)
    assert verdict is not None
    assert verdict.key is not None
    granted.set()
    await asyncio.wrap_future(job)
    await asyncio.wrap_future(backend._server.thread.submit(lambda: None))
    other = backend_at(server, 4)
    assert [await gets_permit(other) for _ in range(3)] == [True, True, False]


async def test_hanging_server_is_abandoned(
    mortal: RedisServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that does not answer holds up nobody, and permits that it grants later are released."""
    monkeypatch.setattr(redis_module, "PATIENCE", 0.02)
    backend = backend_at(mortal, 8)
    assert await gets_permit(backend)
    mortal.pause()
    assert await gets_permit(backend)
    assert await gets_permit(backend)
    assert caplog.text.count("cannot be shared") == 1
    mortal.go_on()
    monkeypatch.setattr(redis_module, "PATIENCE", 5.0)
    exchange(backend)
    assert not backend._server.lost
    assert await gets_permit(backend)
    assert 4 <= len(backend.latest.grants.times) <= 5


async def test_lost_window_counts_as_full(server: RedisServer) -> None:
    """A process that finds the window gone does not know the others' grants in between."""
    one, other = backend_at(server, 4), backend_at(server, 4)
    assert await gets_permit(one)
    assert await gets_permit(other)
    exchange(one)  # so that its last report does not recreate the window
    with server.client as client:
        client.flushall()
    assert not await gets_permit(one)
    assert not await gets_permit(other)
    exchange(one)
    with server.client as client:
        client.flushall()
    assert await gets_permit(backend_at(server, 4))  # a new process cannot know of the lost window
    assert not await gets_permit(one)


@pytest.mark.parametrize("jump", [-5000.0, 5000.0])
async def test_setting_the_clock_changes_nothing(server: RedisServer, jump: float) -> None:
    """If the server's clock is set ahead or back, grants count for as long as before."""
    backend = backend_at(server, 3)
    assert await gets_permit(backend)
    source = redis_module.script()
    stepped = source.replace("redis.call('TIME')", f"redis.call('TIME'); time[1] = time[1] + {jump}")
    other = backend_at(server, 3)
    assert await gets_permit(other)
    before = backend._last_state
    for one in (backend, other):
        one._server._script = one._server._client.register_script(stepped)
    assert await gets_permit(other)
    assert not await gets_permit(backend)
    assert before is not None
    assert backend._last_state is not None
    assert 0 <= backend._last_state.now - before.now < 60
    forget_all()


async def test_refusal_is_reported_on_the_windows_clock(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused request's grant time is on the server's clock: on another, no window would ever slide."""
    gate = gate_for(STORE, Quota(9, 3600, shared=server.url))
    permit = await gate.acquire(Priority.CALL)
    assert isinstance(permit, Permit)
    told: list[Report] = []
    monkeypatch.setattr(gate.entry.backend, "report", lambda report, _: told.append(report))
    gate.close_for(5.0, permit)
    assert [report.window_time for report in told] == [permit.window_time]
    assert permit.window_time != permit.granted_at


async def test_cancelled_waiter_keeps_no_permit(server: RedisServer) -> None:
    """A waiter cancelled while the server answers leaves no request in flight."""
    gate = gate_for(STORE, Quota(9, 3600, shared=server.url))
    for _ in range(20):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await gate.acquire(Priority.CALL)
    task = asyncio.create_task(gate.acquire(Priority.CALL))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    backend = gate.entry.backend
    assert isinstance(backend, RedisBackend)
    exchange(backend)
    exchange(backend)
    assert not backend.latest.in_flight
    assert not backend.latest.claims


async def test_gate_waits_for_other_processes(server: RedisServer) -> None:
    """A gate knows how long other processes' requests make it wait."""
    quota = Quota(2, 3600, shared=server.url)
    one, other = (QuotaGate(quota, backend_at(server, 2), clock=time.monotonic) for _ in range(2))
    for gate in (one, other):
        permit = await gate.acquire(Priority.PAGE)
        assert isinstance(permit, Permit)
        gate.learn(permit, QuotaReading())
    late = await one.acquire(Priority.CALL, until=time.monotonic() + 5)
    assert isinstance(late, TooLate)
    assert 3590 < late.seconds < 3601


def test_loops_in_several_threads_share_one_window(server: RedisServer) -> None:
    """Event loops in several threads, consecutive and concurrent, count together on one connection."""

    async def spend() -> int:
        gate = gate_for(STORE, Quota(20, 3600, shared=server.url))
        granted = 0
        while isinstance(
            permit := await gate.acquire(Priority.PAGE, until=asyncio.get_running_loop().time() + 2), Permit
        ):
            gate.learn(permit, QuotaReading())
            granted += 1
        return granted

    with ThreadPoolExecutor(3) as pool:
        assert sum(pool.map(lambda _: asyncio.run(spend()), range(4))) == 20


CHILD = """
import asyncio, os, sys
from b2b_payments._quota import Priority, Quota, QuotaReading, gate_for

async def main():
    gate = gate_for(("store",), Quota(10, 1.0, margin=0.0, shared=sys.argv[1]))
    while True:
        permit = await gate.acquire(Priority.PAGE)
        print(gate.entry.backend.offset + permit.granted_at, flush=True)
        gate.learn(permit, QuotaReading(remaining=1000, resets_after=1.0))

asyncio.run(main())
"""


@pytest.mark.slow
def test_killed_and_stopped_processes_keep_the_window(server: RedisServer) -> None:
    """Of three processes one is killed and one stopped: no window holds more than the quota."""
    running = [
        subprocess.Popen([sys.executable, "-c", CHILD, server.url], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    killed, stopped, _ = running
    assert killed.stdout is not None
    assert stopped.stdout is not None
    lines = [stopped.stdout.readline(), killed.stdout.readline()]
    killed.kill()
    stopped.send_signal(signal.SIGSTOP)
    stopped.send_signal(signal.SIGCONT)
    lines += [stopped.stdout.readline() for _ in range(8)]
    for process in running:
        process.kill()
        lines += process.communicate()[0].splitlines()
    moments = sorted(float(line) for line in lines if line.strip())
    assert len(moments) > 10
    assert all(later - earlier >= 0.999 for earlier, later in zip(moments, moments[10:], strict=False))


@pytest.mark.slow
def test_forked_child_has_its_own_connection(server: RedisServer) -> None:
    """A forked child shares the window with its parent, but not the connection."""
    script = """
import asyncio, os, sys
from b2b_payments._quota import Permit, Priority, Quota, QuotaReading, gate_for

async def spend():
    gate = gate_for(("store",), Quota(2, 3600, shared=sys.argv[1]))
    permit = await gate.acquire(Priority.CALL, until=asyncio.get_running_loop().time() + 20)
    if isinstance(permit, Permit):
        gate.learn(permit, QuotaReading())
    return isinstance(permit, Permit) and not gate.entry.backend._server.lost

assert asyncio.run(spend())
child = os.fork()
if not child:
    os._exit(0 if [asyncio.run(spend()), asyncio.run(spend())] == [True, False] else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert not asyncio.run(spend())
"""
    assert subprocess.run([sys.executable, "-c", script, server.url], check=False, timeout=60).returncode == 0


async def test_shared_and_unshared_client_count_together(server: RedisServer) -> None:
    """When the store's second client shares the quota, the first one's grants count, too."""
    alone = gate_for(STORE, Quota(3, 3600))
    for _ in range(2):
        permit = await alone.acquire(Priority.PAGE)
        assert isinstance(permit, Permit)
        alone.learn(permit, QuotaReading())
    shared = gate_for(STORE, Quota(3, 3600, shared=server.url))
    assert shared is alone
    assert isinstance(await shared.acquire(Priority.CALL), Permit)
    late = await shared.acquire(Priority.CALL, until=asyncio.get_running_loop().time() + 1)
    assert isinstance(late, TooLate)
    assert not await gets_permit(backend_at(server))


PASSWORDS = [
    "redis://:hunter2@host:6379/0",
    "redis://user:hunter2@host/0?socket_timeout=1",
    "redis://host?password=hunter2",
    "redis://host?password=x@hunter2",
    "redis://:x/hunter2@host",
    "redis://:x?hunter2@host",
    "redis://:x#hunter2@host",
    "rediss://hunter2:x@host",
    "unix://:hunter2@/run/redis.sock",
]


@pytest.mark.parametrize("url", PASSWORDS)
def test_password_is_never_shown(url: str) -> None:
    """Neither a quota nor the server's name shows the credentials in a URL."""
    quota = Quota(shared=url)
    assert quota.shared == url
    texts = [repr(quota), repr(quota.shared), without_credentials(url)]
    with pytest.raises(ConfigurationError) as caught:
        Quota(shared=f"http{url}")
    assert "hunter2" not in str([*texts, str(caught.value)])


async def test_wrong_password_is_logged_without_it(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that rejects the password counts as lost, and the message shows no credential."""
    url = server.url.replace("unix://", "unix://user:hunter2@")
    gate = gate_for(STORE, Quota(2, 3600, shared=url))
    assert isinstance(await gate.acquire(Priority.CALL), Permit)
    assert "cannot be shared through unix://***@/" in caplog.text
    assert "hunter2" not in caplog.text


def test_unusable_server_is_refused(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """An invalid URL, a token that identifies no store, or a missing package is a configuration error."""

    async def give() -> str:
        return "token"

    make: Callable[[str], RedisBackend] = lambda url: RedisBackend(STORE, Quota(shared=url))  # noqa: E731
    with pytest.raises(ConfigurationError, match="an invalid URL"):
        make("redis://host:port/0")
    with pytest.raises(ConfigurationError, match="use StoreAuth"):
        RedisBackend(("https://service.example", LegacyAuth(give).store), Quota(shared=server.url))
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ConfigurationError, match=r"b2b-payments\[redis\]"):
        make("redis://other")
