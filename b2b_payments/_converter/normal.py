"""Payments in one spelling, whatever spelling came, a column at a time: what exports and databases take.

What the service sent means something else to each parser: DuckDB reads an id of 1.6 as 2 and true as 1, and
fails on a doubled key or a lone surrogate. So a page is decoded once, in C, by row types that take what is
usual; what is within objects stays as it was sent. Cells that are not of their column's own type are read as
the cattrs converter reads them. A row that does not fit even so becomes a model, and that is spelled anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cache, lru_cache
from itertools import chain
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, UnsetType
from msgspec.structs import astuple

from b2b_payments._converter.row_types import LONGEST, MOMENT, Learned, LearnedTypes, Learner, row_type
from b2b_payments._converter.service import reader_of
from b2b_payments._converter.structuring import structure_payment
from b2b_payments._errors import ResponseDecodeError
from b2b_payments._models import LineItem, Payment
from b2b_payments._models.answer_model import spelled
from b2b_payments._models.decimals import is_whole
from b2b_payments._models.description import Field, FieldKind, fields_of
from b2b_payments._models.extra import sent_of
from b2b_payments._models.moment import microseconds_of
from b2b_payments._printable import frozen
from b2b_payments._protocol.json import decode_part, encode, encode_lines, mended

Cells = Sequence[Any]

_MOST_VALUES: Final = 1_000
"""Values of a field that are remembered."""

_amount: Final = r"-?+(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+"
_are_amounts: Final = re.compile(rf"(?:{_amount}\n)*+{_amount}").fullmatch
_TYPES: Final[Mapping[FieldKind, Any]] = {
    FieldKind.WHOLE: int | str,
    FieldKind.CODE: int | str,
    FieldKind.MOMENT: MOMENT | str,
    FieldKind.TEXT: str | int,
    FieldKind.AMOUNT: Raw,
    FieldKind.CODES: Raw,
    FieldKind.OBJECT: Raw,
}
_WHOLE: Final = frozenset({FieldKind.WHOLE, FieldKind.CODE})


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
    """Reads pages into columns. The unknown names that it learns, it keeps."""

    def __init__(self) -> None:
        self._learner = Learner(_Types)

    def read(self, body: bytes, places: Sequence[int]) -> Columns:
        """Give the rows at these places of a page. Raises `ResponseDecodeError` for one that cannot be read.

        Numbers of any size pass, as models have them: whether they fit is for the format to say.
        """
        if b"\n" in body or b"\r" in body:
            body = msgspec.json.format(body, indent=-1)
        self._learner.begin()
        made = self._learner.made(_Types.columns, (body, places))
        if made is None:
            body = mended(body)
            try:
                rows = _rows.decode(body).data
            except (ValueError, RecursionError):
                decode_part(body)  # says what is wrong
                raise
            made = Columns.of([self._one(rows[place]) for place in places])
        return made

    def _one(self, row: Raw) -> Columns:
        made = self._learner.made(_Types.columns, (_page(row), (0,)))
        if made is None:
            payment = _payment(row)
            made = _of_models.columns((_page(encode(payment)), (0,)))
            if payment.fees:
                made.payments["fees"] = [encode(sent_of(payment.extra)["fees"]).decode()]
        return made


class _Page(msgspec.Struct):
    data: list[Raw]


_rows: Final = msgspec.json.Decoder(_Page)


def _page(row: Raw | bytes) -> bytes:
    return b'{"data":[%b]}' % bytes(row)


class _Types(LearnedTypes):
    """Row types with the unknown names that were learned; or those of models as JSON, by their attributes."""

    names_only = True

    def __init__(self, learned: Learned, *, of_models: bool = False) -> None:
        super().__init__(learned)
        self._of_models = of_models
        self._extras: dict[type[Any], Any] = {}
        page = msgspec.defstruct("Page", [("data", list[self._type(Payment)])])  # type: ignore[misc]
        self._decode = msgspec.json.Decoder(page).decode

    def columns(self, page: tuple[bytes, Sequence[int]]) -> Columns:
        """Read rows. Raises msgspec.ValidationError or one of `UNFIT` where one is not as usual."""
        body, places = page
        found: Any = self._decode(body)
        rows = [found.data[place] for place in places]
        lists = [row.line_items or () for row in rows]
        return Columns(
            self._spelled(Payment, rows),
            self._spelled(LineItem, list(chain.from_iterable(lists))),
            list(map(len, lists)),
        )

    def _type(self, model: type[Any]) -> Any:
        members: dict[str, tuple[str, Any, Any]] = {}
        for field in fields_of(model):
            type_: Any = Raw if field.bare else _TYPES.get(field.kind) or self._type(field.of)
            default = field.empty()
            if field.kind is FieldKind.MODELS and not field.bare:
                type_ = tuple[type_, ...]
            if type_ is Raw:
                default = Raw(encode(default))
            elif not field.required:
                type_ |= None
            wire = field.name if self._of_models else field.wire
            members[field.name] = wire, type_, msgspec.NODEFAULT if field.required else default
        if self._of_models:
            members["extra"] = "extra", Raw, msgspec.NODEFAULT
        unknown = {held: (name, Raw | UnsetType, UNSET) for held, name in self.learned.names(model).items()}
        return row_type(model, members | unknown)

    def _extra(self, model: type[Any]) -> Any:
        if (made := self._extras.get(model)) is None:
            unknown = self.learned.names(model)
            made = self._extras[model] = msgspec.defstruct("Extra", unknown, rename=unknown, gc=False)
        return made

    def _spelled(self, model: type[Any], rows: Cells) -> dict[str, list[Any]]:
        """Give the columns of a model's objects."""
        names = rows[0].__struct_fields__ if rows else ()
        held = dict(zip(names, map(list, zip(*map(astuple, rows), strict=True)), strict=True))
        extras = _texts(held.get("extra", [])) if self._of_models else ["{}"] * len(rows)
        if unknown := self.learned.names(model):
            # What a row has not of them is left out.
            objects = list(map(self._extra(model), *(held.get(name, []) for name in unknown)))
            extras = encode_lines(objects).decode().split("\n")[:-1]
        columns: dict[str, list[Any]] = {}
        for field in fields_of(model):
            cells: list[Any] = held.get(field.name, [])
            if field.kind is FieldKind.MODEL:
                there = [cell for cell in cells if cell is not None]
                parts = self._spelled(field.of, there)
                if len(there) < len(cells):
                    parts = {name: _spread(part, cells) for name, part in parts.items()}
                if (extra := parts.pop("extra")) != ["{}"] * len(extra):
                    extras = _within(field.wire, extra, extras)
                columns |= {f"{field.name}.{name}": part for name, part in parts.items()}
            elif field.kind is not FieldKind.MODELS or field.bare:
                if self._of_models and field.kind is FieldKind.AMOUNT:
                    cells = [b'"%b"' % cell for cell in cells]  # a number such as 0E-8 would lose its zeros
                columns[field.name] = _column(field, cells)
        columns["extra"] = extras
        return columns


_of_models: Final = _Types(Learned(), of_models=True)


def _within(name: str, parts: Sequence[str | None], extras: Sequence[str]) -> list[str]:
    """Add what is unknown of a part of each object."""
    inside = ["" if part in {None, "{}"} else f'"{name}":{part}' for part in parts]
    return [
        f"{whole[:-1]}{',' if part and whole != '{}' else ''}{part}}}"
        for whole, part in zip(extras, inside, strict=True)
    ]


def _spread(cells: Cells, like: Cells) -> list[Any]:
    made = iter(cells)
    return [None if one is None else next(made) for one in like]


def _texts(cells: Sequence[Any]) -> list[str]:
    # In one go: JSON of one line has no newline of its own.
    return b"\n".join(cells).decode().split("\n") if cells else []


def _column(field: Field, cells: list[Any]) -> list[Any]:
    """Bring a field's cells into one spelling."""
    if field.bare or field.kind is FieldKind.OBJECT:
        return _json(field, cells)
    if field.kind is FieldKind.CODES or (field.digits and field.kind is FieldKind.WHOLE):
        return list(map(_few_of(field), _texts(cells) if field.kind is FieldKind.CODES else cells))
    if field.kind is FieldKind.AMOUNT:
        return _amounts(field, cells)
    kinds = set(map(type, cells))
    if field.nullable and type(None) in kinds:
        return _spread(_column(field, [cell for cell in cells if cell is not None]), cells)
    if field.kind is FieldKind.TEXT and kinds <= {str, type(None)}:
        return ["" if cell is None else cell for cell in cells] if type(None) in kinds else cells
    if field.kind is FieldKind.MOMENT and kinds == {int}:
        return [cell * 1_000_000 for cell in cells]
    if field.kind in _WHOLE and kinds == {int} and is_whole(min(cells)) and is_whole(max(cells)):
        return cells
    return list(map(_read(field), cells))


def _amounts(field: Field, cells: Sequence[Raw]) -> list[str]:
    """Give amounts as the digits that were sent, in text or as numbers."""
    found = b"\n".join(cells).decode().replace('"', "").split("\n") if cells else []
    if not found or (_are_amounts("\n".join(found)) and max(map(len, found)) <= LONGEST):
        return found
    return [spelled(reader_of(field)(decode_part(cell))) for cell in cells]


def _read(field: Field) -> Callable[[Any], Any]:
    """Give what reads a cell of any tolerated spelling. Raises one of `UNFIT`."""
    read = reader_of(field)

    def read_cell(cell: Any) -> Any:
        value = read(cell)
        if isinstance(value, datetime):
            return microseconds_of(value)
        return int(value) if field.kind is FieldKind.CODE else value

    return read_cell


@cache
def _few_of(field: Field) -> Callable[[Any], Any]:
    """Give what reads cells of which few are different: what they are read as is remembered."""
    read = reader_of(field)
    if field.kind is not FieldKind.CODES:
        return lru_cache(_MOST_VALUES)(read)

    def spelled_codes(text: str) -> str:
        return encode(list(map(int, read(decode_part(text.encode()))))).decode()

    known = lru_cache(_MOST_VALUES)(spelled_codes)
    return lambda text: known(text) if len(text) <= LONGEST else spelled_codes(text)


def _json(field: Field, cells: Sequence[Raw]) -> list[str]:
    """Give objects, or lists whose items may be bare numbers, as the JSON text that was sent."""
    texts = _texts(cells)
    if not field.bare:
        odd = [place for place, text in enumerate(texts) if text[0] != "{"]
    else:
        odd = [place for place, text in enumerate(texts) if text != "[]"]
        if odd and _are_usual(field, [texts[place] for place in odd]):
            return texts
    for place in odd:
        value = reader_of(field)(decode_part(cells[place]))
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
