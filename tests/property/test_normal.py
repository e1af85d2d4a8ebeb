"""Rows have the same values as the payment models, however the service wrote the values."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from b2b_payments._converter import ColumnReader, from_wire, structure_payment
from b2b_payments._errors import ResponseDecodeError
from b2b_payments._models import Fee, Money, Payment
from b2b_payments._protocol.json import decode, encode
from tests.support.examples import LISTED_PAYMENT, SHOWN_PAYMENT
from tests.support.strategies import payments

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SAME = (
    "id", "store_hash", "customer_id", "external_id", "external_customer_id", "payer_name",
    "payer_customer_id", "module_name", "processing_status", "applied_status", "funding_status",
    "customer_name", "channel_id", "channel_name",
)  # fmt: skip


def usual_payment() -> dict[str, Any]:
    """Return a payment in the usual format, with two line items and a fee."""
    shown = copy.deepcopy(SHOWN_PAYMENT)
    items = [{**line, "paymentId": 70} for line in 2 * shown["lineItems"]]
    return copy.deepcopy(LISTED_PAYMENT) | {"fees": shown["fees"], "lineItems": items}


# Invalid or unusual values of a field, besides those that the service is known to send.
spoilt_values: st.SearchStrategy[Any] = st.sampled_from([
    None, True, False, 0, -1, 1.0, 0.5, 1.6, 10**25, "", "1", "+1", "01", "1_000", "x", "\u0661", [], [1],
    [True], ["1", 2], [None], [[]], {}, [{}], [{"amount": True}], [{"amount": 1e-300}], [{"amount": 10**120}],
    [{"amount": None, "type": 1}], [{"description": None}], [1.5, {"amount": "2"}],
    {"code": "USD", "value": "1E+3"},
    {"code": "USD", "value": 1}, {"code": None, "value": "1"}, {"value": "1.50"}, {"code": "USD"},
    {"code": "USD", "value": "1\n2"}, {"code": "USD", "value": "007"}, {"code": "USD", "value": "-0.00"},
    {"code": "USD", "value": "1", "note": [None]}, {"code": "USD", "value": "0." + "1" * 13},
    [{"paymentId": 1}], [{"paymentId": True}], [{"paymentId": "7"}], [{"amount": {"code": "USD"}}],
    [{"invoiceId": "1"}], [{"invoiceNumber": None}, 5], [{"note": 1}, {}],
    253_402_300_800, -1.5, "1700000000",
])  # fmt: skip
spoilt_fields = st.tuples(st.integers(0, 3), st.sampled_from([*usual_payment(), "unknown"]), spoilt_values)


def micros(moment: datetime) -> int:
    """Return microseconds since 1970."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def check_money(cells: dict[str, Any], name: str, money: Money | None) -> None:
    """Compare an amount with the model's: equal, with the same zeros."""
    found = cells[f"{name}.currency"], cells[f"{name}.amount"]
    if money is None:
        assert found == (None, None)
        return
    assert found == (money.currency, f"{money.amount:f}")
    assert str(Decimal(found[1])) == str(Decimal(f"{money.amount:f}"))


def with_amount(extra: dict[str, Any], name: str, money: Money | None) -> dict[str, Any]:
    """Return the unknown fields of an object, and of its amount."""
    return {**extra, name: dict(money.extra)} if money is not None and money.extra else dict(extra)


def check(row: dict[str, Any], items: list[dict[str, Any]], payment: Payment) -> None:
    """Compare a row and its items with the payment's model."""
    for name in SAME:
        value, expected = row[name], getattr(payment, name)
        assert value == expected, name
        assert type(value) in {int, str, type(None)}, name
    assert (row["created_at"], row["updated_at"]) == (micros(payment.created_at), micros(payment.updated_at))
    check_money(row, "total", payment.total)
    assert decode(row["details"].encode()) == payment.details
    assert decode(row["module_data"].encode()) == payment.module_data
    assert json.loads(row["allowed_operations"]) == [int(code) for code in payment.allowed_operations]
    assert json.loads(row["allowed_statuses"]) == [int(code) for code in payment.allowed_statuses]
    fees = [
        from_wire(Fee, fee if isinstance(fee, dict) else {"amount": fee})
        for fee in decode(row["fees"].encode())
    ]
    assert tuple(fees) == payment.fees
    assert decode(row["extra"].encode()) == with_amount(payment.extra, "total", payment.total)
    for item, line in zip(items, payment.line_items, strict=True):
        assert (item["payment_id"], item["invoice_id"]) == (line.payment_id, line.invoice_id)
        assert item["invoice_number"] == line.invoice_number
        check_money(item, "amount", line.amount)
        assert decode(item["extra"].encode()) == with_amount(line.extra, "amount", line.amount)


def rows_of(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Convert columns to rows."""
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(rows=st.lists(payments, max_size=4), spoilt=st.lists(spoilt_fields))
def test_rows_equal_the_models(rows: list[dict[str, Any]], spoilt: list[tuple[int, str, Any]]) -> None:
    """A row has the same values as the model, or reading fails for both."""
    rows = [usual_payment(), *rows]
    for place, name, value in spoilt:
        rows[place % len(rows)][name] = value
    body, places = encode({"data": rows}), range(len(rows))
    try:
        models = [structure_payment(row) for row in decode(body)["data"]]
    except ResponseDecodeError:
        with pytest.raises(ResponseDecodeError):
            ColumnReader().read(body, places)
        return
    found = ColumnReader().read(body, places)
    items = iter(rows_of(found.items))
    for row, count, payment in zip(rows_of(found.payments), found.counts, models, strict=True):
        check(row, [next(items) for _ in range(count)], payment)
    assert not list(items)
