"""`export_stores`: exports many stores, several at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import datetime
from functools import partial

import anyio
from anyio import to_thread

from b2b_payments._errors import ExportError
from b2b_payments._protocol.query import PaymentQuery
from b2b_payments._walk.period import Period
from b2b_payments.export._file import PathLike
from b2b_payments.export._location import location_of
from b2b_payments.export._selection import Selection
from b2b_payments.export._stores.cluster import LOCAL, DaskClient, check_sendable, export_on
from b2b_payments.export._stores.limits import checked_at_once, fitting_with_warning
from b2b_payments.export._stores.places import places_of
from b2b_payments.export._stores.report import StoreReport, StoresReport, StoreState
from b2b_payments.export._stores.run import Run, open_run
from b2b_payments.export._stores.store import Store, refuse_duplicates
from b2b_payments.export._stores.work import STOP_TIMEOUT, Job, OnEvent, OnReport, do_all
from b2b_payments.export._worker import in_threads


async def export_stores(
    stores: Iterable[Store],
    output: PathLike,
    *,
    format: str | None = None,  # noqa: A002 - a public name
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
    on_progress: OnReport = lambda _: None,
    on_event: OnEvent = lambda _name, _event: None,
) -> StoresReport:
    """Export each store into its own file, up to `at_once` stores at the same time, and report each outcome.

    Fewer run at once if this process may not open enough files or has too little memory; a warning in the
    log says so.

    `output` is a folder, or a path that contains ``{name}``. Each store has its own quota. An error of one
    store is recorded in its report and does not stop the others. The filters apply to all stores, including
    `created_from` and `created_to`, which work as in `client.payments.list`.

    An interrupted run leaves a hidden run file in the folder. With `resume`, unfinished exports are resumed,
    and stores that the run had finished are skipped. `run` names that file: runs that share a folder at the
    same time need different names; None means no run file.

    `dask` is a scheduler's address or a `distributed.Client` (extra ``dask``). The cluster's workers then
    export `at_once` stores each, into a folder that all of them share; if a worker dies, another one resumes
    its stores after the last commit.
    ``"local"`` starts `workers` processes on this machine. Tokens are not sent to workers: use
    `TokenFromEnv`, or an async callable that the workers can import. With `dask`, a quota that does not
    say how it is shared is shared by all processes of a machine.

    `on_progress` is called with a store's report: first with its initial state, then after each page, and at
    its end, even if the run is cancelled. `on_event` is called with a store's name and each event of its
    client, but not for clients in other processes.

    Raises ConfigurationError before anything is sent if the arguments cannot work, such as a token that is
    not set or two stores that would write the same file. Raises ExportError if another run of this name is
    in progress.
    """
    all_stores = tuple(stores)
    query = PaymentQuery(
        processing_status=processing_status, customer_name=customer_name, q=q, search_by=search_by
    )
    selection = Selection(query, page_size, concurrency, Period(created_from, created_to))
    places = places_of(output, format)
    refuse_duplicates(all_stores)
    if dask is not None:
        check_sendable(all_stores)
        places = places.absolute  # a worker may have been started in another folder
    local = dask is None or dask == LOCAL
    if local:
        # Two variables may hold the same token.
        refuse_duplicates([store.with_token() for store in all_stores])
    places.refuse_shared_files(all_stores)
    fit = fitting_with_warning(at_once, concurrency, len(all_stores)) if local else checked_at_once(at_once)
    places.make_folders(all_stores)
    jobs = [Job(store, places.of(store), places.format, selection, resume) for store in all_stores]
    # Made before anything is sent: an unwritable file is an error now.
    sinks = {job.store.name: job.sink() for job in jobs}
    reports: dict[str, StoreReport] = {}

    def record(report: StoreReport) -> None:
        reports[report.name] = report
        on_progress(report)

    async with AsyncExitStack() as stack:
        current_run = None
        if run is not None:
            current_run = await stack.enter_async_context(open_run(all_stores, places, run, resume=resume))
        unfinished = await _unfinished(jobs, current_run, record)
        try:
            if dask is None:
                works = (partial(job.run, record, on_event, sinks.pop(job.store.name)) for job in unfinished)
                await do_all(works, fit.stores)
            else:
                sinks.clear()
                if not resume:
                    # Tasks always resume, on any worker, so older interrupted exports are removed first.
                    await in_threads(lambda job: location_of(job.path).clean(), unfinished)
                await export_on(dask, workers, unfinished, fit.stores, record)
        except BaseException:
            # If no store is complete, a resumed run has nothing to skip; if all are, the run is over.
            if current_run is not None and len({report.complete for report in reports.values()}) == 1:
                with anyio.move_on_after(STOP_TIMEOUT, shield=True), suppress(ExportError):
                    await to_thread.run_sync(current_run.end)
            raise
        if current_run is not None:
            await to_thread.run_sync(current_run.end)
    return StoresReport(tuple(reports[store.name] for store in all_stores))


async def _unfinished(jobs: Sequence[Job], current_run: Run | None, record: OnReport) -> Sequence[Job]:
    """Return the jobs that the resumed run had not finished, and report the state of all."""

    def finished(job: Job) -> int | None:
        return None if current_run is None else current_run.finished(job.store, job.store_selection.manifest)

    unfinished = []
    for job, rows in zip(jobs, await in_threads(finished, jobs), strict=True):
        if rows is None:
            unfinished.append(job)
            record(job.report())
        else:
            record(job.report(StoreState.ALREADY_COMPLETE, rows=rows))
    return unfinished
