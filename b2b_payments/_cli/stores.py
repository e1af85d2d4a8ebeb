"""`export` and `sync` with --stores."""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from anyio import sleep

from b2b_payments._cli.command import (
    USAGE,
    CommandError,
    StoppedError,
    command_errors,
    kept_note,
    print_json,
    run,
)
from b2b_payments._cli.connection import Connection
from b2b_payments._cli.options import Fleet, Verbosity
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
    selection: Selection,
    verbosity: Verbosity,
    fleet: Fleet,
    output: str,
    format_: str | None,
    *,
    resume: bool,
    as_json: bool,
) -> None:
    """Export the stores of a file, and print a table of the results. Raises CommandError.

    An interrupted run leaves a note, so that `resume` skips the stores that it had finished. A run that ends
    by itself leaves none, even if stores failed. With --only, no note is written.
    """

    begin = partial(
        export_stores,
        output=output,
        format=format_,
        at_once=fleet.at_once,
        dask=fleet.dask,
        workers=fleet.workers,
        resume=resume,
        run=_run_of(fleet),
        **selection.stream,
    )
    remedy = "To export what is missing, run the same command with --resume"
    _run(connection, verbosity, fleet, selection.concurrency, begin, remedy=remedy, as_json=as_json)


def sync(
    connection: Connection, verbosity: Verbosity, fleet: Fleet, to: str, *, every: float | None, **more: Any
) -> None:
    """Sync the copies of the stores of a file, and print a table of the results. Raises CommandError.

    With `every`, repeat until stopped, with a pause of that many seconds between two rounds.
    """

    begin = partial(sync_stores, output=to, at_once=fleet.at_once, **more)
    remedy = "To continue, run the same command again"
    _run(connection, verbosity, fleet, 8, begin, remedy=remedy, as_json=False, every=every)


def _run(
    connection: Connection,
    verbosity: Verbosity,
    fleet: Fleet,
    concurrency: int,
    begin: Callable[..., Awaitable[StoresReport]],
    *,
    remedy: str,
    as_json: bool,
    every: float | None = None,
) -> None:
    progress = StoresProgress(verbosity)
    stores = _selected(fleet, connection)
    ended = False

    async def work() -> None:
        nonlocal ended, progress
        _note_fewer_at_once(fleet, concurrency, len(stores))
        while True:
            progress.stores = len(stores)
            with progress:
                report = await begin(stores, on_progress=progress.advance, on_event=progress.listen)
            if every is None:
                break
            _print_round(report, stores, quiet=verbosity.quiet)
            await sleep(every)
            progress = StoresProgress(verbosity)
        ended = True

    try:
        run(work)
    except CommandError as failure:
        report = StoresReport(tuple(progress.reports.values()))
        if report.stores:
            _print_report(report, stores, as_json=as_json)
        if isinstance(failure, StoppedError) and report.stores:
            ended = ended or (every is None and report.complete)
            in_round = "" if every is None else " in this round"
            failure.outcome = f": {report}{in_round}. {_state_after_stop(report, remedy)}"
        if not (ended and isinstance(failure, StoppedError)):
            raise
    else:
        report = StoresReport(tuple(progress.reports.values()))
        if as_json or not (verbosity.quiet and report.complete):
            _print_report(report, stores, as_json=as_json)
    _conclude(report, remedy, quiet=verbosity.quiet)


def _note_fewer_at_once(fleet: Fleet, concurrency: int, stores: int) -> None:
    fit = fitting(fleet.at_once, concurrency)
    if fleet.dask is None and fit.why and fit.stores < stores:
        click.echo(f"Note: {fit.stores} stores at once, not {fleet.at_once}: {fit.why}.", err=True)


def _print_round(report: StoresReport, stores: Sequence[Store], *, quiet: bool) -> None:
    """Print the result of one round of `every`: a table of the incomplete stores, and the count."""
    _raise_unexpected(report)
    if not report.complete:
        incomplete = StoresReport(tuple(one for one in report.stores if not one.complete))
        _print_report(incomplete, stores, as_json=False)
    if not (quiet and report.complete):
        click.echo(f"{report}.", err=True)


def _print_report(report: StoresReport, stores: Sequence[Store], *, as_json: bool) -> None:
    if as_json:
        print_json(report.to_dict())
    else:
        click.echo(table(report.stores, stores), err=True)


def _run_of(fleet: Fleet) -> str | None:
    """Return the run's name, or None with --only. Shards may run at the same time, so their names differ."""
    if fleet.only:
        return None
    part = "" if fleet.shard is None else f".{fleet.shard[0]}-of-{fleet.shard[1]}"
    return f"{Path(fleet.path).name}{part}"


def places(connection: Connection, fleet: Fleet, output: str, format_: str | None) -> list[str]:
    """Return the output of each store. Raises CommandError for unknown names."""
    pattern = places_of(output, format_)
    return [pattern.of(store) for store in _selected(fleet, connection)]


def refuse_store_ids(path: str, selection: Selection) -> None:
    """Refuse filters by ids that differ from store to store. Raises UsageError."""
    if selection.query.channel_ids is not None:
        raise click.UsageError(
            "A channel's id belongs to one store: leave --channel out, and write channels = [1, 2] under the "
            f"store in {path}."
        )
    if selection.query.invoice_id is not None:
        raise click.UsageError("An invoice's id belongs to one store: leave --invoice out.")


def table(reports: Iterable[StoreReport], stores: Sequence[Store] = ()) -> str:
    """Return a heading and a line per store, in aligned columns."""
    from rich.cells import cell_len

    variables = {store.name: store.variable for store in stores}
    rows = [("store", "state", "payments", "requests", "seconds", "file or error")]
    for one in reports:
        figures = (f"{one.rows:,}", f"{one.requests:,}", f"{one.seconds:,.1f}")
        # Escaped before the widths are computed: an escape is wider than the character.
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
            f"The service rejected the credential. Check the store's hash, and {token} and its scope: {error}"
        )
    if error is not None:
        return str(error) if isinstance(error, B2BPaymentsError) else f"{type(error).__name__}, see below."
    if report.state is not StoreState.NOT_COMPLETE:
        return report.path
    return f"{report.path}: {report.ending}.{kept_note(report.instead)}"


def _conclude(report: StoresReport, remedy: str, *, quiet: bool) -> None:
    """Print how many stores are complete. Raises CommandError if not all are."""
    _raise_unexpected(report)
    missing = [f"--only {shlex.quote(one.name)}" for one in report.stores if not one.complete]
    if not missing:
        if not quiet:
            click.echo(f"{report}.", err=True)
        return
    alone = "" if len(missing) == len(report.stores) else f", adding {' '.join(missing)}"
    raise CommandError(f"{report}. {remedy}{alone}.")


def _raise_unexpected(report: StoresReport) -> None:
    for one in report.stores:
        if one.error is not None and not isinstance(one.error, B2BPaymentsError):
            raise one.error


def _selected(fleet: Fleet, connection: Connection) -> list[Store]:
    """Return the stores that --only and --shard select. Raises CommandError, also for unknown names.

    Not called in an event loop: the file may be a pipe, whose writer only Ctrl-C ends the wait for.
    """
    with command_errors():
        stores = read_stores(
            fleet.path, base_url=connection.base_url, quota=connection.quota, retry=connection.retry
        )
    known = [store.name for store in stores]
    if unknown := [name for name in fleet.only if name not in known]:
        raise CommandError(
            f"{fleet.path} has no store {', '.join(unknown)}; it has {', '.join(known)}.", USAGE
        )
    if fleet.only:
        stores = [store for store in stores if store.name in fleet.only]
    return stores if fleet.shard is None else [store for store in stores if store.in_shard(*fleet.shard)]


def _state_after_stop(report: StoresReport, remedy: str) -> str:
    if any(one.complete or one.resumable for one in report.stores):
        return f"The payments read so far are kept. {remedy}"
    return "No partial file is left"
