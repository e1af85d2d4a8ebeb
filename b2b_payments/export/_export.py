"""Export the payments of a walk to a sink."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any

import anyio
import msgspec

from b2b_payments._arguments import check
from b2b_payments._errors import ConfigurationError, ExportError, shown
from b2b_payments._protocol.listing import leave_undecoded
from b2b_payments._walk.reader import JoinedPage
from b2b_payments._walk.report import WalkReport
from b2b_payments._walk.stream import PaymentStream
from b2b_payments._walk.walk import Walk
from b2b_payments.export._account import Account, account_page
from b2b_payments.export._pages import BATCH_ROWS, PageBatch
from b2b_payments.export._placed import TableSink
from b2b_payments.export._sink import Checkpoint, Sink
from b2b_payments.export._worker import Worker

OnProgress = Callable[[WalkReport], object]
"""Called with the walk's report after each page."""
Source = Walk | PaymentStream

_GRACE = 2.0
"""Seconds that closing the sink may wait for an object store after an error or cancellation."""

_VERSION = 1
_NO_FILTERS: Mapping[str, Any] = {}


async def export(
    source: Source,
    sink: Sink,
    *,
    query: Mapping[str, Any] = _NO_FILTERS,
    on_progress: OnProgress | None = None,
) -> WalkReport:
    """Write all payments of a walk or a stream to a sink. Returns the walk's report::

        report = await export(client.payments.list(), sink_for("payments.parquet"))

    The sink writes about 2,000 payments at a time in a worker thread, while a few more pages are fetched. An
    export that is not proven complete (`report.complete`) does not replace one that may be: it is written
    next to it, and `sink.instead` is its path. `query` holds the walk's filters as plain JSON, for the
    manifest. `on_progress` is called with the report after each page.

    Raises what the walk and the sink raise. After an error or a cancellation, the sink is closed as not
    complete, and `resume` can continue the export.
    """
    check("source", source, Source, "a walk or a stream, such as client.payments.list()")
    return await _run(lambda _: source, sink, query, on_progress, start_over=True)


async def resume(
    begin: Callable[[Checkpoint | None], Source],
    sink: Sink,
    *,
    query: Mapping[str, Any] = _NO_FILTERS,
    on_progress: OnProgress | None = None,
) -> WalkReport:
    """Resume an interrupted export after the last batch that its sink committed, or start a new one.

    `begin` is called with the walk's checkpoint, or None if nothing was committed, and returns the walk::

        await resume(lambda checkpoint: client.payments.list(checkpoint=checkpoint), sink)

    If the walk had already ended, `begin` is not called. Otherwise like `export`; the report covers only the
    resumed part. Also raises ConfigurationError if the interrupted export had another `query` or store, or if
    `begin` ignores the checkpoint.
    """
    expected = "a function that takes a checkpoint and returns a walk"
    check("begin", begin, Callable, expected)
    return await _run(begin, sink, query, on_progress, start_over=False)


async def _run(
    begin: Callable[[Checkpoint | None], Source],
    sink: Sink,
    query: Mapping[str, Any],
    on_progress: OnProgress | None,
    *,
    start_over: bool,
) -> WalkReport:
    check("sink", sink, Sink, "a sink, such as sink_for('payments.jsonl')")
    check("query", query, Mapping, "a dict of the filters, for the manifest")
    check("on_progress", on_progress, Callable | None, "a function of one argument, the walk's report")
    worker = Worker(sink)
    try:
        checkpoint = await worker.do(sink.open if start_over else sink.resume)
        account, walk, finished = Account(query), None, False
        if checkpoint is not None:
            account, walk, finished = _resumed(checkpoint, query)
        if finished:
            report = WalkReport(complete=account.complete, ending="all payments were exported already")
        else:
            progress = _Progress(sink, account, walk)
            source = begin(walk)
            _check_start(source, walk)
            decoded = leave_undecoded if isinstance(sink, TableSink) else account_page
            async with aclosing(source.joined(decoded=decoded)) as pages:
                async for page in pages:
                    progress.add(page)
                    if progress.batch.is_full(BATCH_ROWS):
                        await worker.do(progress.commit, source.report)
                    if on_progress is not None:
                        on_progress(source.report)
            report = source.report
            await worker.do(progress.commit, report, last=True)
        await worker.close(complete=True)
    except BaseException:
        with anyio.move_on_after(_GRACE, shield=True):
            await worker.close(complete=False)
        raise
    return report


def _check_start(source: Source, checkpoint: Checkpoint | None) -> None:
    if checkpoint is not None and (start := source.checkpoint()) != checkpoint:
        if checkpoint.get("version") != start["version"]:  # walks read older ones, but write them differently
            raise _other_version(start["version"])
        raise ConfigurationError(
            "begin returned a walk that does not start at the checkpoint, so payments would be repeated or "
            "missing: pass it on, with the same channels, as in client.payments.list(checkpoint=checkpoint)."
        )


def _resumed(checkpoint: Checkpoint, query: Mapping[str, Any]) -> tuple[Account, dict[str, Any] | None, bool]:
    """Return the account so far, the walk's checkpoint, and whether the walk had already ended.

    Raises ConfigurationError for another version or query, otherwise ExportError.
    """
    if checkpoint.get("version") != _VERSION:
        raise _other_version(_VERSION)
    try:
        packed = msgspec.convert(checkpoint, _Packed)
        account = Account.unpack(packed.account)
        is_damaged = account.sums.whole.rows and packed.walk is None and not packed.finished
    except ValueError:
        is_damaged = True
    if is_damaged:
        raise ExportError(
            "The export's checkpoint is damaged: start again without resuming.", resumable=False
        )
    if account.query != query:
        raise ConfigurationError(
            f"The interrupted export had other filters: {_differences(account.query, query)}. "
            "Resume it with the same filters, or start again without resuming."
        )
    return account, packed.walk, packed.finished


def _other_version(version: int) -> ConfigurationError:
    return ConfigurationError(
        f"The interrupted export's checkpoint is not of version {version}: start again without resuming."
    )


class _Packed(msgspec.Struct):
    """The fields of a checkpoint that `_Progress` wrote; its `version` is checked before."""

    finished: bool
    walk: dict[str, Any] | None
    account: dict[str, Any]


class _Progress:
    """The `batch` of payments not yet written, and the account of everything committed."""

    def __init__(self, sink: Sink, account: Account, walk: Checkpoint | None) -> None:
        self._sink = sink
        self._account, self._walk = account, walk
        self._requests, self._gaps, self._store_hash = account.requests, account.gaps, account.store_hash
        self.batch: PageBatch = PageBatch()

    def add(self, page: JoinedPage) -> None:
        self.batch.add(page)
        self._walk = page.checkpoint

    def commit(self, report: WalkReport, *, last: bool = False) -> None:
        """Write the batch, and commit it with the walk's checkpoint and the account.

        Raises ConfigurationError if the payments belong to another store than the interrupted export.
        """
        batch, self.batch = self.batch, PageBatch()
        account = self._account
        if batch:
            self._check_store(batch.store_hash)
            account.store_hash = account.store_hash or batch.store_hash
            self._sink.write(batch)
        account.sums.add(batch.entries())
        account.requests = self._requests + report.requests
        account.gaps = self._gaps + report.gaps
        if last:
            account.end(complete=report.complete)
        self._sink.commit(
            {"version": _VERSION, "finished": last, "walk": self._walk, "account": account.pack()}
        )

    def _check_store(self, store_hash: str | None) -> None:
        known = self._store_hash
        if known and store_hash and known != store_hash:
            raise ConfigurationError(
                f"The interrupted export is of the store {known!r}, but the service returned payments of "
                f"{store_hash!r}: resume it with a credential of {known!r}."
            )


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return ", ".join(f"{name} was {_shown(before, name)} and is now {_shown(now, name)}" for name in names)


def _shown(query: Mapping[str, Any], name: str) -> str:
    return shown(query[name]) if name in query else "not set"
