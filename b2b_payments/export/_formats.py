"""Formats by their names: which one a path says, and the sink of each."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from b2b_payments._errors import ConfigurationError, shown
from b2b_payments._formats import FORMATS, format_by_ending
from b2b_payments.export._bucket import bucket_and_name, is_url
from b2b_payments.export._file import PathLike, path_of
from b2b_payments.export._sink import PlacedSink


def sink_for(path: PathLike, format: str | None = None, **options: Any) -> PlacedSink:  # noqa: A002
    """Give a sink for a path or a URL: ``sink_for("s3://bucket/payments.parquet")``.

    The format is ``jsonl``, ``csv``, ``parquet``, ``sqlite`` or ``duckdb``; it need not be given where the
    ending says it. `options` are those of its class.

    Raises ConfigurationError for another format, a missing extra, or a path that cannot be written to.
    """
    if format is not None and path in FORMATS and format not in FORMATS:
        path, format = format, path  # noqa: A001 - as the first version had it: sink_for("csv", "payments")
    if format is not None and format not in FORMATS:
        raise ConfigurationError(f"{shown(format)} is not a format: give {', '.join(FORMATS)}.")
    make: Any = getattr(import_module("b2b_payments.export"), FORMATS[format or format_of(path)].sink)
    sink: PlacedSink = make(path, **options)
    return sink


def format_of(path: PathLike, format_: str | None = None) -> str:
    """Give the format of a file: the one given, or else the one that its ending says.

    Raises ConfigurationError where nothing says it, or its ending says another.
    """
    output = os.fspath(path_of(path))
    by_ending = format_by_ending(output)
    if is_url(output):
        bucket_and_name(output)  # another address may have a password in it
    if format_ is None and by_ending is None:
        raise ConfigurationError(
            f"{output!r} does not say its format: name the format, or give an ending such as .jsonl."
        )
    if format_ is not None and by_ending not in {None, format_}:
        raise ConfigurationError(
            f"{output!r} has the ending of {by_ending}, and the format given is {format_}: "
            "change one of the two."
        )
    return format_ or by_ending or ""
