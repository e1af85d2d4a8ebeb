"""CSV: one file of payments, and beside it one of their line items."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from b2b_payments.export.batch import Cells, batch_of
from b2b_payments.export.columns import LINE_ITEMS, PAYMENTS, Kind, Table, moment_text
from b2b_payments.export.file import PathLike
from b2b_payments.export.partial import PartialFiles
from b2b_payments.export.sink import Checkpoint

COMPANION = ".line_items.csv"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class CSVSink:
    """Writes ``NAME.csv`` and ``NAME.line_items.csv``: UTF-8, a header line, lines end with a newline.

    Text stands in quotes, so that an empty text and none at all can be told apart (PostgreSQL's COPY does).
    Money has every digit and zero that the service sent; times are ISO 8601 in UTC.

    Raises ConfigurationError for a path that cannot be written to; its methods raise ExportError, and
    ResponseDecodeError for a payment that cannot be read.
    """

    def __init__(self, path: PathLike) -> None:
        self._files = PartialFiles(path, format_="csv", companion=COMPANION)

    @property
    def kept(self) -> bool:
        """Whether an export that was closed as not complete can be resumed."""
        return self._files.kept

    def open(self) -> None:
        """Begin both files with their headers."""
        self._files.open()
        self._head()

    def resume(self) -> Checkpoint | None:
        """Go on behind the last line that was committed."""
        checkpoint = self._files.resume()
        if checkpoint is None:
            self._head()
        return checkpoint

    def write(self, batch: Sequence[Mapping[str, Any]]) -> None:
        """Write a line for each payment, and one for each line item."""
        columns = batch_of(batch)
        self._files.write(_lines(PAYMENTS, columns.payments))
        self._files.write(_lines(LINE_ITEMS, columns.line_items), file=1)

    def commit(self, checkpoint: Checkpoint | None) -> None:
        """Keep the lines written so far, with the checkpoint."""
        self._files.commit(checkpoint)

    def close(self, *, complete: bool) -> None:
        """Let both files appear where they are complete."""
        try:
            if complete:
                self._files.publish()
        finally:
            self._files.close()

    def _head(self) -> None:
        for file, table in enumerate((PAYMENTS, LINE_ITEMS)):
            self._files.write((",".join(table.names) + "\n").encode(), file=file)


def _lines(table: Table, columns: Sequence[Cells]) -> bytes:
    spelled = [_spelled(column.kind, cells) for column, cells in zip(table.columns, columns, strict=True)]
    return "".join([",".join(row) + "\n" for row in zip(*spelled, strict=True)]).encode()


def _spelled(kind: Kind, cells: Cells) -> list[str]:
    spell = _SPELL[kind]
    return ["" if cell is None else spell(cell) for cell in cells]


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _moment(microseconds: int) -> str:
    return moment_text(_EPOCH + timedelta(microseconds=microseconds))


_SPELL: dict[Kind, Callable[[Any], str]] = {
    Kind.INTEGER: str,
    Kind.MONEY: str,
    Kind.MOMENT: _moment,
    Kind.TEXT: _quoted,
    Kind.JSON: _quoted,
}
