"""From the bytes of a page to models, in C: by row types that are derived from the models.

msgspec decodes a page into structs, and converts them to models by their attributes. A row type has the
service's names, and the type that each field usually has. Where a row does not fit, msgspec says why, and the
types are made again: a field that was absent, null or of another type is read as the cattrs converter reads
it, for many rows at once (`row_fields`), and an unknown name becomes a field. So rows cost Python no more
than what their store has of its own. Whatever does not fit even so is left to the cattrs converter, which
says what is wrong.

A page is decoded whole. What its rows hold of any kind has few levels, or stays bytes until it is measured
and read: so a page that fits needs no measure beforehand.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from decimal import localcontext
from functools import cache, partial
from itertools import chain
from operator import attrgetter
from typing import Any, Final, Generic, TypeAlias, TypeVar

import attrs
import msgspec

from b2b_payments._converter.row_fields import (
    Cells,
    OddTextError,
    Rows,
    Way,
    extras_of,
    in_place_of,
    ways_of,
    ways_of_unknown,
)
from b2b_payments._converter.unreadable import UNREADABLE
from b2b_payments._errors import ResponseDecodeError
from b2b_payments._models.decimals import EXACT
from b2b_payments._models.description import Field, FieldKind, fields_of
from b2b_payments._models.extra import Extra
from b2b_payments._printable import frozen
from b2b_payments._protocol.listing import Head, Listing

T = TypeVar("T")
R = TypeVar("R")
Sent: TypeAlias = bytes | msgspec.Raw

_BLOCK: Final = 50
"""Models that are made at once: so few that come and go together do not wake the garbage collector."""
_MOST_NAMES: Final = 200
"""Unknown names that are remembered."""
_MOST_LESSONS: Final = 60
"""Times that types are made again for one page, two milliseconds each: a service may make names up."""
_LONGEST: Final = 100
_UNFIT: Final = (
    *UNREADABLE, ResponseDecodeError, ValueError, ArithmeticError, RecursionError, TypeError, AttributeError,
)  # fmt: skip
_fault: Final = re.compile(
    r"(?:Object (?:contains (?P<unknown>unknown)|missing required) field `(?P<name>.*)`|.*?)"
    r" - at `\$(?:\.data)?(?P<path>.*)`",
    re.DOTALL,
).fullmatch


@frozen
class Learned:
    """What rows were seen to have beyond the usual: unknown names, and how often a field did not fit.

    A field that did not fit may from then on be missing, or anything that can be read. So no more is
    remembered than there are fields, and `_MOST_NAMES` unknown names: one more, and learning starts again.
    """

    unknown: Mapping[type[Any], tuple[str, ...]] = attrs.field(factory=dict)
    odd: Mapping[tuple[type[Any], str], int] = attrs.field(factory=dict)

    def with_fault(self, model: type[Any], message: str) -> Learned | None:
        """Add what msgspec says of a row that did not fit; None where nothing can be learned of that."""
        if (fault := _fault(message)) is None:
            return None
        field: Field | None = None
        for step in fault["path"].replace("[...]", "").split(".")[1:]:
            model, name = model if field is None else field.of, step.partition("[")[0]
            if name in self.unknown.get(model, ()):
                return self.with_odd(model, name)
            known = fields_of(model) if attrs.has(model) else ()
            field = next((one for one in known if one.wire == name), None)
            if field is None:  # within an object of any kind
                return None
        if fault["name"] is not None:
            model, name = model if field is None else field.of, fault["name"]
            return self._with_name(model, name) if fault["unknown"] else self.with_odd(model, name)
        return None if field is None else self.with_odd(model, field.wire)

    def with_odd(self, model: type[Any], name: str) -> Learned | None:
        """Add that a field did not fit; None where there is no other way to hold it."""
        times = self.odd.get((model, name), 0) + 1
        field = next((one for one in fields_of(model) if one.wire == name), None)
        ways = (
            ways_of_unknown(Any, missing=False)
            if field is None
            else ways_of(model, field, Any, msgspec.Struct)
        )
        return attrs.evolve(self, odd={**self.odd, (model, name): times}) if times < len(ways) else None

    def _with_name(self, model: type[Any], name: str) -> Learned | None:
        # A struct's field cannot be called what JSON has to escape; and "`" ends a name in msgspec's words.
        if len(name) > _LONGEST or not name.isprintable() or {'"', "\\", "`"} & set(name):
            return None
        if sum(map(len, self.unknown.values())) >= _MOST_NAMES:
            return Learned({model: (name,)})
        return attrs.evolve(self, unknown={**self.unknown, model: (*self.unknown.get(model, ()), name)})


class RowReader(Generic[T]):
    """Reads the rows of pages into one model, or what else is made of rows. What it learns, it keeps.

    `anything` is the type of what may be anything: bytes in a page, `Any` where objects are read.
    """

    def __init__(self, model: type[T], anything: Any = msgspec.Raw) -> None:
        self._model = model
        self._anything = anything
        self._types = RowTypes(model, Learned(), anything)
        self._lessons = 0

    def page(self, body: bytes) -> Any:
        """Give a page whose rows are decoded, and are heads as well; None where one does not fit."""
        self._lessons = _MOST_LESSONS
        page = self._made(RowTypes.page, body) if self._types.has_heads else None
        return page if self._types.has_heads else None

    def read(self, page: Listing, places: Sequence[int], otherwise: Callable[[int, Sent], T]) -> Iterator[T]:
        """Give the models of the rows at these places of a page, one by one.

        `otherwise` gives the model of a row that does not fit.
        """
        self._lessons = _MOST_LESSONS
        types, rows = self._types, page.heads
        if not (rows and isinstance(rows[0], types.row)):
            decoded = self._made(RowTypes.page, page.body)
            types, rows = self._types, decoded.data if decoded is not None else ()
        sent = cache(page.rows)  # for the few pages that have rows to be looked at one by one
        blocks = (places[start : start + _BLOCK] for start in range(0, len(places), _BLOCK))
        # No name is given to what is made, so that one block is gone before the next one is there.
        return chain.from_iterable(self._block(types, rows, sent, block, otherwise) for block in blocks)

    def _block(
        self,
        types: RowTypes[T],
        rows: Rows,
        sent: Callable[[], Sequence[Sent]],
        places: Sequence[int],
        otherwise: Callable[[int, Sent], T],
    ) -> Iterable[T]:
        if rows:
            with suppress(*_UNFIT):
                return types.models([rows[place] for place in places])
        some = [sent()[place] for place in places]
        made = self._made(RowTypes.read, some)
        if made is not None:
            return made
        if len(places) == 1:
            return map(otherwise, places, some)
        return chain.from_iterable(self._block(types, (), sent, [place], otherwise) for place in places)

    def read_object(self, sent: object) -> T | None:
        """Give the model of an object that is decoded already; None where it does not fit."""
        self._lessons = _MOST_LESSONS
        made = self._made(RowTypes.convert, [sent])
        return None if made is None else made[0]

    def _made(self, make: Callable[[RowTypes[T], Any], R], given: Any) -> R | None:
        """Make something of rows, once what they have was learned; None where one does not fit."""
        while True:
            types = self._types
            try:
                return make(types, given)
            except msgspec.ValidationError as error:
                learned = types.learned.with_fault(self._model, str(error))
            except OddTextError as error:
                learned = types.learned.with_odd(error.model, error.wire)
            except _UNFIT:
                return None
            if learned is None or not self._lessons:
                return None
            self._lessons -= 1
            # Another thread may put its own here meanwhile: what that loses is learned again.
            self._types = RowTypes(self._model, learned, self._anything)


class RowTypes(Generic[T]):
    """The row types of a model and of those within it, as far as learned; `row` is that of the model.

    `has_heads` says that rows have what a walk has to know of them by its name, as it was sent.
    """

    def __init__(self, model: type[T], learned: Learned, anything: Any) -> None:
        self.learned = learned
        self._model = model
        self._anything = anything
        self.row: Any = self._struct(model, whole=True)
        self.has_heads: bool = {*Head.__struct_fields__} <= {*self.row.__struct_fields__}
        self._rows: Any = list[self.row]  # type: ignore[name-defined]
        members: Any = [("data", self._rows), ("code", Any, None), ("meta", Any, None)]
        self._decoder = msgspec.json.Decoder(msgspec.defstruct("Page", members))

    def page(self, body: bytes) -> Any:
        """Read a page: `data` has its rows."""
        return self._decoder.decode(body)

    def read(self, sent: Sequence[Sent]) -> list[T]:
        """Make models of rows as they were sent."""
        return self.models(self.page(b'{"data":[%b]}' % b",".join(sent)).data)

    def convert(self, objects: Sequence[object]) -> list[T]:
        """Make models of objects."""
        return self.models(msgspec.convert(objects, self._rows))

    def models(self, rows: Rows) -> list[T]:
        """Make models of rows."""
        with localcontext(EXACT):
            return _models_of(self._model, rows)

    def _struct(self, model: type[Any], *, whole: bool = False) -> Any:
        odd, anything = self.learned.odd, self._anything
        unknown = {f"unknown{index}": name for index, name in enumerate(self.learned.unknown.get(model, ()))}
        missing = any((model, name) in odd for name in unknown.values())
        columns: dict[str, Cells] = {}
        checks: list[Callable[[Rows], None]] = []
        parts: list[Field] = []
        members, names = [], {}
        namespace = {"columns": columns, "checks": checks, "parts": parts, "extra": Extra()}

        def hold(name: str, wire: str, ways: Sequence[Way]) -> str:
            way = ways[odd.get((model, wire), 0)]
            held = f"{name}_" if way.reads else name
            if way.reads:
                columns[name] = way.reads(held)
            if way.checks:
                checks.append(way.checks(held))
            members.append((held, way.type, way.nothing))
            names[held] = wire
            return held

        for field in fields_of(model):
            struct = self._struct(field.of) if field.kind in {FieldKind.MODEL, FieldKind.MODELS} else None
            ways = ways_of(model, field, anything, struct, partial(_models_of, field.of))
            if hold(field.name, field.wire, ways) != field.name:
                namespace[field.name] = in_place_of(field)
            elif struct is not None and (struct.columns or struct.checks or struct.parts):
                parts.append(field)
        ways = ways_of_unknown(anything, missing=missing)
        others = [hold(name, wire, ways) for name, wire in unknown.items()]
        decoded = [columns.pop(name) for name in unknown if name in columns]
        if unknown or whole:
            wires = dict(zip(others, unknown.values(), strict=True))
            columns["extra"] = extras_of(wires, decoded, missing=missing, whole=whole)
        return msgspec.defstruct(
            f"{model.__name__}Row",
            members,
            namespace=namespace,
            rename=names,
            kw_only=True,
            gc=False,  # JSON has no cycles
            forbid_unknown_fields=True,
            omit_defaults=True,  # what was left out is None, where null was not sent
        )


def _models_of(model: type[T], rows: Rows) -> list[T]:
    # Not strict: seconds are moments, and digits are numbers.
    made: list[T] = msgspec.convert(rows, list[model], strict=False, from_attributes=True)  # type: ignore[valid-type]
    _fill(model, made, rows)
    return made


def _fill(model: type[Any], made: Sequence[Any], rows: Rows) -> None:
    """Put into models what msgspec does not read: they are frozen, but nobody has seen them yet."""
    row = type(rows[0]) if rows else None
    if row is None:
        return
    for check in row.checks:
        check(rows)
    for name, cells in row.columns.items():
        deque(map(getattr(model, name).__set__, made, cells(rows)), maxlen=0)
    for field in row.parts:
        get = attrgetter(field.name)
        flat: Any = chain.from_iterable if field.kind is FieldKind.MODELS else partial(filter, None)
        _fill(field.of, list(flat(map(get, made))), list(flat(map(get, rows))))


def model_of(model: type[T], row: Any) -> T:
    """Convert a row to its model."""
    with localcontext(EXACT):
        return _models_of(model, [row])[0]
