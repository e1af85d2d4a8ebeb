"""`create-offline` and `update-offline`: write an offline payment given by options or as JSON."""

from __future__ import annotations

import shlex
import signal
import sys
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from b2b_payments._cli.command import USAGE, Command, CommandError, on_signals, option_group, with_names
from b2b_payments._cli.connection import Connection, WriteResult, connection_options, outage_option
from b2b_payments._cli.values import (
    AT_LEAST_ONE,
    WholeNumber,
    detail,
    line_item,
    new_payments_status,
    not_blank,
)
from b2b_payments._errors import ConfigurationError, ExternalIdTakenError
from b2b_payments._printable import enumerated

if TYPE_CHECKING:
    from b2b_payments._client import PaymentsClient
    from b2b_payments._models import OfflineLineItem, OfflinePayment

_OPTIONS = (
    click.option(
        "--json",
        "source",
        metavar="FILE",
        type=click.File("rb"),
        help="File with the request body as JSON, or - for standard input.",
    ),
    click.option("--customer-id", metavar="ID", type=not_blank, help="The B2B company that pays."),
    click.option("--currency", metavar="CODE", type=not_blank, help="Three-letter code, such as USD."),
    click.option(
        "--line",
        "line_items",
        metavar="INVOICE=AMOUNT",
        type=line_item,
        multiple=True,
        help="An invoice's id and amount, such as 13=20.00; once per invoice.",
    ),
    click.option(
        "--detail",
        "details",
        metavar="NAME=TEXT",
        type=detail,
        multiple=True,
        help="A detail, such as memo=Cash; may be repeated.",
    ),
    click.option(
        "--external-id",
        metavar="TEXT",
        type=not_blank,
        help="Your own id for the payment; finds it again if the response is lost.",
    ),
    click.option("--external-customer-id", metavar="TEXT", help="The customer's external id."),
    click.option("--payer-name", metavar="TEXT", help="Name of the payer. [Store offline payment]"),
    click.option("--payer-customer-id", metavar="ID", help="Customer id of the payer. [--customer-id]"),
    click.option(
        "--status",
        "processing_status",
        metavar="STATUS",
        type=new_payments_status,
        help="Processing status, by name or number. [completed]",
    ),
    click.option(
        "--channel", "channel_id", metavar="ID", type=AT_LEAST_ONE, help="The channel's id in BigCommerce."
    ),
    click.option("--funding-status", metavar="N", type=WholeNumber(0, 3), help="From 0 to 3. [2]"),
)


def _payment(
    source: BinaryIO | None,
    line_items: tuple[OfflineLineItem, ...],
    details: tuple[tuple[str, str], ...],
    **others: Any,
) -> OfflinePayment:
    fields = {name: value for name, value in others.items() if value is not None}
    if line_items:
        _refuse_repeated("--line", "invoice", [str(item.invoice_id) for item in line_items])
        fields["line_items"] = line_items
    if details:
        _refuse_repeated("--detail", "name", [name for name, _ in details])
        fields["details"] = dict(details)
    if source is None:
        return _from_options(fields)
    if fields:
        raise click.UsageError("--json contains the whole payment: leave the other options out.")
    return _from_json(source)


_payment_options = option_group("payment", _payment, _OPTIONS)


@click.command("create-offline", cls=Command)
@_payment_options
@click.option(
    "--unless-exists",
    is_flag=True,
    help="If a payment with this external id, customer, currency and sum exists, print its id instead.",
)
@click.option("--yes", is_flag=True, help="Do not check first whether the external id is taken.")
@connection_options
@outage_option
def create_offline(connection: Connection, payment: OfflinePayment, unless_exists: bool, yes: bool) -> None:
    """Record an offline payment, once, and print its id.

    Requires --customer-id, --currency and --line, or --json with the whole payment in the service's format.
    If a payment with the same external id exists, asks for confirmation on a terminal; without a terminal,
    --unless-exists or --yes is required.
    """
    external_id = payment.external_id if payment.external_id and payment.external_id.strip() else None
    if unless_exists and external_id is None:
        raise click.UsageError(
            "--unless-exists searches for the payment by its external id: give --external-id."
        )
    if unless_exists and yes:
        raise click.UsageError("--unless-exists never asks for confirmation: leave --yes out.")
    if external_id is not None and not unless_exists and not yes:
        _confirm_if_taken(connection, external_id)

    async def work(client: PaymentsClient) -> WriteResult:
        new = await _create(client, payment, unless_exists=unless_exists)
        return WriteResult({"paymentId": new}, f"payment {new} was recorded" if not unless_exists else effect)

    effect = f"the payment of customer {payment.customer_id} was recorded"
    check = "list --order DESC --limit 20"
    if external_id is not None:
        effect = f"the payment with externalId {external_id} was recorded"
        check = shlex.join(["list", "--search-by", "externalId", "--q", external_id])
    connection.write(work, effect, check, lags=True)


async def _create(client: PaymentsClient, payment: OfflinePayment, *, unless_exists: bool) -> int:
    try:
        return await client.payments.create_offline(payment, unless_exists=unless_exists)
    except ExternalIdTakenError as error:
        pairs = error.differences.items()
        differences = [f"its {name.removesuffix('_id')} is {old}, not {new}" for name, (old, new) in pairs]
        raise CommandError(
            f"Payment {error.payment_id} has externalId {payment.external_id}, "
            f"but {enumerated(differences)}: nothing was recorded."
        ) from None


def _confirm_if_taken(connection: Connection, external_id: str) -> None:
    """If the external id is taken, ask for confirmation. Raises CommandError without a terminal."""
    taken: list[str] = []

    async def search(client: PaymentsClient) -> None:
        found = await client.payments.list(search_by="externalId", q=external_id).collect()
        same = [one for one in found if one.external_id == external_id]  # others match, too
        taken.extend(f"{one.id} ({one.total.amount} {one.total.currency})" for one in same)

    connection.call(search)
    on_signals(signal.SIG_DFL)  # since the command goes on
    if not taken:
        return
    subject = f"Payment {taken[0]} has" if len(taken) == 1 else f"Payments {enumerated(taken)} have"
    if not sys.stdin.isatty():
        raise CommandError(
            f"{subject} externalId {external_id} already: give --unless-exists, or --yes to record another.",
            USAGE,
        )
    click.confirm(f"{subject} externalId {external_id} already. Record another?", abort=True, err=True)


@click.command("update-offline", cls=Command)
@click.argument("payment_id", metavar="ID", type=AT_LEAST_ONE)
@_payment_options
@connection_options
def update_offline(connection: Connection, payment_id: int, payment: OfflinePayment) -> None:
    """Replace an offline payment and print its id. The options or --json give its whole new content."""

    async def work(client: PaymentsClient) -> WriteResult:
        changed = await client.payments.update_offline(payment_id, payment)
        return WriteResult({"paymentId": changed}, effect)

    effect = f"payment {payment_id} was replaced"
    connection.write(work, effect, f"get {payment_id}")


def _refuse_repeated(option: str, noun: str, names: list[str]) -> None:
    if repeated := [name for name, times in Counter(names).items() if times > 1]:
        raise click.UsageError(f"{option} has the {noun} {repeated[0]} more than once: combine them.")


def _from_options(fields: Mapping[str, Any]) -> OfflinePayment:
    from b2b_payments._models import OfflinePayment
    from b2b_payments._models.description import wire_names

    required = {"customer_id": "--customer-id", "currency": "--currency", "line_items": "--line"}
    if missing := [option for name, option in required.items() if name not in fields]:
        raise click.UsageError(f"Give {enumerated(missing)}, or the whole payment with --json.")
    try:
        return OfflinePayment(**fields)
    except ConfigurationError as error:
        names = wire_names(OfflinePayment)
        options = {name: f"--{name.replace('_', '-')}" for name in names} | {"details": "--detail"}
        raise click.UsageError(with_names(str(error), options)) from None


def _from_json(source: BinaryIO) -> OfflinePayment:
    import msgspec

    from b2b_payments._converter import offline_payment_from

    try:
        text = source.read().decode()
        if not text.strip():
            raise ConfigurationError("the file is empty")
        # Amounts may be JSON numbers, and every digit counts.
        body = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode(text)
        return offline_payment_from(body)
    # ValueError covers msgspec's errors, bad UTF-8 and ConfigurationError.
    except (OSError, ValueError, RecursionError, ArithmeticError) as error:
        raise CommandError(
            f"--json {getattr(source, 'name', '-')}: {_reason(error).rstrip('.')}.", USAGE
        ) from None


def _reason(error: Exception) -> str:
    import msgspec

    from b2b_payments._models import OfflineLineItem, OfflinePayment
    from b2b_payments._models.description import wire_names

    if isinstance(error, OSError):
        return f"it could not be read: {error.strerror}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8; save it as UTF-8"
    if isinstance(error, msgspec.ValidationError):
        return "it is not a JSON object such as {...}"
    if isinstance(error, msgspec.DecodeError):
        return f"it is not JSON: {error}"
    return with_names(str(error), wire_names(OfflinePayment) | wire_names(OfflineLineItem))
