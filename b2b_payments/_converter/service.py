"""The cattrs converter of the models. Its hooks are generated from the models' field descriptions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from decimal import Decimal
from enum import IntEnum
from functools import cache, partial
from typing import Any, Final

import attrs
from cattrs import Converter
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override
from msgspec import UNSET

from b2b_payments._converter import values
from b2b_payments._converter.unreadable import UNREADABLE, UnreadableError
from b2b_payments._errors import ConfigurationError, shown
from b2b_payments._models.answer_model import fixed_point, json_number, plain
from b2b_payments._models.description import Field, FieldKind, fields_of

Read = Callable[..., Any]

_BARE: Final = frozenset({int, float, Decimal, str})
_TEXT: Final = frozenset({FieldKind.TEXT, FieldKind.ANYTHING})
_CONTAINERS: Final = frozenset({FieldKind.OBJECT, FieldKind.MODEL, FieldKind.MODELS, FieldKind.CODES})
_AS_IS: Final[Mapping[FieldKind, type]] = {FieldKind.TEXT: str, FieldKind.FLAG: bool, FieldKind.OBJECT: dict}

_READERS: Final[Mapping[FieldKind, Callable[[Any], Any]]] = {
    FieldKind.WHOLE: values.read_whole_number,
    FieldKind.TEXT: values.read_text,
    FieldKind.AMOUNT: values.read_amount,
    FieldKind.MOMENT: values.read_moment,
    FieldKind.FLAG: values.read_flag,
    FieldKind.OBJECT: values.read_object,
    FieldKind.ANYTHING: lambda value: value,
}


def _reader_of(field: Field) -> Read:
    read = _READERS.get(field.kind) or _reader_of_type(field)
    required, kind, as_is = field.required, field.kind, _AS_IS.get(field.kind)

    def read_field(value: object, _: object = None) -> Any:
        if value.__class__ is as_is:
            return value
        if not (value or required) and _is_missing(kind, value):
            return field.empty()
        try:
            return read(value)
        except UNREADABLE:
            if field.lenient:
                return field.empty()
            raise

    return read_field


reader_of: Final[Callable[[Field], Read]] = cache(_reader_of)
"""Returns a function that reads a field's value in any tolerated format, or raises one of `UNREADABLE`."""


def _reader_of_type(field: Field) -> Read:
    many = field.kind in {FieldKind.MODELS, FieldKind.CODES}
    type_ = tuple[field.of, ...] if many else field.of  # type: ignore[name-defined]
    expected = "a list of whole numbers" if field.kind is FieldKind.CODES else "a list of objects"

    def read(value: Any) -> Any:
        if many and not isinstance(value, list):
            raise UnreadableError(value, expected)
        if field.bare and not _BARE.isdisjoint(map(type, value)):
            value = [{field.bare: item} if type(item) in _BARE else item for item in value]
        return service_converter.structure(value, type_)

    return read


def _is_missing(kind: FieldKind, value: object) -> bool:
    """Whether a value means "none": PHP may encode an empty object as ``[]``, and an empty list as ``{}``."""
    if value is None or value is UNSET:
        return True
    if value or not isinstance(value, str | list | dict):
        return False
    return kind not in _TEXT if isinstance(value, str) else kind in _CONTAINERS


class _WireObject(dict[str, Any]):
    """A JSON object in which a missing field is UNSET: the field's own reader decides whether to raise."""

    def __missing__(self, _: str) -> Any:
        return UNSET


def _structure_hook(model: type[Any], converter: Converter) -> Callable[[Any, object], Any]:
    fields = fields_of(model)
    known = {name for field in fields for name in (field.wire, *field.aliases)}
    aliases = [(field.wire, name) for field in fields for name in field.aliases]
    overrides: Any = {
        field.name: override(rename=field.wire, struct_hook=reader_of(field)) for field in fields
    }
    make = make_dict_structure_fn(model, converter, extra=override(omit=True), **overrides)

    def structure(raw: Any, _: object) -> Any:
        if raw.__class__ is not dict:
            raise UnreadableError(raw, "an object")
        wire_object = _WireObject(raw)
        for wire, name in aliases:
            if name in wire_object:
                wire_object.setdefault(wire, wire_object[name])
        instance: Any = make(wire_object, model)
        if not known.issuperset(raw):
            dict.update(instance.extra, {name: raw[name] for name in raw if name not in known})
        return instance

    return structure


def _read_code(value: object, codes: type[IntEnum]) -> int:
    number = values.read_whole_number(value)
    return codes._value2member_map_.get(number, number)  # type: ignore[return-value]


def _unstructure_hook(model: type[Any], converter: Converter) -> Callable[[Any], dict[str, Any]]:
    overrides: Any = {
        field.name: override(
            rename=field.wire,
            unstruct_hook=_writer_of(field, converter),
            omit_if_default=converter.omit_if_default and field.has_default and not field.always,
        )
        for field in fields_of(model)
    }
    if any(attribute.name == "extra" for attribute in attrs.fields(model)):
        overrides["extra"] = override(omit=True)
    write = make_dict_unstructure_fn(model, converter, **overrides)

    def unstructure(instance: Any) -> dict[str, Any]:
        extra = getattr(instance, "extra", None)
        return plain(extra) | write(instance) if extra else write(instance)

    return unstructure


def _writer_of(field: Field, converter: Converter) -> Callable[[Any], Any]:
    write = _WRITERS[field.kind](field) if field.kind in _WRITERS else converter.unstructure
    many = field.kind in {FieldKind.MODELS, FieldKind.CODES}

    def write_field(value: Any) -> Any:
        if value is None:
            return None
        return [write(item) for item in value] if many else write(value)

    return write_field


def _whole_number(field: Field, value: Any) -> int:
    with suppress(TypeError, ValueError, OverflowError):
        if int(value) == value:
            return int(value)
    raise ConfigurationError(f"{field.name} is {shown(value)}, which is not a whole number: give an int.")


_WRITERS: Final[Mapping[FieldKind, Callable[[Field], Callable[[Any], Any]]]] = {
    FieldKind.AMOUNT: lambda field: fixed_point if field.digits else json_number,
    FieldKind.WHOLE: lambda field: (
        (lambda number: str(_whole_number(field, number))) if field.digits else partial(_whole_number, field)
    ),
    FieldKind.MOMENT: lambda field: (
        (lambda moment: str(values.epoch_seconds(moment))) if field.digits else values.epoch_seconds
    ),
    FieldKind.CODE: lambda field: partial(_whole_number, field),
    FieldKind.CODES: lambda field: partial(_whole_number, field),
    FieldKind.TEXT: lambda _: str,
    FieldKind.FLAG: lambda _: bool,
    FieldKind.OBJECT: lambda _: plain,
    FieldKind.ANYTHING: lambda _: plain,
}


def _converter(*, omit_if_default: bool) -> Converter:
    converter = Converter(omit_if_default=omit_if_default)
    converter.register_structure_hook_factory(attrs.has, _structure_hook)
    converter.register_structure_hook(IntEnum, _read_code)
    converter.register_unstructure_hook_factory(attrs.has, _unstructure_hook)
    return converter


service_converter: Final = _converter(omit_if_default=True)
"""Reads and writes all models, alone and in collections. Omits fields that have their default value."""
full_converter: Final = _converter(omit_if_default=False)
"""Writes every field."""


def with_changes(source: Any, old: Any, new: Any) -> Any:
    """Return the JSON `source`, from which `old` was read, changed only where `new` differs from `old`."""
    if old == new and repr(old) == repr(new):  # 1 equals True and 1.0, in lists and dicts too
        return source
    if isinstance(new, dict) and isinstance(old, dict) and isinstance(source, dict):
        kept = {name: source[name] for name in source if name not in old or name in new}
        changed = {
            name: with_changes(source.get(name, UNSET), old.get(name, UNSET), value)
            for name, value in new.items()
        }
        return kept | {name: value for name, value in changed.items() if value is not UNSET}
    if isinstance(new, list) and isinstance(old, list) and isinstance(source, list):
        common = [with_changes(*items) for items in zip(source, old, new, strict=False)]
        return common + new[len(common) :]
    return new
