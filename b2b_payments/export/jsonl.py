"""JSON lines: one payment a line, the service's own object as it came."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

from b2b_payments.export.file import LentStream, NewFile, PathLike
from b2b_payments.export.sink import Checkpoint
from b2b_payments.protocol.json import encode


class JSONLSink:
    """Writes payments as JSON lines in UTF-8, numbers exact, to a file or to a binary stream.

    The file appears once it is complete. A stream gets the lines as they come, and is left open.

    Raises ConfigurationError for a path that cannot be written to; its methods raise ExportError.
    """

    def __init__(self, output: PathLike | BinaryIO) -> None:
        self._place = NewFile(output) if isinstance(output, str | os.PathLike) else LentStream(output)

    def open(self) -> None:
        """Begin the file."""
        self._place.open()

    def write(self, batch: Sequence[Mapping[str, Any]]) -> None:
        """Write a line for each payment."""
        self._place.write(b"".join([encode(row) + b"\n" for row in batch]))

    def commit(self, checkpoint: Checkpoint | None) -> None:
        """Keep nothing: the file appears whole or not at all."""

    def close(self, *, complete: bool) -> None:
        """Let the file appear where it is complete, remove it where it is not."""
        if complete:
            self._place.publish()
        else:
            self._place.discard()
