"""The one description of the service's objects, read from the models themselves.

A field is described where it is declared. Its kind follows from its type. Its wire name is its own name in
camelCase. A field without a default is required: the service may neither leave it out nor send null. What is
otherwise stands in its metadata:

- `wire`, the service's name, and `also`, other names that it gave the field (not in rows of pages)
- `optional`: not required, though it has no default
- `digits`: the service sends the number in text
- `lenient`: empty where it cannot be read
- `bare`: an item may be a bare number, which is this field of it
- `always`: sent even where it is left at its default
- `derived`: no part of the object's own content, but what is allowed now, or another object's name
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from enum import Enum, IntEnum, auto
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

import attrs

from b2b_payments._printable import frozen

LENIENT: Final = {"lenient": True}
DIGITS: Final = {"digits": True}
DERIVED: Final = {"derived": True}


class FieldKind(Enum):
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


@frozen(eq=False)  # there is one of each
class Field:
    """A field of a model: its name here and on the wire, its kind, and what may stand there.

    `nullable` says that the attribute may be None. `of` is the model of `MODEL` and `MODELS`, the enum of
    `CODE` and `CODES`.
    """

    name: str
    wire: str
    kind: FieldKind
    required: bool
    nullable: bool
    of: Any = None
    also: tuple[str, ...] = ()
    digits: bool = False
    lenient: bool = False
    bare: str | None = None
    always: bool = False
    derived: bool = False
    has_default: bool = False
    empty: Callable[[], Any] = str
    """Give the attribute where the service sends nothing."""


_KINDS: Final[dict[Any, FieldKind]] = {
    int: FieldKind.WHOLE,
    str: FieldKind.TEXT,
    Decimal: FieldKind.AMOUNT,
    datetime: FieldKind.MOMENT,
    bool: FieldKind.FLAG,
    Mapping: FieldKind.OBJECT,
    Any: FieldKind.ANYTHING,
}


def _fields_of(model: Any) -> tuple[Field, ...]:
    attrs.resolve_types(model)
    return tuple(_field(attribute) for attribute in attrs.fields(model) if attribute.name != "extra")


fields_of: Final[Callable[[Any], tuple[Field, ...]]] = cache(_fields_of)
"""Give the fields of a model that the service knows, in order: all but `extra`."""


def wire_names(model: Any) -> dict[str, str]:
    """Return the service's name of each field."""
    return {field.name: field.wire for field in fields_of(model)}


def _field(attribute: attrs.Attribute[Any]) -> Field:
    types = _parts(attribute.type)
    kind, of = _kind(next(type_ for type_ in types if type_ is not NoneType))
    said = attribute.metadata
    return Field(
        attribute.name,
        said.get("wire", camel_case(attribute.name)),
        kind,
        required=attribute.default is attrs.NOTHING and not said.get("optional", False),
        nullable=NoneType in types or kind is FieldKind.ANYTHING,
        of=of,
        also=said.get("also", ()),
        digits=said.get("digits", False),
        lenient=said.get("lenient", False),
        bare=said.get("bare"),
        always=said.get("always", False),
        derived=said.get("derived", False),
        has_default=attribute.default is not attrs.NOTHING,
        empty=_empty(attribute.default),
    )


def _empty(default: Any) -> Callable[[], Any]:
    if default is attrs.NOTHING:
        return str
    factory: Callable[[], Any] | None = getattr(default, "factory", None)
    return factory or (lambda: default)


def _kind(type_: Any) -> tuple[FieldKind, type[Any] | None]:
    if get_origin(type_) is tuple:
        kind, of = _kind(_parts(get_args(type_)[0])[0])
        return (FieldKind.CODES if kind is FieldKind.CODE else FieldKind.MODELS), of
    if get_origin(type_) is Annotated:
        type_ = get_args(type_)[1]
    known = _KINDS.get(get_origin(type_) or type_)
    if known is not None:
        return known, None
    return (FieldKind.CODE if issubclass(type_, IntEnum) else FieldKind.MODEL), type_


def _parts(type_: Any) -> tuple[Any, ...]:
    return get_args(type_) if get_origin(type_) in {Union, UnionType} else (type_,)


def camel_case(name: str) -> str:
    """Return a name as the service spells it."""
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))
