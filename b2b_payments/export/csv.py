"""CSV: one file of payments, and beside it one of their line items."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from b2b_payments.export.columns import LINE_ITEMS, PAYMENTS, Kind, Table, moment_text, rows_of
from b2b_payments.export.file import PathLike
from b2b_payments.export.partial import PartialFiles
from b2b_payments.export.sink import Checkpoint

COMPANION = ".line_items.csv"


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
        payments, line_items = rows_of(batch)
        self._files.write(_lines(PAYMENTS, payments))
        self._files.write(_lines(LINE_ITEMS, [item for items in line_items for item in items]), file=1)

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


def _lines(table: Table, rows: Iterable[tuple[Any, ...]]) -> bytes:
    spell = [_SPELL[column.kind] for column in table.columns]
    return "".join(
        ",".join(["" if cell is None else write(cell) for write, cell in zip(spell, row, strict=True)]) + "\n"
        for row in rows
    ).encode()


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


_SPELL: dict[Kind, Callable[[Any], str]] = {
    Kind.INTEGER: str,
    Kind.MONEY: "{:f}".format,
    Kind.MOMENT: moment_text,
    Kind.TEXT: _quoted,
    Kind.JSON: _quoted,
}
