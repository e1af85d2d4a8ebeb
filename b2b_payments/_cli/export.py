"""`export`."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from b2b_payments._cli.command import USAGE, Command, CommandError, StoppedError, print_json, run, stays
from b2b_payments._cli.connection import Connection, connection_options, sandbox_option
from b2b_payments._cli.options import Fleet, Telling, filter_options, fleet_options, telling_options
from b2b_payments._cli.streams import output as standard_output
from b2b_payments._cli.values import TEXT
from b2b_payments._formats import FORMATS

if TYPE_CHECKING:
    from b2b_payments._walk.report import WalkReport
    from b2b_payments._walk.stream import PaymentStream
    from b2b_payments._walk.walk import Walk
    from b2b_payments.export import Checkpoint, PlacedSink
    from b2b_payments.export._selection import Selection

STDOUT = "-"
_NEW = "There was nothing to resume: it began with the first payment."
_GO_ON = "What came so far is kept: give the same command --resume to continue."


@click.command(cls=Command)
@click.option(
    "--output",
    metavar="FILE",
    required=True,
    type=TEXT,
    help="Where to write: a path, - for standard output, or s3://bucket/name (also gs://, az://). "
    "With --stores a folder, or a pattern with {name} in it.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice([*FORMATS]),
    help="Not needed where the file's ending says it: "
    f"{', '.join(ending for one in FORMATS.values() for ending in one.endings)}.",
)
@click.option("--resume", is_flag=True, help="Resume an export that was interrupted.")
@click.option(
    "--clean", is_flag=True, help="Export nothing: remove what interrupted exports to --output left."
)
@click.option(
    "--report",
    type=click.Choice(["json"]),
    help="Print the report as JSON to standard output, in place of the one on standard error.",
)
@click.option(
    "--spreadsheet-safe",
    is_flag=True,
    help="Of CSV: put an apostrophe in front of text that a spreadsheet would run as a formula.",
)
@fleet_options
@filter_options
@connection_options
@sandbox_option
@telling_options
def export(
    connection: Connection,
    asked: Selection,
    telling: Telling,
    output: str,
    format_: str | None,
    resume: bool,
    clean: bool,
    fleet: Fleet | None,
    report: str | None,
    spreadsheet_safe: bool,
) -> None:
    """Write every payment of the store to a file.

    Each comes exactly once, whatever changes meanwhile.

    The file appears when all of it has come, and not before; one of that name that is there already is then
    replaced in one step. Of a database, the tables payments and line_items are. A manifest is put beside the
    file, for `verify`. Exit code 0 says that it is complete. Where that cannot be proven, an older export
    stays, and this one is put beside it, as NAME.incomplete. A report follows on standard error.

    In an object store (extra `cloud`), NAME.manifest.json makes an export visible, and says where it is.
    Credentials and endpoint are those of the environment, such as AWS_ACCESS_KEY_ID and AWS_ENDPOINT_URL.

    With --stores, each table [[stores]] of the file has a name, a store_hash, and as access_token_env the
    name of the environment variable with its token. What one store fails with does not stop the others.
    """
    if clean:
        if resume or report or output == STDOUT:
            raise click.UsageError("--clean exports nothing: give it with --output FILE alone, or --stores.")
        _clean(connection, fleet, output, format_)
        return
    if fleet is None:
        format_ = _format_of(output, format_, resume=resume)
        if spreadsheet_safe and format_ != "csv":
            raise click.UsageError(f"--spreadsheet-safe is about csv, not {format_}: leave it out.")
        options = {"spreadsheet_safe": True} if spreadsheet_safe else {}
        if report and output == STDOUT:
            raise click.UsageError("--report goes to standard output: give --output a file.")
        as_json = report is not None
        _export_one(connection, asked, telling, output, format_, resume, options, as_json=as_json)
        return
    if spreadsheet_safe:
        raise click.UsageError("--spreadsheet-safe is about one export: leave --stores out.")
    if connection.sandbox:
        raise click.UsageError("--sandbox is a made-up store: leave --stores out.")
    if connection.stated_quota == "none":
        raise click.UsageError("--quota none is about one store: leave --stores out.")
    if output == STDOUT:
        raise click.UsageError("Standard output takes one store: give --stores a folder as --output.")
    from b2b_payments._cli import stores

    as_json = report is not None
    stores.refuse_ids(fleet.path, asked)
    stores.export(connection, asked, telling, fleet, output, format_, resume=resume, as_json=as_json)


def _clean(connection: Connection, fleet: Fleet | None, output: str, format_: str | None) -> None:
    removed = 0

    async def work() -> None:
        nonlocal removed
        from b2b_payments._cli import stores
        from b2b_payments.export._location import location_of

        paths = [output] if fleet is None else stores.places(connection, fleet, output, format_)
        for path in paths:
            removed += location_of(path).clean()

    run(work)
    click.echo(f"{output}: {removed:,} left by interrupted exports, and removed.", err=True)


def _export_one(
    connection: Connection,
    asked: Selection,
    telling: Telling,
    output: str,
    format_: str,
    resume: bool,
    options: dict[str, Any],
    *,
    as_json: bool,
) -> None:
    done: list[WalkReport] = []
    took: list[float] = []
    sinks: list[PlacedSink] = []

    async def work() -> None:
        from b2b_payments import export
        from b2b_payments._cli.progress import Progress

        # First of all: nothing is sent for a file that cannot be written.
        to_stdout = output == STDOUT
        sink: PlacedSink = (
            export.JSONLSink(standard_output()) if to_stdout else export.sink_for(output, format_, **options)
        )
        sinks.append(sink)
        async with AsyncExitStack() as stack:
            progress = stack.enter_context(Progress(connection.quota, telling))
            client = await connection.enter(stack, progress.listen)
            begin_walk = await asked.source(client)
            query = asked.manifest | ({"sandbox": True} if connection.sandbox else {})

            def begin(checkpoint: Checkpoint | None) -> Walk | PaymentStream:
                progress.resumed(sink.rows)
                source = begin_walk(checkpoint)
                progress.follow(source)
                return source

            if resume:
                report = await export.resume(begin, sink, query=query, on_progress=progress.advance)
            else:
                report = await export.export(begin(None), sink, query=query, on_progress=progress.advance)
            done.append(report)
            took.append(progress.seconds)

    try:
        run(work)
    except StoppedError as stopped:
        if not done:
            stopped.left = f": {_left_behind(output, kept=_kept(sinks))}"
            raise
    except CommandError as failure:
        # What was asked for wrongly has a remedy of its own.
        if _kept(sinks) and failure.exit_code != USAGE:
            raise CommandError(f"{failure} {_GO_ON}", failure.exit_code) from None
        raise
    except BrokenPipeError:
        # Whoever read standard output has seen enough, and not all.
        click.get_current_context().exit(1)
    (report,) = done
    if as_json:
        print_json(_as_dict(output, report, sinks[0]))
    else:
        _tell(output, report, sinks[0], telling, took[0], resume=resume)
    click.get_current_context().exit(0 if report.complete else 1)


def _tell(
    output: str, report: WalkReport, sink: PlacedSink, telling: Telling, seconds: float, *, resume: bool
) -> None:
    from b2b_payments._printable import counted

    in_all = ""
    if resume:
        rows = counted(sink.rows, "payment")
        in_all = f" With what was there already: {rows}." if sink.resumed else f" {_NEW}"
    account = ""
    if telling.verbose:
        account = _account_of(report)
    elif not report.complete:
        account = str(report.ending)
        telling = replace(telling, quiet=False)
    where = f" Its data is {' and '.join(sink.objects)}." if sink.objects else ""
    rest = f"{in_all}{stays(sink.instead)}{where}"
    telling.conclude(_name(output), report, seconds, account=account, rest=rest)


def _account_of(report: WalkReport) -> str:
    """Say what a walk took, and how its end is proven."""
    from b2b_payments._printable import counted

    return ", ".join(
        [
            str(report.ending),
            counted(report.pages, "page"),
            f"{report.duplicates:,} rows again",
            f"{counted(report.gaps, 'gap')} closed",
            f"{report.from_other_end:,} pages from the other end",
            f"{report.reread:,} read again",
            f"{report.looked_up:,} looked up by id",
            f"{report.waited:.1f} s waited for the quota",
        ]
    )


def _format_of(output: str, format_: str | None, *, resume: bool) -> str:
    """Return the format to write: the one given, or else the one that the ending says. Raises UsageError."""
    if output == STDOUT:
        if resume:
            raise click.UsageError("What goes to standard output cannot be resumed: give --resume a file.")
        if format_ not in {None, "jsonl"}:
            raise click.UsageError(f"Standard output takes jsonl only, not {format_}: give a file.")
        return "jsonl"
    if os.path.isdir(output):
        raise click.UsageError(f"{output} cannot be written: it is a folder; name a file in it.")
    from b2b_payments._errors import ConfigurationError
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


def _name(output: str) -> str:
    return "Standard output" if output == STDOUT else output


def _kept(sinks: list[PlacedSink]) -> bool:
    return any(sink.kept for sink in sinks)


def _left_behind(output: str, *, kept: bool) -> str:
    if output == STDOUT:
        return "what was printed is not complete"
    if kept:
        return f"{output} was not written yet. {_GO_ON[:-1]}"
    return f"{output} was not written, and nothing half-written is left"
