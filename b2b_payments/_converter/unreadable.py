"""What cannot be read, where it stands and what was expected there; never what it said."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Final, TypeAlias

import msgspec

from b2b_payments._errors import ResponseDecodeError

MOST_PLACES: Final = 20
"""An error names no more places than this: a page of broken rows is one fault, not hundreds."""

Problem: TypeAlias = tuple[str, str, str]
"""Where (below the thing read, e.g. ``.total.value``), what was expected, what kind of thing was found."""


class UnreadableError(Exception):
    """A value that is not what the service documents. Stays within the converter."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        super().__init__()
        self.problems = tuple(problems)

    def below(self, step: str) -> list[Problem]:
        """Give the same problems as seen from one step above."""
        return [(step + path, expected, found) for path, expected, found in self.problems]


def unreadable(value: object, expected: str) -> UnreadableError:
    """Make the error for one value."""
    return UnreadableError([("", expected, kind_of(value))])


def kind_of(value: object) -> str:
    """Name the kind of a JSON value, without saying what it holds: rows are personal data."""
    if value is msgspec.UNSET:
        return "nothing"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float | Decimal):
        return "another number"
    if isinstance(value, str):
        return "other text" if value else "empty text"
    return (
        "an object" if isinstance(value, dict) else "a list" if isinstance(value, list) else "something else"
    )


def decode_error(error: UnreadableError, root: str) -> ResponseDecodeError:
    """Turn problems into the error that users see, with whole paths."""
    problems = error.below(root)[:MOST_PLACES]
    path, expected, found = problems[0]
    rest = len(problems) - 1
    more = f"; {rest} more place{'s' * (rest > 1)} cannot be read either" if rest else ""
    return ResponseDecodeError(
        f"{path} cannot be read: expected {expected}, found {found}{more}.",
        paths=[path for path, *_ in problems],
    )
