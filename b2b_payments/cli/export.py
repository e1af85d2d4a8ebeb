"""`export`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import click

from b2b_payments.cli.command import Command
from b2b_payments.cli.connection import Connection, connection_options
from b2b_payments.cli.filters import filter_options
from b2b_payments.cli.running import CommandError, StoppedError, run

if TYPE_CHECKING:
    from b2b_payments.client import PaymentsClient
    from b2b_payments.events import Listener
    from b2b_payments.export import Checkpoint, JSONLSink, PlacedSink
    from b2b_payments.walk.report import WalkReport
    from b2b_payments.walk.stream import PaymentStream
    from b2b_payments.walk.walk import Walk

    Sink = JSONLSink | PlacedSink
    Begin = Callable[[Checkpoint | None], Walk | PaymentStream]

_ENDINGS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".sqlite": "sqlite",
    ".sqlite3": "sqlite",
    ".db": "sqlite",
    ".duckdb": "duckdb",
}
_STDOUT = "-"
_READING = frozenset({"page_size", "concurrency"})
_GO_ON = "What came so far is kept: give the same command --resume to go on."


@click.command(cls=Command)
@click.option("--output", metavar="FILE", required=True, help="Where to write; - is standard output.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(dict.fromkeys(_ENDINGS.values())),
    help="By default the file's ending says it: .jsonl, .csv, .parquet, .sqlite or .db, .duckdb.",
)
@click.option("--resume", is_flag=True, help="Go on with an export that was interrupted.")
@click.option(
    "--sandbox", is_flag=True, help="Export 10,000 payments of a made-up store: needs no credential."
)
@filter_options
@connection_options
def export(
    connection: Connection,
    walk: dict[str, Any],
    output: str,
    format_: str | None,
    resume: bool,
    sandbox: bool,
) -> None:
    """Write every payment of the store to a file.

    Each comes exactly once, whatever changes meanwhile.

    The file appears when it is complete, and not before; one of that name that is there already is then
    replaced in one step. Of a database, the tables payments and line_items are. A manifest is put beside the
    file, for `verify`. Exit code 0 says that it is complete. A report follows on standard error.
    """
    format_ = _format(output, format_, resume=resume)
    if sandbox and connection.base_url is not None:
        raise click.UsageError("--sandbox is a service of its own: leave --base-url out.")
    done: list[WalkReport] = []
    sinks: list[Sink] = []

    async def work() -> None:
        from b2b_payments import export
        from b2b_payments.cli.progress import Progress

        # First of all: nothing is sent for a file that cannot be written.
        to_stdout = output == _STDOUT
        sink = export.JSONLSink(sys.stdout.buffer) if to_stdout else export.sink_for(format_, output)
        sinks.append(sink)
        async with AsyncExitStack() as stack:
            progress = stack.enter_context(Progress(connection.quota))
            client = await _client(stack, connection, progress.listen, sandbox=sandbox)
            begin = await _source(client, walk)
            query = _query(walk, sandbox=sandbox)
            if resume:
                report = await export.resume(begin, sink, query=query, on_progress=progress.advance)
            else:
                report = await export.export(begin(None), sink, query=query, on_progress=progress.advance)
            done.append(report)

    try:
        run(work)
    except StoppedError as stopped:
        if not done:
            stopped.left = f": {_left_behind(output, kept=_kept(sinks))}"
            raise
    except CommandError as failure:
        if _kept(sinks):
            raise CommandError(f"{failure} {_GO_ON}", failure.exit_code) from None
        raise
    (report,) = done
    click.echo(f"{_name(output)}: {report} ({report.ending}).{_in_all(output, resume=resume)}", err=True)
    click.get_current_context().exit(0 if report.complete else 1)


def _format(output: str, format_: str | None, *, resume: bool) -> str:
    if output == _STDOUT and resume:
        raise click.UsageError("What was printed cannot be gone on with: give --resume a file.")
    if format_ is None and output == _STDOUT:
        format_ = "jsonl"
    format_ = format_ or _ENDINGS.get(PurePath(output).suffix.lower())
    if format_ is None:
        raise click.UsageError(
            f"{output!r} does not say its format: give --format, or an ending such as .jsonl."
        )
    if output == _STDOUT and format_ != "jsonl":
        raise click.UsageError(f"Standard output takes jsonl only, not {format_}: give a file.")
    return format_


def _name(output: str) -> str:
    return "Standard output" if output == _STDOUT else output


def _kept(sinks: list[Sink]) -> bool:
    return any(sink.kept for sink in sinks)


def _left_behind(output: str, *, kept: bool) -> str:
    if output == _STDOUT:
        return "what was printed is not complete"
    if kept:
        return f"{output} was not written yet. {_GO_ON[:-1]}"
    return f"{output} was not written, and nothing half-written is left"


def _in_all(output: str, *, resume: bool) -> str:
    """Say how many payments there are where the report is of the last part only."""
    if not resume:
        return ""
    from pathlib import Path

    from b2b_payments.export.manifest import read_manifest

    rows = read_manifest(Path(output).resolve()).account.sums.whole.rows
    return f" With what was there already: {rows:,} payments."


def _query(walk: dict[str, Any], *, sandbox: bool) -> dict[str, Any]:
    """Give what was asked for, as the manifest has it: how it was read is no part of it."""
    query = {name: value for name, value in walk.items() if value is not None and name not in _READING}
    if "channel_ids" in query:
        query["channel_ids"] = list(query["channel_ids"])
    return query | ({"sandbox": True} if sandbox else {})


async def _client(
    stack: AsyncExitStack, connection: Connection, on_event: Listener, *, sandbox: bool
) -> PaymentsClient:
    from b2b_payments.client import PaymentsClient

    settings = connection.settings | {"on_event": on_event}
    if not sandbox:
        return await stack.enter_async_context(PaymentsClient.from_env(**settings))
    from b2b_payments.sandbox import Sandbox

    server = await stack.enter_async_context(Sandbox(payments=10_000))
    return await stack.enter_async_context(PaymentsClient(server.auth, **settings, base_url=server.base_url))


async def _source(client: PaymentsClient, walk: dict[str, Any]) -> Begin:
    wanted = walk["channel_ids"]
    if wanted is None:
        return lambda checkpoint: client.payments.list(**walk, checkpoint=checkpoint)
    known = {channel.channel_id: channel.name for channel in await client.channels.list()}
    if unknown := [str(channel_id) for channel_id in wanted if channel_id not in known]:
        listed = ", ".join(f"{channel_id} ({name})" for channel_id, name in known.items()) or "none"
        raise CommandError(f"The store has no channel {', '.join(unknown)}; it has {listed}.")
    # One request asks for one channel only: how several are written is not documented. Channel by channel, so
    # that two exports of a store that did not change are the same file.
    return lambda checkpoint: client.payments.stream(**walk, ordered=True, checkpoint=checkpoint)
