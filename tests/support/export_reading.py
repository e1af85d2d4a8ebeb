"""Reads exports with the formats' own libraries, for tests to compare."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
from pyarrow import parquet

from b2b_payments import _formats
from b2b_payments._protocol.json import encode
from b2b_payments.export._account import Account, entry_of

FORMATS = tuple(_formats.FORMATS)
Rows = list[dict[str, Any]]


def account_of(batch: Rows, earlier: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the packed account of a complete export of these payments, added to an earlier account."""
    account = Account({}) if earlier is None else Account.unpack(earlier)
    account.sums.add(entry_of(encode(payment)) for payment in batch)
    account.end(complete=True)
    return account.pack()


def ids_in(path: Path, format_: str) -> list[int]:
    """Return the ids in a file in its order, or those in a database sorted."""
    if format_ == "jsonl":
        return [int(json.loads(line)["id"]) for line in path.read_bytes().splitlines()]
    payments, _ = tables_in(path, format_)
    return [int(row["id"]) for row in payments]


def tables_in(path: Path, format_: str) -> tuple[Rows, Rows]:
    """Return payments and line items, read by the format's own library."""
    if format_ == "csv":
        return _csv(path), _csv(path.with_name(f"{path.stem}.line_items.csv"))
    if format_ == "parquet":
        payments: Rows = parquet.read_table(path).to_pylist()
        items = [
            {"payment_id": row["id"], "position": place, **item}
            for row in payments
            for place, item in enumerate(row.pop("line_items"))
        ]
        return payments, items
    with connected_to(path, format_, read_only=True) as connection:
        return selected(connection)


@contextmanager
def connected_to(path: Path, format_: str, *, read_only: bool = False) -> Iterator[Any]:
    """Connect to a database file; changes are committed."""
    is_sqlite = format_ == "sqlite"
    connected: Any = sqlite3.connect(path) if is_sqlite else duckdb.connect(str(path), read_only=read_only)
    with closing(connected) as connection:
        yield connection
        if is_sqlite:
            connection.commit()


def selected(connection: Any) -> tuple[Rows, Rows]:
    """Return the payments and line items in a database."""
    queries = ("SELECT * FROM payments ORDER BY id", "SELECT * FROM line_items ORDER BY payment_id, position")
    first, second = (_selected(connection, query) for query in queries)
    return first, second


def exact(rows: Rows) -> Rows:
    """Return rows with amounts as Decimals, whatever type the format has."""
    money = {"total", "amount"}
    return [
        {
            name: Decimal(cell) if name in money and cell not in {None, ""} else cell
            for name, cell in row.items()
        }
        for row in rows
    ]


def _csv(path: Path) -> Rows:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _selected(connection: Any, query: str) -> Rows:
    result = connection.execute(query)
    names = [about[0] for about in result.description]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]
