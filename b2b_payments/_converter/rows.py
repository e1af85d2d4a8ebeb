"""From the bytes of a page to models, in C: by row types that are derived from the models.

msgspec decodes a page into structs, and converts them to models by their attributes. What a field usually is,
a row holds under the field's own name. Anything else it holds in a slot of another name (`slot_of`), as it
was sent, and its class has a placeholder under the field's name, so that msgspec makes the model. What such
slots hold is read a column at a time, as the cattrs converter reads it, and put into the models in place of
that. Whatever does not fit even so is left to the cattrs converter, which says what is wrong.

A page is decoded whole, but for objects whose names nobody knows: those are decoded as models are made, a few
at a time. So they do not wake the garbage collector, and row types have few levels: a page that fits needs no
measure beforehand.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from functools import cache, lru_cache, partial
from itertools import chain, islice, repeat
from operator import attrgetter
from typing import Any, Final, TypeAlias, TypeVar, get_args

import msgspec

from b2b_payments._converter.row_types import (
    AS_SENT,
    FLAT,
    OF_UNKNOWN,
    UNFIT,
    Fits,
    Learned,
    Way,
    fits_of,
    row_type,
    ways_of,
)
from b2b_payments._converter.service import reader_of
from b2b_payments._models import Payment
from b2b_payments._models.decimals import EXACT
from b2b_payments._models.description import Field, FieldKind, fields_of
from b2b_payments._models.extra import Extra
from b2b_payments._protocol.json import decode, exact_number
from b2b_payments._protocol.listing import Head, Listing

T = TypeVar("T")
Rows: TypeAlias = Sequence[Any]
ReadColumn: TypeAlias = Callable[[Rows], Sequence[Any]]
Get: TypeAlias = Callable[[Iterable[Any]], Iterable[Any]]
Sent: TypeAlias = bytes | msgspec.Raw

_MOST_OBJECTS: Final = 500
"""Objects of models that are made at once: so few come and go without waking the garbage collector."""
_OF_PAYMENT, _OF_ITEM = 8, 2
"""Objects that a payment usually is, and that each of its line items is."""
_SAMPLE: Final = 25
_MOST_LESSONS: Final = 20
"""Looks at what a page has, some milliseconds each: a service may make names up."""
_LEVEL: Final = 3
"""Levels of a page that a payment's fields are in: the page's, the list's, and the payment's own."""
_MOST_VALUES: Final = 200
"""Values of a field whose meaning is remembered."""
_PLACEHOLDERS: Final[Mapping[FieldKind, Any]] = {
    FieldKind.TEXT: "", FieldKind.AMOUNT: Decimal(0), FieldKind.MOMENT: datetime.fromtimestamp(0, UTC),
    FieldKind.OBJECT: {}, FieldKind.MODELS: (), FieldKind.CODES: (),
}  # fmt: skip
"""What msgspec takes for a field until it is read; 0 for the others."""
_decode_flat: Final = msgspec.json.Decoder(list[dict[str, FLAT]]).decode
_OF_CODES: Final = frozenset({FieldKind.CODE, FieldKind.CODES})


def slot_of(field: Field) -> str:
    """Return the name under which a row holds a field that it does not hold as usual."""
    return f"{field.name}_"


class PageReader:
    """Reads pages into rows. What it learns of them, it keeps.

    If `as_sent`, the rows' fees and unknown fields are not decoded.
    """

    def __init__(self, *, as_sent: bool = False) -> None:
        self._as_sent = as_sent
        self._lessons = 0
        self.types = RowTypes(Learned(), as_sent=as_sent)

    def begin(self) -> None:
        """Begin with another page."""
        self._lessons = _MOST_LESSONS

    def read(self, body: bytes) -> tuple[RowTypes, Any] | None:
        """Read a page, and learn what it has where that is new. None where a row fits no type even so."""
        while True:
            types = self.types
            with suppress(*UNFIT):
                return types, types.page(body)
            if not self._lessons:
                return None
            self._lessons -= 1
            try:
                learned = types.learned.with_page(body)
            except UNFIT:
                return None
            if learned == types.learned:
                return None
            # Another thread may put its own here meanwhile: what that loses is learned again.
            self.types = RowTypes(learned, as_sent=self._as_sent)


class RowReader:
    """Reads the rows of pages into payments. What it learns of them, it keeps."""

    def __init__(self) -> None:
        self.pages = PageReader()

    def page(self, body: bytes) -> Any:
        """Return a page whose rows are decoded, and are heads as well; None where one does not fit."""
        self.pages.begin()
        found = self.pages.read(body) if self.pages.types.has_heads else None
        return found[1] if found is not None and found[0].has_heads else None

    def read(
        self, page: Listing, places: Sequence[int], otherwise: Callable[[int, Sent], Payment]
    ) -> Iterator[Payment]:
        """Return the payments at these places of a page, one by one.

        `otherwise` gives the payment of a row that does not fit.
        """
        self.pages.begin()
        types, rows = self.pages.types, page.heads
        if not (rows and isinstance(rows[0], types.row)):
            found = self.pages.read(page.body)
            types, rows = (types, []) if found is None else (found[0], found[1].data)
        sent = cache(page.rows)  # for the few pages that have rows to be looked at one by one
        length = _at_once(rows)
        blocks = (places[start : start + length] for start in range(0, len(places), length))
        # No name is given to what is made, so that one block is gone before the next one is there.
        return chain.from_iterable(self._block(types, rows, sent, block, otherwise) for block in blocks)

    def _block(
        self,
        types: RowTypes,
        rows: list[Any],
        sent: Callable[[], Sequence[Sent]],
        places: Sequence[int],
        otherwise: Callable[[int, Sent], Payment],
    ) -> Iterable[Payment]:
        if rows:
            with suppress(*UNFIT):
                payments = types.payments([rows[place] for place in places])
                for place in places:
                    rows[place] = None  # its payment keeps it, and nobody longer than that
                return payments
        some = [sent()[place] for place in places]
        with suppress(*UNFIT):
            if (found := self.pages.read(b'{"data":[%b]}' % b",".join(some))) is not None:
                types, page = found
                return types.payments(page.data)
        if len(places) == 1:
            return map(otherwise, places, some)
        middle = len(places) // 2
        halves = (places[:middle], places[middle:])
        return chain.from_iterable(self._block(types, [], sent, half, otherwise) for half in halves)


def _at_once(rows: Rows) -> int:
    """Return how many payments are made at once of rows like these."""
    items = [len(getattr(row, "line_items", ())) for row in rows[:_SAMPLE]]
    return max(1, _MOST_OBJECTS // (_OF_PAYMENT + _OF_ITEM * (sum(items) // (len(items) or 1))))


class RowTypes:
    """The row types of payments and of what is within them, as far as learned; `row` is that of payments.

    `has_heads` says that rows have what a walk has to know of them by its name, as it was sent. If `as_sent`,
    fees and unknown fields are not decoded either.
    """

    def __init__(self, learned: Learned, *, as_sent: bool = False) -> None:
        self.learned = learned
        self._as_sent = as_sent
        self.row: Any = self._type(Payment)
        self.has_heads: bool = {*Head.__struct_fields__} <= {*self.row.__struct_fields__}
        rows: Any = list[self.row]  # type: ignore[name-defined]
        members: Any = [("data", rows), ("code", Any, None), ("meta", Any, None)]
        page = msgspec.defstruct("Page", members)
        self._decode = msgspec.json.Decoder(page, float_hook=exact_number).decode

    def page(self, body: bytes) -> Any:
        """Read a page: `data` has its rows."""
        page: Any = self._decode(body)
        _check(self.row.checks, page.data)
        return page

    def payments(self, rows: Rows) -> list[Payment]:
        """Make payments of rows."""
        with localcontext(EXACT):
            return _models_of(Payment, rows)

    def _type(self, model: type[Any], level: int = _LEVEL) -> Any:
        """Make a row type that knows how its rows become models, so many levels deep in a page.

        `readers` read what msgspec does not, `parts` are the fields with such readers of their own, and
        `checks` look at what msgspec reads, in the parts, too; those that look alike stand together.
        `unknown` has the unknown fields, by the names under which rows hold them.
        """
        members, readers, parts = dict[str, tuple[str, Any, Any]](), dict[str, ReadColumn](), list[Field]()
        checks = defaultdict[Fits, list[Get]](list)
        unknown = self.learned.names(model)
        unknown_part = msgspec.defstruct("Unknown", list(unknown), rename=unknown, gc=False)
        namespace: dict[str, Any] = {"extra": Extra(), "unknown": unknown_part}
        for field in fields_of(model):
            deeper = {FieldKind.MODEL: 1, FieldKind.MODELS: 2}.get(field.kind)
            part = None if deeper is None else self._type(field.of, level + deeper)
            ways = ways_of(field, part)
            way = AS_SENT if self._as_sent and field.bare else self.learned.way(model, field.wire, ways)
            slot, fits = field.name, fits_of(field)
            if not way.is_usual or field.kind is FieldKind.CODES:
                slot, namespace[field.name] = slot_of(field), _placeholder(field)
                readers[field.name] = _reader(field, slot, way, level)
            elif fits is not None:
                checks[fits].append(partial(map, attrgetter(field.name)))
            elif part is not None:
                for fits, gets in part.checks.items():
                    checks[fits] += [_of_parts(field, get) for get in gets]
                parts += [field] if part.readers or part.parts else []
            members[slot] = field.wire, way.member, way.default
        cells: list[Callable[[Rows], Iterable[Any]]] = []
        for slot, wire in unknown.items():
            way = AS_SENT if self._as_sent else self.learned.way(model, wire, OF_UNKNOWN)
            members[slot] = wire, way.member, way.default
            cells.append(_cells(slot, way, level))
        if unknown or model is Payment:
            readers["extra"] = _extras(unknown_part, cells, with_rows=model is Payment)
        return row_type(model, members, readers=readers, checks=checks, parts=parts, **namespace)


def _placeholder(field: Field) -> Any:
    if field.nullable:
        return None
    return object.__new__(field.of) if field.kind is FieldKind.MODEL else _PLACEHOLDERS.get(field.kind, 0)


def _reader(field: Field, slot: str, way: Way, level: int) -> ReadColumn:
    """Return what reads a column as the cattrs converter reads each cell."""
    if field.kind in {FieldKind.MODEL, FieldKind.MODELS} and not field.bare:
        return partial(_nested, field, attrgetter(slot))
    cells, read = _cells(slot, way, level), reader_of(field)
    if field.kind in _OF_CODES and Any not in get_args(way.type):
        known = lru_cache(_MOST_VALUES)(lambda one: read(list(one) if isinstance(one, tuple) else one))
        return lambda rows: list(map(known, cells(rows)))
    usual: type[Any] | None = {FieldKind.TEXT: str, FieldKind.OBJECT: dict}.get(field.kind)
    return lambda rows: [one if one.__class__ is usual else read(one) for one in cells(rows)]


def _cells(slot: str, way: Way, level: int) -> Callable[[Rows], Iterable[Any]]:
    return partial(_decode_in_place, slot, level) if way is AS_SENT else partial(map, attrgetter(slot))


def _decode_in_place(slot: str, level: int, rows: Rows) -> Sequence[Any]:
    """Return what rows hold as bytes, and decode it in place: bytes would keep the whole page alive."""
    cells: list[Any] = list(map(attrgetter(slot), rows))
    sent = [cell for cell in cells if cell.__class__ is msgspec.Raw]
    if not sent:
        return cells
    together = b",".join(sent)
    try:
        decoded: list[Any] = _decode_flat(b"[%b]" % together)
    except ValueError:
        # As deep as in its page.
        decoded = decode(b"[" * level + together + b"]" * level)
        for _ in range(1, level):
            (decoded,) = decoded
    if len(sent) < len(cells):
        left = iter(decoded)
        decoded = [next(left) if cell.__class__ is msgspec.Raw else cell for cell in cells]
    deque(map(getattr(type(rows[0]), slot).__set__, rows, decoded), maxlen=0)
    return decoded


def _nested(field: Field, get: Callable[[Any], Any], rows: Rows) -> Sequence[Any]:
    many = field.kind is FieldKind.MODELS
    read, usual = reader_of(field), tuple if many else msgspec.Struct
    found: list[Any] = [one if isinstance(one, usual) else read(one) for one in map(get, rows)]
    parts = list(chain.from_iterable(found) if many else filter(None, found))
    if parts:
        _check(type(parts[0]).checks, parts)
    made = iter(_models_of(field.of, parts))
    if many:
        return [tuple(islice(made, length)) for length in map(len, found)]
    return [None if one is None else next(made) for one in found]


def _parts(field: Field, objects: Iterable[Any]) -> Iterator[Any]:
    """Return the parts that objects have in one of their fields, one after the other."""
    parts = map(attrgetter(field.name), objects)
    return chain.from_iterable(parts) if field.kind is FieldKind.MODELS else filter(None, parts)


def _of_parts(field: Field, get: Get) -> Get:
    """Return what gets the same of the parts of rows."""
    return lambda rows: get(_parts(field, rows))


def _check(checks: Mapping[Fits, Sequence[Get]], rows: Rows) -> None:
    """Raise ValueError where msgspec takes more for a number than is one."""
    for fits, gets in checks.items():
        if not fits(filter(None, chain.from_iterable([get(rows) for get in gets]))):
            raise ValueError


def _extras(part: Any, unknown: Sequence[Callable[[Rows], Iterable[Any]]], *, with_rows: bool) -> ReadColumn:
    """Return what reads the unknown fields of rows into `part`, and keeps the row itself if it is to."""
    keep = Extra.sent.__set__  # type: ignore[attr-defined]

    def cells(rows: Rows) -> Sequence[Extra]:
        parts = map(part, *[get(rows) for get in unknown]) if unknown else repeat({}, len(rows))
        # What a row has not of them is left out.
        made = list(map(Extra, msgspec.to_builtins(list(parts), builtin_types=(Decimal,))))
        if with_rows:
            deque(map(keep, made, rows), maxlen=0)
        return made

    return cells


def _models_of(model: type[T], rows: Rows) -> list[T]:
    # Not strict: seconds are moments, and digits are numbers.
    made: list[T] = msgspec.convert(rows, list[model], strict=False, from_attributes=True)  # type: ignore[valid-type]
    _fill(model, made, rows)
    return made


def _fill(model: type[Any], made: Sequence[Any], rows: Rows) -> None:
    """Put into models what msgspec does not read: they are frozen, but nobody has seen them yet."""
    if not rows:
        return
    row = type(rows[0])
    for name, cells in row.readers.items():
        deque(map(getattr(model, name).__set__, made, cells(rows)), maxlen=0)
    for field in row.parts:
        _fill(field.of, list(_parts(field, made)), list(_parts(field, rows)))


def payment_of(row: Any) -> Payment:
    """Convert a row to its payment."""
    with localcontext(EXACT):
        return _models_of(Payment, [row])[0]
