"""Every format returns exactly what the service sent, when read by another library."""

from __future__ import annotations

import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from b2b_payments import Fee, Payment
from b2b_payments._converter import from_wire, structure_payment
from b2b_payments._protocol.json import decode
from b2b_payments.export import sink_for, verify
from tests.support.export_reading import account_of, exact, tables_in
from tests.support.strategies import payments

batches = st.lists(payments, max_size=4, unique_by=lambda wire: int(wire["id"]))
PLAIN = ("store_hash", "customer_id", "payer_name", "payer_customer_id", "module_name", "customer_name")
NULLABLE = ("external_id", "external_customer_id", "channel_id", "channel_name")
CODES = ("processing_status", "applied_status", "funding_status")


def exported(rows: list[dict[str, Any]], path: Path, format_: str) -> None:
    """Export payments in two batches."""
    sink = sink_for(path, format_)
    sink.open()
    account = account_of([])
    for batch in (rows[:1], rows[1:]):
        sink.write(batch)
        account = account_of(batch, account)
        sink.commit({"account": account})
    sink.close(complete=True)


def moment(cell: Any) -> datetime:
    """Parse a time from any of the formats."""
    return (datetime.fromisoformat(cell) if isinstance(cell, str) else cell).astimezone(UTC)


def cell_of(value: object, format_: str) -> object:
    """Return the text of a cell for CSV, otherwise the cell itself."""
    return ("" if value is None else str(value)) if format_ == "csv" else value


def fee(sent: dict[str, Any]) -> Fee:
    """Read a fee."""
    return from_wire(Fee, sent)


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


def comes_back(rows: list[dict[str, Any]], format_: str) -> None:
    """Export rows, and compare every column with what was sent."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"payments.{format_}"
        exported(rows, path, format_)
        assert verify(path).account.sums.whole.rows == len(rows)
        found, items = map(exact, tables_in(path, format_))
    expected = [structure_payment(row) for row in rows]
    if format_ in {"sqlite", "duckdb"}:
        expected.sort(key=lambda payment: payment.id)
    assert len(found) == len(expected)
    for payment, row in zip(expected, found, strict=True):
        compare(payment, row, format_)
    lines = [(payment, place) for payment in expected for place in range(len(payment.line_items))]
    assert len(items) == len(lines)
    for (payment, place), row in zip(lines, items, strict=True):
        item = payment.line_items[place]
        amount = None if item.amount is None else item.amount.amount
        keys = [cell_of(payment.id, format_), cell_of(place, format_), cell_of(item.invoice_id, format_)]
        assert [row["payment_id"], row["position"], row["invoice_id"]] == keys
        assert row["invoice_number"] == item.invoice_number
        assert row["amount"] == ("" if amount is None and format_ == "csv" else amount)
        assert row["currency"] == cell_of(None if item.amount is None else item.amount.currency, format_)


@pytest.mark.slow
# All formats are made from the same rows of the log; those that DuckDB makes take ten times as long.
@pytest.mark.parametrize(
    ("format_", "examples"), [("csv", 15), ("parquet", 6), ("sqlite", 15), ("duckdb", 6)]
)
def test_every_column_comes_back(format_: str, examples: int) -> None:
    """Exact amounts, times, any text, null and empty text come back, and the export verifies."""

    @settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(rows=batches)
    def check(rows: list[dict[str, Any]]) -> None:
        comes_back(rows, format_)

    check()
