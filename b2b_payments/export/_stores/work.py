"""The work for one store among many, such as its export: how it goes, and what it fails with, as a report."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from time import monotonic
from typing import Any

import anyio
import attrs
from anyio import to_thread

from b2b_payments._client import PaymentsClient
from b2b_payments._printable import frozen
from b2b_payments._quota import Quota
from b2b_payments._walk.report import WalkReport
from b2b_payments._walk.stream import PaymentStream
from b2b_payments._walk.walk import Walk
from b2b_payments.events import Event
from b2b_payments.export._bucket import is_url
from b2b_payments.export._export import export, resume
from b2b_payments.export._pace import Pace
from b2b_payments.export._placed import PlacedSink, sink_for
from b2b_payments.export._selection import Selection
from b2b_payments.export._sink import Checkpoint
from b2b_payments.export._stores.report import StoreReport, StoreState
from b2b_payments.export._stores.store import Store

ASKED_FOR = 2.0
"""Seconds for which an object store is asked what is left of an export that was stopped."""
Tell = Callable[[StoreReport], object]
Listener = Callable[[str, Event], object]


class Work(ABC):
    """The work for one store, told of while it goes on.

    `tell` is given a report whenever there is news, the last one even where it is cancelled.
    """

    @property
    @abstractmethod
    def rows(self) -> int:
        """The payments that are kept."""

    @property
    @abstractmethod
    def resumable(self) -> bool:
        """Whether something is kept to go on with."""

    def __init__(self, store: Store, path: str, tell: Tell, listen: Listener) -> None:
        self._store = store
        self._tell = tell
        self._listen = listen
        self._pace = Pace(store.quota or Quota())
        self._began = monotonic()
        self._report = StoreReport(store.name, path, StoreState.RUNNING)

    @abstractmethod
    async def work(self, client: PaymentsClient) -> None:
        """Do it, and note what came of it."""

    async def run(self) -> StoreReport:
        """Do it; what it fails with is in the report, and does not stop others."""
        self._tell(self._report)
        # What is left where this is cancelled.
        self.note(state=StoreState.STOPPED)
        try:
            async with self._store.client(self._hear) as client:
                await self.work(client)
        except Exception as error:  # noqa: BLE001 - the others go on, and whoever reads the report sees it
            self.note(state=StoreState.FAILED, error=error)
        finally:
            resumable = False
            if self._report.state in {StoreState.FAILED, StoreState.STOPPED}:
                with anyio.move_on_after(ASKED_FOR, shield=True):
                    resumable = await to_thread.run_sync(lambda: self.resumable)
            else:
                resumable = self.resumable
            self.note(seconds=monotonic() - self._began, resumable=resumable)
            self._tell(self._report)
        return self._report

    def note(self, **changes: Any) -> None:
        """Note what the report is to say."""
        pace = self._pace.reading()
        self._report = attrs.evolve(
            self._report, pace=pace, requests=pace.requests, rows=self.rows, **changes
        )

    def resumed(self, rows: int) -> None:
        """Take in how many payments an interrupted export had kept."""
        self._pace.before = rows

    def advance(self, report: WalkReport) -> None:
        """Take in how far the walk is."""
        self._pace.advance(report)
        self.note()
        self._tell(attrs.evolve(self._report, state=StoreState.RUNNING, seconds=monotonic() - self._began))

    def _hear(self, event: Event) -> None:
        self._pace.listen(event)
        self._listen(self._report.name, event)


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
        """Return a report of it."""
        return StoreReport(self.store.name, self.path, state, **rest)

    def sink(self) -> PlacedSink:
        """Return what it writes to. Raises ConfigurationError for a file that cannot be written."""
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


async def do_all(works: Iterable[Callable[[], Awaitable[object]]], at_once: int) -> None:
    """Do all of these, so many at once, in their order."""
    left = iter(works)

    async def work() -> None:
        for one in left:
            await one()

    async with anyio.create_task_group() as group:
        for _ in range(at_once):
            group.start_soon(work)
