"""The way in and out: the service's JSON data ↔ models.

Data comes in as the protocol decoded it: dicts, lists, text, and numbers as int, as float where the float
says the digits exactly, else as Decimal. What cannot be read raises `ResponseDecodeError` with the paths of
all places that are wrong, and without what they hold.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar, cast

import msgspec

from b2b_payments._converter.rows import RowReader, payment_of
from b2b_payments._converter.service import as_sent, service_converter, whole_converter
from b2b_payments._converter.unreadable import UNREADABLE, UnreadableError, decode_error
from b2b_payments._converter.values import read_whole_number
from b2b_payments._errors import ConfigurationError, ResponseDecodeError, shown
from b2b_payments._models import OfflinePayment, Payment
from b2b_payments._models.answer_model import check_model, plain
from b2b_payments._models.description import Field, FieldKind, fields_of
from b2b_payments._models.extra import json_of
from b2b_payments._models.plain_data import checked_data
from b2b_payments._printable import enumerated, unset_field
from b2b_payments._protocol.json import decode
from b2b_payments._protocol.listing import Listing

T = TypeVar("T")


def structure(model: type[T], raw: object, path: str = "$.data") -> T:
    """Read an object. Raises `ResponseDecodeError`."""
    try:
        made: Any = service_converter.structure(raw, model)
    except UNREADABLE as error:
        failure = decode_error(error, path)
    else:
        made.extra.sent = raw
        return cast("T", made)
    del raw  # a traceback's local variables would show what was sent
    raise failure


def structure_list(model: type[T], rows: object, path: str = "$.data") -> list[T]:
    """Read a list of objects. Raises `ResponseDecodeError`."""
    try:
        if not isinstance(rows, list):
            raise UnreadableError(rows, "a list of objects")
        made: list[Any] = service_converter.structure(rows, list[model])  # type: ignore[valid-type]
    except UNREADABLE as error:
        failure = decode_error(error, path)
    else:
        for one, sent in zip(made, rows, strict=True):
            one.extra.sent = sent
        return made
    del rows
    raise failure


# Without a frame of its own, whose local variables a traceback would show.
structure_payment = partial(structure, Payment)


def structure_rows(listing: Listing, places: Sequence[int]) -> Iterator[Payment]:
    """Read the payments at these places of a page, one by one. Raises `ResponseDecodeError`."""

    def otherwise(place: int, sent: bytes | msgspec.Raw) -> Payment:
        try:
            # As deep as in its page: in an object, in a list.
            return structure_payment(decode(b"[[%b]]" % sent)[0][0], f"payment {listing.heads[place].id}: $")
        except ResponseDecodeError:
            del sent  # a traceback's local variables would show it
            raise

    return _row_reader.read(listing, places, otherwise)


def decoded_page(body: bytes, is_awaited: bool) -> Any:
    """Return a page of payments with its rows decoded, for `structure_rows`, without measuring it before.

    None for one that nobody waits for yet, for a large one, and where one of its rows does not fit.
    """
    return _row_reader.page(body) if is_awaited and len(body) <= _MOST_UNMEASURED else None


def to_wire(model: Any) -> dict[str, Any]:
    """Return the service's own JSON object back from a model, equal to what came in.

    Absent stays absent, null stays null, ``""`` stays ``""``, an amount keeps its zeros, and unknown fields
    are there at every level. A number that no float holds exactly comes as its digits in a string. A model
    changed by `attrs.evolve` shows the change; of a model that a caller built, what was left out is left
    out. Nothing in the result is shared with the model, and `json.dumps` takes all of it.
    Raises `ConfigurationError` for what is no model, or holds what has no place in JSON.
    """
    check_model(type(model), "to_wire")
    sent = getattr(getattr(model, "extra", None), "sent", None)
    if sent is None:
        wire: dict[str, Any] = service_converter.unstructure(model)
        return wire
    was = payment_of(sent) if isinstance(sent, msgspec.Struct) else structure(type(model), sent)
    wire = plain(json_of(sent))
    if was != model:
        wire = as_sent(wire, whole_converter.unstructure(was), whole_converter.unstructure(model))
    return wire


def from_wire(model: type[T], wire: Mapping[str, Any]) -> T:
    """Read one of the service's JSON objects, such as `to_wire` gave, into a model: the inverse of `to_wire`.

    Every spelling that the client tolerates is read. Nothing in the model is shared with `wire`.
    Raises `ResponseDecodeError` with the places that cannot be read, `ConfigurationError` for a class that is
    no model.
    """
    check_model(model, "from_wire")
    return structure(model, copy.deepcopy(wire), "$")


def offline_payment_body(payment: OfflinePayment) -> dict[str, Any]:
    """Return the body that records or changes an offline payment: without nulls, amounts as digits.

    Raises `ConfigurationError` for a payment that is none or half made, and where `details` holds what has no
    place in JSON.
    """
    if not isinstance(payment, OfflinePayment):
        raise ConfigurationError(f"payment is {type(payment).__name__}: give an OfflinePayment.")
    for part in (payment, *getattr(payment, "line_items", ())):
        if (name := unset_field(part)) is not None:
            raise ConfigurationError(f"{type(part).__name__} is half made: its {name} is not set.")
    # Checked again, since a dict can change; and exact, since a body's numbers have all their digits.
    details = checked_data("details", payment.details)
    return {**service_converter.unstructure(payment), "details": details}


def offline_payment_from(body: Mapping[str, Any]) -> OfflinePayment:
    """Read the body that records or changes an offline payment. A number may come as its digits: the vendor's
    own example writes some so [doc].

    Raises `ConfigurationError` that says what is missing, unknown or wrong.
    """
    payment: OfflinePayment = _asked_for(OfflinePayment, body)
    return payment


def _asked_for(model: Any, body: Mapping[str, Any]) -> Any:
    fields = {field.wire: field for field in fields_of(model)}
    if (odd := next((name for name in body if name not in fields), None)) is not None:
        raise ConfigurationError(f"{odd!r} is unknown; known are {', '.join(fields)}.")
    given = {fields[name]: value for name, value in body.items() if value is not None}
    if missing := [name for name, field in fields.items() if field.required and field not in given]:
        verb = "is" if len(missing) == 1 else "are"
        raise ConfigurationError(f"{enumerated(missing)} {verb} missing.")
    return model(**{field.name: _given(field, value) for field, value in given.items()})


def _given(field: Field, value: Any) -> Any:
    if field.kind is FieldKind.MODELS:
        if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
            raise ConfigurationError(f"{field.wire} has to be a list such as [{_LINE}].")
        return [_asked_for(field.of, item) for item in value]
    if field.kind not in {FieldKind.WHOLE, FieldKind.CODE}:
        return value
    try:
        return read_whole_number(value)
    except UnreadableError:
        raise ConfigurationError(f"{field.wire} has to be a whole number, not {shown(value)}.") from None


_LINE: Final = '{"invoiceId": 13, "amount": "20.00"}'
_row_reader: Final = RowReader()
_MOST_UNMEASURED: Final = 2**19
"""Bytes of a page that cannot hold so much that decoding it takes long."""
