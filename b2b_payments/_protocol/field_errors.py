"""What a refusal says field by field: nested messages as paths, such as ``line_items[1].invoice_id``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from b2b_payments._protocol.json import encode

_MOST_MESSAGES = 100
_MOST_LEVELS = 8
_MOST_PLACES = 10_000
_LONGEST_MESSAGE = 500
_LONGEST_PATH = 200


def _in_one_line(text: str, most: int) -> str:
    return " ".join(text.split())[:most]


def read_field_errors(data: Any, redacted: Callable[[str, int], str] = _in_one_line) -> dict[str, list[str]]:
    """Give the messages by path, in the service's own spelling of the fields; the first 100 of them.

    `data` names fields and may nest: ``{"line_items": [{}, {"invoice_id": ["…"]}]}`` [doc, seen]. What is
    nested more than 8 levels deep is given as JSON. ``errMsg`` is a message of its own where it is text.
    `redacted` makes a line of a text, of so many characters at the most.
    """
    errors: dict[str, list[str]] = {}
    places = iter(range(_MOST_PLACES))
    for path, message in islice(_messages("", data, _MOST_LEVELS, places), _MOST_MESSAGES):
        errors.setdefault(redacted(path, _LONGEST_PATH), []).append(redacted(message, _LONGEST_MESSAGE))
    return errors


def _messages(path: str, value: Any, levels: int, places: Iterator[int]) -> Iterator[tuple[str, str]]:
    if next(places, None) is None:
        return  # it has been looked at long enough
    if isinstance(value, dict) and levels:
        for name, inner in value.items():
            if path or name != "errMsg":
                shown = name if name.strip() else encode(name).decode()
                below = f"{path}.{shown}" if path else shown
                yield from _messages(below[:_LONGEST_MESSAGE], inner, levels - 1, places)
            elif not isinstance(inner, str):
                yield from _messages("", inner, levels - 1, places)
    elif isinstance(value, list) and levels:
        for index, inner in enumerate(value):
            nested = isinstance(inner, dict | list)
            yield from _messages(f"{path}[{index}]" if nested else path, inner, levels - 1, places)
    elif path and value not in (None, [], {}):
        text = value if isinstance(value, str) else encode(value).decode()
        if text.strip():
            yield path, text
