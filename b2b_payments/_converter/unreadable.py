"""Errors about unreadable values: their path and the expected type, but never the value itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Final

import msgspec
from cattrs import BaseValidationError, ClassValidationError, IterableValidationError

from b2b_payments._errors import ResponseDecodeError
from b2b_payments._models.description import fields_of

_MAX_PATHS: Final = 20
"""The most paths that one error names: a page of broken rows is one fault, not hundreds."""
_KINDS: Final[Mapping[type, str]] = {
    msgspec.UnsetType: "nothing", type(None): "null", bool: "true or false", dict: "an object",
    list: "a list", str: "other text", int: "another number", float: "another number",
    Decimal: "another number",
}  # fmt: skip


class UnreadableError(Exception):
    """A value that cannot be read. Internal to the converter, which raises `ResponseDecodeError` instead.

    It has what was expected and the type found, but not the value: rows are personal data.
    """

    def __init__(self, value: object, expected: str) -> None:
        super().__init__()
        self.expected = expected
        self.found = "empty text" if value == "" else _KINDS.get(type(value), "something else")


UNREADABLE: Final = (UnreadableError, BaseValidationError)


def decode_error(error: Exception, root: str) -> ResponseDecodeError:
    """Convert an error of `UNREADABLE` to the public error, with full paths in wire names."""
    problems = list(_problems(error, root))[:_MAX_PATHS]
    path, expected, found = problems[0]
    rest = len(problems) - 1
    more = f"; {rest} more value{'s' * (rest > 1)} cannot be read either" if rest else ""
    return ResponseDecodeError(
        f"{path} cannot be read: expected {expected}, found {found}{more}.",
        paths=[path for path, *_ in problems],
    )


def _problems(error: Exception, path: str) -> Iterator[tuple[str, str, str]]:
    if isinstance(error, ClassValidationError):
        wire = {field.name: field.wire for field in fields_of(error.cl)}
        for nested, note in error.group_exceptions()[0]:
            yield from _problems(nested, f"{path}.{wire[note.name]}")
    elif isinstance(error, IterableValidationError):
        for nested, item in error.group_exceptions()[0]:
            yield from _problems(nested, f"{path}[{item.index}]")
    elif isinstance(error, UnreadableError):
        yield path, error.expected, error.found
    else:
        raise error  # a bug in this library, not a fault of the data
