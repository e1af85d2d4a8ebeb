"""`export` and `resume`, over a socket."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio
import pytest

from b2b_payments import (
    AuthenticationError,
    ConfigurationError,
    PaymentsClient,
    PaymentStream,
    StoreAuth,
    Walk,
    WalkReport,
)
from b2b_payments.export import Checkpoint, ExportError, JSONLSink, export, resume
from b2b_payments.export._worker import Worker
from b2b_payments.sandbox import Sandbox

# The function of this name hides the module.
exporting = import_module("b2b_payments.export._export")


def _names(folder: Path) -> list[str]:
    return [found.name for found in folder.iterdir()]


class _RecordingSink:
    """A sink that records its calls, and fails at one of them."""

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

    def resume(self) -> Checkpoint | None:
        self._note("resume")
        return self.checkpoints[-1] if self.checkpoints else None

    def write(self, batch: Sequence[Mapping[str, Any]]) -> None:
        self.rows += batch
        self._note("write")

    def commit(self, checkpoint: Checkpoint | None) -> None:
        self.checkpoints.append(checkpoint)
        self._note("commit")

    def close(self, *, complete: bool) -> None:
        self._note(f"close {complete}")


class _SlowSink(_RecordingSink):
    """A sink that signals its first write, and writes slowly."""

    def __init__(self) -> None:
        super().__init__()
        self.writing = asyncio.Event()
        self.closed = threading.Event()
        self._loop = asyncio.get_running_loop()

    def write(self, batch: Sequence[Mapping[str, Any]]) -> None:
        self._loop.call_soon_threadsafe(self.writing.set)
        # Returns at once if the sink is closed meanwhile.
        self.closed.wait(0.2)
        super().write(batch)

    def close(self, *, complete: bool) -> None:
        self.closed.set()
        super().close(complete=complete)


async def test_every_payment(tmp_path: Path) -> None:
    """The file holds the service's own object of every payment, and the report is complete."""
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


async def test_order_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sink is opened, gets batches and checkpoints, and is closed, never in the event loop's thread."""
    monkeypatch.setattr(exporting, "BATCH_ROWS", 30)
    sink = _RecordingSink()
    async with (
        Sandbox(payments=100) as sandbox,
        PaymentsClient(sandbox.auth, base_url=sandbox.base_url) as client,
    ):
        report = await export(client.payments.list(page_size=20), sink, query={"q": "x"})
    batches = sink.steps.count("write")
    assert 3 <= batches < report.pages
    assert sink.steps[: 2 * batches + 1] == ["open", *["write", "commit"] * batches]
    assert sink.steps[-1] == "close True"
    assert threading.get_ident() not in sink.threads
    assert [row["id"] for row in sink.rows] == list(range(1, 101))
    last = sink.checkpoints[-1]
    assert last is not None
    assert [checkpoint and checkpoint["finished"] for checkpoint in sink.checkpoints[:-1]] == [False] * (
        len(sink.checkpoints) - 1
    )
    assert (last["finished"], last["account"]["rows"]) == (True, 100)
    assert last["account"]["requests"] == report.requests
    assert last["account"]["query"] == {"q": "x"}
    assert json.loads(json.dumps(last)) == last


async def test_resume_after_the_last_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after any batch, an export resumes with the rest; its account covers all payments."""
    monkeypatch.setattr(exporting, "BATCH_ROWS", 30)
    sink = _RecordingSink()
    async with Sandbox(payments=100) as sandbox:
        for _ in range(3):
            async with PaymentsClient(sandbox.auth, base_url=sandbox.base_url) as client:

                def begin(checkpoint: Checkpoint | None, client: PaymentsClient = client) -> Walk:
                    return client.payments.list(page_size=20, checkpoint=checkpoint)

                with anyio.CancelScope() as scope:
                    commits = len(sink.checkpoints)

                    def stop(_: WalkReport, scope: anyio.CancelScope = scope, commits: int = commits) -> None:
                        if len(sink.checkpoints) > commits:
                            scope.cancel()

                    await resume(begin, sink, on_progress=stop)
    assert [row["id"] for row in sink.rows] == list(range(1, 101))
    last = sink.checkpoints[-1]
    assert last is not None
    assert (last["finished"], last["account"]["rows"], last["account"]["complete"]) == (True, 100, True)


@pytest.mark.parametrize("channels", [None, [1, 2]])
async def test_resume_with_a_walk_from_the_start(
    monkeypatch: pytest.MonkeyPatch, channels: list[int] | None
) -> None:
    """A `begin` that ignores the checkpoint is refused before any request, and what was committed stays."""
    monkeypatch.setattr(exporting, "BATCH_ROWS", 30)
    sink = _RecordingSink()
    async with (
        Sandbox(payments=100) as sandbox,
        PaymentsClient(sandbox.auth, base_url=sandbox.base_url) as client,
    ):

        def begin(checkpoint: Checkpoint | None) -> Walk | PaymentStream:
            if channels is None:
                return client.payments.list(page_size=20, checkpoint=checkpoint)
            return client.payments.stream(channel_ids=channels, page_size=20, checkpoint=checkpoint)

        def stop(_: WalkReport) -> None:
            if sink.checkpoints:
                raise InterruptedError

        with pytest.raises(InterruptedError):
            await export(begin(None), sink, on_progress=stop)
        before, rows = sandbox.request_count, list(sink.rows)
        with pytest.raises(
            ConfigurationError, match="begin returned a walk that does not start at the check"
        ):
            await resume(lambda _: begin(None), sink)
        assert (sandbox.request_count, sink.rows) == (before, rows)
        assert (await resume(begin, sink)).complete
        assert len({row["id"] for row in sink.rows}) == len(sink.rows) > len(rows) > 0


async def test_resume_of_a_finished_walk() -> None:
    """Resuming an export that had read every payment sends no requests."""
    sink = _RecordingSink()
    async with (
        Sandbox(payments=40) as sandbox,
        PaymentsClient(sandbox.auth, base_url=sandbox.base_url) as client,
    ):
        await export(client.payments.list(), sink)
        before = sandbox.request_count
        report = await resume(lambda checkpoint: client.payments.list(checkpoint=checkpoint), sink)
        assert sandbox.request_count == before
    assert report.complete
    assert report.rows == 0
    assert sink.steps[-2:] == ["resume", "close True"]


@pytest.mark.parametrize(
    ("change", "says"),
    [({"version": 9}, "not of version 1"), ({}, "had other filters: q was 'x' and is now 'y'")],
)
async def test_resume_with_another_query_or_version(change: dict[str, object], says: str) -> None:
    """Another query or a checkpoint of another version is refused before any request."""
    sink = _RecordingSink()
    async with (
        Sandbox(payments=40) as sandbox,
        PaymentsClient(sandbox.auth, base_url=sandbox.base_url) as client,
    ):
        await export(client.payments.list(), sink, query={"q": "x"})
        sink.checkpoints.append({**(sink.checkpoints[-1] or {}), **change})
        with pytest.raises(ConfigurationError) as caught:
            await resume(lambda _: client.payments.list(), sink, query={"q": "y"})
    assert says in str(caught.value)
    assert sink.steps[-1] == "close False"


async def _last_checkpoint(client: PaymentsClient, sink: _RecordingSink) -> Checkpoint:
    """Export everything, and return the last checkpoint."""
    await export(client.payments.list(), sink)
    last = sink.checkpoints[-1]
    assert last is not None
    return last


async def test_resume_from_a_walk_of_an_earlier_version() -> None:
    """An interrupted export whose walk has a checkpoint of an earlier version is refused for that reason."""
    sink = _RecordingSink()
    async with (
        Sandbox(payments=40) as sandbox,
        PaymentsClient(sandbox.auth, base_url=sandbox.base_url) as client,
    ):
        last = await _last_checkpoint(client, sink)
        place = {name: last["walk"]["place"][name] for name in ("key", "closed", "resume_at", "ids")}
        walk = {name: last["walk"][name] for name in ("store", "query")} | {"version": 1, "place": place}
        sink.checkpoints.append({**last, "finished": False, "walk": walk})
        with pytest.raises(ConfigurationError, match="not of version 2: start again without resuming"):
            await resume(lambda checkpoint: client.payments.list(checkpoint=checkpoint), sink)


@pytest.mark.parametrize("change", [{"account": {}}, {"finished": False, "walk": None}])
async def test_resume_from_a_damaged_checkpoint(change: dict[str, object]) -> None:
    """A checkpoint that cannot be read, or has payments but no position in the walk, is refused at once."""
    sink = _RecordingSink()
    async with (
        Sandbox(payments=40) as sandbox,
        PaymentsClient(sandbox.auth, base_url=sandbox.base_url) as client,
    ):
        await export(client.payments.list(), sink)
        sink.checkpoints.append({**(sink.checkpoints[-1] or {}), **change})
        before = sandbox.request_count
        with pytest.raises(ExportError, match="checkpoint is damaged: start again without resuming"):
            await resume(lambda _: client.payments.list(), sink)
        assert sandbox.request_count == before


async def test_resume_with_a_credential_of_another_store() -> None:
    """If the service returns payments of another store than before the interruption, none is written."""
    sink = _RecordingSink()
    async with (
        Sandbox(payments=40) as sandbox,
        PaymentsClient(sandbox.auth, base_url=sandbox.base_url) as client,
    ):
        last = await _last_checkpoint(client, sink)
        account = {**last["account"], "store_hash": "another"}
        walk = client.payments.list().checkpoint()
        sink.checkpoints.append({**last, "finished": False, "walk": walk, "account": account})
        ours = sandbox.auth.store_hash
        with pytest.raises(ConfigurationError, match=f"is of the store 'another', but .* of '{ours}'"):
            await resume(lambda checkpoint: client.payments.list(checkpoint=checkpoint), sink)
    assert len(sink.rows) == 40


async def test_nothing_sent_before_open() -> None:
    """If the sink cannot be opened, no request is sent, and it is closed."""
    sink = _RecordingSink(fails_at="open")
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
    """A sink's error is raised unchanged, and the sink is closed as not complete."""
    sink = _RecordingSink(fails_at=step)
    async with (
        Sandbox(payments=10) as sandbox,
        PaymentsClient(sandbox.auth, base_url=sandbox.base_url) as client,
    ):
        with pytest.raises(RuntimeError, match=step):
            await export(client.payments.list(), sink)
    assert sink.steps[-2:] == [step, "close False"]


async def test_failing_walk(tmp_path: Path) -> None:
    """A walk's error is raised unchanged, and no file is left."""
    async with Sandbox(payments=10) as sandbox:
        wrong = StoreAuth(sandbox.auth.store_hash, "wrong")
        async with PaymentsClient(wrong, base_url=sandbox.base_url) as client:
            with pytest.raises(AuthenticationError):
                await export(client.payments.list(), JSONLSink(tmp_path / "payments.jsonl"))
    assert _names(tmp_path) == []


async def test_cancelled_scope(tmp_path: Path) -> None:
    """A cancelled export leaves no file."""
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
    """A task that asyncio cancels during a write closes the sink after that write, not during it."""
    sink = _SlowSink()
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


async def test_no_step_after_close() -> None:
    """A step that starts only after the sink was closed is skipped."""
    sink = _RecordingSink()
    worker = Worker(sink)
    await worker.close(complete=False)
    await worker.close(complete=True)
    with pytest.raises(RuntimeError, match="closed"):
        await worker.do(sink.open)
    assert sink.steps == ["close False"]
