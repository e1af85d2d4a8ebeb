"""The one description of the service's objects, read from the models themselves.

A field is described where it is declared. Its kind follows from its type. Its wire name is its own name in
camelCase. What is otherwise stands in its metadata: `wire` (the service's name), `also` (other names that the
service gave it), `digits` (the service sends the number in text), `lenient` (empty where it cannot be read).
A field without a default is required: the service may neither leave it out nor send null, unless `optional`
is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import Enum, IntEnum, auto
from functools import cache
from types import NoneType, UnionType
from typing import Any, Final, Union, get_args, get_origin

import attrs

LENIENT: Final = {"lenient": True}
DIGITS: Final = {"digits": True}


class Kind(Enum):
    """What a field holds."""

    WHOLE = auto()
    TEXT = auto()
    AMOUNT = auto()
    MOMENT = auto()
    FLAG = auto()
    CODE = auto()
    CODES = auto()
    OBJECT = auto()
    """A JSON object, as it was sent."""
    ANYTHING = auto()
    MODEL = auto()
    MODELS = auto()
    """A list of models."""


@attrs.frozen
class Field:
    """A field of a model: its name here and on the wire, its kind, and what may stand there.

    `nullable` says that the attribute may be None. `of` is the model of `MODEL` and `MODELS`, the enum of
    `CODE` and `CODES`.
    """

    name: str
    wire: str
    kind: Kind
    required: bool
    nullable: bool
    of: type[Any] | None = None
    also: tuple[str, ...] = ()
    digits: bool = False
    lenient: bool = False


_KINDS: Final[dict[Any, Kind]] = {
    int: Kind.WHOLE,
    str: Kind.TEXT,
    Decimal: Kind.AMOUNT,
    datetime: Kind.MOMENT,
    bool: Kind.FLAG,
    Mapping: Kind.OBJECT,
    Any: Kind.ANYTHING,
}


@cache
def fields_of(model: type[Any]) -> tuple[Field, ...]:
    """Give the fields of a model that the service knows, in order: all but `extra`."""
    attrs.resolve_types(model)
    return tuple(_field(attribute) for attribute in attrs.fields(model) if attribute.name not in _OURS)


_OURS: Final = frozenset({"extra", "_sent"})


def _field(attribute: attrs.Attribute[Any]) -> Field:
    types = _parts(attribute.type)
    kind, of = _kind(next(type_ for type_ in types if type_ is not NoneType))
    said = attribute.metadata
    return Field(
        attribute.name,
        said.get("wire", camel_case(attribute.name)),
        kind,
        required=attribute.default is attrs.NOTHING and not said.get("optional", False),
        nullable=NoneType in types or kind is Kind.ANYTHING,
        of=of,
        also=said.get("also", ()),
        digits=said.get("digits", False),
        lenient=said.get("lenient", False),
    )


def _kind(type_: Any) -> tuple[Kind, type[Any] | None]:
    if get_origin(type_) is tuple:
        kind, of = _kind(_parts(get_args(type_)[0])[0])
        return (Kind.CODES if kind is Kind.CODE else Kind.MODELS), of
    known = _KINDS.get(get_origin(type_) or type_)
    if known is not None:
        return known, None
    return (Kind.CODE if issubclass(type_, IntEnum) else Kind.MODEL), type_


def _parts(type_: Any) -> tuple[Any, ...]:
    return get_args(type_) if get_origin(type_) in {Union, UnionType} else (type_,)


def camel_case(name: str) -> str:
    """Give a name as the service spells it."""
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))
