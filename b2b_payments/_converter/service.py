"""The cattrs converter that knows the models: its hooks follow from what the models say of their fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import cache, partial
from itertools import zip_longest
from typing import Any, Final, TypeVar

import attrs
from cattrs import Converter
from msgspec import UNSET

from b2b_payments._converter import values
from b2b_payments._converter.unreadable import MOST_PLACES, Problem, UnreadableError, unreadable
from b2b_payments._models.description import Field, Kind, fields_of
from b2b_payments._models.extra import Extra, sent_of

T = TypeVar("T")
Read = Callable[[Any], Any]

_NUMBERS: Final = frozenset({int, float, Decimal})
_TEXT: Final = frozenset({Kind.TEXT, Kind.ANYTHING})
_CONTAINERS: Final = frozenset({Kind.OBJECT, Kind.MODEL, Kind.MODELS, Kind.CODES})


def _reader_of(field: Field) -> Read:
    read = _READERS[field.kind](field)

    required, kind = field.required, field.kind

    def read_field(value: object) -> Any:
        if not required and _says_nothing(kind, value):
            return field.empty()
        try:
            return read(value)
        except UnreadableError:
            if field.lenient:
                return field.empty()
            raise

    return read_field


reader_of: Final[Callable[[Field], Read]] = cache(_reader_of)
"""Give what reads a field's value in any tolerated spelling, or raises `UnreadableError`."""


def _says_nothing(kind: Kind, value: object) -> bool:
    """Tell whether a value stands for none: PHP spells an empty object ``[]``, and an empty list ``{}``."""
    if value is None or value is UNSET:
        return True
    if value or not isinstance(value, str | list | dict):
        return False
    return kind not in _TEXT if isinstance(value, str) else kind in _CONTAINERS


def _read_object(value: object) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise unreadable(value, "an object")


def _reader_of_codes(field: Field) -> Read:
    codes = {int(code): code for code in field.of}

    def read(value: object) -> Any:
        number = values.read_whole_number(value)
        return codes.get(number, number)

    return read


def _reader_of_models(field: Field) -> Read:
    def read(value: object) -> Any:
        bare = field.bare is not None and value.__class__ in _NUMBERS
        return service_converter.structure({field.bare: value} if bare else value, field.of)

    return read


_READERS: Final[Mapping[Kind, Callable[[Field], Read]]] = {
    Kind.WHOLE: lambda _: values.read_whole_number,
    Kind.TEXT: lambda _: values.read_text,
    Kind.AMOUNT: lambda _: values.read_amount,
    Kind.MOMENT: lambda _: values.read_moment,
    Kind.FLAG: lambda _: values.read_flag,
    Kind.CODE: _reader_of_codes,
    Kind.CODES: lambda field: partial(read_each, _reader_of_codes(field), expected="a list of whole numbers"),
    Kind.OBJECT: lambda _: _read_object,
    Kind.ANYTHING: lambda _: lambda value: value,
    Kind.MODEL: _reader_of_models,
    Kind.MODELS: lambda field: partial(read_each, _reader_of_models(field)),
}


def read_each(read: Read, value: object, expected: str = "a list of objects") -> tuple[Any, ...]:
    """Read a list, and on failure say of each item what is wrong with it, as far as an error tells."""
    if not isinstance(value, list):
        raise unreadable(value, expected)
    try:
        return tuple(map(read, value))
    except UnreadableError:
        problems: list[Problem] = []
    for index, item in enumerate(value):
        try:
            read(item)
        except UnreadableError as error:
            problems += error.below(f"[{index}]")
        if len(problems) >= MOST_PLACES:
            break
    raise UnreadableError(problems)


def _structure_hook(model: type[Any]) -> Callable[[Any, object], Any]:
    readers = [(field, reader_of(field)) for field in fields_of(model)]
    known = {name for field, _ in readers for name in (field.wire, *field.also)}

    def structure(raw: Any, _: object) -> Any:
        if raw.__class__ is not dict:
            raise unreadable(raw, "an object")
        made: dict[str, Any] = {}
        problems: list[Problem] = []
        for field, read in readers:
            name = _name_in(field, raw)
            try:
                made[field.name] = read(raw.get(name, UNSET))
            except UnreadableError as error:
                problems += error.below(f".{name}")
        if problems:
            raise UnreadableError(problems)
        return model(**made, extra=Extra({name: raw[name] for name in raw if name not in known}))

    return structure


def _name_in(field: Field, sent: Mapping[str, Any]) -> str:
    if not field.also or field.wire in sent:
        return field.wire
    return next((name for name in field.also if name in sent), field.wire)


def read_whole(model: type[T], raw: object) -> T:
    """Read an object, and keep with it how it was spelled. Raises `UnreadableError`."""
    made: Any = service_converter.structure(raw, model)
    made.extra.sent = raw
    whole: T = made
    return whole


def write(made: Any, sent: Any = None) -> dict[str, Any]:
    """Give a model back as it was sent, as far as its attributes still are what was read from that.

    Of a model that was not sent, what was left at its default is left out.
    """
    extra: Any = getattr(made, "extra", {})
    sent = sent_of(extra) or sent
    wire: dict[str, Any] = {}
    for field in fields_of(type(made)):
        value = getattr(made, field.name)
        if not isinstance(sent, dict):
            if not field.has_default or field.always or value != field.empty():
                wire[field.wire] = _written(field, value, None)
            continue
        name = _name_in(field, sent)
        was = sent.get(name, UNSET)
        if reader_of(field)(was) != value:
            wire[name] = _written(field, value, was)
        elif was is not UNSET:
            wire[name] = values.plain(was)
    return {name: values.plain(value) for name, value in extra.items()} | wire


def _written(field: Field, value: Any, sent: object) -> Any:
    """Write an attribute in the service's usual way."""
    kind, digits = field.kind, field.digits
    if value is None or kind in {Kind.TEXT, Kind.FLAG}:
        return value
    if kind is Kind.MODEL:
        return write(value, sent)
    if kind is Kind.MODELS:
        parts = sent[: len(value)] if isinstance(sent, list) else ()
        return [write(item, part) for item, part in zip_longest(value, parts)]
    if kind is Kind.AMOUNT:
        return values.spelled(value) if digits else values.json_number(value)
    if kind in {Kind.WHOLE, Kind.CODE, Kind.MOMENT}:
        number = values.epoch_seconds(value) if kind is Kind.MOMENT else int(value)
        return str(number) if digits else number
    return [int(code) for code in value] if kind is Kind.CODES else values.plain(value)


service_converter: Final = Converter(detailed_validation=False)
"""The cattrs converter that knows all of the models, alone and in collections."""

service_converter.register_structure_hook_factory(attrs.has, _structure_hook)
service_converter.register_unstructure_hook_func(attrs.has, write)
