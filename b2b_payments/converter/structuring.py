"""The way in and out: the service's JSON data ↔ models.

Data comes in as the protocol decoded it: dicts, lists, text, and numbers as int, as float where the float
says the digits exactly, else as Decimal. What cannot be read raises `ResponseDecodeError` with the paths of
all places that are wrong, and without what they hold.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import msgspec

from b2b_payments.converter import tables
from b2b_payments.converter.kinds import Table, read_each
from b2b_payments.converter.rows import RowReader
from b2b_payments.converter.unreadable import UnreadableError, decode_error
from b2b_payments.errors import ConfigurationError
from b2b_payments.models import OfflinePayment, Payment
from b2b_payments.protocol.json import decode_part
from b2b_payments.protocol.listing import Listing

T = TypeVar("T")


def structure(table: Table[T], raw: object, path: str = "$.data") -> T:
    """Read one of a table's objects. Raises `ResponseDecodeError`."""
    try:
        return table.read(raw)
    except UnreadableError as error:
        failure = decode_error(error, path)
    del raw  # a traceback's local variables would show what was sent
    raise failure


def structure_list(table: Table[T], rows: object, path: str = "$.data") -> list[T]:
    """Read a list of a table's objects. Raises `ResponseDecodeError`."""
    try:
        return list(read_each(table.read, rows))
    except UnreadableError as error:
        failure = decode_error(error, path)
    del rows
    raise failure


# Without a frame of their own, whose local variables a traceback would show.
structure_payment = partial(structure, tables.PAYMENT)
structure_payments = partial(structure_list, tables.PAYMENT)
structure_transactions = partial(structure_list, tables.TRANSACTION)
structure_channel = partial(structure, tables.CHANNEL)
structure_channels = partial(structure_list, tables.CHANNEL)
structure_operations = partial(structure, tables.OPERATIONS)


def structure_rows(listing: Listing, places: Sequence[int]) -> Generator[Payment, None, None]:
    """Read the payments at these places of a page, one by one. Raises `ResponseDecodeError`."""
    cut: list[msgspec.Raw] = []

    def otherwise(place: int) -> Payment:
        if not cut:
            cut.extend(listing.rows())
        return structure_payment(decode_part(cut[place]), f"payment {listing.heads[place].id}: $")

    return _rows.read(listing.body, places, otherwise)


def to_wire(model: Any) -> dict[str, Any]:
    """Give the service's own JSON object back from a model, equal to what came in.

    Absent stays absent, null stays null, ``""`` stays ``""``, an amount keeps its zeros, and unknown fields
    are there at every level. A number that no float holds exactly comes as its digits in a string. A model
    changed by `attrs.evolve` shows the change; of a model that a caller built, what was left out is left
    out. Nothing in the result is shared with the model, and `json.dumps` takes all of it.
    Raises `ConfigurationError` for what is no model, or holds what has no place in JSON.
    """
    try:
        table = MODELS[type(model)]
    except KeyError:
        raise ConfigurationError(
            f"to_wire was given {type(model).__name__}: give a payment or another model of this library."
        ) from None
    return table.write(model)


def offline_payment_body(payment: OfflinePayment) -> dict[str, Any]:
    """Give the body that records or changes an offline payment: without nulls, amounts as digits.

    Raises `ConfigurationError` where `details` holds what has no place in JSON.
    """
    if not isinstance(payment, OfflinePayment):
        raise ConfigurationError(f"payment is {type(payment).__name__}: give an OfflinePayment.")
    # Takes a while to load, and most programs only read.
    from b2b_payments.converter.service import service_converter  # noqa: PLC0415

    body: dict[str, Any] = service_converter.unstructure(payment)
    return body


MODELS: Final[dict[type[Any], Table[Any]]] = {
    table.model: table
    for table in (
        tables.CARD,
        tables.CHANNEL,
        tables.FEE,
        tables.LINE_ITEM,
        tables.MONEY,
        tables.PAYMENT,
        tables.OPERATIONS,
        tables.TRANSACTION,
    )
}

_rows: Final = RowReader(tables.PAYMENT)
