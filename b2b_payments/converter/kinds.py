"""The kinds of field that the service's objects have.

A kind says how a value is usually spelled, as the source of a test that the compiled readers hold inline,
and which functions read and write it otherwise. `{v}` is the value, `{f}` the kind's `using`,
`{w}` its `writing`, and `{o}` the class of a JSON object or list: dict and list, unless a row reader has
others in their place.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import Any, Generic, TypeVar

import attrs

from b2b_payments.converter import values
from b2b_payments.converter.unreadable import MOST_PLACES, Problem, UnreadableError, unreadable
from b2b_payments.models.decimals import MOST_WHOLE
from b2b_payments.models.enums import Operation, ProcessingStatus
from b2b_payments.models.sent import ABSENT

T = TypeVar("T")
Reader = Callable[[object], T]
Writer = Callable[[T], dict[str, Any]]


def _nothing() -> None:
    return None


@attrs.frozen(kw_only=True)
class Kind:
    """How one kind of field is read and written."""

    usual: str  # the test for the usual spelling
    take: str = ""  # from the usual spelling to the attribute; empty: it is the attribute
    using: Callable[..., Any] = _nothing  # what `usual` and `take` call
    give: str = "{v}"  # from the attribute to the usual spelling
    writing: Callable[..., Any] = _nothing  # what `give` calls
    read: Callable[[Any], Any]  # any tolerated spelling to the attribute
    empty: Callable[[], Any] = _nothing  # the attribute where the field is absent or null
    absent: str = "ABSENT"  # what stands for an absent field: where it can be, a usual spelling of empty
    holds_text: bool = False  # "" is a value of its own, not another way to say nothing
    table: Table[Any] | None = None  # of the object, or of those in the list: it reads and writes them
    is_list: bool = False  # of such objects
    codes: bool = False  # a list of codes: few are ever seen, so that row readers look them up whole
    nested: bool = False  # lists in objects: row readers leave it as bytes until the model is made


@attrs.frozen
class Field:
    """A field of one of the service's objects: our name, the service's, and its kind.

    A required field may be neither absent nor null. A lenient one is empty where it cannot be read.
    """

    attribute: str
    wire: str
    kind: Kind
    required: bool = False
    lenient: bool = False

    def read(self, value: object) -> Any:
        """Read any tolerated spelling, or raise `UnreadableError`."""
        kind = self.kind
        if not self.required and (
            value is ABSENT or value is None or (isinstance(value, str) and not value and not kind.holds_text)
        ):
            return kind.empty()
        try:
            return kind.read(value)
        except UnreadableError:
            if self.lenient:
                return kind.empty()
            raise


class Table(Generic[T]):
    """One of the service's objects: the model, its fields, and what reads and writes it.

    Reader and writer are made when they are first asked for: most programs need few of them.
    """

    def __init__(
        self,
        model: type[T],
        fields: tuple[Field, ...],
        reader: Callable[[type[T], tuple[Field, ...]], Reader[T]],
        writer: Callable[[type[T], tuple[Field, ...]], Writer[T]],
    ) -> None:
        self.model = model
        self.fields = fields
        self._reader = reader
        self._writer = writer

    @cached_property
    def read(self) -> Reader[T]:
        """Read one of the objects, or raise `UnreadableError`."""
        return self._reader(self.model, self.fields)

    @cached_property
    def write(self) -> Writer[T]:
        """Give the object back."""
        return self._writer(self.model, self.fields)


def _read_as_it_is(value: object) -> object:
    return value


def _read_object(value: object) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise unreadable(value, "an object")


def read_each(
    read: Callable[[object], Any], value: object, expected: str = "a list of objects"
) -> tuple[Any, ...]:
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


_STATUSES = {int(status): status for status in ProcessingStatus}
_OPERATIONS = {int(operation): operation for operation in Operation}
_ONLY_INT = frozenset({int})
_ONLY_TEXT = frozenset({str})
_MOST_TUPLES = 256


def _code(codes: dict[int, Any]) -> Callable[[object], int]:
    def read(value: object) -> int:
        number = values.read_whole_number(value)
        known: int = codes.get(number, number)
        return known

    return read


def are_ints(items: list[object]) -> bool:
    """Tell whether all items are numbers, and none of them a bool."""
    return _ONLY_INT.issuperset(map(type, items))


def _code_list(codes: dict[int, Any]) -> Kind:
    """A list of codes; one that no enum knows stays a number. Rows share the tuples: few differ."""
    read = _code(codes)
    tuples: dict[tuple[int, ...], tuple[int, ...]] = {}

    def take(numbers: list[int]) -> tuple[int, ...]:
        key = tuple(numbers)
        made = tuples.get(key)
        if made is None:
            made = read_each(read, numbers, "a list of whole numbers")
            if len(tuples) < _MOST_TUPLES and len(made) <= len(codes):
                tuples[key] = made
        return made

    texts: dict[tuple[str, ...], tuple[int, ...]] = {}

    def read_list(value: object) -> tuple[int, ...]:
        # Digits in strings are nearly as usual as numbers [seen]. Keyed by strings alone: 1 equals True.
        if not isinstance(value, list) or not _ONLY_TEXT.issuperset(map(type, value)):
            return read_each(read, value, "a list of whole numbers")
        key = tuple(value)
        made = texts.get(key)
        if made is None:
            made = read_each(read, value, "a list of whole numbers")
            if len(texts) < _MOST_TUPLES and len(made) <= len(codes):
                texts[key] = made
        return made

    return Kind(
        usual="{v}.__class__ is list and are_ints({v})",
        take="{f}({v})",
        using=take,
        give="list(map(int, {v}))",
        read=read_list,
        empty=tuple,
        codes=True,
    )


def _plain_numbers() -> Callable[[str], int | None]:
    """Give what reads digits that `str` would spell the same way. Rows share them: few are ever seen."""
    known: dict[str, int] = {}

    def read(text: str) -> int | None:
        number = known.get(text)
        if number is None and values.is_plain_number(text):
            number = int(text)
            if len(known) < _MOST_TUPLES:
                known[text] = number
        return number

    return read


TEXT = Kind(usual="{v}.__class__ is str", read=values.read_text, empty=str, absent="''", holds_text=True)
OPTIONAL_TEXT = Kind(
    usual="{v}.__class__ is str or {v} is None", read=values.read_text, absent="None", holds_text=True
)
_WHOLE = f"{{v}}.__class__ is int and {-MOST_WHOLE} < {{v}} < {MOST_WHOLE}"
NUMBER = Kind(usual=_WHOLE, read=values.read_whole_number)
OPTIONAL_NUMBER = Kind(usual=f"{{v}} is None or {_WHOLE}", read=values.read_whole_number, absent="None")
NUMBER_IN_TEXT = Kind(
    usual="{v} is None or ({v}.__class__ is str and (d := {f}({v})) is not None)",
    take="None if {v} is None else d",
    using=_plain_numbers(),
    give="None if {v} is None else str({v})",
    read=values.read_whole_number,
    absent="None",
)
FLAG = Kind(usual="{v} is None or {v} is True or {v} is False", read=values.read_flag, absent="None")
AMOUNT_IN_TEXT = Kind(
    # Digits that come back the same: no NaN, no exponent, nothing longer than an amount can be.
    usual="{v}.__class__ is str and str(d := {f}({v})) == {v} and d.is_finite() "
    "and 'E' not in {v} and 'e' not in {v} and len({v}) < 50",
    take="d",
    using=Decimal,
    give="{w}({v})",
    writing=values.spelled,
    read=values.read_amount,
)
AMOUNT_AS_NUMBER = Kind(
    usual="{v} is None or {v}.__class__ is int or {v}.__class__ is float",
    take="None if {v} is None else {f}({v})",
    using=values.read_amount,
    give="None if {v} is None else {w}({v})",
    writing=values.json_number,
    read=values.read_amount,
    absent="None",
)
MOMENT = Kind(
    usual="{v}.__class__ is int",
    take="{f}({v}, UTC)",
    using=datetime.fromtimestamp,
    give="{w}({v})",
    writing=values.epoch_seconds,
    read=values.read_moment,
)
MOMENT_IN_TEXT = Kind(
    usual="{v} is None or ({v}.__class__ is str and is_plain_number({v}))",
    take="None if {v} is None else {f}(int({v}), UTC)",
    using=datetime.fromtimestamp,
    give="None if {v} is None else str({w}({v}))",
    writing=values.epoch_seconds,
    read=values.read_moment,
    absent="None",
)
STATUS = Kind(
    usual=_WHOLE,
    take="{f}({v}, {v})",
    using=_STATUSES.get,
    give="int({v})",
    read=_code(_STATUSES),
)
STATUSES = _code_list(_STATUSES)
OPERATIONS = _code_list(_OPERATIONS)
OBJECT = Kind(usual="{v}.__class__ is dict", give="plain({v})", read=_read_object, empty=dict)
NESTED_OBJECT = attrs.evolve(OBJECT, nested=True)
ANYTHING = Kind(usual="True", give="plain({v})", read=_read_as_it_is, absent="None", holds_text=True)


def _by(table: Table[T]) -> Reader[T]:
    def read(value: object) -> T:
        return table.read(value)

    return read


def one(table: Table[Any]) -> Kind:
    """An object of a table's, required."""
    return Kind(
        usual="{v}.__class__ is {o}",
        take="{f}({v})",
        give="{w}({v})",
        read=_by(table),
        table=table,
    )


def perhaps_one(table: Table[Any]) -> Kind:
    """An object of a table's, or None."""
    return Kind(
        usual="{v} is None or {v}.__class__ is {o}",
        take="None if {v} is None else {f}({v})",
        give="None if {v} is None else {w}({v})",
        read=_by(table),
        absent="None",
        table=table,
    )


def many(table: Table[Any]) -> Kind:
    """A list of objects of a table's."""
    return Kind(
        usual="{v}.__class__ is {o}",
        take="tuple(map({f}, {v}))",
        give="list(map({w}, {v}))",
        read=lambda value: read_each(table.read, value),
        empty=tuple,
        table=table,
        is_list=True,
    )
