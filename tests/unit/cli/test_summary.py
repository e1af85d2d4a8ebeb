"""The table at the end of an export of many stores."""

from __future__ import annotations

from b2b_payments import TransportError
from b2b_payments._cli.stores import table
from b2b_payments.export import StoreReport, StoreState


def test_columns() -> None:
    """Columns fit their content in any script; figures are right-aligned, and an error is one line."""
    error = TransportError("Something\nwent  wrong")
    reports = [
        StoreReport("north", "out/north.jsonl", StoreState.COMPLETE, 1_234_567, 4_938, 2_000.44),
        StoreReport("商店", "out/商店.jsonl", StoreState.FAILED, error=error),
        StoreReport("e", "out/e.jsonl"),
    ]
    assert table(reports).splitlines() == [
        "store  state       payments  requests  seconds  file or error",
        "north  complete   1,234,567     4,938  2,000.4  out/north.jsonl",
        "商店   failed             0         0      0.0  Something\\x0awent wrong",
        "e      not begun          0         0      0.0  out/e.jsonl",
    ]
