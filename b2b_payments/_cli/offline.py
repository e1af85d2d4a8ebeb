"""`create-offline` and `update-offline`: an offline payment from options or from JSON."""

from __future__ import annotations

import functools
import re
import shlex
import sys
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from b2b_payments._cli.command import USAGE, Command, CommandError, Handler, with_options
from b2b_payments._cli.connection import Connection, Written, connection_options
from b2b_payments._cli.values import (
    AT_LEAST_ONE,
    TEXT,
    WholeNumber,
    detail,
    line_item,
    new_payments_status,
)
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
        help="The request's body; a file, or - for standard input.",
    ),
    click.option("--customer-id", metavar="ID", type=TEXT, help="The B2B company that pays."),
    click.option("--currency", metavar="CODE", type=TEXT, help="Three letters, such as USD."),
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
        type=TEXT,
        help="An id of yours: it finds the payment should an answer get lost.",
    ),
    click.option("--external-customer-id", metavar="TEXT"),
    click.option("--payer-name", metavar="TEXT"),
    click.option("--payer-customer-id", metavar="ID"),
    click.option(
        "--status",
        "processing_status",
        metavar="STATUS",
        type=new_payments_status,
        help="Processing status, by name or number. [completed]",
    ),
    click.option("--channel", "channel_id", metavar="ID", type=AT_LEAST_ONE),
    click.option("--funding-status", metavar="N", type=WholeNumber(0, 3)),
)


def _payment_options(function: Handler) -> Handler:
    """Return a command the fields of an offline payment, as one argument `payment`."""

    @functools.wraps(function)
    def with_payment(
        *args: Any,
        source: BinaryIO | None,
        line_items: tuple[OfflineLineItem, ...],
        details: tuple[tuple[str, str], ...],
        **others: Any,
    ) -> None:
        from b2b_payments._models import OfflinePayment
        from b2b_payments._models.description import wire_names

        names = others.keys() & wire_names(OfflinePayment).keys()
        fields = {name: value for name in names if (value := others.pop(name)) is not None}
        if line_items:
            _refuse_twice("--line", "invoice", [str(item.invoice_id) for item in line_items])
            fields["line_items"] = line_items
        if details:
            _refuse_twice("--detail", "name", [name for name, _ in details])
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
@click.option(
    "--unless-exists",
    is_flag=True,
    help="Where a payment has this external id, customer, currency and sum already, print its id instead.",
)
@click.option("--yes", is_flag=True, help="Do not look for the external id first, and do not ask.")
@connection_options
def create_offline(connection: Connection, payment: OfflinePayment, unless_exists: bool, yes: bool) -> None:
    """Record an offline payment, once, and print its id.

    Wants --customer-id, --currency and --line, or --json with all of it in the service's own words. Where a
    payment has its external id already, it asks first, on a terminal; elsewhere it wants --unless-exists or
    --yes.
    """
    external_id = payment.external_id if payment.external_id and payment.external_id.strip() else None
    if unless_exists and external_id is None:
        raise click.UsageError(
            "--unless-exists looks for the payment by its external id: give one (--external-id)."
        )
    if unless_exists and yes:
        raise click.UsageError("--unless-exists never asks: leave --yes out.")
    if external_id is not None and not unless_exists and not yes:
        _ask_if_taken(connection, external_id)

    async def work(client: PaymentsClient) -> Written:
        new = await _created(client, payment, unless_exists=unless_exists)
        return Written({"paymentId": new}, f"payment {new} was recorded" if not unless_exists else what)

    what = f"the payment of customer {payment.customer_id} was recorded"
    look = "list --order DESC --limit 20"
    if external_id is not None:
        what = f"the payment with externalId {external_id} was recorded"
        look = shlex.join(["list", "--search-by", "externalId", "--q", external_id])
    connection.write(work, what, look, lags=True)


async def _created(client: PaymentsClient, payment: OfflinePayment, *, unless_exists: bool) -> int:
    from b2b_payments._errors import ExternalIdTakenError

    try:
        return await client.payments.create_offline(payment, unless_exists=unless_exists)
    except ExternalIdTakenError as error:
        pairs = error.differences.items()
        what = [f"{name.removesuffix('_id')} {has}, not {wanted}" for name, (has, wanted) in pairs]
        raise CommandError(
            f"Payment {error.payment_id} has externalId {payment.external_id}, but {enumerated(what)}: "
            "nothing was recorded."
        ) from None


def _ask_if_taken(connection: Connection, external_id: str) -> None:
    """Ask whether to record another payment, where one has this external id. Raises CommandError."""
    taken: list[str] = []

    async def look(client: PaymentsClient) -> None:
        found = await client.payments.list(search_by="externalId", q=external_id).collect()
        same = [one for one in found if one.external_id == external_id]  # a search gives others, too
        taken.extend(f"{one.id} ({one.total.amount} {one.total.currency})" for one in same)

    connection.call(look)
    if not taken:
        return
    who = f"Payment {taken[0]} has" if len(taken) == 1 else f"Payments {enumerated(taken)} have"
    if not sys.stdin.isatty():
        raise CommandError(
            f"{who} externalId {external_id} already: give --unless-exists to record no other, or --yes.",
            USAGE,
        )
    click.confirm(f"{who} externalId {external_id} already. Record another?", abort=True, err=True)


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


def _refuse_twice(option: str, noun: str, given: list[str]) -> None:
    if twice := [one for one, times in Counter(given).items() if times > 1]:
        raise click.UsageError(f"{option} gives the {noun} {twice[0]} more than once: give it once, for all.")


def _from_options(fields: Mapping[str, Any]) -> OfflinePayment:
    from b2b_payments._errors import ConfigurationError
    from b2b_payments._models import OfflinePayment
    from b2b_payments._models.description import wire_names

    wanted = {"customer_id": "--customer-id", "currency": "--currency", "line_items": "--line"}
    if missing := [option for name, option in wanted.items() if name not in fields]:
        raise click.UsageError(f"Give {enumerated(missing)}, or the whole payment with --json.")
    try:
        return OfflinePayment(**fields)
    except ConfigurationError as error:
        names = wire_names(OfflinePayment)
        options = {name: f"--{name.replace('_', '-')}" for name in names} | {"details": "--detail"}
        raise click.UsageError(_renamed(str(error), options)) from None


def _renamed(sentence: str, names: Mapping[str, str]) -> str:
    """Return an error's sentence with other names for the fields than Python's."""
    return re.sub("|".join(names), lambda name: names[name[0]], sentence, count=1)


def _from_json(source: BinaryIO) -> OfflinePayment:
    import msgspec

    from b2b_payments._converter import offline_payment_from
    from b2b_payments._errors import ConfigurationError

    try:
        given = source.read().decode()
        if not given.strip():
            raise ConfigurationError("the file is empty")
        # Amounts may come as numbers: every digit of them counts.
        body = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode(given)
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
        return "it is nested too deep"
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8; save it as that"
    if isinstance(error, msgspec.ValidationError):
        return "it is not an object such as {...}"
    if isinstance(error, msgspec.DecodeError):
        return f"it is not JSON: {error}"
    return _renamed(str(error), wire_names(OfflinePayment) | wire_names(OfflineLineItem))
