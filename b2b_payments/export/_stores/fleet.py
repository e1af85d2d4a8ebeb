"""The exports of many stores, so many at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from datetime import datetime
from functools import partial

import attrs
from anyio import to_thread

from b2b_payments._protocol.query import PaymentQuery
from b2b_payments._walk.window import Window
from b2b_payments.events import logger
from b2b_payments.export._file import PathLike
from b2b_payments.export._selection import Selection
from b2b_payments.export._stores.cluster import DaskClient, Workers, check_travelling
from b2b_payments.export._stores.job import Job
from b2b_payments.export._stores.limits import asked, fitting
from b2b_payments.export._stores.places import Places, places_of
from b2b_payments.export._stores.report import StoreReport, StoresReport, StoreState
from b2b_payments.export._stores.run import Run
from b2b_payments.export._stores.store import Store, refuse_twice
from b2b_payments.export._stores.work import Listener, Tell, do_all
from b2b_payments.export._worker import in_threads


async def export_stores(
    stores: Iterable[Store],
    output: PathLike,
    *,
    format: str | None = None,  # noqa: A002 - the name of the public surface
    at_once: int = 8,
    dask: str | DaskClient | None = None,
    workers: int | None = None,
    resume: bool = False,
    run: str | None = "stores",
    processing_status: int | None = None,
    customer_name: str | None = None,
    q: str | None = None,
    search_by: str | None = None,
    page_size: int = 250,
    concurrency: int = 8,
    created_from: datetime | None = None,
    created_to: datetime | None = None,
    on_progress: Tell = lambda _: None,
    on_event: Listener = lambda _name, _event: None,
) -> StoresReport:
    """Export each store into its own file, `at_once` of them at the same time, and say what came of each.

    There are fewer at once where this process may not open enough files, or has not the memory; a warning in
    the log says so.

    `output` is a folder, or a path with ``{name}`` in it. Each store has its own quota, and what one fails
    with stands in its report and does not stop the others. The filters hold for all, `created_from` and
    `created_to` (those of `client.payments.list`) among them.

    A run that was interrupted leaves a hidden note in the folder; `resume` then goes on with what was begun,
    and leaves alone what was finished. `run` is that note's name: runs that share a folder at the same time
    need different ones, and with None there is no note.

    `dask` is the address of a scheduler or a `distributed.Client` (extra ``dask``): then each store is a task
    for the cluster's workers, each of which exports `at_once` at the same time (more, where it has more
    threads) into the folder that all share; where one dies, another goes on behind the last commit.
    ``"local"`` starts `workers` processes on this machine. Tokens are not sent: they are a `TokenFromEnv`, or
    an async callable that the workers can import. A store's quota that does not say how it is shared is then
    shared by the processes of a machine.

    `on_progress` is called with a store's report: as it stands at first, after each page, and at its end,
    even where the run is cancelled. `on_event` is called with a store's name and each event of its client,
    not with those of other processes.

    Raises ConfigurationError for what cannot work before anything is sent: a token that is not there, two
    stores that would write one file. Raises ExportError where another run of this name is under way.
    """
    query = PaymentQuery(
        processing_status=processing_status, customer_name=customer_name, q=q, search_by=search_by
    )
    selection = Selection(query, page_size, concurrency, Window(created_from, created_to))
    places, cluster = places_of(output, format), None if dask is None else Workers(dask, workers)
    fleet = Fleet(tuple(stores), places, selection, cluster, resume=resume)
    return await fleet.export(at_once, run, on_progress, on_event)


class Fleet:
    """Stores, and where the file of each goes.

    Raises ConfigurationError for what cannot work, before anything is made.
    """

    def __init__(
        self,
        stores: Sequence[Store],
        places: Places,
        selection: Selection,
        workers: Workers | None,
        *,
        resume: bool,
    ) -> None:
        refuse_twice(stores)
        if workers is not None:
            check_travelling(stores)
        if workers is None or workers.are_local:
            # Two tokens in two variables may be one and the same.
            refuse_twice([store.with_token() for store in stores])
        places.refuse_one_file(stores)
        self._stores = stores
        self._places = places
        self._jobs = [Job(store, places.of(store), places.format, selection, resume) for store in stores]
        self._concurrency = selection.concurrency
        self._workers = workers
        self._resume = resume
        self._reports: dict[str, StoreReport] = {}
        self._tell: Tell = lambda _: None

    async def export(self, at_once: int, run: str | None, tell: Tell, listen: Listener) -> StoresReport:
        """Export them."""
        here = self._workers is None or self._workers.are_local
        fit = fitting(at_once, self._concurrency) if here else asked(at_once)
        if fit.why and fit.stores < len(self._jobs):
            logger.warning("%d stores at once, not %d: %s", fit.stores, at_once, fit.why)
        self._tell = tell
        self._places.make_folders(self._stores)
        for job in self._jobs:
            # First of all: nothing is sent where a file cannot be written.
            job.sink()
        with ExitStack() as stack:
            note = None
            if run is not None:
                note = Run(run, self._places, self._stores, resume=self._resume)
                await to_thread.run_sync(stack.enter_context, note)
            jobs = await self._left(note)
            try:
                await self._export(jobs, fit.stores, listen)
            finally:
                # Where nothing is finished, there is nothing to be left alone by whoever goes on.
                if note is not None and self._over:
                    note.end()
            if note is not None:
                note.end()
        return self._report

    @property
    def _report(self) -> StoresReport:
        return StoresReport(tuple(self._reports[store.name] for store in self._stores))

    @property
    def _over(self) -> bool:
        complete = sum(report.complete for report in self._reports.values())
        return complete in {0, len(self._reports)}

    async def _left(self, note: Run | None) -> Sequence[Job]:
        """Give what a run that is resumed had not finished."""

        def finished(job: Job) -> int | None:
            return None if note is None else note.finished(job.store, job.query.manifest)

        rows = await to_thread.run_sync(in_threads, finished, self._jobs)
        for job, count in zip(self._jobs, rows, strict=True):
            report = StoreReport(job.store.name, job.path)
            if count is not None:
                report = attrs.evolve(report, state=StoreState.ALREADY_COMPLETE, rows=count)
            self._take(report)
        return [job for job, count in zip(self._jobs, rows, strict=True) if count is None]

    def _take(self, report: StoreReport) -> None:
        self._reports[report.name] = report
        self._tell(report)

    async def _export(self, jobs: Sequence[Job], at_once: int, listen: Listener) -> None:
        if self._workers is not None:
            if not self._resume:
                # Tasks resume, whichever worker they come to: so nothing older may be there.
                await to_thread.run_sync(in_threads, Job.forget, jobs)
            await self._workers.export(jobs, at_once, self._take)
            return
        await do_all((partial(job.run, self._take, listen) for job in jobs), at_once)
