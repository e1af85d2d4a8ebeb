"""The way in and out: the service's JSON data ↔ models. cattrs holds the functions, type by type.

Data comes in as the protocol decoded it: dicts, lists, text, and numbers as int, as float where the float
says the digits exactly, else as Decimal. What cannot be read raises `ResponseDecodeError` with the paths of
all places that are wrong, and without what they hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, Final, TypeVar

import attrs
from cattrs import Converter
from cattrs.gen import make_dict_unstructure_fn, override

from b2b_payments.converter import tables
from b2b_payments.converter.kinds import read_each
from b2b_payments.converter.unreadable import UnreadableError, decode_error
from b2b_payments.converter.values import plain, spelled
from b2b_payments.errors import ConfigurationError
from b2b_payments.models import (
    Card,
    Channel,
    Fee,
    LineItem,
    Money,
    OfflineLineItem,
    OfflinePayment,
    Payment,
    PaymentOperations,
    Transaction,
)

T = TypeVar("T")


def structure_payment(raw: object, path: str = "$.data") -> Payment:
    """Read one payment. Raises `ResponseDecodeError`."""
    return _one(tables.read_payment, raw, path)


def structure_payments(rows: object, path: str = "$.data") -> list[Payment]:
    """Read a page's payments. Raises `ResponseDecodeError`."""
    return _list(tables.read_payment, rows, path)


def structure_transactions(rows: object, path: str = "$.data") -> list[Transaction]:
    """Read a payment's transactions. Raises `ResponseDecodeError`."""
    return _list(tables.read_transaction, rows, path)


def structure_channels(rows: object, path: str = "$.data") -> list[Channel]:
    """Read the store's channels. Raises `ResponseDecodeError`."""
    return _list(tables.read_channel, rows, path)


def structure_operations(raw: object, path: str = "$.data") -> PaymentOperations:
    """Read what a payment allows. Raises `ResponseDecodeError`."""
    return _one(tables.read_operations, raw, path)


def to_wire(model: Any) -> dict[str, Any]:
    """Give the service's own JSON object back from a model, equal to what came in.

    Absent stays absent, null stays null, ``""`` stays ``""``, an amount keeps its zeros, and unknown fields
    are there at every level. A number that no float holds exactly comes as its digits in a string. A model
    changed by `attrs.evolve` shows the change; of a model that a caller built, what was left out is left
    out. Nothing in the result is shared with the model, and `json.dumps` takes all of it.
    Raises `ConfigurationError` for what is no model, or holds what has no place in JSON.
    """
    try:
        _, write = _MODELS[type(model)]
    except KeyError:
        raise ConfigurationError(
            f"to_wire was given {type(model).__name__}: give a payment or another model of this library."
        ) from None
    return write(model)


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


_MODELS: Final[dict[type[Any], tuple[Callable[[object], Any], Callable[[Any], dict[str, Any]]]]] = {
    Card: (tables.read_card, tables.write_card),
    Channel: (tables.read_channel, tables.write_channel),
    Fee: (tables.read_fee, tables.write_fee),
    LineItem: (tables.read_line_item, tables.write_line_item),
    Money: (tables.read_money, tables.write_money),
    Payment: (tables.read_payment, tables.write_payment),
    PaymentOperations: (tables.read_operations, tables.write_operations),
    Transaction: (tables.read_transaction, tables.write_transaction),
}


def _make_converter() -> Converter:
    converter = Converter(detailed_validation=False)
    for model, (read, write) in _MODELS.items():
        converter.register_structure_hook(model, _hook(read))
        converter.register_unstructure_hook(model, write)
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


service_converter: Final = _make_converter()
"""The cattrs converter that knows all of the models, alone and in collections."""
