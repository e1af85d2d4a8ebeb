"""A sink by the name of its format."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from b2b_payments._errors import ConfigurationError, shown
from b2b_payments._formats import FORMATS
from b2b_payments.export._file import PathLike
from b2b_payments.export._sink import PlacedSink


def sink_for(format_: str, path: PathLike, **options: Any) -> PlacedSink:
    """Give a sink of a format, ``jsonl``, ``csv``, ``parquet``, ``sqlite`` or ``duckdb``.

    `options` are those of its class.

    Raises ConfigurationError for another format, a missing extra, or a path that cannot be written to.
    """
    if format_ not in FORMATS:
        raise ConfigurationError(f"{shown(format_)} is not a format: give {', '.join(FORMATS)}.")
    make: Any = getattr(import_module("b2b_payments.export"), FORMATS[format_].sink)
    sink: PlacedSink = make(path, **options)
    return sink
