"""The converter's entry points: the service's JSON data ↔ models.

The input is JSON as the protocol decoded it: dicts, lists, text, and numbers as int, as float if the float
has exactly the digits that were sent, else as Decimal. Unreadable data raises `ResponseDecodeError`, which
has the paths of all unreadable values, but not the values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar, cast

import msgspec

from b2b_payments._converter.rows import RawRow, RowReader, payments_of
from b2b_payments._converter.service import full_converter, reader_of, service_converter, with_changes
from b2b_payments._converter.unreadable import UNREADABLE, UnreadableError, decode_error
from b2b_payments._converter.values import read_whole_number
from b2b_payments._errors import ConfigurationError, ResponseDecodeError, shown, without_data
from b2b_payments._models import OfflinePayment, Payment
from b2b_payments._models.answer_model import check_model, plain
from b2b_payments._models.description import Field, FieldKind, fields_of
from b2b_payments._models.extra import json_of, of_dicts_and_lists
from b2b_payments._models.plain_data import checked_data
from b2b_payments._printable import enumerated, unset_field
from b2b_payments._protocol.json import decode_part, decode_row, encode, members_of, repaired
from b2b_payments._protocol.listing import Listing

T = TypeVar("T")


@without_data
def structure(model: type[T], raw: object, path: str = "$.data") -> T:
    """Read an object. Raises `ResponseDecodeError`."""
    try:
        instance: Any = service_converter.structure(raw, model)
    except UNREADABLE as error:
        raise decode_error(error, path) from None
    instance.extra.source = raw
    return cast("T", instance)


@without_data
def structure_list(model: type[T], rows: object, path: str = "$.data") -> list[T]:
    """Read a list of objects. Raises `ResponseDecodeError`."""
    try:
        if not isinstance(rows, list):
            raise UnreadableError(rows, "a list of objects")
        instances: list[Any] = service_converter.structure(rows, list[model])  # type: ignore[valid-type]
    except UNREADABLE as error:
        raise decode_error(error, path) from None
    for instance, row in zip(instances, rows, strict=True):
        instance.extra.source = row
    return instances


structure_payment = partial(structure, Payment)


@without_data
def structure_row(row: RawRow, *, is_measured: bool = True) -> Payment:
    """Read a payment from its JSON. Raises `ResponseDecodeError`, which names the payment.

    If the limits of its page were not checked, those of the row are.
    """
    decoded = decode_row(row, is_measured=is_measured)
    return structure_payment(decoded, f"payment {decoded.get('id')}: $")


def readable_fields(row: bytes, names: Sequence[str]) -> dict[str, Any]:
    """Return these attributes of a payment, whatever the others are; None for one that cannot be read."""
    members, values = members_of(repaired(row)), dict[str, Any].fromkeys(names)
    for field in fields_of(Payment):
        if field.name in values:
            with suppress(*UNREADABLE, ResponseDecodeError):
                member = members.get(field.wire)
                value = msgspec.UNSET if member is None else decode_part(member)
                values[field.name] = reader_of(field)(value)
    return values


def structure_rows(listing: Listing, places: Sequence[int]) -> Iterator[Payment]:
    """Yield the payments at these positions of a page. Raises `ResponseDecodeError`."""
    return _row_reader.read(listing, places, partial(structure_row, is_measured=False))


def decoded_page(body: bytes, is_awaited: bool) -> Any:
    """Decode a page of payments with its rows, for `structure_rows`, without measuring size and depth first.

    Returns None for a page that nobody waits for yet, a large page, and one with a row that fits no row type.
    """
    return _row_reader.page(body) if is_awaited and len(body) <= _MAX_UNMEASURED_BYTES else None


def to_wire(model: Any) -> dict[str, Any]:
    """Convert a model back to the service's JSON object, equal to the one that was received.

    An absent field stays absent, null stays null, ``""`` stays ``""``, an amount keeps its zeros, and unknown
    fields are kept at every level. A number that no float holds exactly becomes its digits in a string. A
    model changed by `attrs.evolve` shows the change; a model that a caller built omits the fields that were
    not set, and so does one whose `extra` was replaced by another than ``model.extra | {...}``. The result
    works with `json.dumps`, and shares nothing with the model.
    Raises `ConfigurationError` if `model` is not a model, or holds a value that JSON or its field
    cannot have.
    """
    check_model(type(model), "to_wire")
    source = getattr(getattr(model, "extra", None), "source", None)
    if source is None:
        wire: dict[str, Any] = service_converter.unstructure(model)
        return wire
    is_row = isinstance(source, msgspec.Struct)
    original = payments_of([source])[0] if is_row else structure(type(model), source)
    with suppress(TypeError, ValueError):  # of what msgspec cannot encode
        # Equality tells text from times, and JSON tells 1 from True and 30.00 from 30.0000.
        if original == model and encode(original) == encode(model):
            return cast("dict[str, Any]", plain(json_of(source)))
    old, new = full_converter.unstructure(original), full_converter.unstructure(model)
    return cast("dict[str, Any]", with_changes(plain(json_of(source)), old, new))


def from_wire(model: type[T], wire: Mapping[str, Any]) -> T:
    """Read one of the service's JSON objects into a model: the inverse of `to_wire`.

    It accepts every format that the client accepts from the service, and shares nothing with `wire`.
    Raises `ResponseDecodeError` with the paths that cannot be read, `ConfigurationError` if `model` is not a
    model.
    """
    check_model(model, "from_wire")
    return structure(model, of_dicts_and_lists(wire), "$")


def offline_payment_body(payment: OfflinePayment) -> dict[str, Any]:
    """Return the request body that records or changes an offline payment: no nulls, amounts as strings.

    Raises `ConfigurationError` if `payment` is not an OfflinePayment, is only partly initialized, or has
    `details` that JSON cannot represent.
    """
    if not isinstance(payment, OfflinePayment):
        raise ConfigurationError(f"payment is {type(payment).__name__}: give an OfflinePayment.")
    for part in (payment, *getattr(payment, "line_items", ())):
        if (name := unset_field(part)) is not None:
            raise ConfigurationError(f"{type(part).__name__} is incomplete: its {name} is not set.")
    # Checked again, since a dict is mutable; the converter alone would turn its Decimals into floats or text.
    details = checked_data("details", payment.details)
    return {**service_converter.unstructure(payment), "details": details}


def offline_payment_from(body: Mapping[str, Any]) -> OfflinePayment:
    """Read a request body that records or changes an offline payment. Numbers may be digits in a string, as
    some are in the vendor's own example [doc].

    Raises `ConfigurationError`, which says what is missing, unknown or wrong.
    """
    payment: OfflinePayment = _model_from_body(OfflinePayment, body)
    return payment


def _model_from_body(model: Any, body: Mapping[str, Any]) -> Any:
    fields = {field.wire: field for field in fields_of(model)}
    if (unknown := next((name for name in body if name not in fields), None)) is not None:
        raise ConfigurationError(f"{unknown!r} is unknown; the known fields are {', '.join(fields)}.")
    values = {fields[name]: value for name, value in body.items() if value is not None}
    if missing := [name for name, field in fields.items() if field.required and field not in values]:
        verb = "is" if len(missing) == 1 else "are"
        raise ConfigurationError(f"{enumerated(missing)} {verb} missing.")
    return model(**{field.name: _value_from_body(field, value) for field, value in values.items()})


def _value_from_body(field: Field, value: Any) -> Any:
    if field.kind is FieldKind.MODELS:
        if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
            raise ConfigurationError(f"{field.wire} must be a list such as [{_EXAMPLE_ITEM}].")
        return [_model_from_body(field.of, item) for item in value]
    if field.kind not in {FieldKind.WHOLE, FieldKind.CODE}:
        return value
    try:
        return read_whole_number(value)
    except UnreadableError:
        raise ConfigurationError(f"{field.wire} must be a whole number, not {shown(value)}.") from None


_EXAMPLE_ITEM: Final = '{"invoiceId": 13, "amount": "20.00"}'
_row_reader: Final = RowReader()
_MAX_UNMEASURED_BYTES: Final = 2**19
"""A page of at most this size cannot take long to decode."""
