"""`export`."""

from __future__ import annotations

import sys
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
    from b2b_payments.walk.report import WalkReport
    from b2b_payments.walk.stream import PaymentStream
    from b2b_payments.walk.walk import Walk

_ENDINGS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".sqlite": "sqlite",
    ".duckdb": "duckdb",
}
_STDOUT = "-"


@click.command(cls=Command)
@click.option("--output", metavar="FILE", required=True, help="Where to write; - is standard output.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(dict.fromkeys(_ENDINGS.values())),
    help="By default the file's ending says it. This version writes jsonl.",
)
@click.option(
    "--resume", is_flag=True, help="Go on with an export that was interrupted. Not in this version."
)
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
    replaced in one step. Exit code 0 says that it is complete. A report follows on standard error.
    """
    _check(output, format_, resume=resume)
    if sandbox and connection.base_url is not None:
        raise click.UsageError("--sandbox is a service of its own: leave --base-url out.")
    done: list[WalkReport] = []

    async def work() -> None:
        from b2b_payments.cli.progress import Progress
        from b2b_payments.export import JSONLSink, export

        # First of all: nothing is sent for a file that cannot be written.
        sink = JSONLSink(sys.stdout.buffer if output == _STDOUT else output)
        async with AsyncExitStack() as stack:
            progress = stack.enter_context(Progress(connection.quota))
            client = await _client(stack, connection, progress.listen, sandbox=sandbox)
            source = await _source(client, walk)
            done.append(await export(source, sink, on_progress=progress.advance))

    try:
        run(work)
    except StoppedError as stopped:
        if not done:
            stopped.left = f": {_left_behind(output)}"
            raise
    (report,) = done
    click.echo(f"{_name(output)}: {report} ({report.ending}).", err=True)
    click.get_current_context().exit(0 if report.complete else 1)


def _check(output: str, format_: str | None, *, resume: bool) -> None:
    if resume:
        raise click.UsageError(
            "--resume is not in this version yet: leave it out, and the export begins anew."
        )
    if format_ is None and output == _STDOUT:
        format_ = "jsonl"
    format_ = format_ or _ENDINGS.get(PurePath(output).suffix.lower())
    if format_ is None:
        raise click.UsageError(
            f"{output!r} does not say its format: give --format, or an ending such as .jsonl."
        )
    if format_ != "jsonl":
        raise click.UsageError(f"The format {format_} is not in this version yet: it writes jsonl.")


def _name(output: str) -> str:
    return "Standard output" if output == _STDOUT else output


def _left_behind(output: str) -> str:
    if output == _STDOUT:
        return "what was printed is not complete"
    return f"{output} was not written, and nothing half-written is left"


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


async def _source(client: PaymentsClient, walk: dict[str, Any]) -> Walk | PaymentStream:
    wanted = walk["channel_ids"]
    if wanted is None:
        return client.payments.list(**walk)
    known = {channel.channel_id: channel.name for channel in await client.channels.list()}
    if unknown := [str(channel_id) for channel_id in wanted if channel_id not in known]:
        listed = ", ".join(f"{channel_id} ({name})" for channel_id, name in known.items()) or "none"
        raise CommandError(f"The store has no channel {', '.join(unknown)}; it has {listed}.")
    # One request asks for one channel only: how several are written is not documented. Channel by channel, so
    # that two exports of a store that did not change are the same file.
    return client.payments.stream(**walk, ordered=True)
