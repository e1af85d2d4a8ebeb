"""Export formats: their names and file extensions."""

from __future__ import annotations

from pathlib import PurePath
from typing import Final, NamedTuple


class Format(NamedTuple):
    """A format: its sink class in `b2b_payments.export`, and its file extensions, the default one first."""

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
    """Return the format for a file's extension, or None if no format has that extension."""
    ending = PurePath(output).suffix.lower()
    return next((name for name, format_ in FORMATS.items() if ending in format_.endings), None)
