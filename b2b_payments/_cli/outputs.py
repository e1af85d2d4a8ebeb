"""Where an export goes, and in which format: what the name says."""

from __future__ import annotations

from pathlib import PurePath

import click

ENDINGS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".sqlite": "sqlite",
    ".sqlite3": "sqlite",
    ".db": "sqlite",
    ".duckdb": "duckdb",
}
FORMATS = tuple(dict.fromkeys(ENDINGS.values()))
STDOUT = "-"


def format_by_ending(output: str) -> str | None:
    """Give the format that a file's ending says, None where it says none."""
    return ENDINGS.get(PurePath(output).suffix.lower())


def format_of(output: str, format_: str | None, *, resume: bool) -> str:
    """Give the format to write: the one given, or else the one that the ending says. Raises UsageError."""
    if output == STDOUT and resume:
        raise click.UsageError("What was printed cannot be gone on with: give --resume a file.")
    if format_ is None and output == STDOUT:
        format_ = "jsonl"
    format_ = format_ or format_by_ending(output)
    if format_ is None:
        raise click.UsageError(
            f"{output!r} does not say its format: give --format, or an ending such as .jsonl."
        )
    if output == STDOUT and format_ != "jsonl":
        raise click.UsageError(f"Standard output takes jsonl only, not {format_}: give a file.")
    return format_
