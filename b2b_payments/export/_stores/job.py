"""The export of one store among many, wherever it runs."""

from __future__ import annotations

from typing import Any

import attrs

from b2b_payments._client import PaymentsClient
from b2b_payments._printable import frozen
from b2b_payments._walk.stream import PaymentStream
from b2b_payments._walk.walk import Walk
from b2b_payments.export._bucket import is_url
from b2b_payments.export._export import export, resume
from b2b_payments.export._placed import PlacedSink, sink_for
from b2b_payments.export._selection import Selection
from b2b_payments.export._sink import Checkpoint
from b2b_payments.export._stores.report import StoreReport, StoreState
from b2b_payments.export._stores.store import Store
from b2b_payments.export._stores.work import Listener, Tell, Work


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

    def report(self, state: StoreState = StoreState.NOT_BEGUN, **rest: Any) -> StoreReport:
        """Give a report of it."""
        return StoreReport(self.store.name, self.path, state, **rest)

    def sink(self) -> PlacedSink:
        """Give what it writes to. Raises ConfigurationError for a file that cannot be written."""
        return sink_for(self.path, self.format)

    def is_kept(self) -> bool:
        """Whether an interrupted export has left something to go on with."""
        return self.sink().kept

    def forget(self) -> None:
        """Remove what an interrupted export has left. Raises ExportError."""
        sink = self.sink()
        if is_url(self.path) or sink.kept:
            try:
                sink.open()
            finally:
                sink.close(complete=False)

    async def run(self, tell: Tell, listen: Listener, sink: PlacedSink | None = None) -> StoreReport:
        """Export the store, to a sink of its own if there is one; what it fails with is in the report."""
        return await _Export(self, tell, listen, sink).run()


class _Export(Work):
    def __init__(self, job: Job, tell: Tell, listen: Listener, given: PlacedSink | None) -> None:
        super().__init__(job.store, job.path, tell, listen)
        self._job = job
        self._given = given
        self._sink: PlacedSink | None = None

    @property
    def rows(self) -> int:
        return 0 if self._sink is None else self._sink.rows

    @property
    def resumable(self) -> bool:
        return self._sink is not None and self._sink.kept

    async def work(self, client: PaymentsClient) -> None:
        selection = self._job.query
        sink = self._sink = self._given or self._job.sink()
        begin_walk = await selection.source(client)

        def begin(checkpoint: Checkpoint | None) -> Walk | PaymentStream:
            self.resumed(sink.rows)
            return begin_walk(checkpoint)

        if self._job.resume:
            report = await resume(begin, sink, query=selection.manifest, on_progress=self.advance)
        else:
            report = await export(begin(None), sink, query=selection.manifest, on_progress=self.advance)
        # Now, while the client is open: whatever stops this at its closing, the file is there.
        self.note(
            state=StoreState.COMPLETE if report.complete else StoreState.NOT_COMPLETE,
            ending=report.ending or "",
            instead=None if sink.instead is None else str(sink.instead),
        )
