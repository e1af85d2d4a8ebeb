"""Commands for payments: one an endpoint."""

from __future__ import annotations

import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import click

from b2b_payments._cli.command import Command
from b2b_payments._cli.connection import Connection, connection_options
from b2b_payments._cli.filters import filter_options
from b2b_payments._cli.output import show
from b2b_payments._cli.values import AT_LEAST_ONE, WholeNumber, new_status
from b2b_payments._cli.values import operation as operation_code

if TYPE_CHECKING:
    from b2b_payments._client import PaymentsClient

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

payment_id = click.argument("payment_id", metavar="ID", type=AT_LEAST_ONE)


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
@click.option("--offset", metavar="N", type=WholeNumber(min=0), default=0, help="Payments to skip.")
@connection_options
def list_(
    connection: Connection, walk: dict[str, Any], limit: int | None, sort_by: str, order: str, offset: int
) -> None:
    """Print payments, as the service sends them."""

    async def work(client: PaymentsClient) -> None:
        size = walk["page_size"] if limit is None else min(limit, walk["page_size"])
        # No more pages ahead than are wanted.
        ahead = walk["concurrency"] if limit is None else min(walk["concurrency"], -(-limit // size))
        asked = walk | {"page_size": size, "concurrency": ahead}
        payments = client.payments.list(**asked, sort_by=sort_by, order_by=order, offset=offset)
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
@payment_id
@connection_options
def get(connection: Connection, payment_id: int) -> None:
    """Print one payment."""

    async def work(client: PaymentsClient) -> None:
        from b2b_payments._converter import to_wire

        await show([to_wire(await client.payments.get(payment_id))])

    connection.call(work)


@click.command(cls=Command)
@payment_id
@click.option("--yes", is_flag=True, help="Do not ask.")
@connection_options
def delete(connection: Connection, payment_id: int, yes: bool) -> None:
    """Delete a payment.

    Asks first, on a terminal; elsewhere it wants --yes.
    """
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError(
                f"There is no terminal to ask on: give --yes to delete payment {payment_id}."
            )
        click.confirm(f"Delete payment {payment_id}?", abort=True, err=True)

    async def work(client: PaymentsClient) -> None:
        await client.payments.delete(payment_id)
        await show([{"id": payment_id}], done=f"Payment {payment_id} was deleted")

    connection.call(work)


@click.command(cls=Command)
@payment_id
@connection_options
def operations(connection: Connection, payment_id: int) -> None:
    """Print the operations and statuses that a payment allows."""

    async def work(client: PaymentsClient) -> None:
        from b2b_payments._converter import to_wire

        await show([to_wire(await client.payments.operations(payment_id))])

    connection.call(work)


@click.command(cls=Command)
@payment_id
@click.argument("operation", type=operation_code)
@connection_options
def perform(connection: Connection, payment_id: int, operation: int) -> None:
    """Carry out an operation, once.

    OPERATION is apply-to-invoices (0), revert-from-invoices (1), pull-from-order (2), or the undocumented 3.
    """

    async def work(client: PaymentsClient) -> None:
        await client.payments.perform_operation(payment_id, operation)
        await show([{"id": payment_id}], done=f"Payment {payment_id}: the operation was carried out")

    connection.call(work)


@click.command("set-status", cls=Command)
@payment_id
@click.argument("status", type=new_status)
@connection_options
def set_status(connection: Connection, payment_id: int, status: int) -> None:
    """Set a payment's processing status.

    STATUS is awaiting-processing (1), processing (2), completed (3) or refunded (4).
    """

    async def work(client: PaymentsClient) -> None:
        await client.payments.update_processing_status(payment_id, status)
        await show([{"id": payment_id}], done=f"Payment {payment_id} has status {status}")

    connection.call(work)


@click.command(cls=Command)
@payment_id
@connection_options
def transactions(connection: Connection, payment_id: int) -> None:
    """Print a payment's transactions."""

    async def work(client: PaymentsClient) -> None:
        from b2b_payments._converter import to_wire

        await show(map(to_wire, await client.payments.transactions(payment_id)))

    connection.call(work)
