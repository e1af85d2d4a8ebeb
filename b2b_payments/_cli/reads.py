"""Commands that read: one an endpoint."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import click

from b2b_payments._cli.command import Command
from b2b_payments._cli.connection import Connection, connection_options, sandbox_option
from b2b_payments._cli.filters import filter_options
from b2b_payments._cli.output import show
from b2b_payments._cli.values import AT_LEAST_ONE, PAYMENT_ID, WholeNumber

if TYPE_CHECKING:
    from b2b_payments._client import PaymentsClient
    from b2b_payments.export._selection import Selection

_SORT_KEYS = (
    "createdAt",
    "updatedAt",
    "totalAmount",
    "moduleName",
    "customerId",
    "externalCustomerId",
    "processingStatus",
    "appliedStatus",
    "fundingStatus",
)


@click.command("list", cls=Command)
@filter_options
@click.option("--limit", metavar="N", type=AT_LEAST_ONE, help="Payments to print at most. [all]")
@click.option(
    "--sort-by",
    type=click.Choice(_SORT_KEYS),
    default="createdAt",
    show_default=True,
    help="By createdAt nothing is missed; by another key a payment that moves meanwhile may be.",
)
@click.option(
    "--order", type=click.Choice(["ASC", "DESC"], case_sensitive=False), default="ASC", show_default=True
)
@click.option("--offset", metavar="N", type=WholeNumber(least=0), default=0, help="Payments to skip.")
@connection_options
@sandbox_option
def list_(
    connection: Connection, asked: Selection, limit: int | None, sort_by: str, order: str, offset: int
) -> None:
    """Print payments, as the service sends them."""

    async def work(client: PaymentsClient) -> None:
        import attrs

        size = asked.page_size if limit is None else min(limit, asked.page_size)
        # No more pages ahead than are wanted.
        ahead = asked.concurrency if limit is None else min(asked.concurrency, -(-limit // size))
        query = attrs.evolve(asked.query, sort_by=sort_by, order_by=order)
        selection = attrs.evolve(asked, query=query, page_size=size, concurrency=ahead)
        payments = client.payments.list(**selection.walk, offset=offset)
        rows: list[dict[str, Any]] = []
        left = limit
        async with aclosing(payments.raw_pages()) as pages:
            async for page in pages:
                rows = page.items[:left]
                left = None if left is None else left - len(rows)
                if left == 0:
                    break
                await show(rows)
        if left == 0:
            # Not before the walk has ended: what it asks for ahead is sent while something is awaited.
            await show(rows)
            return
        if not payments.report.complete:
            click.echo(f"Note: {payments.report} ({payments.report.ending}).", err=True)

    connection.call(work)


@click.command(cls=Command)
@PAYMENT_ID
@connection_options
def get(connection: Connection, payment_id: int) -> None:
    """Print one payment."""

    async def work(client: PaymentsClient) -> None:
        from b2b_payments._converter import to_wire

        await show([to_wire(await client.payments.get(payment_id))])

    connection.call(work)


@click.command(cls=Command)
@PAYMENT_ID
@connection_options
def operations(connection: Connection, payment_id: int) -> None:
    """Print the operations and statuses that a payment allows."""

    async def work(client: PaymentsClient) -> None:
        from b2b_payments._converter import to_wire

        await show([to_wire(await client.payments.operations(payment_id))])

    connection.call(work)


@click.command(cls=Command)
@PAYMENT_ID
@connection_options
def transactions(connection: Connection, payment_id: int) -> None:
    """Print a payment's transactions."""

    async def work(client: PaymentsClient) -> None:
        from b2b_payments._converter import to_wire

        await show(map(to_wire, await client.payments.transactions(payment_id)))

    connection.call(work)


@click.command(cls=Command)
@connection_options
def channels(connection: Connection) -> None:
    """List the store's channels; `channelId` is what --channel takes."""

    async def work(client: PaymentsClient) -> None:
        from b2b_payments._converter import to_wire

        await show(map(to_wire, await client.channels.list()))

    connection.call(work)


@click.command(cls=Command)
@click.argument("channel_id", metavar="ID", type=AT_LEAST_ONE)
@connection_options
def channel(connection: Connection, channel_id: int) -> None:
    """Print one channel; ID is its `channelId`."""

    async def work(client: PaymentsClient) -> None:
        from b2b_payments._converter import to_wire

        await show([to_wire(await client.channels.get(channel_id))])

    connection.call(work)
