"""One command per endpoint, except for those in `offline`."""

from __future__ import annotations

import functools
import sys
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import click

from b2b_payments._cli import values
from b2b_payments._cli.command import Command, option_with_default
from b2b_payments._cli.connection import (
    Connection,
    WriteResult,
    connection_options,
    outage_option,
    sandbox_option,
)
from b2b_payments._cli.options import filter_options
from b2b_payments._cli.output import show
from b2b_payments._cli.values import AT_LEAST_ONE, PAYMENT_ID, WholeNumber

if TYPE_CHECKING:
    from b2b_payments._client import PaymentsClient
    from b2b_payments._models import Channel, Payment, PaymentOperations, Transaction
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
@click.option("--limit", metavar="N", type=AT_LEAST_ONE, help="Print at most N payments. [all]")
@option_with_default(
    "--sort-by",
    type=click.Choice(_SORT_KEYS),
    default="createdAt",
    help="With a key other than createdAt, payments that change meanwhile may be missed.",
)
@option_with_default(
    "--order",
    type=click.Choice(["ASC", "DESC"], case_sensitive=False),
    default="ASC",
    help="Ascending or descending.",
)
@click.option("--offset", metavar="N", type=WholeNumber(minimum=0), help="Skip N payments first.")
@connection_options
@outage_option
@sandbox_option
def list_(
    connection: Connection,
    selection: Selection,
    limit: int | None,
    sort_by: str,
    order: str,
    offset: int | None,
) -> None:
    """Print payments as the service sends them."""

    async def work(client: PaymentsClient) -> None:
        import attrs

        size = selection.page_size if limit is None else min(limit, selection.page_size)
        # Prefetch no page beyond the limit.
        ahead = selection.concurrency if limit is None else min(selection.concurrency, -(-limit // size))
        query = attrs.evolve(selection.query, sort_by=sort_by, order_by=order)
        limited = attrs.evolve(selection, query=query, page_size=size, concurrency=ahead)
        payments = client.payments.list(**limited.walk, offset=offset or 0)
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
            # After the walk has ended, since any await would let its prefetcher send further requests.
            await show(rows)
        elif not payments.report.complete:
            click.echo(f"Note: {payments.report} ({payments.report.ending}).", err=True)
            return
        if caveat := str(payments.report).partition("; ")[2]:
            click.echo(f"Note: {caveat}.", err=True)

    connection.call(work)


def _printing(request: Callable[..., Awaitable[Any]]) -> Command:
    """Make a command that prints the model, or the list of models, that `request` returns."""

    @functools.wraps(request)
    def command(connection: Connection, **arguments: int) -> None:
        async def work(client: PaymentsClient) -> None:
            from b2b_payments._converter import to_wire

            answer = await request(client, **arguments)
            await show(map(to_wire, answer if isinstance(answer, list) else [answer]))

        connection.call(work)

    return click.command(cls=Command)(connection_options(command))


@_printing
@PAYMENT_ID
async def get(client: PaymentsClient, payment_id: int) -> Payment:
    """Print one payment."""
    return await client.payments.get(payment_id)


@_printing
@PAYMENT_ID
async def operations(client: PaymentsClient, payment_id: int) -> PaymentOperations:
    """Print the operations and statuses that a payment allows."""
    return await client.payments.operations(payment_id)


@_printing
@PAYMENT_ID
async def transactions(client: PaymentsClient, payment_id: int) -> list[Transaction]:
    """Print a payment's transactions."""
    return await client.payments.transactions(payment_id)


@_printing
async def channels(client: PaymentsClient) -> list[Channel]:
    """Print the store's channels. --channel of other commands takes their `channelId`."""
    return await client.channels.list()


@_printing
@click.argument("channel_id", metavar="ID", type=AT_LEAST_ONE)
async def channel(client: PaymentsClient, channel_id: int) -> Channel:
    """Print one channel, by its `channelId`."""
    return await client.channels.get(channel_id)


@click.command(cls=Command)
@PAYMENT_ID
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@connection_options
def delete(connection: Connection, payment_id: int, yes: bool) -> None:
    """Delete a payment.

    Asks for confirmation on a terminal. Without a terminal, --yes is required.
    """
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError(
                f"There is no terminal to ask for confirmation: give --yes to delete payment {payment_id}."
            )
        click.confirm(f"Delete payment {payment_id}?", abort=True, err=True)

    async def work(client: PaymentsClient) -> WriteResult:
        await client.payments.delete(payment_id)
        return WriteResult({"id": payment_id}, effect)

    effect = f"payment {payment_id} was deleted"
    connection.write(work, effect, f"get {payment_id}")


@click.command(cls=Command)
@PAYMENT_ID
@click.argument("operation", type=values.operation)
@connection_options
def perform(connection: Connection, payment_id: int, operation: int) -> None:
    """Perform an operation on a payment, once.

    OPERATION is apply-to-invoices (0), revert-from-invoices (1), pull-from-order (2) or 3 (undocumented).
    """

    async def work(client: PaymentsClient) -> WriteResult:
        await client.payments.perform_operation(payment_id, operation)
        return WriteResult({"id": payment_id}, effect)

    effect = f"operation {operation} on payment {payment_id} was performed"
    connection.write(work, effect, f"operations {payment_id}")


@click.command("set-status", cls=Command)
@PAYMENT_ID
@click.argument("status", type=values.status)
@connection_options
def set_status(connection: Connection, payment_id: int, status: int) -> None:
    """Set a payment's processing status.

    STATUS is awaiting-processing (1), processing (2), completed (3) or refunded (4).
    """

    async def work(client: PaymentsClient) -> WriteResult:
        await client.payments.update_processing_status(payment_id, status)
        return WriteResult({"id": payment_id}, effect)

    effect = f"payment {payment_id} has processing status {status}"
    connection.write(work, effect, f"get {payment_id}")
