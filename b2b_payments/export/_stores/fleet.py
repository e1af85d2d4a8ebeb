"""The exports of many stores, so many at once."""

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
from b2b_payments.export._selection import Selection
from b2b_payments.export._stores.cluster import LOCAL, DaskClient, check_travelling, export_on
from b2b_payments.export._stores.limits import asked, limited
from b2b_payments.export._stores.places import places_of
from b2b_payments.export._stores.report import StoreReport, StoresReport, StoreState
from b2b_payments.export._stores.run import Run, run_over
from b2b_payments.export._stores.store import Store, refuse_twice
from b2b_payments.export._stores.work import ASKED_FOR, Job, Listener, Tell, do_all
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

    `dask` is the address of a scheduler or a `distributed.Client` (extra ``dask``): then the cluster's
    workers export `at_once` each, into the folder that all share; where one dies, another goes on behind the
    last commit.
    ``"local"`` starts `workers` processes on this machine. Tokens are not sent: they are a `TokenFromEnv`, or
    an async callable that the workers can import. A store's quota that does not say how it is shared is then
    shared by the processes of a machine.

    `on_progress` is called with a store's report: as it stands at first, after each page, and at its end,
    even where the run is cancelled. `on_event` is called with a store's name and each event of its client,
    not with those of other processes.

    Raises ConfigurationError for what cannot work before anything is sent: a token that is not there, two
    stores that would write one file. Raises ExportError where another run of this name is under way.
    """
    given = tuple(stores)
    query = PaymentQuery(
        processing_status=processing_status, customer_name=customer_name, q=q, search_by=search_by
    )
    selection = Selection(query, page_size, concurrency, Period(created_from, created_to))
    places = places_of(output, format)
    refuse_twice(given)
    if dask is not None:
        check_travelling(given)
    here = dask is None or dask == LOCAL
    if here:
        # Two tokens in two variables may be one and the same.
        refuse_twice([store.with_token() for store in given])
    places.refuse_one_file(given)
    fit = limited(at_once, concurrency, len(given)) if here else asked(at_once)
    places.make_folders(given)
    jobs = [Job(store, places.of(store), places.format, selection, resume) for store in given]
    # First of all: nothing is sent where a file cannot be written.
    sinks = {job.store.name: job.sink() for job in jobs}
    reports: dict[str, StoreReport] = {}

    def take(report: StoreReport) -> None:
        reports[report.name] = report
        on_progress(report)

    async with AsyncExitStack() as stack:
        note = None
        if run is not None:
            note = await stack.enter_async_context(run_over(given, places, run, resume=resume))
        left = await _left(jobs, note, take)
        try:
            if dask is None:
                works = (partial(job.run, take, on_event, sinks.pop(job.store.name)) for job in left)
                await do_all(works, fit.stores)
            else:
                sinks.clear()
                if not resume:
                    # Tasks resume, whichever worker they come to: so nothing older may be there.
                    await in_threads(Job.forget, left)
                await export_on(dask, workers, left, fit.stores, take)
        except BaseException:
            # Where nothing is finished, there is nothing to be left alone by whoever goes on.
            if note is not None and len({report.complete for report in reports.values()}) == 1:
                with anyio.move_on_after(ASKED_FOR, shield=True), suppress(ExportError):
                    await to_thread.run_sync(note.end)
            raise
        if note is not None:
            await to_thread.run_sync(note.end)
    return StoresReport(tuple(reports[store.name] for store in given))


async def _left(jobs: Sequence[Job], note: Run | None, take: Tell) -> Sequence[Job]:
    """Return what a run that is resumed had not finished."""

    def finished(job: Job) -> int | None:
        return None if note is None else note.finished(job.store, job.query.manifest)

    left = []
    for job, rows in zip(jobs, await in_threads(finished, jobs), strict=True):
        if rows is None:
            left.append(job)
            take(job.report())
        else:
            take(job.report(StoreState.ALREADY_COMPLETE, rows=rows))
    return left
