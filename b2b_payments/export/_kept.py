"""What of an export is kept, watched while it is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from b2b_payments.export._sink import Checkpoint, PlacedSink


class KeptSink:
    """A sink that counts what it keeps: `rows` are the payments committed, those of earlier runs included.

    `on_resumed` is called, in the sink's thread, with the rows that were there already.
    """

    def __init__(self, sink: PlacedSink, on_resumed: Callable[[int], object] | None = None) -> None:
        self._sink = sink
        self._on_resumed = on_resumed
        self.rows: int = 0
        self._is_kept: bool | None = None
        self.resumed: bool = False
        """Whether there was something to go on behind."""

    @property
    def kept(self) -> bool:
        """Whether an export that was closed as not complete can be resumed."""
        return self._sink.kept if self._is_kept is None else self._is_kept

    @property
    def instead(self) -> Path | str | None:
        """Where the export is, if not at its place: one that may be complete stays there."""
        return self._sink.instead

    @property
    def objects(self) -> tuple[str, ...]:
        """The URLs of the data, once it is in an object store."""
        return self._sink.objects

    def open(self) -> None:
        """Begin anew."""
        self._sink.open()

    def resume(self) -> Checkpoint | None:
        """Go on behind the last commit."""
        checkpoint = self._sink.resume()
        self.resumed = checkpoint is not None
        self._count(checkpoint)
        if self._on_resumed is not None:
            self._on_resumed(self.rows)
        return checkpoint

    def write(self, batch: Sequence[Mapping[str, Any]]) -> None:
        """Take the payments of some pages."""
        self._sink.write(batch)

    def commit(self, checkpoint: Checkpoint | None) -> None:
        """Keep everything written so far."""
        self._sink.commit(checkpoint)
        self._count(checkpoint)

    def close(self, *, complete: bool) -> None:
        """Finish, or leave what can be gone on with."""
        try:
            self._sink.close(complete=complete)
        finally:
            self._is_kept = self._sink.kept  # now: an object store may have to be asked

    def _count(self, checkpoint: Checkpoint | None) -> None:
        # What another version committed is refused by whoever goes on with it, in a sentence.
        account = (checkpoint or {}).get("account")
        rows = account.get("rows") if isinstance(account, Mapping) else None
        self.rows = rows if isinstance(rows, int) else 0
