"""From a walk into a sink."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any

import anyio
import msgspec

from b2b_payments._arguments import check
from b2b_payments._errors import ConfigurationError, ExportError
from b2b_payments._printable import frozen
from b2b_payments._protocol.listing import not_decoded
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
"""What is called with the walk's report after each page."""
Source = Walk | PaymentStream

_GRACE = 2.0
"""Seconds for what an object store still has to be asked, where an export does not end as it should."""

_VERSION = 1
_NOTHING_ASKED: Mapping[str, Any] = {}


async def export(
    source: Source,
    sink: Sink,
    *,
    query: Mapping[str, Any] = _NOTHING_ASKED,
    on_progress: OnProgress | None = None,
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
    on_progress: OnProgress | None = None,
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
    on_progress: OnProgress | None,
    *,
    anew: bool,
) -> WalkReport:
    check("sink", sink, Sink, "a sink, such as sink_for('payments.jsonl')")
    check("query", query, Mapping, "what was asked for as a dict, for the manifest")
    check("on_progress", on_progress, Callable | None, "a function of one argument, the walk's report")
    worker = Worker(sink)
    try:
        earlier = await worker.do(sink.open if anew else sink.resume)
        kept = _Kept(Account(query)) if earlier is None else _kept_of(earlier, query)
        if kept.finished:
            report = WalkReport(complete=kept.account.complete, ending="all of it was there already")
        else:
            progress = _Progress(sink, kept)
            source = begin(kept.walk)
            decoded = not_decoded if isinstance(sink, TableSink) else account_page
            async with aclosing(source.joined(decoded=decoded)) as pages:
                async for page in pages:
                    progress.take(page)
                    if progress.held.is_full(BATCH_ROWS):
                        await worker.do(progress.keep, source.report)
                    if on_progress is not None:
                        on_progress(source.report)
            report = source.report
            await worker.do(progress.keep, report, last=True)
        await worker.close(complete=True)
    except BaseException:
        with anyio.move_on_after(_GRACE, shield=True):
            await worker.close(complete=False)
        raise
    return report


@frozen
class _Kept:
    """What was kept so far: its account, where the walk goes on, and whether that is at its end."""

    account: Account
    walk: Checkpoint | None = None
    finished: bool = False


def _kept_of(earlier: Checkpoint, query: Mapping[str, Any]) -> _Kept:
    """Read a checkpoint. Raises ConfigurationError for that of another version or query, else ExportError."""
    if earlier.get("version") != _VERSION:
        raise ConfigurationError(
            f"What was kept of the export is not of version {_VERSION}: start again, without resuming."
        )
    try:
        packed = msgspec.convert(earlier, _Packed)
        account = Account.unpack(packed.account)
    except ValueError:
        raise ExportError("What was kept of the export is damaged: start again, without resuming.") from None
    if account.query != query:
        raise ConfigurationError(
            f"The export that was interrupted asked otherwise: {_differences(account.query, query)}. "
            "Resume it with the same filters, or start again, without resuming."
        )
    return _Kept(account, packed.walk, packed.finished)


class _Packed(msgspec.Struct):
    """A checkpoint of this module's."""

    finished: bool
    walk: dict[str, Any] | None
    account: dict[str, Any]


class _Progress:
    """What has come and is `held`, not yet kept, and the account of what is."""

    def __init__(self, sink: Sink, kept: _Kept) -> None:
        self._sink = sink
        self._account, self._walk = kept.account, kept.walk
        self._requests, self._gaps = kept.account.requests, kept.account.gaps
        self._store_hash = kept.account.store_hash
        self.held: PageBatch = PageBatch()

    def take(self, page: JoinedPage) -> None:
        """Hold what is new in a page."""
        self.held.add(page)
        self._walk = page.checkpoint

    def keep(self, report: WalkReport, *, last: bool = False) -> None:
        """Write what is held, and commit it with the walk's checkpoint and the account.

        Raises ConfigurationError for payments of another store than those of an interrupted export.
        """
        batch, self.held = self.held, PageBatch()
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
                f"The export that was interrupted is of the store {known!r}, and the payments that came are "
                f"those of {store_hash!r}: resume it with a credential of {known!r}."
            )


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say which filters differ, and in what."""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return ", ".join(f"{name} was {_given(before, name)}, and is {_given(now, name)}" for name in names)


def _given(query: Mapping[str, Any], name: str) -> str:
    return repr(query[name]) if name in query else "not given"
