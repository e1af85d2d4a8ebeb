"""How a row holds the fields of a model, and what is learned of the rows that come.

A row type has the service's names, and the type that each field usually has. Where a row does not fit,
msgspec says why, and the types are made again: a field that was absent, null or of another type gets a wider
type, and an unknown name becomes a field. So rows cost Python no more than what their store has of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, Generic, Protocol, TypeVar

import attrs
import msgspec
from msgspec import UNSET, Meta, UnsetType

from b2b_payments._converter.unreadable import UNREADABLE
from b2b_payments._errors import ResponseDecodeError
from b2b_payments._models import Payment
from b2b_payments._models.description import Field, FieldKind, fields_of
from b2b_payments._printable import frozen

Types = TypeVar("Types", bound="LearnedTypes")
Given = TypeVar("Given")
R = TypeVar("R")

_MOST_NAMES: Final = 200
"""Unknown names that are remembered."""
_MOST_LESSONS: Final = 60
"""Times that types are made again for one page, two milliseconds each: a service may make names up."""
LONGEST: Final = 100
"""Characters of a name or a value that is remembered."""
UNFIT: Final = (
    *UNREADABLE, ResponseDecodeError, ValueError, ArithmeticError, RecursionError, TypeError, AttributeError,
)  # fmt: skip
_fault: Final = re.compile(
    r"(?:Object (?:contains (?P<unknown>unknown)|missing required) field `(?P<name>.*)`|.*?)"
    r" - at `\$(?:\.data)?(?P<path>.*)`",
    re.DOTALL,
).fullmatch
_steps: Final = re.compile(r"\.([^.\[\]]+)").findall

MOMENT: Final[Any] = Annotated[int, Meta(ge=-62_135_596_800, le=253_402_300_799)]  # the years 1 to 9999
_CODES: Final[Any] = Annotated[tuple[int | str, ...], Meta(max_length=LONGEST)]


def _json_of(levels: int) -> Any:
    """Give the type of JSON data of so many levels. Without floats, which would lose digits."""
    if not levels:
        return str | int | bool | None
    part: Any = _json_of(levels - 1)
    return str | int | bool | list[part] | dict[str, part] | None


FLAT: Final[Any] = _json_of(4)
_USUAL: Final[Mapping[tuple[FieldKind, bool], Any]] = {
    (FieldKind.WHOLE, False): Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)],
    (FieldKind.WHOLE, True): Annotated[str, Meta(min_length=1, max_length=18)],
    (FieldKind.TEXT, False): str,
    (FieldKind.AMOUNT, False): Any,
    (FieldKind.AMOUNT, True): Annotated[str, Meta(min_length=1, max_length=40)],
    (FieldKind.MOMENT, False): MOMENT,
    (FieldKind.CODES, False): _CODES,
}
_ODD: Final[Mapping[FieldKind, Sequence[Any]]] = {
    FieldKind.WHOLE: [int | str],
    FieldKind.TEXT: [int | str],
    FieldKind.MOMENT: [int | str],
    FieldKind.CODE: [int | str],
    FieldKind.CODES: [_CODES | str, Any],
}


@frozen
class Way:
    """A way to hold a field: its type and default, and whether what is held is as the model has it."""

    type: Any
    default: Any = msgspec.NODEFAULT
    is_usual: bool = True


_AS_SENT: Final = Way(msgspec.Raw | UnsetType, UNSET, is_usual=False)
"""Takes anything, of any depth, and decodes none of it."""


def ways_of(field: Field, part: Any = msgspec.Struct) -> Sequence[Way]:
    """Give the ways to hold a field: as it usually is, and another for each time that this did not fit.

    `part` is the row type of the field's own model, if it has one.
    """
    if field.kind is FieldKind.OBJECT:
        return [_AS_SENT]
    usual = [_USUAL.get((field.kind, field.digits), field.of or Any)]
    odd: Sequence[Any] = _ODD.get(field.kind, [Any])
    if field.kind is FieldKind.MODEL:
        usual, odd = [part], [part | list[FLAT] | str]
    elif field.kind is FieldKind.MODELS:
        # The empty tuple is no object of its own, and costs the garbage collector nothing.
        usual = [tuple[()], tuple[part, ...]] if field.bare else [tuple[part, ...]]
        # What is no object where one belongs is refused; so it is not looked for in other rows.
        odd = [] if field.bare else [usual[-1] | dict[str, FLAT] | str]
    ways = [Way(type_) for type_ in usual]
    if field.nullable:
        ways = [Way(usual[0] | None), Way(usual[0], None)]
    ways += [Way(type_ | UnsetType | None, UNSET, is_usual=False) for type_ in odd]
    return [*ways, _AS_SENT] if field.bare else ways


def ways_of_unknown() -> Sequence[Way]:
    """Give the ways to hold an unknown field."""
    return [Way(FLAT | UnsetType, UNSET), _AS_SENT]


def row_type(model: type[Any], members: Mapping[str, tuple[str, Any, Any]], **namespace: Any) -> Any:
    """Make a row type. `members` are, by attribute, the name on the wire, type and default."""
    return msgspec.defstruct(
        f"{model.__name__}Row",
        [(name, type_, default) for name, (_, type_, default) in members.items()],
        namespace=namespace,
        rename={name: wire for name, (wire, *_) in members.items()},
        kw_only=True,
        gc=False,  # JSON has no cycles
        forbid_unknown_fields=True,
        omit_defaults=True,  # what was left out is None, where null was not sent
    )


class OddTextError(ValueError):
    """A value of a model's field is not spelled as it usually is."""

    def __init__(self, model: type[Any], wire: str) -> None:
        super().__init__()
        self.model = model
        self.wire = wire


@frozen
class Learned:
    """What rows were seen to have beyond the usual: unknown names, and how often a field did not fit.

    No more is remembered than there are ways to hold a field, and `_MOST_NAMES` unknown names: one more, and
    learning starts again.
    """

    unknown: Mapping[type[Any], tuple[str, ...]] = attrs.field(factory=dict)
    odd: Mapping[tuple[type[Any], str], int] = attrs.field(factory=dict)

    def names(self, model: type[Any]) -> dict[str, str]:
        """Give the unknown names of a model's rows, by the names under which rows hold them."""
        return {f"unknown{place}": name for place, name in enumerate(self.unknown.get(model, ()))}

    def with_fault(self, model: type[Any], message: str) -> Learned | None:
        """Add what msgspec says of a row that did not fit; None where nothing can be learned of that."""
        if (fault := _fault(message)) is None:
            return None
        steps = [*_steps(fault["path"]), *([] if fault["name"] is None else [fault["name"]])]
        for step in steps[:-1]:
            field = next((one for one in fields_of(model) if one.wire == step), None)
            if field is None or not attrs.has(field.of or object):
                return None
            model = field.of
        if not steps:
            return None
        return self._with_name(model, steps[-1]) if fault["unknown"] else self.with_odd(model, steps[-1])

    def with_odd(self, model: type[Any], name: str) -> Learned | None:
        """Add that a field did not fit; None where there is no other way to hold it."""
        times = self.odd.get((model, name), 0) + 1
        ways = next((ways_of(field) for field in fields_of(model) if field.wire == name), None)
        if ways is None and name in self.unknown.get(model, ()):
            ways = ways_of_unknown()
        return attrs.evolve(self, odd={**self.odd, (model, name): times}) if times < len(ways or ()) else None

    def _with_name(self, model: type[Any], name: str) -> Learned | None:
        # A struct's field cannot be called what JSON has to escape; and "`" ends a name in msgspec's words.
        if len(name) > LONGEST or not name.isprintable() or {'"', "\\", "`"} & set(name):
            return None
        if sum(map(len, self.unknown.values())) >= _MOST_NAMES:
            return Learned({model: (name,)})
        return attrs.evolve(self, unknown={**self.unknown, model: (*self.unknown.get(model, ()), name)})


class LearnedTypes(Protocol):
    """Row types, as far as learned."""

    learned: Learned


class Learner(Generic[Types]):
    """Makes something of pages of payments. What it learns of their rows, it keeps."""

    def __init__(self, types: Callable[[Learned], Types]) -> None:
        self._make_types = types
        self._lessons = 0
        self.types = types(Learned())

    def begin(self) -> None:
        """Begin with another page."""
        self._lessons = _MOST_LESSONS

    def made(self, make: Callable[[Types, Given], R], given: Given) -> R | None:
        """Make something of rows, once what they have was learned; None where one does not fit."""
        while True:
            types = self.types
            try:
                return make(types, given)
            except msgspec.ValidationError as error:
                learned = types.learned.with_fault(Payment, str(error))
            except OddTextError as error:
                learned = types.learned.with_odd(error.model, error.wire)
            except UNFIT:
                return None
            if learned is None or not self._lessons:
                return None
            self._lessons -= 1
            # Another thread may put its own here meanwhile: what that loses is learned again.
            self.types = self._make_types(learned)
