"""What a refusal says field by field: nested messages as paths, such as ``line_items[1].invoice_id``."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from b2b_payments.protocol.json import encode

_MOST_MESSAGES = 100
_MOST_LEVELS = 8
_LONGEST_MESSAGE = 500
_LONGEST_PATH = 200


def read_field_errors(data: Any) -> dict[str, list[str]]:
    """Give the messages by path, in the service's own spelling of the fields; the first 100 of them.

    `data` names fields and may nest: ``{"line_items": [{}, {"invoice_id": ["…"]}]}`` [doc, seen]. What is
    nested more than 8 levels deep is given as JSON. ``errMsg`` is a message of its own where it is text.
    """
    errors: dict[str, list[str]] = {}
    for path, message in islice(_messages("", data, _MOST_LEVELS), _MOST_MESSAGES):
        errors.setdefault(path, []).append(message)
    return errors


def _messages(path: str, value: Any, levels: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and levels:
        for name, inner in value.items():
            if path or name != "errMsg":
                yield from _messages(f"{path}.{name}" if path else name, inner, levels - 1)
            elif not isinstance(inner, str):
                yield from _messages("", inner, levels - 1)
    elif isinstance(value, list) and levels:
        for index, inner in enumerate(value):
            nested = isinstance(inner, dict | list)
            yield from _messages(f"{path}[{index}]" if nested else path, inner, levels - 1)
    elif path and value not in (None, [], {}):
        text = value if isinstance(value, str) else encode(value).decode()
        if message := " ".join(text.split())[:_LONGEST_MESSAGE]:
            yield path[:_LONGEST_PATH], message
