"""Payments in one spelling, whatever spelling came, a column at a time: what exports and databases take.

What the service sent means something else to each parser: DuckDB reads an id of 1.6 as 2 and true as 1, and
fails on a doubled key or a lone surrogate. So a page is decoded once, in C, into the rows of which models
are made, too; what is within objects stays as it was sent. What a row does not hold as usual is read as the
cattrs converter reads it. A row that does not fit even so becomes a model, and that is spelled anew.
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

from b2b_payments._converter.row_types import LONGEST, UNFIT
from b2b_payments._converter.rows import PageReader, slot_of
from b2b_payments._converter.service import reader_of
from b2b_payments._converter.structuring import structure_payment
from b2b_payments._errors import ResponseDecodeError
from b2b_payments._models import LineItem, Payment
from b2b_payments._models.answer_model import spelled
from b2b_payments._models.description import Field, FieldKind, fields_of
from b2b_payments._models.extra import sent_of
from b2b_payments._models.moment import microseconds_of
from b2b_payments._printable import frozen
from b2b_payments._protocol.json import decode_part, encode, encode_lines, mended

Cells = Sequence[Any]

_MOST_VALUES: Final = 1_000
"""Values of a field that are remembered."""
_AT_ONCE: Final = 100
"""Objects whose cells are taken at once."""

_amount: Final = r"-?+(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+"
_are_amounts: Final = re.compile(rf"(?:{_amount}\n)*+{_amount}").fullmatch


@frozen
class Columns:
    """Payments in one spelling: cells by the name of their attribute, such as ``total.amount``.

    Ids and codes are int; `created_at` and `updated_at` are int, too: microseconds since 1970. Texts are str,
    or None where the model has None. Amounts are digits, every zero that was sent, no exponent. `details`,
    `module_data` and `fees` are JSON text as sent; so are what is allowed, and `extra`: unknown fields,
    those within `total` or an item's amount under that name. `items` are those of all payments, one after the
    other; so many as `counts` says are of each.
    """

    payments: dict[str, list[Any]]
    items: dict[str, list[Any]]
    counts: Sequence[int]

    @classmethod
    def of(cls, parts: Sequence[Columns]) -> Columns:
        """Put columns together."""
        first = parts[0]
        return cls(
            {name: list(chain.from_iterable(one.payments[name] for one in parts)) for name in first.payments},
            {name: list(chain.from_iterable(one.items[name] for one in parts)) for name in first.items},
            list(chain.from_iterable(one.counts for one in parts)),
        )


class ColumnReader:
    """Reads pages into columns. What it learns of their rows, it keeps."""

    def __init__(self) -> None:
        self._pages = PageReader(as_sent=True)

    def read(self, body: bytes, places: Sequence[int]) -> Columns:
        """Return the rows at these positions of a page. Raises ResponseDecodeError for an unreadable one.

        Numbers of any size pass, as models have them: whether they fit is for the format to say.
        """
        if b"\n" in body or b"\r" in body:
            body = msgspec.json.format(body, indent=-1)
        self._pages.begin()
        if (made := self._columns(body, places)) is None:
            body = mended(body)
            try:
                rows = _raw_rows.decode(body).data
            except (ValueError, RecursionError):
                decode_part(body)  # says what is wrong
                raise
            made = Columns.of([self._one(rows[place]) for place in places])
        return made

    def _columns(self, body: bytes, places: Sequence[int]) -> Columns | None:
        with suppress(*UNFIT):
            if (found := self._pages.read(body)) is not None:
                rows = found[1].data
                return _spelled([rows[place] for place in places])
        return None

    def _one(self, row: Raw) -> Columns:
        made = self._columns(b'{"data":[%b]}' % bytes(row), (0,))
        return _spelled([_payment(row)]) if made is None else made


class _Page(msgspec.Struct):
    data: list[Raw]


_raw_rows: Final = msgspec.json.Decoder(_Page)


def _spelled(payments: Sequence[Any]) -> Columns:
    """Bring payments into one spelling: rows, or models that were made of what fits no row."""
    columns = _columns_of(Payment, payments)
    lists = columns.pop("line_items")
    return Columns(columns, _columns_of(LineItem, list(chain.from_iterable(lists))), list(map(len, lists)))


def _columns_of(model: type[Any], objects: Cells) -> dict[str, list[Any]]:
    """Return the columns of a model's objects; lists of line items are given as they are."""
    held, read, extras = _held_by(model, objects)
    columns: dict[str, list[Any]] = {}
    for field in fields_of(model):
        as_sent = held.get(slot_of(field)) if field.kind is FieldKind.OBJECT or field.bare else None
        if as_sent is not None:
            columns[field.name] = _json(field, as_sent)
            continue
        cells = held.get(field.name)
        is_usual, cells = cells is not None, read[field.name](objects) if cells is None else cells
        if field.kind is FieldKind.MODEL:
            there = [cell for cell in cells if cell is not None]
            parts = _columns_of(field.of, there)
            if len(there) < len(cells):
                parts = {name: _spread(part, cells) for name, part in parts.items()}
            if (extra := parts.pop("extra")) != ["{}"] * len(extra):
                extras = _merged(field.wire, extra, extras)
            columns |= {f"{field.name}.{name}": part for name, part in parts.items()}
        else:
            spell = (
                _SPELL_HELD.get(field.kind, _as_it_is) if is_usual else _SPELL_READ.get(field.kind, _as_it_is)
            )
            columns[field.name] = spell(field, cells)
    columns["extra"] = extras
    return columns


def _held_by(
    model: type[Any], objects: Cells
) -> tuple[Mapping[str, list[Any]], Mapping[str, Any], list[str]]:
    """Return what objects hold, by its names, what reads the rest of them, and what is unknown of each."""
    if not objects:
        return {field.name: [] for field in fields_of(model)}, {}, []
    if isinstance(objects[0], model):
        read: dict[str, Any] = {
            field.name: lambda objects, get=attrgetter(field.name): list(map(get, objects))
            for field in fields_of(model)
        }
        if model is Payment:
            read["fees"] = lambda objects: [one.fees and sent_of(one.extra)["fees"] for one in objects]
        return {}, read, [encode(one.extra).decode() for one in objects]
    row = type(objects[0])
    held: dict[str, list[Any]] = {name: [] for name in row.__struct_fields__}
    # A column at a time costs three times as much; a tuple for each of many would wake the garbage collector.
    for start in range(0, len(objects), _AT_ONCE):
        columns = zip(*map(astuple, objects[start : start + _AT_ONCE]), strict=True)
        for column, cells in zip(held.values(), columns, strict=True):
            column.extend(cells)
    if not (unknown := row.unknown.__struct_fields__):
        return held, row.readers, ["{}"] * len(objects)
    # What a row has not of them is left out.
    parts = list(map(row.unknown, *map(held.__getitem__, unknown)))
    return held, row.readers, encode_lines(parts).decode().split("\n")[:-1]


def _merged(name: str, parts: Sequence[str | None], extras: Sequence[str]) -> list[str]:
    """Add what is unknown of a part of each object."""
    inside = ["" if part in {None, "{}"} else f'"{name}":{part}' for part in parts]
    return [
        f"{whole[:-1]}{',' if part and whole != '{}' else ''}{part}}}"
        for whole, part in zip(extras, inside, strict=True)
    ]


def _spread(cells: Cells, like: Cells) -> list[Any]:
    made = iter(cells)
    return [None if one is None else next(made) for one in like]


def _json(field: Field, cells: list[Any]) -> list[str]:
    """Return objects, or lists whose items may be bare numbers, as the JSON text that was sent."""
    nothing = Raw(encode(field.empty()))
    # In one go: JSON of one line has no newline of its own.
    texts = b"\n".join([nothing if cell is UNSET else cell for cell in cells]).decode().split("\n")
    if not field.bare:
        odd = [place for place, text in enumerate(texts) if text[0] != "{"]
    else:
        odd = [place for place, text in enumerate(texts) if text != "[]"]
        if odd and _are_usual(field, [texts[place] for place in odd]):
            return texts
    for place in odd:
        value = reader_of(field)(decode_part(texts[place].encode()))
        if not value or not field.bare:
            texts[place] = encode(value or field.empty()).decode()
    return texts


def _are_usual(field: Field, texts: Sequence[str]) -> bool:
    """Tell whether lists hold nothing but numbers, and objects of the usual types."""
    try:
        lists = _decoder_of(field).decode(f"[{','.join(texts)}]")
    except (ValueError, RecursionError):
        return False
    numbers = [getattr(one, field.bare or "", one) for one in chain.from_iterable(lists)]
    return all(not number or 1e-90 < abs(number) < 1e90 for number in numbers)


@cache
def _decoder_of(field: Field) -> msgspec.json.Decoder[Any]:
    types = {FieldKind.TEXT: str | int | None, FieldKind.AMOUNT: int | float | None}
    members = [(one.name, types[one.kind], None) for one in fields_of(field.of)]
    names = {one.name: one.wire for one in fields_of(field.of)}
    part = msgspec.defstruct(f"{field.of.__name__}Cells", members, rename=names, gc=False)
    return msgspec.json.Decoder(list[list[part | int | float]])  # type: ignore[valid-type]


def _as_it_is(_: Field, cells: list[Any]) -> list[Any]:
    return cells


def _numbers(_: Field, cells: Cells) -> list[Any]:
    return [None if cell is None else int(cell) for cell in cells]


def _whole(field: Field, cells: list[Any]) -> list[Any]:
    return _numbers(field, cells) if field.digits else cells


def _seconds(_: Field, cells: Cells) -> list[Any]:
    return [None if cell is None else cell * 1_000_000 for cell in cells]


def _moments(_: Field, cells: Cells) -> list[Any]:
    return [None if cell is None else microseconds_of(cell) for cell in cells]


def _digits(field: Field, cells: list[Any]) -> list[Any]:
    """Return amounts as the digits that were sent: a row's may be spelled as no amount is."""
    found = list(filter(None, cells))
    together = "\n".join(found)
    if not found or (_are_amounts(together) and together.count("\n") < len(found)):
        return cells
    return _amounts(field, [cell and reader_of(field)(cell) for cell in cells])


def _amounts(_: Field, cells: Cells) -> list[Any]:
    return [None if cell is None else spelled(cell) for cell in cells]


def _texts(_: Field, cells: Cells) -> list[str]:
    return [encode(cell).decode() for cell in cells]


def _lists(field: Field, cells: Cells) -> list[Any]:
    return _texts(field, cells) if field.bare else list(cells)


def _codes(_: Field, cells: Cells) -> list[str]:
    return [(_known_codes if len(cell) <= LONGEST else _codes_text)(cell) for cell in cells]


def _codes_text(codes: tuple[int, ...]) -> str:
    return encode(list(map(int, codes))).decode()


_known_codes: Final = lru_cache(_MOST_VALUES)(_codes_text)


_SPELL_HELD: Final[Mapping[FieldKind, Any]] = {
    FieldKind.WHOLE: _whole,
    FieldKind.CODE: _numbers,
    FieldKind.MOMENT: _seconds,
    FieldKind.AMOUNT: _digits,
}
"""What spells cells that rows hold under the field's own name."""
_SPELL_READ: Final[Mapping[FieldKind, Any]] = {
    FieldKind.CODE: _numbers,
    FieldKind.MOMENT: _moments,
    FieldKind.AMOUNT: _amounts,
    FieldKind.OBJECT: _texts,
    FieldKind.MODELS: _lists,
    FieldKind.CODES: _codes,
}
"""What spells values as models have them."""


class _Identified(msgspec.Struct):
    id: int | str | None = None


def _payment(row: Raw) -> Payment:
    try:
        sent = decode_part(row)
    except ResponseDecodeError as error:
        payment_id = None
        with suppress(ValueError, RecursionError):
            payment_id = msgspec.json.decode(row, type=_Identified).id
        raise ResponseDecodeError(f"payment {payment_id}: {error}", paths=error.paths) from None
    return structure_payment(sent, f"payment {sent.get('id')}: $")
