"""Commands that write: one an endpoint. Those for offline payments stand in `offline`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from b2b_payments._cli import values
from b2b_payments._cli.command import Command
from b2b_payments._cli.connection import Connection, Written, connection_options
from b2b_payments._cli.values import PAYMENT_ID

if TYPE_CHECKING:
    from b2b_payments._client import PaymentsClient


@click.command(cls=Command)
@PAYMENT_ID
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

    async def work(client: PaymentsClient) -> Written:
        await client.payments.delete(payment_id)
        return Written({"id": payment_id}, what)

    what = f"payment {payment_id} was deleted"
    connection.write(work, what, f"get {payment_id}")


@click.command(cls=Command)
@PAYMENT_ID
@click.argument("operation", type=values.operation)
@connection_options
def perform(connection: Connection, payment_id: int, operation: int) -> None:
    """Carry out an operation, once.

    OPERATION is apply-to-invoices (0), revert-from-invoices (1), pull-from-order (2), or the undocumented 3.
    """

    async def work(client: PaymentsClient) -> Written:
        await client.payments.perform_operation(payment_id, operation)
        return Written({"id": payment_id}, what)

    what = f"operation {operation} on payment {payment_id} was carried out"
    connection.write(work, what, f"operations {payment_id}")


@click.command("set-status", cls=Command)
@PAYMENT_ID
@click.argument("status", type=values.status)
@connection_options
def set_status(connection: Connection, payment_id: int, status: int) -> None:
    """Set a payment's processing status.

    STATUS is awaiting-processing (1), processing (2), completed (3) or refunded (4).
    """

    async def work(client: PaymentsClient) -> Written:
        await client.payments.update_processing_status(payment_id, status)
        return Written({"id": payment_id}, what)

    what = f"payment {payment_id} has processing status {status}"
    connection.write(work, what, f"get {payment_id}")
