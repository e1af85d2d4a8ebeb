"""The base class of all response models, and their conversion to JSON-ready data, for web frameworks too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any, Final

import attrs

from b2b_payments._errors import ConfigurationError
from b2b_payments._models.decimals import decimal_text

_SCALARS: Final = frozenset({str, int, float, bool, type(None)})


def _new_serializer(model: Any) -> Any:
    from pydantic_core import SchemaSerializer  # noqa: PLC0415 - optional: only pydantic calls this

    return SchemaSerializer(model.__get_pydantic_core_schema__(model, None))


_serializer_of: Final[Callable[[Any], Any]] = cache(_new_serializer)


class _Serializer:
    """The serializer that pydantic looks up on an object without a type annotation, as with `-> Any`."""

    def __get__(self, _model: object, owner: type[AnswerModel]) -> Any:
        try:
            return _serializer_of(owner)
        except ModuleNotFoundError as error:
            raise AttributeError(str(error)) from None


class AnswerModel:
    """An object that the service returns. A FastAPI route can return it as is, annotated or not."""

    __slots__ = ()
    __pydantic_serializer__: Any = _Serializer()

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter(to_dict(self).items())

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: object) -> Any:
        from pydantic_core import core_schema  # noqa: PLC0415 - optional: only pydantic calls this

        serialization = core_schema.plain_serializer_function_ser_schema(
            _serialized, info_arg=True, return_schema=core_schema.dict_schema(core_schema.str_schema())
        )
        return core_schema.is_instance_schema(cls, serialization=serialization)


def to_dict(model: Any) -> dict[str, Any]:
    """Return a model as JSON-ready data under this library's field names, as for a web handler.

    Amounts are strings with all their digits, times ISO 8601 in UTC, codes numbers; `extra` has the unknown
    fields. The result works with `json.dumps`, and shares nothing with the model.
    Raises `ConfigurationError` if `model` is not a model, or holds a value that JSON cannot represent.
    """
    check_model(type(model), "to_dict")
    return _fields(model)


def _fields(model: Any, *, without_none: bool = False) -> dict[str, Any]:
    values = [(attribute.name, getattr(model, attribute.name)) for attribute in attrs.fields(type(model))]
    return {
        name: _ready(value, without_none) for name, value in values if value is not None or not without_none
    }


def _ready(value: Any, without_none: bool) -> Any:
    if isinstance(value, AnswerModel):
        return _fields(value, without_none=without_none)
    if isinstance(value, Decimal):
        return fixed_point(value)
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, tuple):
        return [_ready(item, without_none) for item in value]
    return plain(value)


def _serialized(model: AnswerModel, info: Any) -> Any:
    """Return what `to_dict` does, without what a FastAPI route or a pydantic model excludes, at any level."""
    from pydantic_core import to_jsonable_python  # noqa: PLC0415 - optional: only pydantic calls this

    fields = _fields(model, without_none=info.exclude_none)
    return to_jsonable_python(fields, include=info.include, exclude=info.exclude)


def check_model(model: type[Any], function: str) -> None:
    """Raise `ConfigurationError`, naming the function that was called, if a class is not a model."""
    if not issubclass(model, AnswerModel):
        raise ConfigurationError(
            f"{function} was given {model.__name__}: give a payment or another model of this library."
        )


def fixed_point(amount: Decimal) -> str:
    """Format an amount with all its digits and no exponent."""
    return format(amount, "f")


def json_number(number: Decimal) -> int | float | str:
    """Return a Decimal as a JSON number, or as its digits in a string if no float holds it exactly."""
    if not number.is_finite():
        return decimal_text(number)
    if number.as_tuple().exponent == 0 and number.adjusted() < 100:
        return int(number)
    near = float(number)
    # Compare digits, not binary values: the float 0.1 stands for the digits 0.1.
    return near if Decimal(repr(near)) == number else decimal_text(number)


def plain(value: Any) -> Any:
    """Copy JSON data, so that it is not shared with a model, into the types that `json.dumps` accepts."""
    if value.__class__ in _SCALARS:
        return value
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Decimal):
        return json_number(value)
    if isinstance(value, int | float | str):
        return value
    raise ConfigurationError(
        f"{type(value).__name__} cannot be stored in JSON: give text, numbers, bools, None, lists and dicts."
    )
