"""Exports a few rows through a sink, as `export` would write them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from b2b_payments.export import JSONLSink, PlacedSink
from b2b_payments.sandbox import Sandbox
from tests.support.export_reading import account_of

ROWS: list[dict[str, Any]] = list(Sandbox(payments=12).store.all_wire())
ONE, TWO = {"id": 1}, {"id": 2}
"""Payments that only JSON lines can hold."""
_AT_ONCE = 4


def written(
    sink: PlacedSink, rows: Sequence[dict[str, Any]] = ROWS, *, resume: bool = False, complete: bool = True
) -> None:
    """Write the rows that are missing, in several commits, each with an account."""
    earlier = None
    if resume:
        earlier = sink.resume()
    else:
        sink.open()
    account = earlier["account"] if earlier else account_of([])
    while account["rows"] < len(rows):
        batch = list(rows[account["rows"] :][:_AT_ONCE])
        sink.write(batch)
        account = account_of(batch, account) | {"complete": complete}
        sink.commit({"account": account})


def exported(sink: PlacedSink, *args: Any, **options: Any) -> PlacedSink:
    """Write rows and close the sink. Returns the sink."""
    done = False
    try:
        written(sink, *args, **options)
        done = True
    finally:
        sink.close(complete=done)
    return sink


def lines(path: Path) -> list[Any]:
    """Return the objects in a file of JSON lines."""
    return list(map(json.loads, path.read_bytes().splitlines()))


def names(folder: Path) -> set[str]:
    """Return the names in a folder."""
    return {path.name for path in folder.iterdir()}


def interrupted(path: Path, *rows: dict[str, Any]) -> Path:
    """Leave an interrupted export, with one commit per row. Returns its log's folder."""
    sink = JSONLSink(path)
    sink.open()
    for row in rows:
        sink.write([row])
        sink.commit({"at": row["id"]})
    sink.close(complete=False)
    assert sink.kept
    return path.with_name(f".{path.name}.export")
