"""Rows in one spelling: each says what its payment's model says, whatever spelling came, to any parser."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from b2b_payments._converter import NormalRow, from_wire, normal_rows, structure_payment
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


def usual() -> dict[str, Any]:
    """Give a payment of the usual spelling, with two line items and a fee."""
    shown = copy.deepcopy(SHOWN_PAYMENT)
    items = [{**line, "paymentId": 70} for line in 2 * shown["lineItems"]]
    return copy.deepcopy(LISTED_PAYMENT) | {"fees": shown["fees"], "lineItems": items}


# What a field may hold that it should not, beside what the service is known to send.
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
spoilt_fields = st.tuples(st.integers(0, 3), st.sampled_from([*usual(), "unknown"]), spoilt_values)


def micros(moment: datetime) -> int:
    """Count microseconds since 1970."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def check_money(found: Any, money: Money | None) -> None:
    """Hold an amount against its model's: equal, with the same zeros."""
    if money is None:
        assert found is None
        return
    assert (found.currency, found.amount) == (money.currency, f"{money.amount:f}")
    assert str(Decimal(found.amount)) == str(Decimal(f"{money.amount:f}"))


def check(row: Any, payment: Payment) -> None:
    """Hold a row against its payment's model."""
    for name in SAME:
        value, wanted = getattr(row, name), getattr(payment, name)
        assert value == wanted, name
        assert type(value) in {int, str, type(None)}, name
    assert (row.created_at, row.updated_at) == (micros(payment.created_at), micros(payment.updated_at))
    check_money(row.total, payment.total)
    assert decode(row.details.encode()) == payment.details
    assert decode(row.module_data.encode()) == payment.module_data
    assert json.loads(row.allowed_operations) == [int(code) for code in payment.allowed_operations]
    assert json.loads(row.allowed_statuses) == [int(code) for code in payment.allowed_statuses]
    fees = [
        from_wire(Fee, fee if isinstance(fee, dict) else {"amount": fee}) for fee in decode(row.fees.encode())
    ]
    assert tuple(fees) == payment.fees
    assert decode(row.extra.encode()) == {
        **payment.extra, **({"total": payment.total.extra} if payment.total.extra else {})
    }  # fmt: skip
    for item, wanted in zip(row.line_items, payment.line_items, strict=True):
        assert (item.payment_id, item.invoice_id) == (wanted.payment_id, wanted.invoice_id)
        assert item.invoice_number == wanted.invoice_number
        check_money(item.amount, wanted.amount)
        beside = {"amount": wanted.amount.extra} if wanted.amount and wanted.amount.extra else {}
        assert decode(item.extra.encode()) == {**wanted.extra, **beside}


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(rows=st.lists(payments, max_size=4), spoilt=st.lists(spoilt_fields))
def test_rows_say_what_the_models_say(rows: list[dict[str, Any]], spoilt: list[tuple[int, str, Any]]) -> None:
    """A row holds what the model holds, or fails as it does; so does its line of JSON."""
    rows = [usual(), *rows]
    for place, name, value in spoilt:
        rows[place % len(rows)][name] = value
    sent = [encode(row) for row in rows]
    try:
        models = [structure_payment(decode(row)) for row in sent]
    except ResponseDecodeError:
        with pytest.raises(ResponseDecodeError):
            normal_rows(sent)
        return
    found = normal_rows(sent)
    lines = msgspec.json.Encoder().encode_lines(found)
    for row, again, payment in zip(
        found, msgspec.json.Decoder(NormalRow).decode_lines(lines), models, strict=True
    ):
        check(row, payment)
        assert repr(row) == repr(again)  # 1, 1.0 and True are equal, and are not the same
    for line in lines.splitlines():
        plain = json.loads(line)
        assert list(plain) == [*(name for name in NormalRow.__struct_encode_fields__)]
        assert not any(isinstance(value, float | bool) for value in plain.values())
