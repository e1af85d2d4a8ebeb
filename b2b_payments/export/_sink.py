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
    They come in this order: `open` or `resume`, before the walk begins; `write` for each batch; and at last
    `close`, which is always called, once, even where `open` failed.
    """

    def open(self) -> None:
        """Make ready to begin anew. Raises where nothing could be written."""

    def resume(self) -> Checkpoint | None:
        """Make ready to go on, and give the last checkpoint that was kept; None where none was.

        What came after it is dropped. None is as `open`.
        """

    def write(self, batch: Sequence[Mapping[str, Any]], checkpoint: Checkpoint | None) -> None:
        """Keep the payments of some pages, together with a checkpoint: both or neither.

        They are the service's own JSON objects, and are not to be changed. At the end there may be none of
        them. Without a checkpoint there is nothing to go on from behind them.
        """

    def close(self, *, complete: bool) -> None:
        """Finish where the export is `complete`; otherwise leave nothing behind that looks finished.

        What was kept with a checkpoint may stay, for `resume`.
        """
