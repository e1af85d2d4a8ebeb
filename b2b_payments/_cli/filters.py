"""Which payments, and how to read them: the options that commands share."""

from __future__ import annotations

import functools
from datetime import datetime
from typing import Any

import click

from b2b_payments._cli import values
from b2b_payments._cli.command import Handler, with_options
from b2b_payments._cli.values import AT_LEAST_ONE, MOMENT, TEXT

_SEARCHED = ("id", "customerId", "externalId", "externalCustomerId")
_OPTIONS = (
    click.option(
        "--channel", "channels", metavar="ID", type=AT_LEAST_ONE, multiple=True, help="May be repeated."
    ),
    click.option(
        "--status", metavar="STATUS", type=values.status, help="Processing status, by name or number."
    ),
    click.option("--customer-name", metavar="TEXT", type=TEXT, help="Part of the company's name."),
    click.option("--invoice", metavar="ID", type=AT_LEAST_ONE, help="An invoice that is paid."),
    click.option("--q", metavar="TEXT", type=TEXT, help="Keywords to search for."),
    click.option("--search-by", type=click.Choice(_SEARCHED), help="Where to search for --q. [everywhere]"),
    click.option(
        "--since", metavar="TIME", type=MOMENT, help="Created then or later: a date or a time, UTC. [first]"
    ),
    click.option("--until", metavar="TIME", type=MOMENT, help="Created before then. [last]"),
    click.option("--page-size", metavar="ROWS", type=AT_LEAST_ONE, default=250, show_default=True),
    click.option(
        "--concurrency",
        metavar="N",
        type=AT_LEAST_ONE,
        default=8,
        show_default=True,
        help="Requests in flight at most.",
    ),
)

overlap_option = click.option(
    "--overlap",
    metavar="MINUTES",
    type=values.Number(0, 527_040),
    default=30,
    show_default=True,
    help="How far to read back beyond what was read before: at least as long as the service's lists lag.",
)


def filter_options(function: Handler) -> Handler:
    """Give a command the list's filters and how to read, as one argument `asked`."""

    @functools.wraps(function)
    def filtered(
        *args: Any,
        channels: tuple[int, ...],
        status: int | None,
        customer_name: str | None,
        invoice: int | None,
        q: str | None,
        search_by: str | None,
        since: datetime | None,
        until: datetime | None,
        page_size: int,
        concurrency: int,
        **others: Any,
    ) -> None:
        if search_by is not None and q is None:
            raise click.UsageError("--search-by says where to search: give --q too, what for.")
        from b2b_payments._errors import ConfigurationError
        from b2b_payments._protocol.query import PaymentQuery
        from b2b_payments._walk.window import Window
        from b2b_payments.export._selection import Selection

        try:
            query = PaymentQuery(
                channel_ids=channels or None,
                processing_status=status,
                customer_name=customer_name,
                invoice_id=invoice,
                q=q,
                search_by=search_by,
            )
            window = Window(since, until)
        except ConfigurationError as error:
            raise click.UsageError(str(error)) from None
        function(*args, asked=Selection(query, page_size, concurrency, window), **others)

    return with_options(filtered, _OPTIONS)
