"""From a walk into a sink, over a socket."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from b2b_payments import AuthenticationError, PaymentsClient, StoreAuth
from b2b_payments.export import Checkpoint, JSONLSink, export
from b2b_payments.export.export import _Worker
from b2b_payments.sandbox import Sandbox


def _names(folder: Path) -> list[str]:
    return [found.name for found in folder.iterdir()]


class _Diary:
    """A sink that writes down what it is asked to do, and fails where it is told to."""

    def __init__(self, fails_at: str = "") -> None:
        self.steps: list[str] = []
        self.rows: list[Mapping[str, Any]] = []
        self.checkpoints: list[Checkpoint | None] = []
        self.threads: set[int] = set()
        self._fails_at = fails_at

    def _note(self, step: str) -> None:
        self.steps.append(step)
        self.threads.add(threading.get_ident())
        if step == self._fails_at:
            raise RuntimeError(step)

    def open(self) -> None:
        self._note("open")

    def write(self, batch: Sequence[Mapping[str, Any]]) -> None:
        self.rows += batch
        self._note("write")

    def commit(self, checkpoint: Checkpoint | None) -> None:
        self.checkpoints.append(checkpoint)
        self._note("commit")

    def close(self, *, complete: bool) -> None:
        self._note(f"close {complete}")


class _Slow(_Diary):
    """A sink that tells the event loop of its first write, and is a while at it."""

    def __init__(self) -> None:
        super().__init__()
        self.writing = asyncio.Event()
        self.closed = threading.Event()
        self._loop = asyncio.get_running_loop()

    def write(self, batch: Sequence[Mapping[str, Any]]) -> None:
        self._loop.call_soon_threadsafe(self.writing.set)
        # Over at once, should anybody close the sink meanwhile.
        self.closed.wait(0.2)
        super().write(batch)

    def close(self, *, complete: bool) -> None:
        self.closed.set()
        super().close(complete=complete)


async def test_every_payment(tmp_path: Path) -> None:
    """The file holds the service's own object of every payment, and the report says so."""
    path = tmp_path / "payments.jsonl"
    async with (
        Sandbox(payments=700) as sandbox,
        PaymentsClient(sandbox.auth, base_url=sandbox.base_url) as client,
    ):
        seen: list[int] = []
        report = await export(
            client.payments.list(page_size=100),
            JSONLSink(path),
            on_progress=lambda report: seen.append(report.rows),
        )
        wanted = list(sandbox.store.all_wire())
    assert [json.loads(line) for line in path.read_text().splitlines()] == wanted
    assert report.complete
    assert report.rows == 700
    assert len(seen) == report.pages
    assert seen == sorted(seen)
    assert seen[-1] == 700


async def test_order_of_steps() -> None:
    """A sink is opened, given each page and its checkpoint, and closed, never in the loop's thread."""
    sink = _Diary()
    async with (
        Sandbox(payments=40) as sandbox,
        PaymentsClient(sandbox.auth, base_url=sandbox.base_url) as client,
    ):
        report = await export(client.payments.list(page_size=20), sink)
    assert sink.steps == ["open", *["write", "commit"] * report.pages, "close True"]
    assert threading.get_ident() not in sink.threads
    assert [row["id"] for row in sink.rows] == list(range(1, 41))
    assert len({json.dumps(checkpoint) for checkpoint in sink.checkpoints}) == report.pages


async def test_stream_has_a_checkpoint() -> None:
    """Several channels at once have a checkpoint that says where each of them stands."""
    sink = _Diary()
    async with (
        Sandbox(payments=60) as sandbox,
        PaymentsClient(sandbox.auth, base_url=sandbox.base_url) as client,
    ):
        report = await export(client.payments.stream(channel_ids=[1, 2]), sink)
    assert [sorted(dict(checkpoint or {})) for checkpoint in sink.checkpoints] == [
        ["channels", "version"]
    ] * report.pages
    assert {row["channelId"] for row in sink.rows} == {"1", "2"}
    assert report.complete


async def test_nothing_sent_before_open() -> None:
    """A sink that cannot be opened costs no request, and is closed."""
    sink = _Diary(fails_at="open")
    async with (
        Sandbox(payments=10) as sandbox,
        PaymentsClient(sandbox.auth, base_url=sandbox.base_url) as client,
    ):
        with pytest.raises(RuntimeError, match="open"):
            await export(client.payments.list(), sink)
        assert sandbox.request_count == 0
    assert sink.steps == ["open", "close False"]


@pytest.mark.parametrize("step", ["write", "commit"])
async def test_failing_sink(step: str) -> None:
    """A sink's own error comes out bare, and the sink is closed as not complete."""
    sink = _Diary(fails_at=step)
    async with (
        Sandbox(payments=10) as sandbox,
        PaymentsClient(sandbox.auth, base_url=sandbox.base_url) as client,
    ):
        with pytest.raises(RuntimeError, match=step):
            await export(client.payments.list(), sink)
    assert sink.steps[-2:] == [step, "close False"]


async def test_failing_walk(tmp_path: Path) -> None:
    """A walk's error comes out bare, and the folder is as it was."""
    async with Sandbox(payments=10) as sandbox:
        wrong = StoreAuth(sandbox.auth.store_hash, "wrong")
        async with PaymentsClient(wrong, base_url=sandbox.base_url) as client:
            with pytest.raises(AuthenticationError):
                await export(client.payments.list(), JSONLSink(tmp_path / "payments.jsonl"))
    assert _names(tmp_path) == []


async def test_cancelled_scope(tmp_path: Path) -> None:
    """An export whose cancel scope ends leaves the folder as it was."""
    async with (
        Sandbox(payments=600) as sandbox,
        PaymentsClient(sandbox.auth, base_url=sandbox.base_url) as client,
    ):
        with anyio.CancelScope() as scope:
            await export(
                client.payments.list(),
                JSONLSink(tmp_path / "payments.jsonl"),
                on_progress=lambda _: scope.cancel(),
            )
    assert scope.cancelled_caught
    assert _names(tmp_path) == []


async def test_cancelled_task_waits_for_the_write() -> None:
    """A task that asyncio cancels during a write closes the sink after that write, not beside it."""
    sink = _Slow()
    async with (
        Sandbox(payments=10) as sandbox,
        PaymentsClient(sandbox.auth, base_url=sandbox.base_url) as client,
    ):
        task = asyncio.create_task(export(client.payments.list(), sink))
        await sink.writing.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert sink.steps == ["open", "write", "commit", "close False"]


async def test_nothing_after_close() -> None:
    """A step that comes to its thread only after the sink was closed is left out."""
    sink = _Diary()
    worker = _Worker(sink)
    await worker.close(complete=False)
    await worker.do(sink.open)
    assert sink.steps == ["close False"]
