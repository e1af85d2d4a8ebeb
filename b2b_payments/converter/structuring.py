"""The way in and out: the service's JSON data ↔ models. cattrs holds the functions, type by type.

Data comes in as the protocol decoded it: dicts, lists, text, and numbers as int, as float where the float
says the digits exactly, else as Decimal. What cannot be read raises `ResponseDecodeError` with the paths of
all places that are wrong, and without what they hold.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from decimal import Decimal
from typing import Any, Final, TypeVar

import attrs
import msgspec
from cattrs import Converter
from cattrs.gen import make_dict_unstructure_fn, override

from b2b_payments.converter import tables
from b2b_payments.converter.kinds import Table, read_each
from b2b_payments.converter.rows import RowReader
from b2b_payments.converter.unreadable import UnreadableError, decode_error
from b2b_payments.converter.values import plain, spelled
from b2b_payments.errors import ConfigurationError
from b2b_payments.models import (
    Channel,
    OfflineLineItem,
    OfflinePayment,
    Payment,
    PaymentOperations,
    Transaction,
)
from b2b_payments.protocol.json import decode_part
from b2b_payments.protocol.listing import Listing

T = TypeVar("T")


def structure_payment(raw: object, path: str = "$.data") -> Payment:
    """Read one payment. Raises `ResponseDecodeError`."""
    return _one(tables.PAYMENT.read, raw, path)


def structure_payments(rows: object, path: str = "$.data") -> list[Payment]:
    """Read a page's payments. Raises `ResponseDecodeError`."""
    return _list(tables.PAYMENT.read, rows, path)


def structure_rows(listing: Listing, places: Sequence[int]) -> Generator[Payment, None, None]:
    """Read the payments at these places of a page, one by one. Raises `ResponseDecodeError`."""
    cut: list[msgspec.Raw] = []

    def otherwise(place: int) -> Payment:
        if not cut:
            cut.extend(listing.rows())
        return structure_payment(decode_part(cut[place]), f"payment {listing.heads[place].id}: $")

    return _rows.read(listing.body, places, otherwise)


def structure_transactions(rows: object, path: str = "$.data") -> list[Transaction]:
    """Read a payment's transactions. Raises `ResponseDecodeError`."""
    return _list(tables.TRANSACTION.read, rows, path)


def structure_channels(rows: object, path: str = "$.data") -> list[Channel]:
    """Read the store's channels. Raises `ResponseDecodeError`."""
    return _list(tables.CHANNEL.read, rows, path)


def structure_operations(raw: object, path: str = "$.data") -> PaymentOperations:
    """Read what a payment allows. Raises `ResponseDecodeError`."""
    return _one(tables.OPERATIONS.read, raw, path)


def to_wire(model: Any) -> dict[str, Any]:
    """Give the service's own JSON object back from a model, equal to what came in.

    Absent stays absent, null stays null, ``""`` stays ``""``, an amount keeps its zeros, and unknown fields
    are there at every level. A number that no float holds exactly comes as its digits in a string. A model
    changed by `attrs.evolve` shows the change; of a model that a caller built, what was left out is left
    out. Nothing in the result is shared with the model, and `json.dumps` takes all of it.
    Raises `ConfigurationError` for what is no model, or holds what has no place in JSON.
    """
    try:
        table = _MODELS[type(model)]
    except KeyError:
        raise ConfigurationError(
            f"to_wire was given {type(model).__name__}: give a payment or another model of this library."
        ) from None
    return table.write(model)


def offline_payment_body(payment: OfflinePayment) -> dict[str, Any]:
    """Give the body that records or changes an offline payment: without nulls, amounts as digits.

    Raises `ConfigurationError` where `details` holds what has no place in JSON.
    """
    body: dict[str, Any] = service_converter.unstructure(payment)
    return body


def _one(read: Callable[[object], T], raw: object, path: str) -> T:
    try:
        return read(raw)
    except UnreadableError as error:
        raise decode_error(error, path) from None


def _list(read: Callable[[object], T], rows: object, path: str) -> list[T]:
    try:
        return list(read_each(read, rows))
    except UnreadableError as error:
        raise decode_error(error, path) from None


_MODELS: Final[dict[type[Any], Table[Any]]] = {
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


def _make_converter() -> Converter:
    converter = Converter(detailed_validation=False)
    for model, table in _MODELS.items():
        converter.register_structure_hook(model, _hook(table.read))
        converter.register_unstructure_hook(model, table.write)
    converter.register_unstructure_hook(Decimal, spelled)
    for request in (OfflineLineItem, OfflinePayment):
        names: dict[str, Any] = {
            field.name: override(rename=_camel_case(field.name)) for field in attrs.fields(request)
        }
        if request is OfflinePayment:
            # The service wants `details` even where there are none [doc].
            names["details"] = override(omit_if_default=False, unstruct_hook=plain)
            names["line_items"] = override(rename="lineItems", unstruct_hook=_each_unstructured(converter))
        unstructure = make_dict_unstructure_fn(request, converter, _cattrs_omit_if_default=True, **names)
        converter.register_unstructure_hook(request, unstructure)
    return converter


def _hook(read: Callable[[object], T]) -> Callable[[object, object], T]:
    return lambda raw, _: _one(read, raw, "$")


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


def _each_unstructured(converter: Converter) -> Callable[[Iterable[object]], list[Any]]:
    return lambda items: [converter.unstructure(item) for item in items]


_rows: Final = RowReader(tables.PAYMENT)

service_converter: Final = _make_converter()
"""The cattrs converter that knows all of the models, alone and in collections."""
