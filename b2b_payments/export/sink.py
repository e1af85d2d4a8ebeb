"""What an export writes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

Checkpoint = Mapping[str, object]
"""Where a walk stands, as small plain JSON."""


class Sink(Protocol):
    """A place for payments: a file, a database, a bucket.

    The methods are called one at a time, in a worker thread, so they may block. They come in this order:
    `open`, before anything is sent; for each page `write` and then `commit`; and at last `close`, which is
    always called, once, even where `open` failed.
    """

    def open(self) -> None:
        """Make ready. Raises where nothing could be written."""

    def write(self, batch: Sequence[Mapping[str, Any]]) -> None:
        """Take the new payments of one page, as the service's own JSON objects."""

    def commit(self, checkpoint: Checkpoint | None) -> None:
        """Take note that the walk stands at `checkpoint` once everything written so far is kept.

        None where the walk has no single place to go on from.
        """

    def close(self, *, complete: bool) -> None:
        """Finish where the export is `complete`; otherwise leave nothing behind that looks finished."""
