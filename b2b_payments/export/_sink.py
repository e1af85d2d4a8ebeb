"""What an export writes to, and which sink a path says."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from b2b_payments._errors import ConfigurationError, shown
from b2b_payments._formats import FORMATS, format_by_ending
from b2b_payments.export._bucket import bucket_and_name, is_url
from b2b_payments.export._file import PathLike, path_of

Checkpoint = Mapping[str, Any]
"""Where an export stands, as small plain JSON: the walk's own checkpoint, and an account of what was kept."""


@runtime_checkable
class Sink(Protocol):
    """A place for payments: a file, a database, a bucket.

    The methods are called one at a time, in a worker thread, so they may block; the walk waits while they do.
    They come in this order: `open` or `resume`, before the walk begins; for each batch `write` and then
    `commit`; and at last `close`, which is always called, once, even where `open` failed.
    """

    def open(self) -> None:
        """Make ready to begin anew. Raises where nothing could be written."""

    def resume(self) -> Checkpoint | None:
        """Make ready to go on, and give the last checkpoint that was committed.

        What was written after it is dropped. None where nothing was committed: then this is as `open`.
        """

    def write(self, batch: Sequence[Mapping[str, Any]]) -> None:
        """Take the payments of some pages, as the service's own JSON objects; they are not to be changed."""

    def commit(self, checkpoint: Checkpoint | None) -> None:
        """Keep everything written so far, together with the checkpoint: both or neither.

        None where there is nothing to go on from.
        """

    def close(self, *, complete: bool) -> None:
        """Finish where the export is `complete`; otherwise leave nothing behind that looks finished.

        What was committed with a checkpoint may stay, for `resume`.
        """


class PlacedSink(Sink, Protocol):
    """A sink with a place in the file system, or in an object store."""

    @property
    def resumed(self) -> bool:
        """Whether there was something to go on behind."""

    @property
    def rows(self) -> int:
        """How many payments were committed, those of interrupted exports included."""

    @property
    def kept(self) -> bool:
        """Whether an export that was closed as not complete can be resumed."""

    @property
    def instead(self) -> Path | str | None:
        """Where the export is, if not at its place: one that may be complete stays there."""

    @property
    def objects(self) -> tuple[str, ...]:
        """The URLs of the data, once it is in an object store."""


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
