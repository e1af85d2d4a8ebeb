"""Payments as rows of plain values in one spelling, whatever spelling came: what exports and databases take.

As lines of JSON, such rows mean the same to any other parser that is told their types. What the service
sent does not: DuckDB reads an id of 1.6 as 2 and true as 1, and fails on a doubled key or a lone surrogate.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from operator import attrgetter
from typing import Any, Final

import msgspec

from b2b_payments._converter.rows import unknown_of
from b2b_payments._converter.values import read_amount
from b2b_payments._models import LineItem, Money, Payment
from b2b_payments._models.answer_model import spelled
from b2b_payments._models.description import Field, Kind, fields_of
from b2b_payments._models.extra import sent_of
from b2b_payments._protocol.json import encode_each

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_amount: Final = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?"
_is_amount: Final = re.compile(_amount).fullmatch
_are_amounts: Final = re.compile(rf"(?:{_amount}\n)*{_amount}").fullmatch


def _normal_type(model: type[Any]) -> Any:
    types = [(field.name, _type_of(field)) for field in fields_of(model)]
    if model is not Money:
        types.append(("extra", str))
    names = {field.name: field.wire for field in fields_of(model)}
    return msgspec.defstruct(f"Normal{model.__name__}", types, rename=names, gc=False)


def _type_of(field: Field) -> Any:
    type_: Any = int if field.kind in {Kind.WHOLE, Kind.CODE, Kind.MOMENT} else str
    if field.kind is Kind.MODEL:
        type_ = NormalMoney
    elif field.kind is Kind.MODELS and not field.bare:
        type_ = tuple[NormalItem, ...]  # type: ignore[valid-type]
    return type_ | None if field.nullable else type_


NormalMoney: Final = _normal_type(Money)
"""An amount: `amount` is its digits as text, every zero that was sent, no exponent."""
NormalItem: Final = _normal_type(LineItem)
NormalRow: Final = _normal_type(Payment)
"""A payment in one spelling: attributes are named as the model's, JSON's names are the service's.

Ids and codes are int; `created_at` and `updated_at` are int, too: microseconds since 1970. Texts are str, or
None where the model has None. `details`, `module_data`, `fees` (as sent), what is allowed, and `extra` are
JSON text; unknown fields within `total`, or within an item's amount, are in `extra` under that name.
"""
_NORMAL: Final[Mapping[type[Any], Any]] = {Money: NormalMoney, LineItem: NormalItem, Payment: NormalRow}


def normal(model: type[Any], found: Sequence[Any]) -> list[Any]:
    """Bring models, or their rows as they were decoded, into one spelling, a field at a time.

    Raises ValueError, TypeError or UnreadableError where one of them is not as its model has it.
    """
    columns = [_column(field, found) for field in fields_of(model)]
    if model is not Money:
        columns.append(_extras(model, found))
    return list(map(_NORMAL[model], *columns))


def _column(field: Field, found: Sequence[Any]) -> Sequence[Any]:
    cells = list(map(attrgetter(field.name), found))
    if field.bare:
        return _as_sent(field, _typed(tuple)(field, cells), found)
    if not field.nullable or None not in cells:
        return _SPELLING[field.kind](field, cells)
    made = iter(_SPELLING[field.kind](field, [cell for cell in cells if cell is not None]))
    return [None if cell is None else next(made) for cell in cells]


def _typed(*types: type) -> Callable[[Field, list[Any]], list[Any]]:
    def same(_: Field, cells: list[Any]) -> list[Any]:
        if not {*types}.issuperset(map(type, cells)):
            raise TypeError
        return cells

    return same


def _microseconds(_: Field, cells: list[Any]) -> list[int]:
    if {int}.issuperset(map(type, cells)):
        return [cell * 1_000_000 for cell in cells]
    return [
        (cell - _EPOCH) // _MICROSECOND if isinstance(cell, datetime) else cell * 1_000_000 for cell in cells
    ]


def _amounts(_: Field, cells: list[Any]) -> list[str]:
    if {str}.issuperset(map(type, cells)):
        text = "\n".join(cells)
        if _are_amounts(text) and text.count("\n") == len(cells) - 1:
            return cells
    return [cell if type(cell) is str and _is_amount(cell) else spelled(read_amount(cell)) for cell in cells]


def _json(type_: type) -> Callable[[Field, list[Any]], list[str]]:
    check = _typed(type_)
    return lambda field, cells: encode_each(check(field, cells))


def _parts(field: Field, cells: list[Any]) -> list[tuple[Any, ...]]:
    made = iter(normal(field.of, list(chain.from_iterable(cells))))
    return [tuple(islice(made, length)) for length in map(len, cells)]


_SPELLING: Final[Mapping[Kind, Callable[[Field, list[Any]], list[Any]]]] = {
    Kind.WHOLE: _typed(int),
    Kind.CODE: lambda _, cells: list(map(int, cells)),
    Kind.TEXT: _typed(str),
    Kind.MOMENT: _microseconds,
    Kind.AMOUNT: _amounts,
    Kind.OBJECT: _json(dict),
    Kind.CODES: _json(tuple),
    Kind.MODEL: lambda field, cells: normal(field.of, cells),
    Kind.MODELS: _parts,
}


def _as_sent(field: Field, cells: list[Any], found: Sequence[Any]) -> list[str]:
    """Give lists as they were sent, whose items may be bare numbers."""
    if not any(cells):
        return ["[]"] * len(cells)
    parts = list(chain.from_iterable(cells))
    for one in fields_of(field.of):
        if msgspec.UNSET in map(attrgetter(one.name), parts):
            raise TypeError
    return encode_each([_sent(field, one) if cell else () for cell, one in zip(cells, found, strict=True)])


def _sent(field: Field, one: Any) -> Any:
    if isinstance(one, msgspec.Struct):
        return getattr(one, f"{field.name}_", None) or getattr(one, field.name)
    return sent_of(one.extra)[field.wire]


def _extras(model: type[Any], found: Sequence[Any]) -> list[str]:
    extras: Any = unknown_of(found)
    for field in fields_of(model):
        if field.kind is not Kind.MODEL:
            continue
        for place, part in enumerate(map(attrgetter(field.name), found)):
            if part is not None and part.extra:
                extras = extras or [{}] * len(found)
                extras[place] = {**found[place].extra, field.wire: part.extra}
    return encode_each(extras) if extras else ["{}"] * len(found)
