"""Reads pages into normalized columns, for exports and databases.

The service sends the same value in several formats, and parsers disagree on them: DuckDB reads an id of 1.6
as 2 and true as 1, and fails on a duplicate key or a lone surrogate. So every page is decoded here, and each
column gets one format (see `Columns`).

Pages are decoded to rows by `rows.py`, but no models are created from them, and the text of JSON objects is
passed on as received. A direct variant is normalized at once; any other is first read as the cattrs
converter reads it. Only a row that fits no row type is read into a model, which is then normalized.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache, lru_cache
from itertools import chain
from operator import attrgetter
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw
from msgspec.structs import astuple

from b2b_payments._converter.row_types import MAX_CACHED_LENGTH
from b2b_payments._converter.rows import PageReader, RawRow, fallback_slot, nested_rows
from b2b_payments._converter.service import reader_of
from b2b_payments._converter.structuring import structure_row
from b2b_payments._models import LineItem, Payment
from b2b_payments._models.answer_model import fixed_point
from b2b_payments._models.description import Field, FieldKind, fields_of
from b2b_payments._models.moment import microseconds_of
from b2b_payments._printable import frozen
from b2b_payments._protocol.json import (
    decode_part,
    encode,
    encode_lines,
    in_one_line,
    members_of,
    repaired,
)

Cells = Sequence[Any]

_CACHED_CODE_LISTS: Final = 1_000
_ROWS_AT_ONCE: Final = 100
"""Rows that are converted to tuples at once."""

_amount: Final = r"-?+(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+"
_are_amounts: Final = re.compile(rf"(?:{_amount}\n)*+{_amount}").fullmatch


@frozen
class Columns:
    """Payments as normalized columns: cells by attribute, such as ``total.amount``.

    Ids and codes are int, as are `created_at` and `updated_at`: microseconds since 1970. Texts are str, or
    None if the model has None. Amounts are digits with every zero that was sent, and no exponent. `details`,
    `module_data` and `fees` are JSON text as received; `allowed_operations`, `allowed_statuses` and `extra`
    are JSON text, too. `extra` has the unknown fields, and those of the total or an item's amount under that
    name. `items` has the line items of all payments in sequence, `counts` the number per payment.
    """

    payments: dict[str, list[Any]]
    items: dict[str, list[Any]]
    counts: Sequence[int]

    @classmethod
    def of(cls, parts: Sequence[Columns]) -> Columns:
        """Concatenate columns."""
        first = parts[0]
        return cls(
            {name: list(chain.from_iterable(one.payments[name] for one in parts)) for name in first.payments},
            {name: list(chain.from_iterable(one.items[name] for one in parts)) for name in first.items},
            list(chain.from_iterable(one.counts for one in parts)),
        )


class ColumnReader:
    """Reads pages into columns. Its schema outlives a page."""

    def __init__(self) -> None:
        self._pages = PageReader(keep_raw=True)

    def read(self, body: bytes, places: Sequence[int]) -> Columns:
        """Read the rows at these positions of a page. Raises ResponseDecodeError for an unreadable one.

        Numbers may have any size that models accept: the export's format decides whether they fit.
        """
        if b"\n" in body or b"\r" in body:
            # Row by row: what surrounds a row must not change its text.
            body = b'{"data":[%b]}' % b",".join(map(in_one_line, _rows_of(body)))
        self._pages.start_page()
        if (columns := self._pages.converted(body, places, _normalized)) is None:
            rows = _rows_of(body)
            parts = self._pages.in_parts([rows[place] for place in places], _normalized, _read_alone)
            columns = Columns.of([*parts])
        return columns


class _Page(msgspec.Struct):
    data: list[Raw]


def _rows_of(body: bytes) -> list[Raw]:
    with suppress(ValueError, RecursionError):
        return _raw_rows.decode(body).data
    body = repaired(body)
    try:
        return _raw_rows.decode(body).data
    except (ValueError, RecursionError):
        decode_part(body)  # raises an error that says what is wrong
        raise


_raw_rows: Final = msgspec.json.Decoder(_Page)
_raw_items: Final = msgspec.json.Decoder(list[Raw])


def _normalized(payments: Sequence[Any]) -> Columns:
    """Normalize payments: rows, or models if their rows fit no row type."""
    columns = _columns_of(Payment, payments)
    lists = columns.pop("line_items")
    return Columns(columns, _columns_of(LineItem, list(chain.from_iterable(lists))), list(map(len, lists)))


def _read_alone(row: RawRow) -> Columns:
    """Read a row that fits no row type as a model, and fill in its JSON text from its members as received."""
    columns, payment = _normalized([structure_row(row)]), members_of(row)
    for field in filter(_is_text, fields_of(Payment)):
        columns.payments[field.name] = _json_texts(field, [payment.get(field.wire, UNSET)])
    columns.payments["extra"] = [encode(_unknown_members(Payment, payment)).decode()]
    items = map(members_of, _raw_items.decode(payment["lineItems"]) if columns.counts[0] else [])
    columns.items["extra"] = [encode(_unknown_members(LineItem, item)).decode() for item in items]
    return columns


def _unknown_members(model: type[Any], members: Mapping[str, Raw]) -> dict[str, Any]:
    """Return the members that a model does not know, and those of a nested object under its name."""
    fields = {field.wire: field for field in fields_of(model)}
    unknown: dict[str, Any] = {name: members[name] for name in sorted(members) if name not in fields}
    for name, field in fields.items():
        if field.kind is FieldKind.MODEL and name in members:
            nested = _unknown_members(field.of, members_of(members[name]))
            unknown |= {name: nested} if nested else {}
    return unknown


def _is_text(field: Field) -> bool:
    """Whether a field's column is JSON text as received."""
    return field.kind is FieldKind.OBJECT or field.bare is not None


def _columns_of(model: type[Any], objects: Cells) -> dict[str, list[Any]]:
    """Return the columns of a model's rows or instances, but leave lists of line items unchanged."""
    stored, readers, extras = _contents_of(model, objects)
    columns: dict[str, list[Any]] = {}
    for field in fields_of(model):
        cells, fallback = stored.get(field.name), stored.get(fallback_slot(field))
        if fallback is not None and _is_text(field):
            columns[field.name] = _json_texts(field, fallback)
            continue
        if fallback is not None and field.kind in {FieldKind.MODEL, FieldKind.MODELS}:
            cells = nested_rows(field, fallback)
        is_direct, cells = cells is not None, readers[field.name](objects) if cells is None else cells
        if field.kind is FieldKind.MODEL:
            nested = [cell for cell in cells if cell is not None]
            parts = _columns_of(field.of, nested)
            if len(nested) < len(cells):
                parts = {name: _with_gaps(part, cells) for name, part in parts.items()}
            if (extra := parts.pop("extra")) != ["{}"] * len(extra):
                extras = _merged(field.wire, extra, extras)
            columns |= {f"{field.name}.{name}": part for name, part in parts.items()}
        else:
            normalize = (
                _FROM_ROWS.get(field.kind, _as_is) if is_direct else _FROM_MODELS.get(field.kind, _as_is)
            )
            columns[field.name] = normalize(field, cells)
    columns["extra"] = extras
    return columns


def _contents_of(
    model: type[Any], objects: Cells
) -> tuple[Mapping[str, list[Any]], Mapping[str, Any], list[str]]:
    """Return the columns stored in rows by attribute, readers of the other columns, and `extra` as JSON.

    Models have no JSON text: `_read_alone` fills it in.
    """
    if not objects:
        return {field.name: [] for field in fields_of(model)}, {}, []
    if isinstance(objects[0], model):
        readers: dict[str, Any] = {
            field.name: lambda objects, get=attrgetter(field.name): list(map(get, objects))
            for field in fields_of(model)
        }
        return {}, readers, ["{}"] * len(objects)
    row = type(objects[0])
    stored: dict[str, list[Any]] = {name: [] for name in row.__struct_fields__}
    # Column by column takes three times as long; tuples of all rows at once trigger the garbage collector.
    for start in range(0, len(objects), _ROWS_AT_ONCE):
        columns = zip(*map(astuple, objects[start : start + _ROWS_AT_ONCE]), strict=True)
        for column, cells in zip(stored.values(), columns, strict=True):
            column.extend(cells)
    if not (unknown := row.unknown.__struct_fields__):
        return stored, row.readers, ["{}"] * len(objects)
    # Members that are UNSET are omitted.
    extras = list(map(row.unknown, *map(stored.__getitem__, unknown)))
    return stored, row.readers, encode_lines(extras).decode().split("\n")[:-1]


def _merged(name: str, nested: Sequence[str | None], extras: Sequence[str]) -> list[str]:
    """Add the unknown fields of nested objects to those of their owners, under this name."""
    members = ["" if extra in {None, "{}"} else f'"{name}":{extra}' for extra in nested]
    return [
        f"{extra[:-1]}{',' if member and extra != '{}' else ''}{member}}}"
        for extra, member in zip(extras, members, strict=True)
    ]


def _with_gaps(values: Cells, owners: Cells) -> list[Any]:
    """Insert None for each owner that is None: `values` has one for each of the others."""
    remaining = iter(values)
    return [None if owner is None else next(remaining) for owner in owners]


def _json_texts(field: Field, cells: list[Any]) -> list[str]:
    """Return the JSON text of objects, or of lists that may have bare numbers, unchanged if it is usual."""
    empty = Raw(encode(field.empty()))
    # Decoded in one call; the body was formatted without newlines, so they can separate the cells.
    texts = b"\n".join([empty if cell is UNSET else cell for cell in cells]).decode().split("\n")
    if not field.bare:
        unusual = [place for place, text in enumerate(texts) if text[0] != "{"]
    else:
        unusual = [place for place, text in enumerate(texts) if text != "[]"]
        if unusual and _are_usual(field, [texts[place] for place in unusual]):
            return texts
    for place in unusual:
        value = reader_of(field)(decode_part(texts[place].encode()))
        if not value or not field.bare:
            texts[place] = encode(value or field.empty()).decode()
    return texts


def _are_usual(field: Field, texts: Sequence[str]) -> bool:
    """Whether lists have only numbers, and objects whose fields are of the usual types."""
    try:
        lists = _decoder_of(field).decode(f"[{','.join(texts)}]")
    except (ValueError, RecursionError):
        return False
    numbers = [getattr(item, field.bare or "", item) for item in chain.from_iterable(lists)]
    return all(not number or 1e-90 < abs(number) < 1e90 for number in numbers)


@cache
def _decoder_of(field: Field) -> msgspec.json.Decoder[Any]:
    types = {FieldKind.TEXT: str | int | None, FieldKind.AMOUNT: int | float | None}
    members = [(one.name, types[one.kind], None) for one in fields_of(field.of)]
    names = {one.name: one.wire for one in fields_of(field.of)}
    item = msgspec.defstruct(f"{field.of.__name__}Cells", members, rename=names, gc=False)
    return msgspec.json.Decoder(list[list[item | int | float]])  # type: ignore[valid-type]


def _as_is(_: Field, cells: list[Any]) -> list[Any]:
    return cells


def _numbers(_: Field, cells: Cells) -> list[Any]:
    return [None if cell is None else int(cell) for cell in cells]


def _whole_numbers(field: Field, cells: list[Any]) -> list[Any]:
    return _numbers(field, cells) if field.digits else cells


def _from_seconds(_: Field, cells: Cells) -> list[Any]:
    return [None if cell is None else cell * 1_000_000 for cell in cells]


def _from_datetimes(_: Field, cells: Cells) -> list[Any]:
    return [None if cell is None else microseconds_of(cell) for cell in cells]


def _from_digits(field: Field, cells: list[Any]) -> list[Any]:
    """Return amounts as the digits that were sent, after converting them if any has another format."""
    amounts = list(filter(None, cells))
    joined = "\n".join(amounts)
    if not amounts or (_are_amounts(joined) and joined.count("\n") < len(amounts)):
        return cells
    return _from_decimals(field, [cell and reader_of(field)(cell) for cell in cells])


def _from_decimals(_: Field, cells: Cells) -> list[Any]:
    return [None if cell is None else fixed_point(cell) for cell in cells]


def _from_codes(_: Field, cells: Cells) -> list[str]:
    return [(_cached_codes_text if len(cell) <= MAX_CACHED_LENGTH else _codes_text)(cell) for cell in cells]


def _codes_text(codes: tuple[int, ...]) -> str:
    return encode(list(map(int, codes))).decode()


_cached_codes_text: Final = lru_cache(_CACHED_CODE_LISTS)(_codes_text)


_FROM_ROWS: Final[Mapping[FieldKind, Any]] = {
    FieldKind.WHOLE: _whole_numbers,
    FieldKind.CODE: _numbers,
    FieldKind.MOMENT: _from_seconds,
    FieldKind.AMOUNT: _from_digits,
}
"""Normalize cells of direct variants."""
_FROM_MODELS: Final[Mapping[FieldKind, Any]] = {
    FieldKind.CODE: _numbers,
    FieldKind.MOMENT: _from_datetimes,
    FieldKind.AMOUNT: _from_decimals,
    FieldKind.CODES: _from_codes,
}
"""Normalize values of the models' types."""
