"""The formats of exports: their names, and the endings that say them."""

from __future__ import annotations

from pathlib import PurePath
from typing import Final, NamedTuple


class Format(NamedTuple):
    """A format: its sink in `b2b_payments.export`, and the endings of its files, the usual one first."""

    sink: str
    endings: tuple[str, ...]


FORMATS: Final = {
    "jsonl": Format("JSONLSink", (".jsonl", ".ndjson")),
    "csv": Format("CSVSink", (".csv",)),
    "parquet": Format("ParquetSink", (".parquet",)),
    "sqlite": Format("SQLiteSink", (".sqlite", ".sqlite3", ".db")),
    "duckdb": Format("DuckDBSink", (".duckdb",)),
}


def format_by_ending(output: str) -> str | None:
    """Return the format that a file's ending says, None where it says none."""
    ending = PurePath(output).suffix.lower()
    return next((name for name, format_ in FORMATS.items() if ending in format_.endings), None)
