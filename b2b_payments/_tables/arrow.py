"""Payments as Arrow, pandas and polars tables, with the columns of exports. Nothing is rounded."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from importlib.util import find_spec
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

from b2b_payments._errors import ConfigurationError, without_data
from b2b_payments._models import Payment
from b2b_payments._models import description as models
from b2b_payments._tables.columns import LINE_ITEMS, PAYMENTS, TABLES, Column, ColumnKind
from b2b_payments._tables.rows import DIGITS, SCALE, Rows

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

    ArrowTable: TypeAlias = pyarrow.Table
    RecordBatch: TypeAlias = pyarrow.RecordBatch
    PandasFrame: TypeAlias = pandas.DataFrame
    PolarsFrame: TypeAlias = polars.DataFrame
else:
    ArrowTable = RecordBatch = PandasFrame = PolarsFrame = Any

TableName: TypeAlias = Literal["payments", "line_items"]
"""The rows of a table: payments with their line items nested, or line items."""

BATCH_ROWS: Final = 10_000
"""Rows of a record batch by default."""

_NAMES: Final = {
    field.name: {int(code): code.name for code in field.of}
    for field in models.fields_of(Payment)
    if field.kind is models.FieldKind.CODE
}
"""The names of the documented codes, by column."""


class ArrowBatches:
    """Converts pages of any length into record batches of `rows` rows; the last one may be shorter.

    Raises ConfigurationError if pyarrow is missing or `table` is not a table's name.
    """

    def __init__(self, table: TableName, rows: int = BATCH_ROWS) -> None:
        check(table)
        self._arrow = library("pyarrow")
        self._name = table
        self._rows = min(rows, sys.maxsize)
        self._pending: list[RecordBatch] = []
        self._count = 0
        self._fields = {one.name: [self._field(column) for column in one.columns] for one in TABLES}
        self.schema: pyarrow.Schema = self._batch(Rows.of_objects([], whole=True, decimal=True)).schema

    @without_data
    def add(self, body: bytes, places: Sequence[int]) -> list[RecordBatch]:
        """Add rows of a page. Returns the batches that are full.

        Raises ExportError for a number that does not fit into its column, and ResponseDecodeError.
        """
        batch = self._batch(Rows.read(body, places, whole=True, decimal=True))
        self._pending.append(batch)
        self._count += batch.num_rows
        if self._count < self._rows:
            return []
        batches = self.flush()
        if batches[-1].num_rows < self._rows:
            self._pending = [batches.pop()]
            self._count = self._pending[0].num_rows
        return batches

    def flush(self) -> list[RecordBatch]:
        """Return the pending rows as batches, the last of which may be shorter."""
        table = self.table(self._pending).combine_chunks()
        self._pending, self._count = [], 0
        batches: list[RecordBatch] = table.to_batches(max_chunksize=self._rows)
        return batches

    def table(self, batches: Iterable[RecordBatch]) -> ArrowTable:
        """Combine batches into one table."""
        return self._arrow.Table.from_batches(batches, self.schema)

    def _field(self, column: Column) -> pyarrow.Field:
        arrow = self._arrow
        kinds = {
            ColumnKind.INTEGER: arrow.int64(),
            ColumnKind.MONEY: arrow.decimal128(DIGITS, SCALE),
            ColumnKind.MOMENT: arrow.timestamp("us", tz="UTC"),
        }
        return arrow.field(column.name, kinds.get(column.kind, arrow.string()), nullable=column.nullable)

    def _batch(self, rows: Rows) -> RecordBatch:
        if self._name == LINE_ITEMS.name:
            fields, arrays = self._fields[LINE_ITEMS.name], self._arrays(rows, LINE_ITEMS.name)
        else:
            fields, arrays = self._payments(rows)
        return self._arrow.RecordBatch.from_arrays(arrays, schema=self._arrow.schema(fields))

    def _payments(self, rows: Rows) -> tuple[list[pyarrow.Field], list[pyarrow.Array]]:
        arrow = self._arrow
        fields, arrays = list[Any](), list[Any]()
        columns = rows.tables[PAYMENTS.name]
        for field, array, cells in zip(
            self._fields[PAYMENTS.name], self._arrays(rows, PAYMENTS.name), columns, strict=True
        ):
            fields.append(field)
            arrays.append(array)
            if (names := _NAMES.get(field.name)) is not None:
                fields.append(arrow.field(f"{field.name}_name", arrow.string()))
                arrays.append(arrow.array(map(names.get, cells), arrow.string()))
        # Nested items need neither `payment_id` nor `position`.
        item_fields, items = self._fields[LINE_ITEMS.name][2:], self._arrays(rows, LINE_ITEMS.name)[2:]
        offsets = list(accumulate(rows.counts, initial=0))
        nested = arrow.ListArray.from_arrays(
            arrow.array(offsets, arrow.int32()), arrow.StructArray.from_arrays(items, fields=item_fields)
        )
        return [*fields, arrow.field(LINE_ITEMS.name, nested.type, nullable=False)], [*arrays, nested]

    def _arrays(self, rows: Rows, name: str) -> list[pyarrow.Array]:
        arrow = self._arrow
        return [
            # Amounts are text, which Arrow parses itself.
            arrow.array(cells, arrow.string()).cast(field.type)
            if arrow.types.is_decimal(field.type)
            else arrow.array(cells, field.type)
            for field, cells in zip(self._fields[name], rows.tables[name], strict=True)
        ]


def pandas_of(table: ArrowTable) -> PandasFrame:
    """Convert a table to pandas with Arrow types: pandas' own types hold neither such decimals nor null."""
    frame: PandasFrame = table.to_pandas(types_mapper=library("pandas").ArrowDtype)
    return frame


def polars_of(table: ArrowTable) -> PolarsFrame:
    """Convert a table to polars."""
    frame: PolarsFrame = library("polars").from_arrow(table)
    return frame


def check(table: object) -> None:
    """Raise ConfigurationError if `table` is not a table's name."""
    if table not in get_args(TableName):
        raise ConfigurationError(f"table must be 'payments' or 'line_items', not {table!r}.")


def require(name: str) -> None:
    """Raise ConfigurationError if a library is missing, as `library` does, without the time of an import."""
    if find_spec(name) is None:
        library(name)


def library(name: str) -> Any:
    """Import pyarrow, pandas or polars. Raises ConfigurationError, naming the extra, if it is missing."""
    try:
        return import_module(name)
    except ModuleNotFoundError:
        extra = "arrow" if name == "pyarrow" else name
        raise ConfigurationError(
            f"This table format needs {name}: pip install 'b2b-payments[{extra}]'."
        ) from None
