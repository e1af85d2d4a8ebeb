"""From a walk into a sink."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, TypeVar

import anyio
import msgspec
from anyio import to_thread

from b2b_payments.errors import ConfigurationError
from b2b_payments.export.account import Account
from b2b_payments.export.sink import Checkpoint, Sink
from b2b_payments.protocol.json import decode
from b2b_payments.walk.report import WalkReport
from b2b_payments.walk.stream import PaymentStream
from b2b_payments.walk.walk import Walk

Listener = Callable[[WalkReport], object]
Source = Walk | PaymentStream
T = TypeVar("T")

BATCH_ROWS = 2_000
"""Payments that are written and committed at once: what a kill can cost, and a row group of Parquet."""

_VERSION = 1
_NOTHING_ASKED: Mapping[str, Any] = {}


async def export(
    source: Source,
    sink: Sink,
    *,
    query: Mapping[str, Any] = _NOTHING_ASKED,
    on_progress: Listener | None = None,
) -> WalkReport:
    """Write all payments of a walk or a stream to a sink, and give the walk's report.

    The sink works off the event loop, 2,000 payments at a time, while the next pages are being fetched; pages
    wait where it is slower than they come. `query` is what was asked for, as plain JSON, for the
    manifest. `on_progress` is called with the report after each page.

    Raises what the walk raises, and what the sink raises. Then, and where the export is cancelled, the sink
    is closed as not complete.
    """
    return await _run(lambda _: source, sink, query, on_progress, anew=True)


async def resume(
    begin: Callable[[Checkpoint | None], Source],
    sink: Sink,
    *,
    query: Mapping[str, Any] = _NOTHING_ASKED,
    on_progress: Listener | None = None,
) -> WalkReport:
    """Go on with an export that was interrupted, behind the last batch that its sink committed.

    `begin` is given the walk's checkpoint, None where there is none, and gives the walk to go on with::

        await resume(lambda checkpoint: client.payments.list(checkpoint=checkpoint), sink)

    Otherwise as `export`; the report is of the part that was left. Raises ConfigurationError, too, for
    another query than the one that the export began with.
    """
    return await _run(begin, sink, query, on_progress, anew=False)


async def _run(
    begin: Callable[[Checkpoint | None], Source],
    sink: Sink,
    query: Mapping[str, Any],
    on_progress: Listener | None,
    *,
    anew: bool,
) -> WalkReport:
    worker = _Worker(sink)
    complete = False
    try:
        earlier = await worker.do(sink.open if anew else sink.resume)
        progress = _Progress.begin(sink, query) if earlier is None else _Progress.go_on(sink, query, earlier)
        if progress.finished:
            report = WalkReport(complete=progress.account.complete, ending="all of it was there already")
        else:
            source = begin(progress.walk)
            async with aclosing(source.joined()) as pages:
                async for page in pages:
                    progress.hold(page.raw(), page.checkpoint)
                    if progress.full:
                        await worker.do(partial(progress.keep, source.report))
                    if on_progress is not None:
                        on_progress(source.report)
            report = source.report
            await worker.do(partial(progress.keep, report, last=True))
        complete = True
    finally:
        with anyio.CancelScope(shield=True):
            await worker.close(complete=complete)
    return report


class _Progress:
    """What has come and is not yet kept, and the account of what is."""

    def __init__(self, sink: Sink, account: Account, walk: Checkpoint | None, *, finished: bool) -> None:
        self._sink = sink
        self._before = account
        self._held: list[msgspec.Raw] = []
        self.account = Account.unpack(account.pack())
        self.walk = walk
        self.finished = finished

    @classmethod
    def begin(cls, sink: Sink, query: Mapping[str, Any]) -> _Progress:
        return cls(sink, Account.begin(query), None, finished=False)

    @classmethod
    def go_on(cls, sink: Sink, query: Mapping[str, Any], earlier: Checkpoint) -> _Progress:
        if earlier.get("version") != _VERSION:
            raise ConfigurationError(
                f"What was kept of the export is not of version {_VERSION}: begin anew, without resuming."
            )
        account = Account.unpack(earlier["account"])
        if account.query != query:
            raise ConfigurationError(
                f"The export that was interrupted asked for {account.query!r}, not {dict(query)!r}: "
                "go on with the same filters, or begin anew, without resuming."
            )
        return cls(sink, account, earlier["walk"], finished=earlier["finished"])

    @property
    def full(self) -> bool:
        return len(self._held) >= BATCH_ROWS

    def hold(self, rows: Sequence[msgspec.Raw], checkpoint: Checkpoint) -> None:
        self._held += rows
        self.walk = checkpoint

    def keep(self, report: WalkReport, *, last: bool = False) -> None:
        """Write what is held, and commit it with the walk's checkpoint and the account."""
        batch = [decode(row) for row in self._held]
        self._held = []
        if batch:
            self._sink.write(batch)
        self.account.add(batch)
        self.account.following(report, self._before)
        if last:
            self.account.end(complete=report.complete)
        self._sink.commit(
            {
                "version": _VERSION,
                "finished": last,
                "walk": self.walk,
                "account": self.account.pack(),
            }
        )


class _Worker:
    """Uses a sink in worker threads, one step at a time, and not at all once it is closed.

    asyncio's own cancellation (`asyncio.timeout`, `Task.cancel`) goes on without waiting for a thread, so
    that a write may still be running, or not even have begun, when the sink is to be closed.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._lock = threading.Lock()
        self._closed = False

    async def do(self, step: Callable[[], T]) -> T | None:
        return await to_thread.run_sync(self._do, step)

    async def close(self, *, complete: bool) -> None:
        await to_thread.run_sync(self._close, complete)

    def _do(self, step: Callable[[], T]) -> T | None:
        with self._lock:
            return None if self._closed else step()

    def _close(self, complete: bool) -> None:
        with self._lock:
            self._closed = True
            self._sink.close(complete=complete)
