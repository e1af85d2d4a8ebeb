"""`sync`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import click

from b2b_payments._cli.command import Command, CommandError, StoppedError, option_with_default, run
from b2b_payments._cli.connection import Connection, connection_options, outage_option, sandbox_option
from b2b_payments._cli.options import Fleet, Verbosity, fleet_options, overlap_option, verbosity_options
from b2b_payments._cli.values import AT_LEAST_ONE, Number, not_blank
from b2b_payments._errors import B2BPaymentsError, ExportError

if TYPE_CHECKING:
    from b2b_payments._changes.feed import FailedPolls
    from b2b_payments._cli.progress import Progress
    from b2b_payments._client import PaymentsClient
    from b2b_payments._walk.report import WalkReport
    from b2b_payments.events import Event
    from b2b_payments.sync import Store, SyncReport


@click.command(cls=Command)
@click.option(
    "--to",
    metavar="FILE",
    required=True,
    type=not_blank,
    help="The database: a file, .duckdb, or .sqlite, .sqlite3 or .db for SQLite, created by the first sync; "
    "or PostgreSQL, as postgresql://user@host/name with the password in PGPASSWORD. With --stores, a file's "
    "path contains {name}.",
)
@click.option(
    "--schema",
    metavar="NAME",
    type=not_blank,
    help="PostgreSQL only: the schema of the copy, created by the first sync; with --stores, it contains "
    "{name}. [b2b_payments, or b2b_payments_{name}]",
)
@click.option("--sweep", is_flag=True, help="Read the whole store again, to find deleted payments.")
@overlap_option
@option_with_default(
    "--most-lookups",
    metavar="N",
    type=AT_LEAST_ONE,
    default=500,
    help="Per sync, look up by id at most N payments that the list contradicts.",
)
@click.option(
    "--allow-mass-deletion",
    is_flag=True,
    help="Delete payments from the copy even if the store lacks more than a fifth of it.",
)
@click.option(
    "--every",
    metavar="SECONDS",
    type=Number(1, 86_400),
    help="Keep running: sync again this long after each sync, until stopped.",
)
@fleet_options(with_dask=False)
@connection_options
@outage_option
@sandbox_option
@verbosity_options
def sync(
    connection: Connection,
    verbosity: Verbosity,
    fleet: Fleet | None,
    to: str,
    schema: str | None,
    every: float | None,
    overlap: float,
    **settings: Any,
) -> None:
    """Keep a database copy of the store in sync.

    The first sync copies every payment, later ones what changed since. The tables payments and line_items
    have the columns of an export; read them between two syncs. The whole store is copied, without filters.
    A payment is deleted only if the service itself says that it does not exist. If a sync is interrupted, the
    next one continues it. A summary is printed to standard error; exit code 0 means that the copy is in sync.
    """
    settings["overlap"] = 60 * overlap
    if fleet is not None:
        connection.check_many_stores()
        from b2b_payments._cli import stores

        stores.sync(connection, verbosity, fleet, to, every=every, schema=schema, **settings)
        return
    syncs = _Syncs(connection, verbosity, to, schema, every, settings)
    try:
        run(syncs.run)
    except StoppedError as stopped:
        if every is not None or not syncs.reports:
            stopped.outcome = f": {syncs.state_after_stop}"
            raise
    except CommandError as failure:
        # Not if the database belongs to another store, or could not be opened.
        if syncs.progress.pace.requests and syncs.store.exists:
            kept = f"The copy in {syncs.store.place} is kept, and the next sync continues it."
            raise CommandError(f"{str(failure).rstrip('.')}. {kept}", failure.exit_code) from None
        raise
    (report,) = syncs.reports
    syncs.print_summary(report)
    click.get_current_context().exit(0 if report.complete else 1)


@dataclass(repr=False)
class _Syncs:
    """A single sync, or repeated ones. `reports` holds that of the latest sync once it has ended.

    `store` is set once `run` has begun.
    """

    connection: Connection
    verbosity: Verbosity
    to: str
    schema: str | None
    every: float | None
    settings: Mapping[str, Any]
    reports: list[SyncReport] = field(default_factory=list)
    progress: Progress = field(init=False)
    store: Store = field(init=False)

    def __post_init__(self) -> None:
        self.progress = self._new_progress()

    def _new_progress(self) -> Progress:
        from b2b_payments._cli.progress import Progress

        return Progress(self.connection.quota, self.verbosity)

    async def run(self) -> None:
        import anyio

        from b2b_payments import sync
        from b2b_payments._changes.feed import FailedPolls

        failed = FailedPolls()
        # First of all, so that nothing is sent if the database cannot be written.
        self.store = store = sync.store_for(self.to, schema=self.schema)
        async with AsyncExitStack() as stack:
            client = await self.connection.enter(stack, self._listen)
            while self.every is not None:
                await self._sync_round(client, store, failed)
                await anyio.sleep(self.every)
            await self._sync(client, store)

    async def _sync_round(self, client: PaymentsClient, store: Store, failed: FailedPolls) -> None:
        """Sync and print the result. Raises only errors that trying again later does not solve."""
        try:
            await self._sync(client, store)
        except B2BPaymentsError as error:
            # ExportErrors may pass: another sync ends, the database is reachable again.
            if not isinstance(error, ExportError) and not failed.record(error):
                raise
            click.echo(f"{store.place}: not synced this time: {error}", err=True)
        else:
            failed.reset()
            self.print_summary(*self.reports)

    @property
    def state_after_stop(self) -> str:
        kept = f"the copy in {self.store.place} is kept, and the next sync continues it"
        return kept if self.store.exists else f"{self.store.place} was not written"

    def print_summary(self, report: SyncReport) -> None:
        verbosity = self.verbosity
        if not report.complete:
            verbosity = replace(verbosity, quiet=False)
        details = f"{report.waited:.1f} s waited for the quota" if verbosity.verbose else ""
        verbosity.summarize(str(self.store.place), report, self.progress.pace.elapsed, details=details)

    async def _sync(self, client: PaymentsClient, store: Store) -> None:
        from b2b_payments import sync

        self.reports.clear()
        with self._new_progress() as self.progress:
            self.reports.append(await sync.sync(client, store, on_progress=self._advance, **self.settings))

    def _listen(self, event: Event) -> None:
        self.progress.listen(event)

    def _advance(self, report: WalkReport) -> None:
        import attrs

        # How many payments changed is not known before the end, so there is no total to show.
        self.progress.pace.advance(report if report.exact else attrs.evolve(report, total_last=None))
