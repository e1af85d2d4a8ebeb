"""`sync`."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from b2b_payments._cli.command import Command, CommandError, StoppedError, run
from b2b_payments._cli.connection import Connection, connection_options, sandbox_option
from b2b_payments._cli.fleet import Fleet, fleet_options
from b2b_payments._cli.telling import Telling, telling_options
from b2b_payments._cli.values import AT_LEAST_ONE, TEXT, Number

if TYPE_CHECKING:
    from b2b_payments._cli.progress import Progress
    from b2b_payments._walk.report import WalkReport
    from b2b_payments.sync import SyncReport


@click.command(cls=Command)
@click.option(
    "--to",
    metavar="FILE",
    required=True,
    type=TEXT,
    help="The database: .duckdb, or .sqlite, .sqlite3, .db for SQLite. A first sync makes it. "
    "With --stores a path with {name} in it.",
)
@click.option("--sweep", is_flag=True, help="Read the whole store again, to find what was deleted.")
@click.option(
    "--overlap",
    metavar="MINUTES",
    type=Number(0, 527_040),
    default=30,
    show_default=True,
    help="How far to read back beyond the last sync: at least as long as the service's lists lag.",
)
@click.option(
    "--most-lookups",
    metavar="N",
    type=AT_LEAST_ONE,
    default=500,
    show_default=True,
    help="How many payments that the list contradicts are looked up by id in one sync.",
)
@click.option(
    "--allow-mass-deletion",
    is_flag=True,
    help="Delete payments from the copy even where more than a fifth of it is missing.",
)
@fleet_options
@connection_options
@sandbox_option
@telling_options
def sync(
    connection: Connection,
    telling: Telling,
    fleet: Fleet | None,
    to: str,
    sweep: bool,
    overlap: float,
    most_lookups: int,
    allow_mass_deletion: bool,
) -> None:
    """Keep a database in step with the store.

    The first time every payment is copied, afterwards what changed since. The tables payments and line_items
    have an export's columns; read them between two syncs. Always the whole store is copied, without
    filters. A payment is deleted only when the service itself says that it does not exist. Interrupted, it
    goes on with the next sync. A report follows on standard error; exit code 0 says that the copy is in step.
    """
    if fleet is not None:
        if connection.sandbox:
            raise click.UsageError("--sandbox is a made-up store: leave --stores out.")
        from b2b_payments._cli import stores

        stores.sync(
            connection,
            telling,
            fleet,
            to,
            sweep=sweep,
            overlap=60 * overlap,
            most_lookups=most_lookups,
            allow_mass_deletion=allow_mass_deletion,
        )
        return
    done: list[SyncReport] = []
    took: list[float] = []
    begun: list[Progress] = []

    async def work() -> None:
        import attrs

        from b2b_payments import sync
        from b2b_payments._cli.progress import Progress

        # First of all: nothing is sent for a database that cannot be written.
        store = sync.store_for(to)

        def advance(report: WalkReport) -> None:
            # How many of the store's payments changed, nobody knows before the end.
            progress.advance(report if report.exact else attrs.evolve(report, total_last=None))

        with Progress(connection.quota, telling) as progress:
            begun.append(progress)
            async with AsyncExitStack() as stack:
                report = await sync.sync(
                    await connection.enter(stack, progress.listen),
                    store,
                    sweep=sweep,
                    overlap=60 * overlap,
                    most_lookups=most_lookups,
                    allow_mass_deletion=allow_mass_deletion,
                    on_progress=advance,
                )
        done.append(report)
        took.append(progress.seconds)

    try:
        run(work)
    except StoppedError as stopped:
        if not done:
            kept = f"the next sync goes on with what {to} holds"
            stopped.left = f": {kept if Path(to).exists() else f'{to} was not written'}"
            raise
    except CommandError as failure:
        # Not of a database that is another's, or that could not be opened.
        if begun and begun[0].requests and Path(to).exists():
            sentence = f"{failure} What {to} holds is kept, and the next sync goes on."
            raise CommandError(sentence, failure.exit_code) from None
        raise
    (report,) = done
    if not report.complete:
        telling = replace(telling, quiet=False)
    account = f"{report.waited:.1f} s waited for the quota" if telling.verbose else ""
    telling.conclude(to, report, took[0], account=account)
    click.get_current_context().exit(0 if report.complete else 1)
