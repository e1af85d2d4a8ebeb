"""`create-offline` and `update-offline`: an offline payment from options or from JSON."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from b2b_payments._cli.command import Command, Handler, with_options
from b2b_payments._cli.connection import Connection, Written, connection_options
from b2b_payments._cli.running import CommandError
from b2b_payments._cli.values import AT_LEAST_ONE, WholeNumber, detail, line_item, new_status, whole

if TYPE_CHECKING:
    from b2b_payments._client import PaymentsClient
    from b2b_payments._models import OfflineLineItem, OfflinePayment

_NAMES = {
    "customerId": "customer_id",
    "currency": "currency",
    "lineItems": "line_items",
    "details": "details",
    "externalId": "external_id",
    "externalCustomerId": "external_customer_id",
    "payerName": "payer_name",
    "payerCustomerId": "payer_customer_id",
    "processingStatus": "processing_status",
    "channelId": "channel_id",
    "fundingStatus": "funding_status",
}
_NUMBERS = frozenset({"processingStatus", "channelId", "fundingStatus"})


_OPTIONS = (
    click.option(
        "--json", "source", type=click.File("rb"), help="The request's body; a file, or - for standard input."
    ),
    click.option("--customer-id", metavar="ID", help="The B2B company that pays."),
    click.option("--currency", metavar="CODE", help="Three letters, such as USD."),
    click.option(
        "--line",
        "line_items",
        metavar="INVOICE=AMOUNT",
        type=line_item,
        multiple=True,
        help="Such as 13=20.00; once for each invoice.",
    ),
    click.option(
        "--detail",
        "details",
        metavar="NAME=TEXT",
        type=detail,
        multiple=True,
        help="Such as memo=Cash; may be repeated.",
    ),
    click.option(
        "--external-id",
        metavar="TEXT",
        help="An id of yours: it finds the payment should an answer get lost.",
    ),
    click.option("--external-customer-id", metavar="TEXT"),
    click.option("--payer-name", metavar="TEXT"),
    click.option("--payer-customer-id", metavar="ID"),
    click.option(
        "--status",
        "processing_status",
        metavar="STATUS",
        type=new_status,
        help="Processing status, by name or number. [completed]",
    ),
    click.option("--channel", "channel_id", metavar="ID", type=AT_LEAST_ONE),
    click.option("--funding-status", metavar="N", type=WholeNumber(0, 3)),
)


def _payment_options(function: Handler) -> Handler:
    """Give a command the fields of an offline payment, as one argument `payment`."""

    @functools.wraps(function)
    def with_payment(
        *args: Any,
        source: BinaryIO | None,
        line_items: tuple[OfflineLineItem, ...],
        details: tuple[tuple[str, str], ...],
        **others: Any,
    ) -> None:
        names = others.keys() & _NAMES.values()
        fields = {name: value for name in names if (value := others.pop(name)) is not None}
        if line_items:
            fields["line_items"] = line_items
        if details:
            fields["details"] = dict(details)
        if source is None:
            payment = _from_options(fields)
        elif fields:
            raise click.UsageError("--json gives the whole payment: leave the other options out.")
        else:
            payment = _from_json(source)
        function(*args, payment=payment, **others)

    return with_options(with_payment, _OPTIONS)


@click.command("create-offline", cls=Command)
@_payment_options
@connection_options
def create_offline(connection: Connection, payment: OfflinePayment) -> None:
    """Record an offline payment, once, and print its id.

    Wants --customer-id, --currency and --line, or --json with all of it in the service's own words.
    """

    async def work(client: PaymentsClient) -> Written:
        new = await client.payments.create_offline(payment)
        return Written({"paymentId": new}, f"payment {new} was recorded")

    what = f"the payment of customer {payment.customer_id} was recorded"
    look = "list --order DESC --limit 20"
    if payment.external_id:
        what = f"the payment with externalId {payment.external_id} was recorded"
        look = shlex.join(["list", "--search-by", "externalId", "--q", payment.external_id])
    connection.write(work, what, look, lags=True)


@click.command("update-offline", cls=Command)
@click.argument("payment_id", metavar="ID", type=AT_LEAST_ONE)
@_payment_options
@connection_options
def update_offline(connection: Connection, payment_id: int, payment: OfflinePayment) -> None:
    """Replace an offline payment by what the options or --json say, and print its id."""

    async def work(client: PaymentsClient) -> Written:
        changed = await client.payments.update_offline(payment_id, payment)
        return Written({"paymentId": changed}, what)

    what = f"payment {payment_id} was replaced"
    connection.write(work, what, f"get {payment_id}")


def _from_options(fields: Mapping[str, Any]) -> OfflinePayment:
    from b2b_payments._errors import ConfigurationError
    from b2b_payments._models import OfflinePayment

    wanted = {"customer_id": "--customer-id", "currency": "--currency", "line_items": "--line"}
    if missing := [option for name, option in wanted.items() if name not in fields]:
        raise click.UsageError(f"Give {', '.join(missing)}, or the whole payment with --json.")
    try:
        return OfflinePayment(**fields)
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from None


def _from_json(source: BinaryIO) -> OfflinePayment:
    import msgspec

    from b2b_payments._errors import ConfigurationError
    from b2b_payments._models import OfflineLineItem, OfflinePayment

    try:
        given = source.read()
        if not given.strip():
            raise ConfigurationError("it is empty")
        # Amounts may come as numbers: every digit of them counts.
        body = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode(given)
        fields: dict[str, Any] = {_name(key, _NAMES): _value(key, value) for key, value in body.items()}
        if missing := [key for key in ("customerId", "currency", "lineItems") if body.get(key) is None]:
            raise ConfigurationError(f"{', '.join(missing)} is missing.")
        if isinstance(body["lineItems"], list):
            fields["line_items"] = [OfflineLineItem(**_line(item)) for item in body["lineItems"]]
        return OfflinePayment(**{name: value for name, value in fields.items() if value is not None})
    # ValueError covers msgspec's own errors, bad UTF-8 and ConfigurationError.
    except (ValueError, RecursionError, ArithmeticError) as error:
        raise CommandError(f"--json: this is no offline payment: {str(error).rstrip('.')}.") from None


def _line(item: object) -> dict[str, Any]:
    from b2b_payments._errors import ConfigurationError

    names = {"invoiceId": "invoice_id", "amount": "amount"}
    if not isinstance(item, dict) or not names.keys() <= item.keys():
        raise ConfigurationError('each of lineItems has to be such as {"invoiceId": 13, "amount": "20.00"}.')
    return {_name(key, names): _number(value) if key == "invoiceId" else value for key, value in item.items()}


def _name(key: str, names: Mapping[str, str]) -> str:
    from b2b_payments._errors import ConfigurationError

    if key not in names:
        raise ConfigurationError(f"{key!r} is unknown; known are {', '.join(names)}.")
    return names[key]


def _value(key: str, value: object) -> object:
    return _number(value) if key in _NUMBERS else value


def _number(value: object) -> object:
    """Take digits in a string as the number that they are: the vendor's own example writes some so [doc]."""
    number = whole(value) if isinstance(value, str) else None
    return value if number is None else number
