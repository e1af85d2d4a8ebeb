"""The work for one of many stores, such as its export. Progress and errors go into a report."""

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
from b2b_payments.export._export import export, resume
from b2b_payments.export._pace import Pace
from b2b_payments.export._placed import PlacedSink, sink_for
from b2b_payments.export._selection import Selection
from b2b_payments.export._sink import Checkpoint
from b2b_payments.export._stores.report import StoreReport, StoreState
from b2b_payments.export._stores.store import Store

STOP_TIMEOUT = 2.0
"""Seconds a stopped run may spend on asking an object store what was kept, or on removing the run file."""
OnReport = Callable[[StoreReport], object]
OnEvent = Callable[[str, Event], object]


class Work(ABC):
    """The work for one store.

    `on_report` is called with a report at the start, on progress and at the end, also if cancelled.
    """

    @property
    @abstractmethod
    def rows(self) -> int:
        """The number of payments kept so far."""

    @property
    @abstractmethod
    def resumable(self) -> bool:
        """Whether something was kept from which the work can be resumed."""

    def __init__(self, store: Store, path: str, on_report: OnReport, on_event: OnEvent) -> None:
        self._store = store
        self._on_report = on_report
        self._on_event = on_event
        self._pace = Pace(store.quota or Quota())
        self._began = monotonic()
        self._report = StoreReport(store.name, path, StoreState.RUNNING)

    @abstractmethod
    async def work(self, client: PaymentsClient) -> None:
        """Do the work, and record its outcome with `update`."""

    async def run(self) -> StoreReport:
        """Do the work. An error goes into the report and is not raised, so that other stores continue."""
        self._on_report(self._report)
        # This state remains if the work is cancelled.
        self.update(state=StoreState.STOPPED)
        try:
            async with self._store.client(self._on_client_event) as client:
                await self.work(client)
        except Exception as error:  # noqa: BLE001 - recorded in the report
            self.update(state=StoreState.FAILED, error=error)
        finally:
            resumable = False
            if self._report.state in {StoreState.FAILED, StoreState.STOPPED}:
                with anyio.move_on_after(STOP_TIMEOUT, shield=True):
                    resumable = await to_thread.run_sync(lambda: self.resumable)
            else:
                resumable = self.resumable
            self.update(seconds=monotonic() - self._began, resumable=resumable)
            self._on_report(self._report)
        return self._report

    def update(self, **changes: Any) -> None:
        """Update the report: its counts, and these fields."""
        pace = self._pace.reading()
        self._report = attrs.evolve(
            self._report, pace=pace, requests=pace.requests, rows=self.rows, **changes
        )

    def advance(self, report: WalkReport) -> None:
        self._pace.advance(report)
        self.update()
        self._on_report(
            attrs.evolve(self._report, state=StoreState.RUNNING, seconds=monotonic() - self._began)
        )

    def _on_client_event(self, event: Event) -> None:
        self._pace.listen(event)
        self._on_event(self._report.name, event)


@frozen
class Job:
    """The export of one store. It holds no token beyond what its `store` holds."""

    store: Store
    path: str
    format: str
    selection: Selection
    resume: bool

    @property
    def store_selection(self) -> Selection:
        """The selection for this store, limited to its channels if it names any."""
        query = attrs.evolve(self.selection.query, channel_ids=self.store.channel_ids)
        return attrs.evolve(self.selection, query=query)

    def report(self, state: StoreState = StoreState.NOT_BEGUN, **rest: Any) -> StoreReport:
        return StoreReport(self.store.name, self.path, state, **rest)

    def sink(self) -> PlacedSink:
        """Make the sink. Raises ConfigurationError for a file that cannot be written."""
        return sink_for(self.path, self.format)

    def is_resumable(self) -> bool:
        """Whether an interrupted export left something that can be resumed."""
        return self.sink().kept

    async def run(
        self, on_report: OnReport, on_event: OnEvent, sink: PlacedSink | None = None
    ) -> StoreReport:
        """Export the store into `sink`, or into a new sink. An error is recorded in the report."""
        return await _Export(self, on_report, on_event, sink).run()


class _Export(Work):
    def __init__(self, job: Job, on_report: OnReport, on_event: OnEvent, sink: PlacedSink | None) -> None:
        super().__init__(job.store, job.path, on_report, on_event)
        self._job = job
        self._ready_sink = sink
        self._sink: PlacedSink | None = None

    @property
    def rows(self) -> int:
        return 0 if self._sink is None else self._sink.rows

    @property
    def resumable(self) -> bool:
        return self._sink is not None and self._sink.kept

    async def work(self, client: PaymentsClient) -> None:
        selection = self._job.store_selection
        sink = self._sink = self._ready_sink or self._job.sink()
        begin_walk = await selection.source(client)

        def begin(checkpoint: Checkpoint | None) -> Walk | PaymentStream:
            self._pace.before = sink.rows
            return begin_walk(checkpoint)

        if self._job.resume:
            report = await resume(begin, sink, query=selection.manifest, on_progress=self.advance)
        else:
            report = await export(begin(None), sink, query=selection.manifest, on_progress=self.advance)
        # Updated before the client closes: the file exists even if closing fails or is cancelled.
        self.update(
            state=StoreState.COMPLETE if report.complete else StoreState.NOT_COMPLETE,
            ending=report.ending or "",
            instead=None if sink.instead is None else str(sink.instead),
        )


async def do_all(works: Iterable[Callable[[], Awaitable[object]]], at_once: int) -> None:
    """Start all of these in order, at most `at_once` at a time."""
    remaining = iter(works)

    async def work() -> None:
        for start in remaining:
            await start()

    async with anyio.create_task_group() as group:
        for _ in range(at_once):
            group.start_soon(work)
