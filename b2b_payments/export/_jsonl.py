"""JSON lines: one payment per line, which is the service's own JSON object."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

from b2b_payments._protocol.json import encode
from b2b_payments.export._file import PathLike, path_of, writing
from b2b_payments.export._log import Part
from b2b_payments.export._pages import PageBatch
from b2b_payments.export._placed import PlacedSink
from b2b_payments.export._sink import Checkpoint


class JSONLSink(PlacedSink):
    """Writes payments as JSON lines in UTF-8, with exact numbers, to a file or a binary stream.

    A file appears once the export has ended. A stream receives each batch immediately, is not closed, and
    cannot be resumed. Otherwise like `PlacedSink`.
    """

    format = "jsonl"

    def __init__(self, output: PathLike | BinaryIO) -> None:
        self._stream: BinaryIO | None = None
        if isinstance(output, str | os.PathLike):
            super().__init__(output)
        elif hasattr(output, "write"):
            self._stream = output
        else:
            path_of(output)  # raises for anything else

    @property
    def kept(self) -> bool:
        return self._stream is None and super().kept

    def open(self) -> None:
        if self._stream is None:
            super().open()

    def resume(self) -> Checkpoint | None:
        return super().resume() if self._stream is None else None

    def write(self, batch: Sequence[Mapping[str, Any]]) -> None:
        if self._stream is None:
            super().write(batch)
        else:
            with writing("The output"):
                for piece in self.lines(batch)[0]:
                    self._stream.write(piece)
                self._stream.flush()

    def commit(self, checkpoint: Checkpoint | None) -> None:
        if self._stream is None:
            super().commit(checkpoint)

    def close(self, *, complete: bool) -> None:
        if self._stream is None:
            super().close(complete=complete)

    def lines(self, batch: Sequence[Mapping[str, Any]]) -> Sequence[Part]:
        if isinstance(batch, PageBatch):
            return [batch.lines()]
        return [[encode(payment) + b"\n" for payment in batch]]
