"""What an export writes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

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
