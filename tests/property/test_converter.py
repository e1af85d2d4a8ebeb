"""Any data from the service is either converted back to equal data, or refused with the path of the fault."""

from __future__ import annotations

import copy
import json
import pickle
from decimal import Decimal
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2b_payments._converter import (
    from_wire,
    structure_list,
    structure_payment,
    structure_rows,
    to_wire,
)
from b2b_payments._errors import ResponseDecodeError
from b2b_payments._models import Payment, Transaction
from b2b_payments._models.decimals import EXACT
from b2b_payments._models.moment import microseconds_of
from b2b_payments._protocol.json import decode, encode
from b2b_payments._protocol.listing import Head, Listing
from b2b_payments._walk.page import Order, keyed
from tests.support.examples import LISTED_PAYMENT
from tests.support.strategies import (
    REQUIRED,
    bare_fees,
    fees,
    json_values,
    long_numbers,
    payments,
    transactions,
)


@pytest.mark.slow
@given(payments)
def test_a_payment_round_trips(wire: dict[str, Any]) -> None:
    """A payment's wire object equals the one that was read, format included, and the input is not changed."""
    before = copy.deepcopy(wire)
    payment = structure_payment(wire)
    assert json.loads(json.dumps(to_wire(payment))) == wire == before


@pytest.mark.slow
@given(payments, st.lists(fees | bare_fees, max_size=3), long_numbers | json_values)
def test_a_payment_is_read_from_its_wire_object(
    wire: dict[str, Any], all_fees: list[object], detail: object
) -> None:
    """A payment is read back from its wire object unchanged, but for a detail that no float holds exactly."""
    payment = structure_payment(decode(encode({**wire, "fees": all_fees, "details": {"x": detail}})))
    again = from_wire(Payment, to_wire(payment))
    assert to_wire(again) == to_wire(payment)
    assert json.loads(json.dumps(to_wire(payment))) == to_wire(payment)
    assert attrs.evolve(again, details=payment.details) == payment
    assert isinstance(detail, Decimal) or again == payment


@pytest.mark.slow
@given(st.lists(payments, min_size=1, max_size=4))
def test_a_page_is_read_like_its_objects(rows: list[dict[str, Any]]) -> None:
    """Payments read from a page's bytes equal those read from its objects, and have the same wire objects."""
    body = json.dumps({"code": 200, "data": rows}).encode()
    listing = Listing([Head(id=row["id"]) for row in rows], body, 0, None, None)
    read = list(structure_rows(listing, range(len(rows))))
    assert read == [structure_payment(row) for row in decode(body)["data"]]
    assert [to_wire(payment) for payment in read] == rows


@pytest.mark.slow
@given(transactions)
def test_a_transaction_round_trips(wire: dict[str, Any]) -> None:
    """A transaction of any shape is read, and converted back to an equal wire object."""
    [transaction] = structure_list(Transaction, [wire])
    assert to_wire(transaction) == wire


@pytest.mark.slow
@given(payments)
def test_copies_are_equal_and_have_the_same_wire_object(wire: dict[str, Any]) -> None:
    """A pickled or copied payment equals the original, and has the same hash and wire object."""
    payment = structure_payment(wire)
    for other in (pickle.loads(pickle.dumps(payment)), copy.copy(payment), copy.deepcopy(payment)):  # noqa: S301
        assert other == payment
        assert hash(other) == hash(payment)
        assert to_wire(other) == to_wire(payment)


PLACES: list[tuple[str | int, ...]] = [
    *((field,) for field in LISTED_PAYMENT),
    ("total", "code"),
    ("total", "value"),
    ("lineItems", 0),
    ("lineItems", 0, "invoiceId"),
    ("lineItems", 0, "amount"),
    ("lineItems", 0, "amount", "value"),
]
"""Paths in the example payment."""

_ORDER = Order("created_at", descending=False)
junk = json_values | st.floats() | st.decimals() | st.integers() | st.text(alphabet="0123456789eE+-._ NaInf")


def read_or_refuse(wire: dict[str, Any]) -> Payment | ResponseDecodeError:
    """Return the payment, or the error that reading it raises."""
    try:
        [payment] = structure_list(Payment, [wire])
    except ResponseDecodeError as error:
        return error
    return payment


@given(st.sampled_from(PLACES), junk)
def test_junk_anywhere_is_read_or_located(place: tuple[str | int, ...], value: object) -> None:
    """Junk anywhere results in a payment, or in an error whose paths are all at the junk or below it."""
    wire = copy.deepcopy(LISTED_PAYMENT)
    holder: Any = wire
    for step in place[:-1]:
        holder = holder[step]
    holder[place[-1]] = value
    where = "$.data[0]" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)
    outcome = read_or_refuse(wire)
    if isinstance(outcome, Payment):
        json.dumps(to_wire(outcome))
    else:
        assert outcome.paths
        assert all(path.startswith(where) for path in outcome.paths)
        assert outcome.paths[0] in str(outcome)


@given(st.sampled_from(PLACES), json_values)
def test_junk_in_a_page_is_read_as_in_an_object(place: tuple[str | int, ...], value: object) -> None:
    """Reading a row with junk from a page's bytes has the same outcome as reading its object."""
    wire = copy.deepcopy(LISTED_PAYMENT)
    holder: Any = wire
    for step in place[:-1]:
        holder = holder[step]
    holder[place[-1]] = value
    body = json.dumps({"code": 200, "data": [LISTED_PAYMENT, wire]}).encode()
    listing = Listing([Head(id=1), Head(id=2)], body, 0, None, None)
    outcome = read_or_refuse(decode(body)["data"][1])
    rows = structure_rows(listing, [0, 1])
    assert to_wire(next(rows)) == LISTED_PAYMENT
    if isinstance(outcome, Payment):
        read = next(rows)
        assert read == outcome
        assert to_wire(read) == to_wire(outcome)
    else:
        with pytest.raises(ResponseDecodeError) as caught:
            next(rows)
        assert [path.partition("$")[2] for path in caught.value.paths] == [
            path.partition("data[0]")[2] for path in outcome.paths
        ]


@given(
    junk | st.integers(-(10**19), 10**19).map(str) | st.sampled_from(["+7", 7.0, "07"]),
    junk | st.datetimes().map(str) | st.sampled_from(["2024-05-01T12:00:00.25+02:00", "2024-05-01 12:00Z"]),
)
def test_an_id_and_a_time_that_a_payment_has_are_read_in_a_list(payment_id: object, created: object) -> None:
    """A walk reads every id and time that the converter reads, as the same number and the same instant."""
    wire = LISTED_PAYMENT | {"id": payment_id, "createdAt": created}
    payment = read_or_refuse(wire)
    if isinstance(payment, Payment):
        page = keyed(
            Listing([Head(payment_id, created)], b"", 0, None, None), _ORDER, limit=1, full_size=False
        )
        assert list(page.ids) == [payment.id]
        [key] = page.keys
        assert int(EXACT.scaleb(Decimal(key), 6)) == microseconds_of(payment.created_at)


@given(json_values)
def test_junk_for_a_row_is_located(value: object) -> None:
    """A row that is not a payment is refused, with the row's path or the paths of required fields."""
    with pytest.raises(ResponseDecodeError) as caught:
        structure_list(Payment, [LISTED_PAYMENT, value])
    required = {f"$.data[1].{field}" for field in REQUIRED}
    assert caught.value.paths == ["$.data[1]"] or set(caught.value.paths) & required
