"""The export of one store among many, wherever it runs."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

import attrs

from b2b_payments._printable import frozen
from b2b_payments._quota import Quota
from b2b_payments._walk.report import WalkReport
from b2b_payments.events import Event
from b2b_payments.export._export import export, resume
from b2b_payments.export._formats import sink_for
from b2b_payments.export._kept import KeptSink
from b2b_payments.export._pace import Pace
from b2b_payments.export._selection import Selection
from b2b_payments.export._sink import PlacedSink
from b2b_payments.export._stores.report import StoreReport, StoreState
from b2b_payments.export._stores.store import Store

Tell = Callable[[StoreReport], object]
Listener = Callable[[str, Event], object]


@frozen
class Job:
    """What is to be done for one store. It holds no token that it was not given with the store."""

    store: Store
    path: str
    format: str
    selection: Selection
    resume: bool

    @property
    def query(self) -> Selection:
        """What is asked of this store: of its channels alone, where it names some."""
        asked = attrs.evolve(self.selection.query, channel_ids=self.store.channel_ids)
        return attrs.evolve(self.selection, query=asked)

    def sink(self) -> PlacedSink:
        """Give what it writes to. Raises ConfigurationError for a file that cannot be written."""
        return sink_for(self.format, self.path)

    def forget(self) -> None:
        """Remove what an interrupted export has left. Raises ExportError."""
        sink = self.sink()
        try:
            sink.open()
        finally:
            sink.close(complete=False)

    async def run(self, tell: Tell, listen: Listener) -> StoreReport:
        """Export the store; what it fails with is in the report, and does not stop others.

        `tell` is given a report whenever there is news, the last one even where this is cancelled.
        """
        return await _Export(self, tell, listen).run()


class _Export:
    def __init__(self, job: Job, tell: Tell, listen: Listener) -> None:
        self._job = job
        self._tell = tell
        self._listen = listen
        self._pace = Pace(job.store.quota or Quota())
        self._began = monotonic()
        self._kept: KeptSink | None = None
        self._report = StoreReport(job.store.name, job.path, StoreState.RUNNING)

    async def run(self) -> StoreReport:
        self._tell(self._report)
        # What is left where this is cancelled.
        self._note(state=StoreState.STOPPED)
        try:
            self._kept = KeptSink(self._job.sink(), self._resumed)
            await self._export(self._kept)
        except Exception as error:  # noqa: BLE001 - the other stores go on, and whoever reads the report sees it
            self._note(state=StoreState.FAILED, error=error)
        finally:
            self._note(
                resumable=self._kept is not None and self._kept.kept, seconds=monotonic() - self._began
            )
            self._tell(self._report)
        return self._report

    async def _export(self, sink: KeptSink) -> None:
        selection = self._job.query
        async with self._job.store.client(self._hear) as client:
            begin = await selection.source(client)
            if self._job.resume:
                report = await resume(begin, sink, query=selection.manifest, on_progress=self._advance)
            else:
                report = await export(begin(None), sink, query=selection.manifest, on_progress=self._advance)
            # Now, while the client is open: whatever stops this at its closing, the file is there.
            self._note(
                state=StoreState.COMPLETE if report.complete else StoreState.NOT_COMPLETE,
                ending=report.ending or "",
                instead=None if sink.instead is None else str(sink.instead),
            )

    def _hear(self, event: Event) -> None:
        self._pace.listen(event)
        self._listen(self._report.name, event)

    def _resumed(self, rows: int) -> None:
        self._pace.before = rows

    def _advance(self, report: WalkReport) -> None:
        self._pace.advance(report)
        self._note()
        self._tell(attrs.evolve(self._report, state=StoreState.RUNNING, seconds=monotonic() - self._began))

    def _note(self, **changes: Any) -> None:
        pace, rows = self._pace.reading(), 0 if self._kept is None else self._kept.rows
        self._report = attrs.evolve(self._report, pace=pace, requests=pace.requests, rows=rows, **changes)
