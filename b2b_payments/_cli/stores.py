"""What `export` does where --stores is given."""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from anyio import sleep

from b2b_payments._cli.command import CommandError, StoppedError, print_json, run, stays
from b2b_payments._cli.connection import Connection
from b2b_payments._cli.options import Fleet, Telling
from b2b_payments._cli.progress import StoresProgress
from b2b_payments._errors import AuthenticationError, B2BPaymentsError
from b2b_payments._printable import printable
from b2b_payments.export import Store, StoreReport, StoresReport, StoreState, export_stores, read_stores
from b2b_payments.export._stores.limits import fitting
from b2b_payments.export._stores.places import places_of
from b2b_payments.sync import sync_stores

if TYPE_CHECKING:
    from b2b_payments.export._selection import Selection


def export(
    connection: Connection,
    asked: Selection,
    telling: Telling,
    fleet: Fleet,
    output: str,
    format_: str | None,
    *,
    resume: bool,
    as_json: bool,
) -> None:
    """Export the stores of a file, and end with a table of what came of each. Raises CommandError.

    A run that ends by itself is over, whatever came of its stores. One that was interrupted leaves a note, by
    which `resume` leaves alone what it had finished. With `only`, there is no run to speak of.
    """

    def begin(stores: Sequence[Store], progress: StoresProgress) -> Awaitable[StoresReport]:
        return export_stores(
            stores,
            output,
            format=format_,
            at_once=fleet.at_once,
            dask=fleet.dask,
            workers=fleet.workers,
            resume=resume,
            run=_run_of(fleet),
            processing_status=asked.query.processing_status,
            customer_name=asked.query.customer_name,
            q=asked.query.q,
            search_by=asked.query.search_by,
            page_size=asked.page_size,
            concurrency=asked.concurrency,
            created_from=asked.period.start,
            created_to=asked.period.stop,
            on_progress=progress.advance,
            on_event=progress.listen,
        )

    again = "To export what is missing, give the same command --resume"
    _run(connection, telling, fleet, asked.concurrency, begin, again=again, as_json=as_json)


def sync(
    connection: Connection, telling: Telling, fleet: Fleet, to: str, *, every: float | None, **settings: Any
) -> None:
    """Bring the copies of the stores of a file in step, with a table of what came of each.

    With `every`, again so many seconds after each time, until stopped. Raises CommandError.
    """
    if fleet.dask is not None:
        raise click.UsageError("--dask is about exports: leave it out.")

    def begin(stores: Sequence[Store], progress: StoresProgress) -> Awaitable[StoresReport]:
        return sync_stores(
            stores,
            to,
            at_once=fleet.at_once,
            **settings,
            on_progress=progress.advance,
            on_event=progress.listen,
        )

    again = "To go on, give the same command"
    _run(connection, telling, fleet, 8, begin, again=again, as_json=False, every=every)


def _run(
    connection: Connection,
    telling: Telling,
    fleet: Fleet,
    concurrency: int,
    begin: Callable[[Sequence[Store], StoresProgress], Awaitable[StoresReport]],
    *,
    again: str,
    as_json: bool,
    every: float | None = None,
) -> None:
    progress = StoresProgress(telling)
    stores: list[Store] = []
    ended = False

    async def work() -> None:
        nonlocal ended, progress
        stores.extend(_chosen(fleet, connection))
        _note_fewer_at_once(fleet, concurrency, len(stores))
        while True:
            progress.stores = len(stores)
            with progress:
                report = await begin(stores, progress)
            if every is None:
                break
            _tell(report, stores, quiet=telling.quiet)
            await sleep(every)
            progress = StoresProgress(telling)
        ended = True

    try:
        run(work)
    except CommandError as failure:
        report = StoresReport(tuple(progress.reports.values()))
        if report.stores:
            _show(report, stores, as_json=as_json)
        if isinstance(failure, StoppedError) and report.stores:
            ended = ended or (every is None and report.complete)
            failure.left = f": {report}. {_go_on(report, again)}"
        if not (ended and isinstance(failure, StoppedError)):
            raise
    else:
        report = StoresReport(tuple(progress.reports.values()))
        if as_json or not (telling.quiet and report.complete):
            _show(report, stores, as_json=as_json)
    _conclude(report, again, quiet=telling.quiet)


def _note_fewer_at_once(fleet: Fleet, concurrency: int, stores: int) -> None:
    fit = fitting(fleet.at_once, concurrency)
    if fleet.dask is None and fit.why and fit.stores < stores:
        click.echo(f"Note: {fit.stores} stores at once, not {fleet.at_once}: {fit.why}.", err=True)


def _tell(report: StoresReport, stores: Sequence[Store], *, quiet: bool) -> None:
    """Say what came of a round, after which there is another."""
    _raise_unforeseen(report)
    if not report.complete:
        left = StoresReport(tuple(one for one in report.stores if not one.complete))
        _show(left, stores, as_json=False)
    if not (quiet and report.complete):
        click.echo(f"{report}.", err=True)


def _show(report: StoresReport, stores: Sequence[Store], *, as_json: bool) -> None:
    if as_json:
        print_json(report.to_dict())
    else:
        click.echo(table(report.stores, stores), err=True)


def _run_of(fleet: Fleet) -> str | None:
    """Name a run: parts of one file may run side by side."""
    if fleet.only:
        return None
    part = "" if fleet.shard is None else f".{fleet.shard[0]}-of-{fleet.shard[1]}"
    return f"{Path(fleet.path).name}{part}"


def places(connection: Connection, fleet: Fleet, output: str, format_: str | None) -> list[str]:
    """Return where each store is exported to. Raises CommandError for unknown names."""
    found = places_of(output, format_)
    return [found.of(store) for store in _chosen(fleet, connection)]


def refuse_ids(path: str, asked: Selection) -> None:
    """Refuse filters by what is of one store only. Raises UsageError."""
    if asked.query.channel_ids is not None:
        raise click.UsageError(
            "A channel's id is of one store: leave --channel out, and write channels = [1, 2] under the "
            f"store in {path}."
        )
    if asked.query.invoice_id is not None:
        raise click.UsageError("An invoice's id is of one store: leave --invoice out.")


def table(reports: Iterable[StoreReport], stores: Sequence[Store] = ()) -> str:
    """Return a line for each store, in columns, with a heading. A remark of several lines becomes one."""
    from rich.cells import cell_len

    variables = {store.name: store.variable for store in stores}
    rows = [("store", "state", "payments", "requests", "seconds", "file or error")]
    for one in reports:
        figures = (f"{one.rows:,}", f"{one.requests:,}", f"{one.seconds:,.1f}")
        # Made visible here: an escape is wider than what it stands for.
        remark = printable(" ".join(_remark(one, variables.get(one.name, "")).split()))
        rows.append((one.name, one.state, *figures, remark))
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = []
        for place, (cell, width) in enumerate(zip(row, widths, strict=True)):
            space = " " * (width - cell_len(cell))
            cells.append(space + cell if place in {2, 3, 4} else cell + space)
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _remark(report: StoreReport, variable: str) -> str:
    error = report.error
    if isinstance(error, AuthenticationError):
        token = f"the token in {variable}" if variable else "its token"
        return (
            f"The service rejected the credential; check the store's hash, and {token} and its scope: {error}"
        )
    if error is not None:
        return str(error) if isinstance(error, B2BPaymentsError) else f"{type(error).__name__}, see below."
    if report.state is not StoreState.NOT_COMPLETE:
        return report.path
    return f"{report.path}: {report.ending}.{stays(report.instead)}"


def _conclude(report: StoresReport, again: str, *, quiet: bool) -> None:
    """Say how many stores are complete. Raises CommandError where not all are."""
    _raise_unforeseen(report)
    missing = [f"--only {shlex.quote(one.name)}" for one in report.stores if not one.complete]
    if not missing:
        if not quiet:
            click.echo(f"{report}.", err=True)
        return
    alone = "" if len(missing) == len(report.stores) else f" {' '.join(missing)}"
    raise CommandError(f"{report}. {again}{alone}.")


def _raise_unforeseen(report: StoresReport) -> None:
    for one in report.stores:
        if one.error is not None and not isinstance(one.error, B2BPaymentsError):
            raise one.error


def _chosen(fleet: Fleet, connection: Connection) -> list[Store]:
    """Return the stores to export. Raises CommandError for unknown names."""
    stores = read_stores(
        fleet.path, base_url=connection.base_url, quota=connection.quota, retry=connection.retry
    )
    known = [store.name for store in stores]
    if unknown := [name for name in fleet.only if name not in known]:
        raise CommandError(f"{fleet.path} has no store {', '.join(unknown)}; it has {', '.join(known)}.")
    if fleet.only:
        stores = [store for store in stores if store.name in fleet.only]
    return stores if fleet.shard is None else [store for store in stores if store.in_shard(*fleet.shard)]


def _go_on(report: StoresReport, again: str) -> str:
    if any(one.complete or one.resumable for one in report.stores):
        return f"What came so far is kept. {again}"
    return "Nothing half-written is left"
