"""The work for one of many stores, such as its export. Progress and errors go into a report."""

from __future__ import annotations

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


class Work:
    """The work for one store.

    `on_report` is called with a report at the start, on progress and at the end, also if cancelled.
    """

    def __init__(self, store: Store, path: str, on_report: OnReport, on_event: OnEvent) -> None:
        self.pace: Pace = Pace(store.quota or Quota())
        self.rows: Callable[[], int] = lambda: 0
        """Returns the number of payments kept so far."""
        self.is_resumable: Callable[[], bool] = lambda: False
        """Returns whether something was kept from which the work can be resumed."""
        self._store = store
        self._on_report = on_report
        self._on_event = on_event
        self._began = monotonic()
        self._report = StoreReport(store.name, path, StoreState.RUNNING)

    async def run(self, work: Callable[[PaymentsClient], Awaitable[None]]) -> StoreReport:
        """Do the work, which records its outcome with `update`.

        An error goes into the report and is not raised, so that other stores continue.
        """
        self._on_report(self._report)
        # This state remains if the work is cancelled.
        self.update(state=StoreState.STOPPED)
        try:
            async with self._store.client(self._on_client_event) as client:
                await work(client)
        except Exception as error:  # noqa: BLE001 - recorded in the report
            self.update(state=StoreState.FAILED, error=error)
        finally:
            resumable = False
            if self._report.state in {StoreState.FAILED, StoreState.STOPPED}:
                with anyio.move_on_after(STOP_TIMEOUT, shield=True):
                    resumable = await to_thread.run_sync(self.is_resumable)
            else:
                resumable = self.is_resumable()
            self.update(seconds=monotonic() - self._began, resumable=resumable)
            self._on_report(self._report)
        return self._report

    def update(self, **changes: Any) -> None:
        """Update the report: its counts, and these fields."""
        pace = self.pace.reading()
        self._report = attrs.evolve(
            self._report, pace=pace, requests=pace.requests, rows=self.rows(), **changes
        )

    def advance(self, report: WalkReport) -> None:
        self.pace.advance(report)
        self.update()
        self._on_report(
            attrs.evolve(self._report, state=StoreState.RUNNING, seconds=monotonic() - self._began)
        )

    def _on_client_event(self, event: Event) -> None:
        self.pace.listen(event)
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
        work = Work(self.store, self.path, on_report, on_event)

        async def export_store(client: PaymentsClient) -> None:
            selection, into = self.store_selection, sink or self.sink()
            work.rows, work.is_resumable = lambda: into.rows, lambda: into.kept
            begin_walk = await selection.source(client)

            def begin(checkpoint: Checkpoint | None) -> Walk | PaymentStream:
                work.pace.before = into.rows
                return begin_walk(checkpoint)

            if self.resume:
                report = await resume(begin, into, query=selection.manifest, on_progress=work.advance)
            else:
                report = await export(begin(None), into, query=selection.manifest, on_progress=work.advance)
            # Updated before the client closes: the file exists even if closing fails or is cancelled.
            work.update(
                state=StoreState.COMPLETE if report.complete else StoreState.NOT_COMPLETE,
                ending=report.ending or "",
                instead=None if into.instead is None else str(into.instead),
            )

        return await work.run(export_store)


async def do_all(works: Iterable[Callable[[], Awaitable[object]]], at_once: int) -> None:
    """Start all of these in order, at most `at_once` at a time."""
    remaining = iter(works)

    async def work() -> None:
        for start in remaining:
            await start()

    async with anyio.create_task_group() as group:
        for _ in range(at_once):
            group.start_soon(work)
