"""The formats by name."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

from b2b_payments._errors import ConfigurationError, shown
from b2b_payments.export._file import PathLike
from b2b_payments.export._sink import PlacedSink

_SINKS: Final = {
    "jsonl": ("jsonl", "JSONLSink"),
    "csv": ("csv", "CSVSink"),
    "parquet": ("parquet", "ParquetSink"),
    "sqlite": ("sqlite", "SQLiteSink"),
    "duckdb": ("duckdb", "DuckDBSink"),
}
"""Each in a module of its own, which is loaded when it is wanted: what it needs may not be installed."""


def sink_for(format_: str, path: PathLike, **options: Any) -> PlacedSink:
    """Give a sink of a format, ``jsonl``, ``csv``, ``parquet``, ``sqlite`` or ``duckdb``.

    `options` are those of its class.

    Raises ConfigurationError for another format, a missing extra, or a path that cannot be written to.
    """
    if format_ not in _SINKS:
        raise ConfigurationError(f"{shown(format_)} is no format: give {', '.join(_SINKS)}.")
    module, name = _SINKS[format_]
    make: Any = getattr(import_module(f"b2b_payments.export._{module}"), name)
    sink: PlacedSink = make(path, **options)
    return sink
