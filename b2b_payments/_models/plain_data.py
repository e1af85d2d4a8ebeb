"""What a caller gives to be sent: text that UTF-8 holds, and data that JSON holds, exactly as given."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from b2b_payments._errors import ConfigurationError, shown
from b2b_payments._models.decimals import MOST_WHOLE

_MOST_LEVELS: Final = 100


def checked_text(name: str, text: str) -> str:
    """Return text as a plain `str`. Raises `ConfigurationError` for what cannot be encoded."""
    text = str.__str__(text)  # of an enum's member, its value
    try:
        text.encode()
    except UnicodeEncodeError as error:
        position = error.start
    else:
        return text
    # Raised out here: the encoder's error holds the whole text.
    raise ConfigurationError(
        f"{name} cannot be sent: its character {position + 1} is half of a surrogate pair, as in text that "
        "was read with the wrong encoding."
    )


def checked_data(name: str, value: object) -> Any:
    """Copy data into what JSON knows: text, numbers, bools, None, lists and dicts.

    Raises `ConfigurationError` that names the place of what JSON does not know: other objects, names that are
    not text, numbers that are not finite, half of a surrogate pair.
    """
    return _copy(name, value, _MOST_LEVELS)


def _copy(path: str, value: object, levels: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return checked_text(path, value)
    if isinstance(value, int | float | Decimal):
        return _number(path, value)
    if not isinstance(value, Mapping | list | tuple):
        raise ConfigurationError(
            f"{path} is {type(value).__name__}, which JSON does not know: give text, numbers, bools, None, "
            "lists and dicts."
        )
    if not levels:
        raise ConfigurationError(f"{path} is nested too deeply: {_MOST_LEVELS} levels are the most.")
    if not isinstance(value, Mapping):
        return [_copy(f"{path}[{index}]", item, levels - 1) for index, item in enumerate(value)]
    copied: dict[str, Any] = {}
    for key, item in value.items():
        if not isinstance(key, str):
            raise ConfigurationError(f"{path} has a name that is {type(key).__name__}, not text.")
        name = checked_text(f"a name in {path}", key)
        below = f"{path}.{name}" if name.isidentifier() else f"{path}[{shown(name)}]"
        copied[name] = _copy(below, item, levels - 1)
    return copied


def _number(path: str, value: float | Decimal) -> float | Decimal:
    if isinstance(value, int):
        if not -MOST_WHOLE < value < MOST_WHOLE:
            raise ConfigurationError(f"{path} is a number of too many digits.")
        return int(value)
    if not (value.is_finite() if isinstance(value, Decimal) else math.isfinite(value)):
        raise ConfigurationError(f"{path} is not a finite number, and JSON knows no other.")
    if isinstance(value, float):
        return float(value)
    # As an answer is read: a whole number, a float where it says the digits exactly, else all the digits.
    if value.as_tuple().exponent == 0 and value.adjusted() < len(str(MOST_WHOLE)) - 1:
        return int(value)
    near = float(value)
    return near if Decimal(repr(near)) == value else value
