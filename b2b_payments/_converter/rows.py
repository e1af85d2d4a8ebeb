"""From the bytes of a page to models, in C: by row types that are derived from the models.

msgspec decodes a page into structs, and converts them to models by their attributes. A row type has the
service's names, and the type that each field usually has. Where a row does not fit, msgspec says why, and the
types are made again: a field that was absent, null or of another type becomes a property, which reads it as
the cattrs converter does, and an unknown name becomes a field. So rows cost Python no more than what their
store has of its own. Whatever does not fit even so is left to the cattrs converter, which says what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import localcontext
from functools import partial
from itertools import chain
from operator import attrgetter
from typing import Annotated, Any, Final, Generic, TypeAlias, TypeVar

import attrs
import msgspec
from msgspec import UNSET, Meta, UnsetType

from b2b_payments._converter.service import reader_of
from b2b_payments._converter.unreadable import UNREADABLE
from b2b_payments._models.decimals import EXACT
from b2b_payments._models.description import Field, Kind, fields_of
from b2b_payments._models.extra import Extra
from b2b_payments._models.money import Money
from b2b_payments._printable import frozen
from b2b_payments._protocol.json import exact_number

T = TypeVar("T")
R = TypeVar("R")
Sent: TypeAlias = bytes | msgspec.Raw
Find: TypeAlias = Callable[[Iterable[Any]], Iterable[str]]

_BLOCK: Final = 16
"""Models that are made at once: so few that come and go together do not wake the garbage collector."""
_MOST_NAMES: Final = 200
"""Unknown names that are remembered, and values of a field."""
_MOST_LESSONS: Final = 40
"""Times that types are made again for one page, a millisecond each: a service may make names up."""
_LONGEST: Final = 100
_UNFIT: Final = (*UNREADABLE, ValueError, ArithmeticError, RecursionError, TypeError, AttributeError)
_SANE: Final = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]

# Of a kind that is not here, a property reads whatever came.
_USUAL: Final[Mapping[tuple[Kind, bool], Any]] = {
    (Kind.WHOLE, False): _SANE,
    (Kind.WHOLE, True): str,
    (Kind.TEXT, False): str,
    (Kind.AMOUNT, True): Annotated[str, Meta(min_length=1, max_length=40)],
    (Kind.MOMENT, False): Annotated[int, Meta(ge=-62_135_596_800, le=253_402_300_799)],  # years 1 to 9999
    (Kind.CODE, False): _SANE,
    (Kind.CODES, False): tuple[int | str, ...],
    (Kind.OBJECT, False): dict[str, Any],
}
_FEW: Final = frozenset({(Kind.CODE, False), (Kind.CODES, False), (Kind.WHOLE, True)})
"""Few different values are ever seen: what they are read as is remembered."""
_fault: Final = re.compile(
    r"(?:Object (?:contains (?P<unknown>unknown)|missing required) field `(?P<name>.*)`|.*?)"
    r" - at `\$(?P<path>.*)`",
    re.DOTALL,
).fullmatch
_REQUIRED: Final[Any] = msgspec.NODEFAULT


class _OddAmountError(ValueError):
    """An amount is more than digits and a point."""


@frozen
class Learned:
    """What rows were seen to have beyond the usual: unknown names, and how often a field did not fit.

    A field that did not fit may from then on be missing, or anything that can be read; an object or a list
    may be anything once it did not fit a second time. So no more is remembered than there are fields, and
    `_MOST_NAMES` unknown names: one more, and learning starts again.
    """

    unknown: Mapping[type[Any], tuple[str, ...]] = attrs.field(factory=dict)
    odd: Mapping[tuple[type[Any], str], int] = attrs.field(factory=dict)

    def with_fault(self, model: type[Any], message: str) -> Learned | None:
        """Add what msgspec says of a row that did not fit; None where nothing can be learned of that."""
        if (fault := _fault(message)) is None:
            return None
        field: Field | None = None
        for step in fault["path"].split(".")[1:]:
            model = model if field is None else field.of
            known = fields_of(model) if attrs.has(model) else ()
            field = next((one for one in known if one.wire == step.partition("[")[0]), None)
            if field is None:  # within an object of any kind
                return None
        if fault["name"] is not None:
            model, name = model if field is None else field.of, fault["name"]
            return self._with_name(model, name) if fault["unknown"] else self.with_odd(model, name, 1)
        return None if field is None else self.with_odd(model, field.wire, 2 if field.bare else 1)

    def with_odd(self, model: type[Any], name: str, most: int) -> Learned | None:
        """Add that a field did not fit; None where it did not so often before."""
        times = self.odd.get((model, name), 0) + 1
        return attrs.evolve(self, odd={**self.odd, (model, name): times}) if times <= most else None

    def _with_name(self, model: type[Any], name: str) -> Learned | None:
        # A struct's field cannot be called what JSON has to escape.
        if len(name) > _LONGEST or not name.isprintable() or {'"', "\\"} & set(name):
            return None
        if sum(map(len, self.unknown.values())) >= _MOST_NAMES:
            return Learned({model: (name,)})
        return attrs.evolve(self, unknown={**self.unknown, model: (*self.unknown.get(model, ()), name)})


class RowReader(Generic[T]):
    """Reads the rows of pages into one model, or what else is made of rows. What it learns, it keeps."""

    def __init__(self, model: type[T]) -> None:
        self._model = model
        self._types = RowTypes(model, Learned())
        self._lessons = 0

    def read(
        self,
        places: Sequence[int],
        rows: Sequence[Sent],
        otherwise: Callable[[int], R],
        make: Callable[[RowTypes[T], Sequence[Any]], Sequence[R]],
        at_once: int = _BLOCK,
    ) -> Iterator[R]:
        """Give what is made of the rows at these places of a page, one by one; they are decoded in blocks.

        `rows` are the bytes of all rows, `otherwise` gives what is made of one that does not fit.
        """
        self._lessons = _MOST_LESSONS
        blocks = (places[start : start + at_once] for start in range(0, len(places), at_once))
        # No name is given to what is made, so that one block is gone before the next one is there.
        return chain.from_iterable(self._block(block, rows, otherwise, make) for block in blocks)

    def read_object(self, sent: object) -> T | None:
        """Give the model of an object that is decoded already; None where it does not fit."""
        self._lessons = _MOST_LESSONS
        made = self._made(RowTypes.convert, [sent], RowTypes.models)
        return None if made is None else made[0]

    def _block(
        self,
        places: Sequence[int],
        rows: Sequence[Sent],
        otherwise: Callable[[int], R],
        make: Callable[[RowTypes[T], Sequence[Any]], Sequence[R]],
    ) -> Iterable[R]:
        made = self._made(RowTypes.decode, [rows[place] for place in places], make)
        if made is not None:
            return made
        if len(places) == 1:
            return map(otherwise, places)
        return chain.from_iterable(self._block([place], rows, otherwise, make) for place in places)

    def _made(
        self,
        read: Callable[[RowTypes[T], Sequence[Any]], Sequence[Any]],
        rows: Sequence[Any],
        make: Callable[[RowTypes[T], Sequence[Any]], Sequence[R]],
    ) -> Sequence[R] | None:
        """Make something of rows, once what they have was learned; None where one does not fit."""
        while True:
            types = self._types
            try:
                found = read(types, rows)
            except msgspec.ValidationError as error:
                learned = types.learned.with_fault(self._model, str(error))
            except _UNFIT:
                return None
            else:
                try:
                    return make(types, found)
                except _OddAmountError:
                    learned = types.learned.with_odd(Money, "value", 1)
                except _UNFIT:
                    return None
            if learned is None or not self._lessons:
                return None
            self._lessons -= 1
            # Another thread may put its own here meanwhile: what that loses is learned again.
            self._types = RowTypes(self._model, learned)


class RowTypes(Generic[T]):
    """The row types of a model and of those within it, as far as learned."""

    def __init__(self, model: type[T], learned: Learned) -> None:
        self.learned = learned
        self._models = list[model]  # type: ignore[valid-type]
        self._amounts = list(self._amounts_of(model))
        self._rows: Any = list[self._struct(model, whole=True)]  # type: ignore[misc]
        self._decode = msgspec.json.Decoder(self._rows, float_hook=exact_number).decode

    def decode(self, rows: Sequence[Sent]) -> Sequence[Any]:
        """Read rows as they were sent."""
        found: Sequence[Any] = self._decode(b"[%b]" % b",".join(rows))
        return found

    def convert(self, objects: Sequence[object]) -> Sequence[Any]:
        """Read rows from objects."""
        found: Sequence[Any] = msgspec.convert(objects, self._rows)
        return found

    def models(self, rows: Sequence[Any]) -> list[T]:
        """Convert rows to models."""
        # Decimal takes more: `1_000`, other scripts' digits, NaN.
        amounts = "".join(chain.from_iterable(find(rows) for find in self._amounts))
        if amounts.encode().translate(None, b"0123456789.-"):
            raise _OddAmountError
        return model_of(self._models, rows)

    def _struct(self, model: type[Any], *, whole: bool = False) -> Any:
        unknown = {f"unknown{index}": name for index, name in enumerate(self.learned.unknown.get(model, ()))}
        missing = any((model, name) in self.learned.odd for name in unknown.values())
        namespace: dict[str, Any] = {"extra": _extra_of(unknown, missing=missing, whole=whole)}
        members: list[tuple[str, Any, Any]] = []
        names = dict(unknown)
        for field in fields_of(model):
            odd = self.learned.odd.get((model, field.wire), 0)
            name, type_, default = field.name, self._type(field, odd), _REQUIRED
            if odd or type_ is Any or (field.kind, field.digits) in _FEW:
                name = f"{name}_"
                namespace[field.name] = _property(field, name, odd)
                default = UNSET if odd or type_ is Any else _REQUIRED
            members.append((name, type_ | None if field.nullable and type_ is not Any else type_, default))
            names[name] = field.wire
        members += (others := [(name, Any, UNSET if missing else _REQUIRED) for name in unknown])
        if unknown:
            namespace["unknown"] = msgspec.defstruct("Unknown", others, rename=unknown, gc=False)
        return msgspec.defstruct(
            f"{model.__name__}Row",
            members,
            namespace=namespace,
            rename=names,
            kw_only=True,
            gc=False,  # JSON has no cycles
            forbid_unknown_fields=True,
        )

    def _type(self, field: Field, odd: int) -> Any:
        if field.kind not in {Kind.MODEL, Kind.MODELS}:
            return Any if odd else _USUAL.get((field.kind, field.digits), Any)
        usual: Any = self._struct(field.of)
        empty: Any = list[Any]
        if field.kind is Kind.MODELS:
            # The empty tuple is no object of its own, and costs the garbage collector nothing.
            usual, empty = tuple[usual, ...], dict[str, Any]
        return (usual, usual | empty | str | UnsetType | None, Any)[odd]

    def _amounts_of(self, model: type[Any]) -> Iterator[Find]:
        """Give what finds amounts of the usual type in objects of a model."""
        for field in fields_of(model):
            get = attrgetter(field.name)
            if (field.kind, field.digits) == (Kind.AMOUNT, True):
                if (model, field.wire) not in self.learned.odd:
                    yield partial(map, get)
            elif field.kind in {Kind.MODEL, Kind.MODELS} and self.learned.odd.get((model, field.wire), 0) < 2:
                for find in self._amounts_of(field.of):
                    yield partial(_within, get, find, many=field.kind is Kind.MODELS)


def unknown_of(rows: Sequence[Any]) -> list[Any]:
    """Give the unknown fields of each model or row, as JSON knows them; nothing where none has any."""
    unknown = getattr(type(rows[0]), "unknown", None) if rows else None
    if unknown is None:
        extras = [row.extra for row in rows]
        return extras if any(extras) else []
    return list(map(unknown, *[map(attrgetter(name), rows) for name in unknown.__struct_fields__]))


def model_of(model: type[T], row: Any) -> T:
    """Convert a row to its model."""
    # Not strict: seconds are moments, and digits are numbers.
    with localcontext(EXACT):
        return msgspec.convert(row, model, strict=False, from_attributes=True)


def _within(get: Callable[[Any], Any], find: Find, rows: Iterable[Any], *, many: bool) -> Iterable[str]:
    parts = map(get, rows)
    return find(chain.from_iterable(parts) if many else filter(None, parts))


def _property(field: Field, name: str, odd: int) -> property:
    """Make what gives a field's attribute from what the row holds under another name."""
    raw, read_field = attrgetter(name), reader_of(field)

    def read(value: object) -> Any:
        try:
            return read_field(value)
        except UNREADABLE:
            if field.required:
                raise
            # An error would pass for an attribute that is not there: this is of no attribute's type.
            return UNSET

    if field.kind in {Kind.MODEL, Kind.MODELS} and odd == 1:
        nothing = (type(None), UnsetType, str, list, dict)
        return property(lambda row: read(value) if isinstance(value := raw(row), nothing) else value)
    if field.kind is Kind.TEXT:
        return property(lambda row: value if (value := raw(row)).__class__ is str else read(value))
    if odd or (field.kind, field.digits) not in _FEW:
        return property(lambda row: read(raw(row)))
    known: dict[object, Any] = {}

    def get(row: Any) -> Any:
        value = raw(row)
        try:
            return known[value]
        except KeyError:
            made = read(list(value) if isinstance(value, tuple) else value)
        if len(known) < _MOST_NAMES and len(str(value)) < _LONGEST:
            known[value] = made
        return made

    return property(get)


def _extra_of(unknown: Mapping[str, str], *, missing: bool, whole: bool) -> Any:
    """Make what gives the unknown fields of a row; those of a whole one keep the row itself, too."""
    names = tuple(unknown.values())
    if not whole and not names:
        return Extra()  # shared: it is read-only
    # The last one twice: of one name alone, attrgetter gives no tuple.
    several = attrgetter(*unknown, list(unknown)[-1]) if names else lambda _: ()

    def get(row: Any) -> Extra:
        pairs: Iterable[tuple[str, Any]] = zip(names, several(row))  # noqa: B905
        extra = Extra([pair for pair in pairs if pair[1] is not UNSET] if missing else pairs)
        if whole:
            extra.sent = row
        return extra

    return property(get)
