"""From the bytes of a page to models, in C: by row types that are derived from the models.

msgspec decodes a page into structs, and converts them to models by their attributes. A row type has the
service's names, and the type that each field usually has. What else a store sends is learned, and the types
are made anew: a field that was absent, null or of another type becomes a property, which reads it as the
cattrs converter does, and unknown names become fields. So rows cost Python no more than what their store has
of its own. Whatever does not fit even so is left to the cattrs converter, which says what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from decimal import localcontext
from functools import partial
from itertools import chain, islice
from operator import attrgetter
from typing import Annotated, Any, Final, Generic, TypeVar

import attrs
import msgspec
from msgspec import UNSET, Meta, UnsetType

from b2b_payments._converter.service import reader_of
from b2b_payments._converter.unreadable import UnreadableError
from b2b_payments._models.decimals import EXACT
from b2b_payments._models.description import Field, Kind, fields_of
from b2b_payments._models.extra import Extra
from b2b_payments._protocol.json import exact_number

T = TypeVar("T")
R = TypeVar("R")
Find = Callable[[Iterable[Any]], Iterable[str]]

_MOST_NAMES: Final = 200
"""Unknown names that are learned at most, so that a service which makes names up costs no memory."""
_LONGEST_NAME: Final = 100
_MOST_PARTS: Final = 500
"""Objects of one list that are looked at for what to learn: a longer one must not stop the event loop."""
_BLOCK: Final = 16
"""Models that are made at once: so few that come and go together do not wake the garbage collector."""
_UNFIT: Final = (UnreadableError, ValueError, ArithmeticError, RecursionError, TypeError, AttributeError)
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
_NOTHING: Final[Mapping[Kind, Any]] = {Kind.MODEL: list[Any] | str, Kind.MODELS: dict[str, Any] | str}
"""What else may stand for an object or a list that is not there, if it is empty."""
_FEW: Final = frozenset({(Kind.CODE, False), (Kind.CODES, False), (Kind.WHOLE, True)})
"""Few different values are ever seen: what they are read as is remembered."""
_are_plain: Final = re.compile(r"[0-9.-]*").fullmatch
_REQUIRED: Final[Any] = msgspec.NODEFAULT
_MISSING, _OTHER = 1, 2
"""How a field was odd: absent or null, or of another type."""


@attrs.frozen
class Learned:
    """What rows were seen to have beyond the usual: unknown names, and how fields were odd."""

    unknown: dict[type[Any], tuple[str, ...]] = attrs.field(factory=dict)
    odd: dict[tuple[type[Any], str], int] = attrs.field(factory=dict)

    def add(self, model: type[Any], item: Any) -> None:
        """Add what an object has."""
        if not isinstance(item, dict):
            return
        fields, names = fields_of(model), self.unknown.get(model, ())
        known = {field.wire for field in fields}.union(names)
        room = max(0, _MOST_NAMES - sum(map(len, self.unknown.values())))
        new = (name for name in item if name not in known and _can_be_field(name))
        if found := tuple(islice(new, room)):
            self.unknown[model] = (*names, *found)
        self.odd.update({(model, name): _MISSING for name in names if name not in item})
        for field in fields:
            value = item.get(field.wire, UNSET)
            if field.kind in {Kind.MODEL, Kind.MODELS}:
                for part in value[:_MOST_PARTS] if isinstance(value, list) else [value]:
                    self.add(field.of, part)
            odd = _oddity(field, value)
            if odd > self.odd.get((model, field.wire), 0):
                self.odd[model, field.wire] = odd


def _can_be_field(name: str) -> bool:
    # A struct's field cannot be called what JSON has to escape.
    return len(name) <= _LONGEST_NAME and name.isprintable() and not {'"', "\\"} & set(name)


def _oddity(field: Field, value: object) -> int:
    """Tell how a value is odd: not at all, too, where it cannot be read."""
    if value is UNSET or (value is None and not field.nullable):
        return 0 if field.required else _MISSING
    if field.kind in _NOTHING:
        if not value:
            return 0 if field.kind is Kind.MODELS and isinstance(value, list) else _MISSING
        odd = field.bare and isinstance(value, list) and not all(isinstance(item, dict) for item in value)
        return _OTHER if odd else 0
    usual = _USUAL.get((field.kind, field.digits))
    if value is None or usual is None:
        return 0
    with suppress(msgspec.ValidationError):
        msgspec.convert(value, usual)
        return 0
    with suppress(UnreadableError):
        reader_of(field)(value)
        return _OTHER
    return 0


class RowReader(Generic[T]):
    """Reads the rows of pages into one model. What it learns, it keeps."""

    def __init__(self, model: type[T]) -> None:
        self._model = model
        self._types = RowTypes(model, Learned())

    def read(
        self, places: Sequence[int], rows: Sequence[bytes | msgspec.Raw], otherwise: Callable[[int], T]
    ) -> Generator[T, None, None]:
        """Give the models at these places of a page, one by one.

        `rows` are the bytes of all rows, `otherwise` gives the model of one that does not fit.
        """
        return self.read_as(RowTypes.models, places, rows, otherwise)

    def read_as(
        self,
        make: Callable[[RowTypes[T], Sequence[Any]], Sequence[R]],
        places: Sequence[int],
        rows: Sequence[bytes | msgspec.Raw],
        otherwise: Callable[[int], R],
        at_once: int = _BLOCK,
    ) -> Generator[R, None, None]:
        """Give what is made of the decoded rows at these places, one by one; they are decoded in blocks."""
        for start in range(0, len(places), at_once):
            block = places[start : start + at_once]
            types, made = self._made(make, [rows[place] for place in block])
            yield from made or (_one(make, types, rows[place], partial(otherwise, place)) for place in block)

    def _made(
        self, make: Callable[[RowTypes[T], Sequence[Any]], Sequence[R]], rows: Sequence[bytes | msgspec.Raw]
    ) -> tuple[RowTypes[T], Sequence[R]]:
        """Make something of rows, once what they have was learned; nothing where one does not fit."""
        types = self._types
        while True:
            with suppress(*_UNFIT):
                return types, make(types, types.decode(b"[%b]" % b",".join(rows)))
            before = types
            for row in rows:
                with suppress(*_UNFIT):
                    types.decode(b"[%b]" % row)
                    continue
                learned = types.learn(row)
                if learned is not None:
                    # Other threads may put theirs here meanwhile: what that loses is learned again.
                    self._types = types = RowTypes(self._model, learned)
            if types is before:
                return types, ()


def _one(
    make: Callable[[RowTypes[T], Sequence[Any]], Sequence[R]],
    types: RowTypes[T],
    row: bytes | msgspec.Raw,
    otherwise: Callable[[], R],
) -> R:
    try:
        [made] = make(types, types.decode(b"[%b]" % row))
    except _UNFIT:
        made = otherwise()
    return made


class RowTypes(Generic[T]):
    """The row types of a model and of those within it, as far as learned."""

    def __init__(self, model: type[T], learned: Learned) -> None:
        self.learned = learned
        self._model = model
        self._models = list[model]  # type: ignore[valid-type]
        self._amounts = list(self._amounts_of(model))
        struct = self._struct(model, whole=True)
        rows = list[struct]  # type: ignore[valid-type]
        self.decode: Callable[[bytes], Sequence[Any]]
        self.decode = msgspec.json.Decoder(rows, float_hook=exact_number).decode

    def models(self, rows: Sequence[Any]) -> list[T]:
        """Convert rows to models."""
        # Decimal takes more: `1_000`, other scripts' digits, NaN.
        if not _are_plain("".join(chain.from_iterable(find(rows) for find in self._amounts))):
            raise ValueError
        # Not strict: seconds are moments, and digits are numbers.
        with localcontext(EXACT):
            return msgspec.convert(rows, self._models, strict=False, from_attributes=True)

    def learn(self, row: bytes | msgspec.Raw) -> Learned | None:
        """Give what is learned with a row that does not fit; None where that is nothing new."""
        learned = Learned(dict(self.learned.unknown), dict(self.learned.odd))
        with suppress(*_UNFIT):
            learned.add(self._model, msgspec.json.decode(row))
        return None if learned == self.learned else learned

    def _struct(self, model: type[Any], *, whole: bool = False) -> Any:
        members: list[tuple[str, Any, Any]] = []
        odd = self.learned.odd
        unknown = {f"unknown{index}": name for index, name in enumerate(self.learned.unknown.get(model, ()))}
        missing = any((model, name) in odd for name in unknown.values())
        namespace: dict[str, Any] = {"extra": _extra_of(unknown, missing=missing, whole=whole)}
        names = dict(unknown)
        for field in fields_of(model):
            type_, how = self._type(field), odd.get((model, field.wire), 0)
            name, default = field.name, _REQUIRED
            if how or type_ is None or (field.kind, field.digits) in _FEW:
                name = f"{name}_"
                namespace[field.name] = _property(field, name, odd=_OTHER if type_ is None else how)
            if how == _OTHER or type_ is None:
                type_, default = Any, UNSET
            elif how == _MISSING:
                type_, default = type_ | None | UnsetType | _NOTHING.get(field.kind, None), UNSET
            members.append((name, type_ | None if field.nullable else type_, default))
            names[name] = field.wire
        members += [(name, Any, UNSET if missing else _REQUIRED) for name in unknown]
        return msgspec.defstruct(
            f"{model.__name__}Row",
            members,
            namespace=namespace,
            rename=names,
            kw_only=True,
            gc=False,  # JSON has no cycles
            forbid_unknown_fields=True,
        )

    def _type(self, field: Field) -> Any:
        if field.kind is Kind.MODEL:
            return self._struct(field.of)
        if field.kind is Kind.MODELS:
            # The empty tuple is no object of its own, and costs the garbage collector nothing.
            return tuple[self._struct(field.of), ...]  # type: ignore[misc]
        return _USUAL.get((field.kind, field.digits))

    def _amounts_of(self, model: type[Any]) -> Iterator[Find]:
        """Give what finds amounts of the usual type in objects of a model."""
        for field in fields_of(model):
            get = attrgetter(field.name)
            if (field.kind, field.digits) == (Kind.AMOUNT, True):
                if self.learned.odd.get((model, field.wire)) != _OTHER:
                    yield partial(map, get)
            elif field.kind in {Kind.MODEL, Kind.MODELS}:
                for find in self._amounts_of(field.of):
                    yield partial(_within, get, find, many=field.kind is Kind.MODELS)


def _within(get: Callable[[Any], Any], find: Find, rows: Iterable[Any], *, many: bool) -> Iterable[str]:
    parts = map(get, rows)
    return find(chain.from_iterable(parts) if many else filter(None, parts))


def _property(field: Field, name: str, *, odd: int) -> property:
    """Make what gives a field's attribute from what the row holds under another name."""
    raw, read_field = attrgetter(name), reader_of(field)

    def read(value: object) -> Any:
        try:
            return read_field(value)
        except UnreadableError:
            if field.required:
                raise
            # An error would pass for an attribute that is not there: this is of no attribute's type.
            return UNSET

    if odd == _OTHER:
        return property(lambda row: read(raw(row)))
    if (field.kind, field.digits) not in _FEW:
        aliens = (type(None), UnsetType, *((str, list, dict) if field.kind in _NOTHING else ()))
        return property(lambda row: read(value) if isinstance(value := raw(row), aliens) else value)
    known: dict[object, Any] = {}

    def get(row: Any) -> Any:
        value = raw(row)
        try:
            return known[value]
        except KeyError:
            made = read(list(value) if isinstance(value, tuple) else value)
        if len(known) < _MOST_NAMES and len(str(value)) < _LONGEST_NAME:
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
        extra = Extra(zip(names, several(row)))  # noqa: B905
        if missing:
            extra = Extra([item for item in extra.items() if item[1] is not UNSET])
        if whole:
            extra.sent = row
        return extra

    return property(get)
