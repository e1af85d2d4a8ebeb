"""Parquet: payments with their line items nested, one row group a batch."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from b2b_payments.errors import ConfigurationError
from b2b_payments.export.batch import Cells, batch_of
from b2b_payments.export.columns import DIGITS, LINE_ITEMS, PAYMENTS, SCALE, Kind, Table
from b2b_payments.export.file import ExportError, PathLike, writing
from b2b_payments.export.partial import PartialFiles
from b2b_payments.export.sink import Checkpoint

if TYPE_CHECKING:
    import pyarrow

_ITEM_COLUMNS = slice(2, None)  # a nested item needs no key


class ParquetSink:
    """Writes a Parquet file: `line_items` is a list of structs, money decimal128(38, 12), times UTC.

    A Parquet file is unreadable until its end is written. So batches are first kept in a hidden file, in
    Arrow's own form, which can be cut off after any batch; at the end they become the row groups of the file.

    Raises ConfigurationError where the extra `parquet` is missing, or for a path that cannot be written to;
    its methods raise ExportError, for a number that does not fit too, and ResponseDecodeError for a payment
    that cannot be read.
    """

    def __init__(self, path: PathLike) -> None:
        self._arrow = pyarrow_or_sentence()
        self._schema = schema()
        self._files = PartialFiles(path, format_="parquet")

    @property
    def kept(self) -> bool:
        """Whether an export that was closed as not complete can be resumed."""
        return self._files.kept

    def open(self) -> None:
        """Begin the file."""
        self._files.open()

    def resume(self) -> Checkpoint | None:
        """Go on behind the last batch that was committed."""
        return self._files.resume()

    def write(self, batch: Sequence[Mapping[str, Any]]) -> None:
        """Write one row group."""
        if not batch:
            return
        arrow, spool = self._arrow, io.BytesIO()
        options = arrow.ipc.IpcWriteOptions(compression="lz4")
        with arrow.ipc.new_stream(spool, self._schema, options=options) as stream:
            stream.write_batch(self._record_batch(batch))
        self._files.write(spool.getvalue())

    def commit(self, checkpoint: Checkpoint | None) -> None:
        """Keep the batches written so far, with the checkpoint."""
        self._files.commit(checkpoint)

    def close(self, *, complete: bool) -> None:
        """Let the file appear where it is complete."""
        try:
            if complete and not self._files.published:
                self._files.flush()
                with writing(self._files.path):
                    try:
                        self._join()
                    except self._arrow.ArrowInvalid:
                        raise ExportError(
                            f"What was kept of {self._files.path} is damaged: begin anew."
                        ) from None
                self._files.publish(whole=True)
        finally:
            self._files.close()

    def _join(self) -> None:
        """Make the file of the batches, one at a time."""
        from pyarrow import parquet  # noqa: PLC0415 - an extra, for those who want it

        with parquet.ParquetWriter(self._files.begin_whole(), self._schema, compression="zstd") as writer:
            for batch in self._spooled():
                writer.write_batch(batch)

    def _spooled(self) -> Iterator[pyarrow.RecordBatch]:
        with self._arrow.OSFile(str(self._files.partial)) as file:
            while file.tell() < file.size():
                yield from self._arrow.ipc.open_stream(file)

    def _record_batch(self, payments: Sequence[Mapping[str, Any]]) -> pyarrow.RecordBatch:
        arrow, batch = self._arrow, batch_of(payments)
        columns = _arrays(PAYMENTS, batch.payments)
        flat = _arrays(LINE_ITEMS, batch.line_items)
        nested = self._schema.field("line_items").type
        structs = arrow.StructArray.from_arrays(flat[_ITEM_COLUMNS], fields=list(nested.value_type))
        offsets = arrow.array([0, *accumulate(batch.counts)], arrow.int32())
        lists = arrow.ListArray.from_arrays(offsets, structs, type=nested)
        return arrow.record_batch([*columns, lists], schema=self._schema)


def schema() -> pyarrow.Schema:
    """Give the file's schema, for whoever reads several files as one."""
    arrow = pyarrow_or_sentence()
    items = arrow.list_(arrow.field("item", arrow.struct(_fields(LINE_ITEMS)[_ITEM_COLUMNS]), nullable=False))
    return arrow.schema([*_fields(PAYMENTS), arrow.field("line_items", items, nullable=False)])


def pyarrow_or_sentence() -> Any:
    """Give the library. Raises ConfigurationError with what to install."""
    try:
        import pyarrow  # noqa: PLC0415 - an extra, for those who want it
    except ModuleNotFoundError:
        raise ConfigurationError("Parquet needs pyarrow: pip install 'b2b-payments[parquet]'.") from None
    return pyarrow


def batches(path: Path, columns: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
    """Read columns of a file back, some rows at a time. Raises pyarrow's errors, and OSError."""
    pyarrow_or_sentence()
    from pyarrow import parquet  # noqa: PLC0415 - an extra, for those who want it

    with parquet.ParquetFile(path) as file:
        if not file.num_row_groups:
            return  # older releases of pyarrow ask such a file for its last group
        for batch in file.iter_batches(columns=list(columns)):
            yield batch.to_pylist()


def _fields(table: Table) -> list[pyarrow.Field]:
    types, arrow = _types(), pyarrow_or_sentence()
    return [arrow.field(column.name, types[column.kind], column.nullable) for column in table.columns]


def _types() -> dict[Kind, pyarrow.DataType]:
    arrow = pyarrow_or_sentence()
    return {
        Kind.INTEGER: arrow.int64(),
        Kind.TEXT: arrow.string(),
        Kind.MONEY: arrow.decimal128(DIGITS, SCALE),
        Kind.MOMENT: arrow.timestamp("us", "UTC"),
        Kind.JSON: arrow.string(),
    }


def _arrays(table: Table, columns: Sequence[Cells]) -> list[pyarrow.Array]:
    types, arrow = _types(), pyarrow_or_sentence()
    try:
        return [
            # Arrow reads digits as exactly as Decimal does, and never rounds.
            arrow.array(cells, types[Kind.TEXT]).cast(types[Kind.MONEY])
            if column.kind is Kind.MONEY
            else arrow.array(cells, types[column.kind])
            for column, cells in zip(table.columns, columns, strict=True)
        ]
    except (OverflowError, arrow.ArrowInvalid):
        return [
            arrow.array(cells, types[column.kind])
            for column, cells in zip(table.columns, _fitted(table, columns), strict=True)
        ]


def _fitted(table: Table, columns: Sequence[Cells]) -> list[Any]:
    """Give the columns with amounts as Decimals that fit. Raises ExportError with what does not."""
    money = [column.kind is Kind.MONEY for column in table.columns]
    cells = [
        [None if cell is None else Decimal(cell) for cell in column] if is_money else column
        for column, is_money in zip(columns, money, strict=True)
    ]
    return list(zip(*table.fitted(list(zip(*cells, strict=True)), decimal=True), strict=True))
