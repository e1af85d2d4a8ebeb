"""Checks of data to send: text must be valid in UTF-8, and values must have an exact JSON form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from b2b_payments._errors import ConfigurationError, shown
from b2b_payments._models.decimals import INTEGER_LIMIT

_MAX_LEVELS: Final = 100


def checked_text(name: str, text: str) -> str:
    """Return text as a plain `str`. Raises `ConfigurationError` if UTF-8 cannot encode it."""
    text = str.__str__(text)  # the value of an enum's member
    try:
        text.encode()
    except UnicodeEncodeError as error:
        position = error.start
    else:
        return text
    # Raised outside the except block: the encoder's error holds the whole text.
    raise ConfigurationError(
        f"{name} cannot be sent: its character {position + 1} is half of a surrogate pair, probably because "
        "the text was read with the wrong encoding."
    )


def checked_data(name: str, value: object) -> Any:
    """Copy data to plain JSON types: text, numbers, bools, None, lists and dicts.

    Raises `ConfigurationError`, with the path, for anything that JSON cannot represent: other objects, keys
    that are not text, numbers that are not finite, half of a surrogate pair.
    """
    return _copy(name, value, _MAX_LEVELS)


def _copy(path: str, value: object, levels: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return checked_text(path, value)
    if isinstance(value, int | float | Decimal):
        return _number(path, value)
    if not isinstance(value, Mapping | list | tuple):
        raise ConfigurationError(
            f"{path} is {type(value).__name__}, which cannot be stored in JSON: give text, numbers, bools, "
            "None, lists and dicts."
        )
    if not levels:
        raise ConfigurationError(f"{path} is nested too deeply: at most {_MAX_LEVELS} levels are allowed.")
    if not isinstance(value, Mapping):
        return [_copy(f"{path}[{index}]", item, levels - 1) for index, item in enumerate(value)]
    copy: dict[str, Any] = {}
    for key, item in value.items():
        if not isinstance(key, str):
            raise ConfigurationError(f"{path} has a key that is {type(key).__name__}, not text.")
        name = checked_text(f"a key in {path}", key)
        item_path = f"{path}.{name}" if name.isidentifier() else f"{path}[{shown(name)}]"
        copy[name] = _copy(item_path, item, levels - 1)
    return copy


def _number(path: str, value: float | Decimal) -> float | Decimal:
    if isinstance(value, int):
        if not -INTEGER_LIMIT < value < INTEGER_LIMIT:
            raise ConfigurationError(f"{path} is a number with too many digits.")
        return int(value)
    if not (value.is_finite() if isinstance(value, Decimal) else math.isfinite(value)):
        raise ConfigurationError(f"{path} is not a finite number: JSON has no others.")
    if isinstance(value, float):
        return float(value)
    # The types in which responses are read: int, float if its digits are exactly these, else Decimal.
    if value.as_tuple().exponent == 0 and value.adjusted() < len(str(INTEGER_LIMIT)) - 1:
        return int(value)
    near = float(value)
    return near if Decimal(repr(near)) == value else value
