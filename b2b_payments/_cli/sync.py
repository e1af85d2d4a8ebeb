"""`sync`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from b2b_payments._cli.command import Command, CommandError, StoppedError, run
from b2b_payments._cli.connection import Connection, connection_options, sandbox_option
from b2b_payments._cli.options import Fleet, Telling, fleet_options, overlap_option, telling_options
from b2b_payments._cli.values import AT_LEAST_ONE, TEXT, Number

if TYPE_CHECKING:
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
    type=TEXT,
    help="The database: .duckdb, or .sqlite, .sqlite3, .db for SQLite, which a first sync makes; or one of "
    "PostgreSQL as postgresql://user@host/name, the password in PGPASSWORD. With --stores, files have {name} "
    "in their path.",
)
@click.option(
    "--schema",
    metavar="NAME",
    type=TEXT,
    help="In PostgreSQL, the schema of the copy, which a first sync makes; with --stores, {name} is in it. "
    "[b2b_payments, or b2b_payments_{name}]",
)
@click.option("--sweep", is_flag=True, help="Read the whole store again, to find what was deleted.")
@overlap_option
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
@click.option(
    "--every",
    metavar="SECONDS",
    type=Number(1, 86_400),
    help="Sync again so long after each sync, until stopped: a copy that one process keeps.",
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
    schema: str | None,
    sweep: bool,
    overlap: float,
    most_lookups: int,
    allow_mass_deletion: bool,
    every: float | None,
) -> None:
    """Keep a database in step with the store.

    The first time every payment is copied, afterwards what changed since. The tables payments and line_items
    have an export's columns; read them between two syncs. Always the whole store is copied, without
    filters. A payment is deleted only when the service itself says that it does not exist. Interrupted, it
    goes on with the next sync. A report follows on standard error; exit code 0 says that the copy is in step.
    """
    settings: dict[str, Any] = {
        "sweep": sweep,
        "overlap": 60 * overlap,
        "most_lookups": most_lookups,
        "allow_mass_deletion": allow_mass_deletion,
    }
    if fleet is not None:
        if connection.sandbox:
            raise click.UsageError("--sandbox is a made-up store: leave --stores out.")
        from b2b_payments._cli import stores

        stores.sync(connection, telling, fleet, to, every=every, schema=schema, **settings)
        return
    syncs = _Syncs(connection, telling, to, schema, every, settings)
    try:
        run(syncs.run)
    except StoppedError as stopped:
        if every is not None or syncs.report is None:
            stopped.left = f": {syncs.left}"
            raise
    except CommandError as failure:
        # Not of a database that is another's, or that could not be opened.
        if syncs.progress is not None and syncs.progress.requests and syncs.store.exists:
            sentence = f"{failure} What {syncs.store.place} holds is kept, and the next sync goes on."
            raise CommandError(sentence, failure.exit_code) from None
        raise
    report = syncs.report
    syncs.conclude()
    click.get_current_context().exit(0 if report is not None and report.complete else 1)


class _Syncs:
    """One sync, or one after the other: `report` is the latest one's, None until it is through.

    `store` is there once it runs.
    """

    store: Store

    def __init__(
        self,
        connection: Connection,
        telling: Telling,
        to: str,
        schema: str | None,
        every: float | None,
        settings: Mapping[str, Any],
    ) -> None:
        self._connection = connection
        self._telling = telling
        self._to = to
        self._schema = schema
        self._every = every
        self._settings = settings
        self._failures = 0
        self.report: SyncReport | None = None
        self.progress: Progress | None = None

    async def run(self) -> None:
        """Sync once, or again and again."""
        import anyio

        from b2b_payments import sync

        # First of all: nothing is sent for a database that cannot be written.
        self.store = store = sync.store_for(self._to, schema=self._schema)
        async with AsyncExitStack() as stack:
            client = await self._connection.enter(stack, self._listen)
            while self._every is not None:
                await self._try(client, store)
                await anyio.sleep(self._every)
            await self._sync(client, store)

    async def _try(self, client: PaymentsClient, store: Store) -> None:
        """Sync, and say what came of it. Raises what waiting does not help."""
        from b2b_payments._changes.feed import may_pass
        from b2b_payments._errors import B2BPaymentsError, ExportError

        try:
            await self._sync(client, store)
        except B2BPaymentsError as error:
            # Another sync's end, and a database that is there again, are waited for.
            if not isinstance(error, ExportError):
                self._failures += 1
                if not may_pass(error, self._failures):
                    raise
            click.echo(f"{store.place}: not synced this time: {error}", err=True)
        else:
            self._failures = 0
            self.conclude()

    @property
    def left(self) -> str:
        """What is left where it is stopped."""
        store = getattr(self, "store", None)
        if store is None:
            return "nothing was written"
        kept = f"the next sync goes on with what {store.place} holds"
        return kept if store.exists else f"{store.place} was not written"

    def conclude(self) -> None:
        """Say what came of the latest sync."""
        report, telling = self.report, self._telling
        if report is None or self.progress is None:
            return
        if not report.complete:
            telling = replace(telling, quiet=False)
        account = f"{report.waited:.1f} s waited for the quota" if telling.verbose else ""
        telling.conclude(str(self.store.place), report, self.progress.seconds, account=account)

    async def _sync(self, client: PaymentsClient, store: Store) -> None:
        from b2b_payments import sync
        from b2b_payments._cli.progress import Progress

        self.report = None
        with Progress(self._connection.quota, self._telling) as self.progress:
            self.report = await sync.sync(client, store, on_progress=self._advance, **self._settings)

    def _listen(self, event: Event) -> None:
        if self.progress is not None:
            self.progress.listen(event)

    def _advance(self, report: WalkReport) -> None:
        import attrs

        if self.progress is not None:
            # How many of the store's payments changed, nobody knows before the end.
            self.progress.advance(report if report.exact else attrs.evolve(report, total_last=None))
