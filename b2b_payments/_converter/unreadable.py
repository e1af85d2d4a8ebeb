"""What cannot be read, where it stands and what was expected there; never what it said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Final

import msgspec
from cattrs import BaseValidationError, ClassValidationError, IterableValidationError

from b2b_payments._errors import ResponseDecodeError
from b2b_payments._models.description import fields_of

_MOST_PLACES: Final = 20
"""An error names no more places than this: a page of broken rows is one fault, not hundreds."""
_KINDS: Final[Mapping[type, str]] = {
    msgspec.UnsetType: "nothing", type(None): "null", bool: "true or false", dict: "an object",
    list: "a list", str: "other text", int: "another number", float: "another number",
    Decimal: "another number",
}  # fmt: skip


class UnreadableError(Exception):
    """A value that is not what the service documents: what was expected, and what kind of thing was found.

    It does not say what was found: rows are personal data. Stays within the converter.
    """

    def __init__(self, value: object, expected: str) -> None:
        super().__init__()
        self.expected = expected
        self.found = "empty text" if value == "" else _KINDS.get(type(value), "something else")


UNREADABLE: Final = (UnreadableError, BaseValidationError)


def decode_error(error: Exception, root: str) -> ResponseDecodeError:
    """Turn what the converter raised into the error that users see, with whole paths on the wire."""
    places = list(_places(error, root))[:_MOST_PLACES]
    path, expected, found = places[0]
    rest = len(places) - 1
    more = f"; {rest} more place{'s' * (rest > 1)} cannot be read either" if rest else ""
    return ResponseDecodeError(
        f"{path} cannot be read: expected {expected}, found {found}{more}.",
        paths=[path for path, *_ in places],
    )


def _places(error: Exception, path: str) -> Iterator[tuple[str, str, str]]:
    if isinstance(error, ClassValidationError):
        wire = {field.name: field.wire for field in fields_of(error.cl)}
        for part, note in error.group_exceptions()[0]:
            yield from _places(part, f"{path}.{wire[note.name]}")
    elif isinstance(error, IterableValidationError):
        for item, where in error.group_exceptions()[0]:
            yield from _places(item, f"{path}[{where.index}]")
    elif isinstance(error, UnreadableError):
        yield path, error.expected, error.found
    else:
        raise error  # a fault of ours: it must not pass for one of the data
