"""Conversion of models: to wire objects, to JSON-ready dicts, and by attrs, copy and pickle."""

from __future__ import annotations

import copy
import json
import pickle
from collections import OrderedDict, UserDict
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import attrs
import pytest

from b2b_payments import (
    Channel,
    ConfigurationError,
    Fee,
    LineItem,
    Money,
    Payment,
    ResponseDecodeError,
    from_wire,
    to_dict,
    to_wire,
)
from b2b_payments._converter import structure_rows
from b2b_payments._protocol.listing import Head, Listing
from tests.support import examples


def from_page(wire: dict[str, Any]) -> Payment:
    """Read a payment from a page's bytes."""
    body = json.dumps({"code": 200, "data": [wire]}).encode()
    [payment] = structure_rows(Listing([Head(id=wire["id"])], body, 0, None, None), [0])
    return payment


def test_from_wire_is_the_inverse_of_to_wire() -> None:
    """The result of `to_wire` is read back into an equal model, for several models."""
    payment = from_wire(Payment, examples.SHOWN_PAYMENT)
    assert from_wire(Payment, to_wire(payment)) == payment
    for model, part in ((Money, payment.total), (LineItem, payment.line_items[0]), (Fee, payment.fees[0])):
        assert from_wire(model, to_wire(part)) == part
    channel = from_wire(Channel, examples.CHANNELS[0])
    assert from_wire(Channel, to_wire(channel)) == channel


def test_numbers_that_no_float_holds_come_back() -> None:
    """An amount that `to_wire` writes as digits in a string is read from it, a bare fee too."""
    number = Decimal("0.12345678901234567890")
    total, fees = {"code": "USD", "value": number}, [number, {"amount": number}]
    payment = from_wire(Payment, {**examples.LISTED_PAYMENT, "total": total, "fees": fees})
    assert from_wire(Payment, json.loads(json.dumps(to_wire(payment)))) == payment
    assert [fee.amount for fee in payment.fees] == [number, number]


def test_from_wire_shares_nothing_with_its_argument() -> None:
    """Changing the wire object afterwards does not change the payment, nor its own wire object."""
    wire = copy.deepcopy(examples.LISTED_PAYMENT)
    payment = from_wire(Payment, wire)
    wire["details"]["memo"] = "other"
    wire["payerName"] = "other"
    assert to_wire(payment) == examples.LISTED_PAYMENT


def test_from_wire_accepts_any_mapping() -> None:
    """Mappings and tuples of other types, at any level, are read like dicts and lists."""
    text = json.dumps(examples.SHOWN_PAYMENT)
    wire: Any = json.loads(text, object_pairs_hook=OrderedDict)
    wire["lineItems"] = tuple(map(MappingProxyType, wire["lineItems"]))
    wire["total"] = UserDict(wire["total"])
    for mapping in (wire, MappingProxyType(wire), UserDict(wire)):
        payment = from_wire(Payment, mapping)
        assert payment == from_wire(Payment, examples.SHOWN_PAYMENT)
        assert json.dumps(to_wire(payment)) == text


def test_from_wire_says_what_is_wrong() -> None:
    """The error has the path of an unreadable value, and a class that is not a model is refused."""
    with pytest.raises(ResponseDecodeError) as caught:
        from_wire(Payment, {**examples.LISTED_PAYMENT, "total": {"code": "USD", "value": "1_000"}})
    assert caught.value.paths == ["$.total.value"]
    with pytest.raises(ConfigurationError, match="from_wire was given dict"):
        from_wire(dict, {})


def test_to_dict_is_ready_for_json() -> None:
    """Amounts are strings with their zeros, times ISO 8601, codes numbers, and names the attributes'."""
    wire = {**examples.SHOWN_PAYMENT, "createdAt": 1618800393}
    payment = from_wire(Payment, wire)
    plain = json.loads(json.dumps(to_dict(payment)))
    assert list(plain) == [field.name for field in attrs.fields(Payment)]
    assert plain["created_at"] == "2021-04-19T02:46:33Z"
    assert plain["total"] == {
        "currency": payment.total.currency, "amount": wire["total"]["value"], "extra": {}
    }  # fmt: skip
    assert plain["processing_status"] == int(payment.processing_status)
    assert plain["fees"][0]["amount"] == "1.5"
    assert plain["line_items"][0]["invoice_id"] == payment.line_items[0].invoice_id
    assert plain["extra"] == dict(payment.extra)
    assert plain["details"] == wire["details"]
    with pytest.raises(ConfigurationError, match="to_dict was given dict"):
        to_dict({})


@pytest.mark.parametrize("read", [lambda wire: from_wire(Payment, wire), from_page], ids=["one", "page"])
def test_attrs_shows_no_private_field(read: Any) -> None:
    """`attrs.asdict` returns the public fields only, with extra as a plain dict, from pages too."""
    fields = attrs.asdict(read(examples.LISTED_PAYMENT))
    assert not [name for name in fields if name.startswith("_")]
    assert set(fields["total"]) == {"currency", "amount", "extra"}
    assert fields["extra"] == {"bcId": "32", "bcGroupName": "Wholesale", "customerBcId": "1417"}


@pytest.mark.parametrize("read", [lambda wire: from_wire(Payment, wire), from_page], ids=["one", "page"])
def test_the_wire_format_survives_copies_and_changes(read: Any) -> None:
    """A copied, pickled or evolved payment is converted back as received, except for changed fields."""
    wire = {**examples.LISTED_PAYMENT, "payerName": None, "fees": {}, "channelId": 1, "new": [1.5]}
    payment = read(wire)
    for other in (copy.copy(payment), copy.deepcopy(payment), pickle.loads(pickle.dumps(payment))):  # noqa: S301
        assert other == payment
        assert to_wire(other) == wire
    item = attrs.evolve(payment.line_items[0], invoice_number="7")
    changed = attrs.evolve(payment, customer_name="x", line_items=[item])
    [sent] = wire["lineItems"]
    assert to_wire(changed) == {**wire, "customerName": "x", "lineItems": [{**sent, "invoiceNumber": "7"}]}


def test_extra_is_read_only() -> None:
    """The unknown fields cannot be changed in place, like everything else in a model.

    Type checkers say so too: an unused `type: ignore` is an error, and so are statements that they take for
    unreachable.
    """
    payment = from_page(examples.LISTED_PAYMENT)
    with pytest.raises(TypeError, match="extra is read-only"):
        payment.extra["a"] = 1  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="extra is read-only"):
        del payment.extra["bcId"]  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="extra is read-only"):
        payment.extra.update(a=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="extra is read-only"):
        payment.total.extra.setdefault("a", 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="extra is read-only"):
        payment.extra.clear()
    assert attrs.evolve(payment, extra={"a": 1}).extra == {"a": 1}


@pytest.mark.parametrize("read", [lambda wire: from_wire(Payment, wire), from_page], ids=["one", "page"])
def test_adding_unknown_fields_changes_only_these(read: Any) -> None:
    """`extra | {...}` keeps the other fields as received: absent, null, empty, and fees that are bare."""
    wire = {**examples.LISTED_PAYMENT, "payerName": None, "details": [], "fees": [1.5], "id": "70", "new": 1}
    del wire["externalId"]
    payment = read(wire)
    changed = attrs.evolve(payment, extra=payment.extra | {"new": True, "x": [1]})
    assert changed.extra == {**payment.extra, "new": 1, "x": [1]}
    for one in (changed, pickle.loads(pickle.dumps(changed))):  # noqa: S301
        assert json.dumps(to_wire(one), sort_keys=True) == json.dumps(
            {**wire, "new": True, "x": [1]}, sort_keys=True
        )
    built = attrs.evolve(changed.total, extra=Money("USD", 1).extra | {"x": 1})
    assert to_wire(built) == {"code": "USD", "value": "30.0000", "x": 1}


@pytest.mark.parametrize("read", [lambda wire: from_wire(Payment, wire), from_page], ids=["one", "page"])
@pytest.mark.parametrize(
    ("sent", "change", "returned"),
    [
        ({"details": {"a": 1}}, {"details": {"a": True}}, {"details": {"a": True}}),
        (
            {"details": {"a": [{"b": 0}]}},
            {"details": {"a": [{"b": False}]}},
            {"details": {"a": [{"b": False}]}},
        ),
        ({"details": {"a": 1, "b": 2}}, {"details": {"b": 2.0, "a": 1}}, {"details": {"a": 1, "b": 2.0}}),
        ({}, {"total": Money("USD", "30.00")}, {"total": {"code": "USD", "value": "30.00"}}),
        ({}, {"applied_status": 1.0}, {"appliedStatus": 1}),
        ({"fees": [1.5]}, {"fees": [Fee(amount="1.50")]}, {"fees": [1.5]}),
        ({"id": "70"}, {"id": 70}, {"id": "70"}),
    ],
)
def test_a_change_to_an_equal_value_is_written(
    read: Any, sent: dict[str, Any], change: dict[str, Any], returned: dict[str, Any]
) -> None:
    """A field changes in the wire object if what is written for it differs, even if the values are equal."""
    wire = {**examples.LISTED_PAYMENT, **sent}
    changed = to_wire(attrs.evolve(read(wire), **change))
    assert json.dumps(changed, sort_keys=True) == json.dumps({**wire, **returned}, sort_keys=True)


def test_a_payment_built_by_a_caller_round_trips() -> None:
    """The wire object of a payment built by a caller has the set fields only, and is read back as equal."""
    time = datetime(2021, 4, 19, tzinfo=UTC)
    payment = Payment(
        id=1, created_at=time, updated_at=time, customer_id="7", processing_status=3, applied_status=0,
        funding_status=2, total=Money("USD", "1.50"), line_items=[LineItem(1, 2)], extra={"new": 1},
    )  # fmt: skip
    assert from_wire(Payment, to_wire(payment)) == payment
    assert to_wire(payment)["lineItems"] == [{"paymentId": 1, "invoiceId": 2}]
    assert to_wire(payment)["new"] == 1
