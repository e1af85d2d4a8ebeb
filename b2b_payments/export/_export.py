"""From a walk into a sink."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any

import anyio
import msgspec

from b2b_payments._arguments import check
from b2b_payments._errors import ConfigurationError, ExportError
from b2b_payments._walk.reader import JoinedPage
from b2b_payments._walk.report import WalkReport
from b2b_payments._walk.stream import PaymentStream
from b2b_payments._walk.walk import Walk
from b2b_payments.export._account import Account, account_page
from b2b_payments.export._pages import PageBatch
from b2b_payments.export._sink import Checkpoint, Sink
from b2b_payments.export._worker import Worker

Listener = Callable[[WalkReport], object]
Source = Walk | PaymentStream

BATCH_ROWS = 2_000
"""Payments that are written and committed at once: what a kill can cost, and a row group of Parquet."""

_MOST_HELD = 32 * 2**20
"""Bytes of pages that wait to be written: many pages may bring few new rows each."""

_GRACE = 2.0
"""Seconds for what an object store still has to be asked, where an export does not end as it should."""

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
    wait where it is slower than they come. An export that is not proven complete (`report.complete`) leaves
    an older one where it is: `sink.instead` then says where it was put. `query` is what was asked for, as
    plain JSON, for the manifest. `on_progress` is called with the report after each page.

    Raises what the walk raises, and what the sink raises. Then, and where the export is cancelled, the sink
    is closed as not complete.
    """
    check("source", source, Source, "a walk or a stream, such as client.payments.list()")
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
    expected = "a function that takes a checkpoint, and gives the walk to go on with"
    check("begin", begin, Callable, expected)
    return await _run(begin, sink, query, on_progress, anew=False)


async def _run(
    begin: Callable[[Checkpoint | None], Source],
    sink: Sink,
    query: Mapping[str, Any],
    on_progress: Listener | None,
    *,
    anew: bool,
) -> WalkReport:
    check("sink", sink, Sink, "a sink, such as sink_for('payments.jsonl')")
    check("query", query, Mapping, "what was asked for as a dict, for the manifest")
    check("on_progress", on_progress, Callable | None, "a function of one argument, the walk's report")
    worker = Worker(sink)
    try:
        earlier = await worker.do(sink.open if anew else sink.resume)
        progress = _Progress.begin(sink, query) if earlier is None else _Progress.go_on(sink, query, earlier)
        if progress.finished:
            report = WalkReport(complete=progress.account.complete, ending="all of it was there already")
        else:
            source = begin(progress.walk)
            async with aclosing(source.joined(decoded=account_page)) as pages:
                async for page in pages:
                    progress.hold(page)
                    if progress.full:
                        await worker.do(partial(progress.keep, source.report))
                    if on_progress is not None:
                        on_progress(source.report)
            report = source.report
            await worker.do(partial(progress.keep, report, last=True))
        await worker.close(complete=True)
    except BaseException:
        with anyio.move_on_after(_GRACE, shield=True):
            await worker.close(complete=False)
        raise
    return report


class _Progress:
    """What has come and is not yet kept, and the account of what is."""

    def __init__(self, sink: Sink, account: Account, walk: Checkpoint | None, *, finished: bool) -> None:
        self._sink = sink
        self._before = account
        self._held: list[JoinedPage] = []
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
                f"What was kept of the export is not of version {_VERSION}: start again, without resuming."
            )
        try:
            kept = msgspec.convert(earlier, _Kept)
            account = Account.unpack(kept.account)
        except ValueError:
            raise ExportError(
                "What was kept of the export is damaged: start again, without resuming."
            ) from None
        if account.query != query:
            raise ConfigurationError(
                f"The export that was interrupted asked otherwise: {_differences(account.query, query)}. "
                "Resume it with the same filters, or start again, without resuming."
            )
        return cls(sink, account, kept.walk, finished=kept.finished)

    @property
    def full(self) -> bool:
        held = self._held
        rows, size = sum(len(page.places) for page in held), sum(len(page.listing.body) for page in held)
        return rows >= BATCH_ROWS or size >= _MOST_HELD

    def hold(self, page: JoinedPage) -> None:
        if page.places:
            self._held.append(page)
        self.walk = page.checkpoint

    def keep(self, report: WalkReport, *, last: bool = False) -> None:
        """Write what is held, and commit it with the walk's checkpoint and the account.

        Raises ConfigurationError for payments of another store than those that came before.
        """
        batch = PageBatch(self._held)
        self._held = []
        if batch:
            self._check_store(batch.store_hash)
            self._sink.write(batch)
        self.account.sums.add(batch.entries())
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

    def _check_store(self, store_hash: str | None) -> None:
        known = self._before.store_hash
        self.account.store_hash = self.account.store_hash or store_hash
        if known and store_hash and known != store_hash:
            raise ConfigurationError(
                f"The export that was interrupted is of the store {known!r}, and the payments that came are "
                f"those of {store_hash!r}: resume it with a credential of {known!r}."
            )


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say which filters differ, and in what."""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return ", ".join(f"{name} was {_given(before, name)}, and is {_given(now, name)}" for name in names)


def _given(query: Mapping[str, Any], name: str) -> str:
    return repr(query[name]) if name in query else "not given"


class _Kept(msgspec.Struct):
    """A checkpoint of this module's."""

    finished: bool
    walk: dict[str, Any] | None
    account: dict[str, Any]
