"""JSON lines: one payment a line, the service's own object as it came."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

from b2b_payments.export.file import LentStream, PathLike
from b2b_payments.export.pages import PageBatch
from b2b_payments.export.partial import PartialFiles
from b2b_payments.export.sink import Checkpoint
from b2b_payments.protocol.json import encode


class JSONLSink:
    """Writes payments as JSON lines in UTF-8, numbers exact, to a file or to a binary stream.

    The file appears once it is complete. A stream gets the lines as they come, is left open, and cannot be
    gone on with.

    Raises ConfigurationError for a path that cannot be written to; its methods raise ExportError.
    """

    def __init__(self, output: PathLike | BinaryIO) -> None:
        self._files: PartialFiles | None = None
        if isinstance(output, str | os.PathLike):
            self._place: PartialFiles | LentStream = PartialFiles(output, format_="jsonl")
            self._files = self._place
        else:
            self._place = LentStream(output)

    @property
    def kept(self) -> bool:
        """Whether an export that was closed as not complete can be resumed."""
        return self._files is not None and self._files.kept

    def open(self) -> None:
        """Begin the file."""
        if self._files is not None:
            self._files.open()

    def resume(self) -> Checkpoint | None:
        """Go on behind the last line that was committed."""
        return None if self._files is None else self._files.resume()

    def write(self, batch: Sequence[Mapping[str, Any]]) -> None:
        """Write a line for each payment."""
        lines = batch.lines() if isinstance(batch, PageBatch) else _lines(batch)
        self._place.write(lines)

    def commit(self, checkpoint: Checkpoint | None) -> None:
        """Keep the lines written so far, with the checkpoint."""
        if self._files is not None:
            self._files.commit(checkpoint)

    def close(self, *, complete: bool) -> None:
        """Let the file appear where it is complete."""
        if self._files is not None:
            try:
                if complete:
                    self._files.publish()
            finally:
                self._files.close()


def _lines(batch: Sequence[Mapping[str, Any]]) -> bytes:
    return b"".join([encode(payment) + b"\n" for payment in batch])
