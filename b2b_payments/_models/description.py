"""Field descriptions, derived from the models: no other place describes the service's objects.

A field's kind follows from its type, and its wire name is its own name in camelCase. A field without a
default is required: the service may neither leave it out nor send null. A field's metadata has the
exceptions:

- `wire`: the service's name for it; `aliases`: other names it has used (not in rows of pages)
- `optional`: not required, although it has no default
- `digits`: the service sends the number as a string
- `lenient`: empty if it cannot be read
- `bare`: an item of the list may be a bare number, also in a string, which stands for this field of the item
- `always`: sent even if it has its default value
- `derived`: not the object's own content, but what is currently allowed, or the name of another object
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
    """The type of a field's values."""

    WHOLE = auto()
    TEXT = auto()
    AMOUNT = auto()
    MOMENT = auto()
    FLAG = auto()
    CODE = auto()
    CODES = auto()
    OBJECT = auto()
    """A JSON object, as received."""
    ANYTHING = auto()
    MODEL = auto()
    MODELS = auto()
    """A list of models."""


@frozen(eq=False)  # created once per field
class Field:
    """A field of a model: its attribute's name, its wire name, its kind, and the metadata listed above.

    `nullable`: the attribute may be None. `of`: the model of a `MODEL` or `MODELS` field, the enum of a
    `CODE` or `CODES` field.
    """

    name: str
    wire: str
    kind: FieldKind
    required: bool
    nullable: bool
    of: Any = None
    aliases: tuple[str, ...] = ()
    digits: bool = False
    lenient: bool = False
    bare: str | None = None
    always: bool = False
    derived: bool = False
    has_default: bool = False
    empty: Callable[[], Any] = str
    """Returns the attribute's value if the service sends none."""


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
"""Returns the fields that a model shares with the service, in order: all but `extra`."""


def wire_names(model: Any) -> dict[str, str]:
    """Return the wire name of each field, by attribute."""
    return {field.name: field.wire for field in fields_of(model)}


def _field(attribute: attrs.Attribute[Any]) -> Field:
    types = _union_members(attribute.type)
    kind, of = _kind_of(next(type_ for type_ in types if type_ is not NoneType))
    has_default = attribute.default is not attrs.NOTHING
    exceptions = {"wire": camel_case(attribute.name), "optional": has_default, **attribute.metadata}
    return Field(
        attribute.name,
        exceptions.pop("wire"),
        kind,
        required=not exceptions.pop("optional"),
        nullable=NoneType in types or kind is FieldKind.ANYTHING,
        of=of,
        has_default=has_default,
        empty=_factory_of(attribute.default),
        **exceptions,
    )


def _factory_of(default: Any) -> Callable[[], Any]:
    if default is attrs.NOTHING:
        return str
    factory: Callable[[], Any] | None = getattr(default, "factory", None)
    return factory or (lambda: default)


def _kind_of(type_: Any) -> tuple[FieldKind, type[Any] | None]:
    if get_origin(type_) is tuple:
        kind, of = _kind_of(_union_members(get_args(type_)[0])[0])
        return (FieldKind.CODES if kind is FieldKind.CODE else FieldKind.MODELS), of
    if get_origin(type_) is Annotated:
        type_ = get_args(type_)[1]
    simple = _KINDS.get(get_origin(type_) or type_)
    if simple is not None:
        return simple, None
    return (FieldKind.CODE if issubclass(type_, IntEnum) else FieldKind.MODEL), type_


def _union_members(type_: Any) -> tuple[Any, ...]:
    return get_args(type_) if get_origin(type_) in {Union, UnionType} else (type_,)


def camel_case(name: str) -> str:
    """Convert a snake_case name to the service's camelCase."""
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))
