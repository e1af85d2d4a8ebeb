"""`export`."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

import click

from b2b_payments._cli.command import (
    USAGE,
    Command,
    CommandError,
    StoppedError,
    command_errors,
    kept_note,
    print_json,
    run,
    with_names,
)
from b2b_payments._cli.connection import Connection, connection_options, outage_option, sandbox_option
from b2b_payments._cli.options import (
    FILTER_OPTIONS,
    Fleet,
    Verbosity,
    filter_options,
    fleet_options,
    verbosity_options,
)
from b2b_payments._cli.streams import output as standard_output
from b2b_payments._cli.values import not_blank
from b2b_payments._errors import ConfigurationError
from b2b_payments._formats import FORMATS
from b2b_payments._printable import counted

if TYPE_CHECKING:
    from b2b_payments._walk.report import WalkReport
    from b2b_payments._walk.stream import PaymentStream
    from b2b_payments._walk.walk import Walk
    from b2b_payments.export import Checkpoint, PlacedSink
    from b2b_payments.export._selection import Selection

STDOUT = "-"
_NEW = "There was nothing to resume: the export started from the first payment."
_CONTINUE = "The payments read so far are kept: run the same command with --resume to continue."


@click.command(cls=Command)
@click.option(
    "--output",
    metavar="FILE",
    required=True,
    type=not_blank,
    help="The file to write: a path, - for standard output, or s3://bucket/name (also gs://, az://). "
    "With --stores: a folder, or a pattern that contains {name}.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice([*FORMATS]),
    help="Not needed if the file name ends with "
    f"{', '.join(ending for one in FORMATS.values() for ending in one.endings)}.",
)
@click.option("--resume", is_flag=True, help="Continue an interrupted export.")
@click.option(
    "--clean", is_flag=True, help="Export nothing; remove what earlier exports to --output left behind."
)
@click.option(
    "--report",
    type=click.Choice(["json"]),
    help="Print the report as JSON to standard output, instead of the summary on standard error.",
)
@click.option(
    "--spreadsheet-safe",
    is_flag=True,
    help="CSV only: put an apostrophe before text that a spreadsheet would run as a formula.",
)
@fleet_options(with_dask=True)
@filter_options
@connection_options
@outage_option
@sandbox_option
@verbosity_options
def export(
    connection: Connection,
    selection: Selection,
    verbosity: Verbosity,
    output: str,
    format_: str | None,
    resume: bool,
    clean: bool,
    fleet: Fleet | None,
    report: str | None,
    spreadsheet_safe: bool,
) -> None:
    """Export every payment of the store to a file.

    Each payment is exported exactly once, even if the store changes during the export.

    The file appears only when it is finished, and replaces an existing one in a single step; in a database,
    the tables payments and line_items are replaced. A manifest for `verify` is written beside the file. Exit
    code 0 means that the export is complete. If that cannot be proven, an older export is kept, and this one
    is written beside it as NAME.incomplete. A summary is printed to standard error.

    In an object store (extra `cloud`), NAME.manifest.json publishes an export and names its data. Credentials
    and endpoint come from the environment, such as AWS_ACCESS_KEY_ID and AWS_ENDPOINT_URL.

    With --stores, each [[stores]] table of the file has a name, a store_hash and an access_token_env: the
    name of the environment variable that holds the token. If one store fails, the others continue.
    """
    if clean:
        if resume or report or output == STDOUT:
            raise click.UsageError("--clean exports nothing: give only --output FILE with it, or --stores.")
        _clean(connection, fleet, output, format_)
        return
    if fleet is None:
        format_ = _format_of(output, format_, resume=resume)
        if spreadsheet_safe and format_ != "csv":
            raise click.UsageError(f"--spreadsheet-safe is only for csv, not {format_}: leave it out.")
        options = {"spreadsheet_safe": True} if spreadsheet_safe else {}
        if report and output == STDOUT:
            raise click.UsageError("--report is printed to standard output: give --output a file.")
        as_json = report is not None
        _export_one(connection, selection, verbosity, output, format_, resume, options, as_json=as_json)
    if spreadsheet_safe:
        raise click.UsageError("--spreadsheet-safe is only for a single store: leave --stores out.")
    connection.check_many_stores()
    if output == STDOUT:
        raise click.UsageError("Standard output is only for a single store: with --stores, name a folder.")
    from b2b_payments._cli import stores

    as_json = report is not None
    stores.refuse_store_ids(fleet.path, selection)
    stores.export(connection, selection, verbosity, fleet, output, format_, resume=resume, as_json=as_json)


def _clean(connection: Connection, fleet: Fleet | None, output: str, format_: str | None) -> None:
    removed = 0
    with command_errors():
        from b2b_payments._cli import stores

        paths = [output] if fleet is None else stores.places(connection, fleet, output, format_)

    async def work() -> None:
        nonlocal removed
        from b2b_payments.export._location import location_of

        for path in paths:
            removed += location_of(path).clean()

    run(work)
    click.echo(f"{output}: leftover files removed: {removed:,}.", err=True)


def _export_one(
    connection: Connection,
    selection: Selection,
    verbosity: Verbosity,
    output: str,
    format_: str,
    resume: bool,
    options: dict[str, Any],
    *,
    as_json: bool,
) -> NoReturn:
    reports: list[WalkReport] = []
    durations: list[float] = []
    sinks: list[PlacedSink] = []

    async def work() -> None:
        from b2b_payments import export
        from b2b_payments._cli.progress import Progress

        # First of all, so that nothing is sent if the file cannot be written.
        to_stdout = output == STDOUT
        sink: PlacedSink = (
            export.JSONLSink(standard_output()) if to_stdout else export.sink_for(output, format_, **options)
        )
        sinks.append(sink)
        async with AsyncExitStack() as stack:
            progress = stack.enter_context(Progress(connection.quota, verbosity))
            pace = progress.pace
            client = await connection.enter(stack, progress.listen)
            begin_walk = await selection.source(client)
            query = selection.manifest | ({"sandbox": True} if connection.sandbox else {})

            def begin(checkpoint: Checkpoint | None) -> Walk | PaymentStream:
                pace.before = sink.rows
                source = begin_walk(checkpoint)
                progress.track_channels(source)
                return source

            if resume:
                report = await export.resume(begin, sink, query=query, on_progress=pace.advance)
            else:
                report = await export.export(begin(None), sink, query=query, on_progress=pace.advance)
            reports.append(report)
            durations.append(pace.elapsed)

    try:
        run(work)
    except StoppedError as stopped:
        if not reports:
            stopped.outcome = f": {_state_after_stop(output, kept=_kept(sinks))}"
            raise
    except CommandError as failure:
        raise _explained(failure, kept=_kept(sinks)) from None
    except BrokenPipeError:
        # The reader of standard output has gone before it got everything.
        click.get_current_context().exit(1)
    (report,) = reports
    if as_json:
        print_json(_as_dict(output, report, sinks[0]))
    else:
        _print_summary(output, report, sinks[0], verbosity, durations[0], resume=resume)
    click.get_current_context().exit(0 if report.complete else 1)


def _explained(failure: CommandError, *, kept: bool) -> CommandError:
    """Return the failure with what to do about it, and with filters named as the options are."""
    if "had other filters" in str(failure):
        return CommandError(with_names(str(failure), FILTER_OPTIONS, count=0), failure.exit_code)
    # Usage errors name their own remedy, as do those about an interrupted export that cannot be resumed.
    has_remedy = failure.exit_code == USAGE or not getattr(failure.__cause__, "resumable", True)
    if has_remedy or not kept:
        return failure
    return CommandError(f"{str(failure).rstrip('.')}. {_CONTINUE}", failure.exit_code)


def _print_summary(
    output: str, report: WalkReport, sink: PlacedSink, verbosity: Verbosity, seconds: float, *, resume: bool
) -> None:
    in_all = ""
    if resume:
        rows = counted(sink.rows, "payment")
        in_all = f" Together with the interrupted run: {rows}." if sink.resumed else f" {_NEW}"
    details = ""
    if verbosity.verbose:
        details = _details_of(report)
    elif not report.complete:
        details = str(report.ending)
        verbosity = replace(verbosity, quiet=False)
    where = f" The data is in {' and '.join(sink.objects)}." if sink.objects else ""
    rest = f"{in_all}{kept_note(sink.instead)}{where}"
    name = "Standard output" if output == STDOUT else output
    verbosity.summarize(name, report, seconds, details=details, rest=rest)


def _details_of(report: WalkReport) -> str:
    """Describe what a walk read and why it ended, in words."""
    return ", ".join(
        [
            str(report.ending),
            counted(report.pages, "page"),
            f"duplicates dropped: {report.duplicates:,}",
            f"{counted(report.gaps, 'gap')} closed",
            f"requests from the other end: {report.from_other_end:,}",
            f"requests to read again: {report.reread:,}",
            f"requests by id: {report.looked_up:,}",
            f"{report.waited:.1f} s waited for the quota",
        ]
    )


def _format_of(output: str, format_: str | None, *, resume: bool) -> str:
    """Return the format: `format_` if given, else by the file's ending. Raises UsageError."""
    if output == STDOUT:
        if resume:
            raise click.UsageError("An export to standard output cannot be resumed: give --output a file.")
        if format_ not in {None, "jsonl"}:
            raise click.UsageError(f"Standard output is for jsonl only, not {format_}: name a file.")
        return "jsonl"
    if os.path.isdir(output):
        raise click.UsageError(f"{output} cannot be written: it is a folder; name a file in it.")
    from b2b_payments.export._placed import format_of

    try:
        return format_of(output, format_)
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from None


def _as_dict(output: str, report: WalkReport, sink: PlacedSink) -> dict[str, Any]:
    import attrs

    return {
        "complete": report.complete,
        "file": str(sink.instead or output),
        **({"objects": sink.objects} if sink.objects else {}),
        "payments": sink.rows,
        "requests": report.requests,
        "ending": report.ending,
        "walk": {**attrs.asdict(report), "ignored_filters": sorted(report.ignored_filters)},
    }


def _kept(sinks: list[PlacedSink]) -> bool:
    return any(sink.kept for sink in sinks)


def _state_after_stop(output: str, *, kept: bool) -> str:
    if output == STDOUT:
        return "the printed output is not complete"
    if kept:
        return f"{output} was not written yet. {_CONTINUE[:-1]}"
    return f"{output} was not written, and no partial file is left"
