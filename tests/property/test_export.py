"""Whatever the service sends, every format gives back exactly, read by another library."""

from __future__ import annotations

import copy
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from b2b_payments import Fee, Payment
from b2b_payments._converter import structure_payment
from b2b_payments._converter.service import service_converter
from b2b_payments._errors import ResponseDecodeError
from b2b_payments._protocol.json import decode, encode
from b2b_payments.export import sink_for, verify
from b2b_payments.export._account import Account
from b2b_payments.export._reading import RowReader
from b2b_payments.export._rows import cells_of, items_of, lines_of, rows_of_lines
from tests.support.examples import LISTED_PAYMENT, SHOWN_PAYMENT
from tests.support.export_reading import exact, tables_in
from tests.support.strategies import payments

batches = st.lists(payments, max_size=4, unique_by=lambda wire: int(wire["id"]))
PLAIN = ("store_hash", "customer_id", "payer_name", "payer_customer_id", "module_name", "customer_name")
NULLABLE = ("external_id", "external_customer_id", "channel_id", "channel_name")
CODES = ("processing_status", "applied_status", "funding_status")


def exported(rows: list[dict[str, Any]], path: Path, format_: str) -> None:
    """Export payments in two batches."""
    sink = sink_for(format_, path)
    sink.open()
    account = Account.begin({})
    for batch in (rows[:1], rows[1:]):
        sink.write(batch)
        account.add(batch)
        sink.commit({"account": account.pack()})
    sink.close(complete=True)


def moment(cell: Any) -> datetime:
    """Read a time as any of the formats has it."""
    return (datetime.fromisoformat(cell) if isinstance(cell, str) else cell).astimezone(UTC)


def cell_of(value: object, format_: str) -> object:
    """Give a cell as CSV has it, which knows text only, or as it is."""
    return ("" if value is None else str(value)) if format_ == "csv" else value


def fee(sent: dict[str, Any]) -> Fee:
    """Read a fee."""
    return service_converter.structure(sent, Fee)


def compare(payment: Payment, row: dict[str, Any], format_: str) -> None:
    """Compare a payment's columns with what was read."""
    for name in ("id", *PLAIN, *NULLABLE):
        assert row[name] == cell_of(getattr(payment, name), format_), name
    for name in CODES:
        assert row[name] == cell_of(int(getattr(payment, name)), format_), name
    assert (row["total"], row["currency"]) == (payment.total.amount, payment.total.currency)
    assert moment(row["created_at"]) == payment.created_at
    assert moment(row["updated_at"]) == payment.updated_at
    assert json.loads(row["details"]) == payment.details
    assert json.loads(row["module_data"]) == payment.module_data
    assert json.loads(row["allowed_statuses"]) == [int(code) for code in payment.allowed_statuses]
    assert json.loads(row["allowed_operations"]) == [int(code) for code in payment.allowed_operations]
    assert tuple(map(fee, decode(row["fees"].encode()))) == payment.fees
    extra = {**payment.extra, **({"total": payment.total.extra} if payment.total.extra else {})}
    assert json.loads(row["extra"]) == extra


@pytest.mark.parametrize("format_", ["csv", "parquet", "sqlite", "duckdb"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=batches)
def test_every_column_comes_back(format_: str, rows: list[dict[str, Any]]) -> None:
    """Money to the last digit, times, text of any kind, null and empty: all of it is there, and verifies."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"payments.{format_}"
        exported(rows, path, format_)
        assert verify(path).account.sums.whole.rows == len(rows)
        found, items = map(exact, tables_in(path, format_))
    wanted = [structure_payment(row) for row in rows]
    if format_ in {"sqlite", "duckdb"}:
        wanted.sort(key=lambda payment: payment.id)
    assert len(found) == len(wanted)
    for payment, row in zip(wanted, found, strict=True):
        compare(payment, row, format_)
    lines = [(payment, place) for payment in wanted for place in range(len(payment.line_items))]
    assert len(items) == len(lines)
    for (payment, place), row in zip(lines, items, strict=True):
        item = payment.line_items[place]
        amount = None if item.amount is None else item.amount.amount
        keys = [cell_of(payment.id, format_), cell_of(place, format_), cell_of(item.invoice_id, format_)]
        assert [row["payment_id"], row["position"], row["invoice_id"]] == keys
        assert row["invoice_number"] == item.invoice_number
        assert row["amount"] == ("" if amount is None and format_ == "csv" else amount)
        assert row["currency"] == cell_of(None if item.amount is None else item.amount.currency, format_)


def example() -> dict[str, Any]:
    """Give a payment of the usual spelling, with two line items and a fee."""
    shown = copy.deepcopy(SHOWN_PAYMENT)
    return copy.deepcopy(LISTED_PAYMENT) | {
        "fees": shown["fees"],
        "lineItems": [{**line, "paymentId": 70} for line in 2 * shown["lineItems"]],
    }


# What a field may hold that it should not, beside what the service is known to send.
spoilt_values: st.SearchStrategy[Any] = st.sampled_from([
    None, True, False, 0, -1, 1.0, 0.5, 10**25, "", "1", "+1", "01", "x", "\u0661", [], [1], [True], ["1", 2],
    [None], [[]], {}, [{}], [{"amount": True}], [{"amount": 1e-300}], [{"amount": 10**120}],
    [{"amount": None, "type": 1}], [{"description": None}], {"code": "USD", "value": "1E+3"},
    {"code": "USD", "value": 1}, {"code": None, "value": "1"}, {"value": "1.50"}, {"code": "USD"},
    {"code": "USD", "value": "1\n2"}, {"code": "USD", "value": "007"}, {"code": "USD", "value": "-0.00"},
    [{"paymentId": 1}], [{"paymentId": True}], [{"paymentId": "7"}], [{"amount": {"code": "USD"}}],
    [{"invoiceId": "1"}], [{"invoiceNumber": None}, 5], [{"note": 1}, {}], 253_402_300_800, -1.5,
    "1700000000",
])  # fmt: skip
spoilt_fields = st.tuples(st.integers(0, 3), st.sampled_from([*example(), "unknown"]), spoilt_values)


def cells(rows: list[Any]) -> str:
    """Give all cells by what they print: 1, 1.0 and True are equal, and are not the same."""
    return repr([(cells_of(row), items_of(row)) for row in rows])


@settings(max_examples=300, deadline=None)
@given(rows=st.lists(payments, max_size=4), spoilt=st.lists(spoilt_fields))
def test_rows_are_what_the_models_say(rows: list[dict[str, Any]], spoilt: list[tuple[int, str, Any]]) -> None:
    """Rows read straight from JSON hold what the models hold, whatever comes, or fail as they do.

    They do so one by one and as a page, and after they were written as lines and read again.
    """
    rows = [example(), *rows]
    for place, name, value in spoilt:
        rows[place % len(rows)][name] = value
    sent = [encode(row) for row in rows]
    body, places = b'{"data":[' + b",".join(sent) + b"]}", range(len(sent))
    reader = RowReader()
    failure: ResponseDecodeError | None = None
    try:
        wanted = cells([reader._models.row(row) for row in sent])
    except ResponseDecodeError as error:
        failure = error
    if failure is not None:
        with pytest.raises(ResponseDecodeError):
            reader.rows(sent)
        with pytest.raises(ResponseDecodeError):
            reader.page(body, places, lambda: sent)
        return
    found = reader.rows(sent)
    assert cells(found) == wanted
    assert cells(reader.page(body, places, lambda: sent)) == wanted
    assert cells(rows_of_lines(lines_of(found))) == wanted
