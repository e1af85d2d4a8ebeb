"""The table at the end of an export of many stores."""

from __future__ import annotations

from pathlib import Path

from b2b_payments._cli.stores.exports import Standing, table


def test_columns() -> None:
    """Columns fit what is in them, whatever the script; figures stand at the right, an error is one line."""
    standings = [
        Standing("north", Path("out/north.jsonl"), "complete", 1_234_567, 4_938, 2_000.44),
        Standing("商店", Path("out/商店.jsonl"), "failed", remark="500 Something\nwent  wrong"),
        Standing("e", Path("out/e.jsonl")),
    ]
    assert table(standings).splitlines() == [
        "store  state       payments  requests  seconds  file or error",
        "north  complete   1,234,567     4,938  2,000.4  out/north.jsonl",
        "商店   failed             0         0      0.0  500 Something went wrong",
        "e      not begun          0         0      0.0  out/e.jsonl",
    ]
