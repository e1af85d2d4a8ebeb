"""Object stores that do not answer: progress messages, and how soon the export ends."""

from __future__ import annotations

import asyncio
import signal
import socket
from asyncio.subprocess import Process
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from b2b_payments.export import ExportError, _bucket, export, sink_for
from b2b_payments.sandbox import Rules, Sandbox
from tests.socket.cli.fleet import write
from tests.support.clients import client_of
from tests.support.exporting import exported
from tests.support.program import finished, start
from tests.support.s3_server import Fate, S3Proxy, S3Server, variables

FAST = Rules(quota=False)
SOON = {
    "b2b_payments.export._bucket._FIRST_ANSWER_WITHIN": 0.5,
    **{
        f"b2b_payments._cli.{module}.{name}": seconds
        for module in ("progress", "waits")
        for name, seconds in (("OBJECT_STORE_PATIENCE", 0.2), ("_CHECK_INTERVAL", 0.1))
    },
}
"""Shorter waits than the program's own, which the other tests keep."""


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield a bucket at an address that accepts connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(100)
        for name, value in variables(listening.getsockname()[1]).items():
            monkeypatch.setenv(name, value)
        yield "s3://silent"


@pytest.fixture
def soon_over(silent: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return that bucket; its first request times out soon, and is not repeated if `SOON` holds, too."""
    monkeypatch.setenv("AWS_TIMEOUT", "1 s")
    return silent


@pytest.fixture
def endless(silent: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return that bucket; its requests outlast every test, so that only a stop can end them."""
    monkeypatch.setenv("AWS_TIMEOUT", "10 min")
    return silent


async def _waiting_line(process: Process) -> str:
    """Return the first line of progress that says it is waiting."""
    assert process.stderr is not None
    async for line in process.stderr:
        if b"waiting" in line:
            return line.decode()
    raise AssertionError("the process ended without that line")


@pytest.mark.slow
async def test_a_store_that_never_answers(silent: str) -> None:
    """Progress names the store, and the export fails within 20 seconds with a clear error."""
    async with Sandbox(10, rules=FAST) as sandbox:
        process = await start(sandbox, "export", "--output", f"{silent}/p.jsonl")
        assert f"for {silent} to answer" in await _waiting_line(process)
        reported = monotonic()
        code, _, err = await finished(process)
    assert monotonic() - reported < 18
    assert code == 1
    assert err == f"Error: {silent}/p.jsonl could not be written: the object store did not answer.\n"


@pytest.mark.slow
@pytest.mark.parametrize("command", ["verify", "report"])
async def test_reading_from_a_store_that_never_answers(soon_over: str, command: str) -> None:
    """`verify` and `report` name the store that they wait for, too."""
    process = await start(None, command, f"{soon_over}/p.jsonl", constants=SOON)
    assert f"for {soon_over} to answer" in await _waiting_line(process)
    code, _, err = await finished(process)
    assert code == 1
    assert err.endswith("the object store did not answer.\n")


@pytest.mark.slow
async def test_many_stores_in_one_that_never_answers(
    silent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The object store is waited for once, not once for each store."""
    async with Sandbox(10, rules=FAST) as one, Sandbox(10, rules=FAST) as other:
        monkeypatch.setenv("GOOD_TOKEN", str(one.auth.access_token))
        path = write(tmp_path, {"north": one, "south": other})
        process = await start(None, "export", "--stores", path, "--output", silent, "--format", "csv")
        assert f"for {silent} to answer" in await _waiting_line(process)
        reported = monotonic()
        code, _, err = await finished(process)
    assert monotonic() - reported < 18
    assert code == 1
    assert "the object store did not answer" in err


@pytest.mark.slow
async def test_stopped_while_a_store_never_answers(endless: str) -> None:
    """Ctrl-C ends an export that waits for a store's first answer at once."""
    async with Sandbox(10, rules=FAST) as sandbox:
        process = await start(sandbox, "export", "--output", f"{endless}/p.jsonl", constants=SOON)
        await _waiting_line(process)
        await _stopped(process)


@pytest.mark.slow
async def test_stopped_while_a_store_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the store goes away in the middle of an export, Ctrl-C ends it at once, and it can be resumed."""
    with S3Server() as server, S3Proxy(server.port) as proxy:
        for name, value in variables(proxy.port).items():
            monkeypatch.setenv(name, value)

        def decide(method: str, path: str) -> Fate:
            if method == "PUT" and path.endswith(".00000003"):
                server.stop()
                return Fate.CUT
            return Fate.PASSED

        proxy.decide = decide
        async with Sandbox(5_000, rules=FAST) as sandbox:
            url = f"s3://{server.new_bucket()}/p.jsonl"
            process = await start(sandbox, "export", "--output", url, constants=SOON)
            await _waiting_line(process)
            left = await _stopped(process)
    assert "The payments read so far are kept" in left


async def _stopped(process: Process) -> str:
    process.send_signal(signal.SIGINT)
    # Without the stop, the requests would go on for a minute or longer.
    code, _, err = await asyncio.wait_for(finished(process), 30)
    assert code == 130
    *_, last = err.splitlines()
    assert last.startswith("Stopped by Ctrl-C: ")
    return last


async def test_cancelled_while_a_store_never_answers(endless: str) -> None:
    """A timeout around an export ends it, too."""
    async with Sandbox(10, rules=FAST) as sandbox, client_of(sandbox) as client:
        writing = asyncio.create_task(export(client.payments.list(), sink_for(f"{endless}/p.jsonl")))
        done, _ = await asyncio.wait([writing], timeout=0.5)
        assert not done
        writing.cancel()
        # Without the cancellation, the request would go on for minutes.
        done, _ = await asyncio.wait([writing], timeout=30)
        assert done
        assert writing.cancelled()


@pytest.mark.slow
def test_a_sink_without_an_event_loop(soon_over: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an event loop, a sink also fails once the store does not answer."""
    monkeypatch.setattr(_bucket, "_FIRST_ANSWER_WITHIN", 0.5)
    sink = sink_for(f"{soon_over}/p.jsonl")
    with pytest.raises(ExportError, match="the object store did not answer"):
        sink.open()
    sink.close(complete=False)


def test_a_store_that_is_restarting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that answers within seconds is waited for, however many requests fail before."""
    with S3Server() as server, S3Proxy(server.port) as proxy:
        for name, value in variables(proxy.port).items():
            monkeypatch.setenv(name, value)
        proxy.decide = lambda _method, _path: Fate.CUT if len(proxy.asked) <= 8 else Fate.PASSED
        exported(sink_for(f"s3://{server.new_bucket()}/p.jsonl"))
    assert len(proxy.asked) > 8
