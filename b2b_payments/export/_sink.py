"""The interface of sinks, which exports write to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

Checkpoint = Mapping[str, Any]
"""An export's state as small plain JSON: the walk's checkpoint and the account of committed payments."""


@runtime_checkable
class Sink(Protocol):
    """A destination for payments, such as a file, a database or a bucket.

    The methods are called one at a time, in worker threads (not always the same one), so they may block. The
    order is: `open` or `resume` before the walk begins, `write` and `commit` for each batch (the last may
    have no `write`), and finally `close`, exactly once, even if `open` failed.
    """

    def open(self) -> None:
        """Prepare for a new export. Raises an error if the sink cannot be written to."""

    def resume(self) -> Checkpoint | None:
        """Prepare to resume an interrupted export. Returns the last committed checkpoint.

        Payments written after it are dropped. If nothing was committed, returns None and acts like `open`.
        """

    def write(self, batch: Sequence[Mapping[str, Any]]) -> None:
        """Write payments, which are the service's own JSON objects. Must not change them."""

    def commit(self, checkpoint: Checkpoint | None) -> None:
        """Save everything written so far together with the checkpoint, both or neither.

        The checkpoint is None if the export cannot be resumed from here.
        """

    def close(self, *, complete: bool) -> None:
        """Finish the output if the export ran to its end (`complete`). If not, nothing may look finished.

        What was committed with a checkpoint may then be kept for `resume`.
        """
