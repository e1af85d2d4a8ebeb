"""`verify`."""

from __future__ import annotations

import click

from b2b_payments._cli.command import Command, CommandError
from b2b_payments._cli.values import TEXT


@click.command(cls=Command)
@click.argument("file", metavar="FILE", type=TEXT)
def verify(file: str) -> None:
    """Check an exported file against its manifest.

    The bytes' hashes (of a database: the rows'), the number of payments, that none is there twice, and the
    totals per currency and processing status. Exit code 0 says that all of it is as it was exported.
    """
    from b2b_payments._errors import B2BPaymentsError
    from b2b_payments._printable import counted
    from b2b_payments.export import verify

    try:
        account = verify(file).account
    except B2BPaymentsError as error:
        raise CommandError(str(error)) from None
    state = "complete" if account.complete else "not known to be complete"
    totals = ", ".join(
        f"{total:,f} {currency}" for currency, total in sorted(account.sums.whole.totals.items())
    )
    payments = counted(account.sums.whole.rows, "payment")
    click.echo(f"{file}: as it was exported, {state}: {payments}, {totals or 'nothing'}.")
