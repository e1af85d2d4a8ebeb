"""From the bytes of a page to models, in C: by row types that are derived from the models.

msgspec decodes a page into structs, and converts them to models by their attributes. What a field usually is,
a row holds under the field's own name. Anything else it holds under another name, as it was sent; such fields
are read a column at a time, as the cattrs converter reads them, and put into models that are made already.
Whatever does not fit even so is left to the cattrs converter, which says what is wrong.

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

import attrs
import msgspec

from b2b_payments._converter.row_types import (
    FLAT,
    UNFIT,
    Learned,
    Learner,
    OddTextError,
    row_type,
    ways_of,
    ways_of_unknown,
)
from b2b_payments._converter.service import reader_of
from b2b_payments._models import Payment
from b2b_payments._models.decimals import EXACT
from b2b_payments._models.description import Field, FieldKind, fields_of
from b2b_payments._models.extra import Extra
from b2b_payments._printable import frozen
from b2b_payments._protocol.json import decode, exact_number
from b2b_payments._protocol.listing import Head, Listing

T = TypeVar("T")
Rows: TypeAlias = Sequence[Any]
Cells: TypeAlias = Callable[[Rows], Sequence[Any]]
Fits: TypeAlias = Callable[[Sequence[Any]], bool]
Sent: TypeAlias = bytes | msgspec.Raw

_BLOCK: Final = 25
"""Models that are made at once: so few that come and go together do not wake the garbage collector."""
_MOST_VALUES: Final = 200
"""Values of a field whose meaning is remembered."""
_IN_PLACE: Final[Mapping[FieldKind, Any]] = {
    FieldKind.TEXT: "", FieldKind.AMOUNT: Decimal(0), FieldKind.MOMENT: datetime.fromtimestamp(0, UTC),
    FieldKind.OBJECT: {}, FieldKind.MODELS: (), FieldKind.CODES: (),
}  # fmt: skip
"""What msgspec takes for a field until it is read; 0 for the others."""
_decode_flat: Final = msgspec.json.Decoder(list[dict[str, FLAT]]).decode
_FEW: Final = frozenset({FieldKind.CODE, FieldKind.CODES})


class RowReader:
    """Reads the rows of pages into payments. What it learns of them, it keeps."""

    def __init__(self) -> None:
        self.learner = Learner(RowTypes)

    def page(self, body: bytes) -> Any:
        """Give a page whose rows are decoded, and are heads as well; None where one does not fit."""
        self.learner.begin()
        page = self.learner.made(RowTypes.page, body) if self.learner.types.has_heads else None
        return page if self.learner.types.has_heads else None

    def read(
        self, page: Listing, places: Sequence[int], otherwise: Callable[[int, Sent], Payment]
    ) -> Iterator[Payment]:
        """Give the payments at these places of a page, one by one.

        `otherwise` gives the payment of a row that does not fit.
        """
        self.learner.begin()
        types, rows = self.learner.types, page.heads
        if not (rows and isinstance(rows[0], types.row)):
            decoded = self.learner.made(RowTypes.page, page.body)
            types, rows = self.learner.types, decoded.data if decoded is not None else []
        sent = cache(page.rows)  # for the few pages that have rows to be looked at one by one
        blocks = (places[start : start + _BLOCK] for start in range(0, len(places), _BLOCK))
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
                    rows[place] = None  # it goes with its payment
                return payments
        some = [sent()[place] for place in places]
        if (made := self.learner.made(RowTypes.read, some)) is not None:
            return made
        if len(places) == 1:
            return map(otherwise, places, some)
        return chain.from_iterable(self._block(types, [], sent, [place], otherwise) for place in places)


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
        self.decode: Callable[[bytes], Any] = msgspec.json.Decoder(page, float_hook=exact_number).decode
        """Decode a page: `data` has its rows, in which some digits may be spelled as no number is."""

    def page(self, body: bytes) -> Any:
        """Read a page: `data` has its rows."""
        page = self.decode(body)
        _check(self.row.checks, page.data)
        return page

    def read(self, sent: Sequence[Sent]) -> list[Payment]:
        """Make payments of rows as they were sent."""
        return self.payments(self.page(b'{"data":[%b]}' % b",".join(sent)).data)

    def payments(self, rows: Rows) -> list[Payment]:
        """Make payments of rows."""
        with localcontext(EXACT):
            return _models_of(Payment, rows)

    def _type(self, model: type[Any]) -> Any:
        """Make a row type that knows how its rows become models.

        `columns` read what msgspec does not, `parts` are the fields with such columns of their own, and
        `checks` look at what msgspec reads, in the parts, too; those that look alike stand together.
        """
        odd, members = self.learned.odd, dict[str, tuple[str, Any, Any]]()
        columns, checks, parts = dict[str, Cells](), defaultdict[Fits, list[_Check]](list), list[Field]()
        unknown = self.learned.names(model)
        namespace: dict[str, Any] = {"extra": Extra(), "unknown": unknown}
        for field in fields_of(model):
            part = self._type(field.of) if field.kind in {FieldKind.MODEL, FieldKind.MODELS} else None
            ways = ways_of(field, part)
            way = ways[-1 if self._as_sent and field.bare else odd.get((model, field.wire), 0)]
            held, fits = field.name, _fits(field)
            if not way.is_usual or field.kind is FieldKind.CODES:
                held, namespace[field.name] = f"{field.name}_", _in_place_of(field)
                columns[field.name] = _reader(field, held, way.type)
            elif fits is not None:
                checks[fits].append(_Check(model, field.wire, partial(map, attrgetter(field.name))))
            elif part is not None:
                for fits, alike in part.checks.items():
                    checks[fits] += [check.within(field) for check in alike]
                parts += [field] if part.columns or part.parts else []
            members[held] = field.wire, way.type, way.default
        for held, wire in unknown.items():
            way = ways_of_unknown()[-1 if self._as_sent else odd.get((model, wire), 0)]
            members[held] = wire, way.type, way.default
        if unknown or model is Payment:
            cells = {wire: _cells(held, members[held][1]) for held, wire in unknown.items()}
            columns["extra"] = _extras(cells, with_rows=model is Payment)
        return row_type(model, members, columns=columns, checks=checks, parts=parts, **namespace)


def _in_place_of(field: Field) -> Any:
    if field.nullable:
        return None
    return object.__new__(field.of) if field.kind is FieldKind.MODEL else _IN_PLACE.get(field.kind, 0)


def _reader(field: Field, held: str, type_: Any) -> Cells:
    """Give what reads a column as the cattrs converter reads each cell."""
    if field.kind in {FieldKind.MODEL, FieldKind.MODELS} and not field.bare:
        return partial(_nested, field, attrgetter(held))
    cells, read = _cells(held, type_), reader_of(field)
    if field.kind in _FEW and Any not in get_args(type_):
        known = lru_cache(_MOST_VALUES)(lambda one: read(list(one) if isinstance(one, tuple) else one))
        return lambda rows: list(map(known, cells(rows)))
    usual: type[Any] | None = {FieldKind.TEXT: str, FieldKind.OBJECT: dict}.get(field.kind)
    return lambda rows: [one if one.__class__ is usual else read(one) for one in cells(rows)]


def _cells(held: str, type_: Any) -> Callable[[Rows], Iterable[Any]]:
    return partial(_decoded, held) if msgspec.Raw in get_args(type_) else partial(map, attrgetter(held))


def _decoded(held: str, rows: Rows) -> Sequence[Any]:
    """Give what rows hold as it was sent, and let them hold it decoded: or each would keep its whole page."""
    cells: list[Any] = list(map(attrgetter(held), rows))
    sent = [cell for cell in cells if cell.__class__ is msgspec.Raw]
    if not sent:
        return cells
    together = b",".join(sent)
    try:
        decoded: list[Any] = _decode_flat(b"[%b]" % together)
    except ValueError:
        # As deep as in its page.
        ((decoded,),) = decode(b"[[[%b]]]" % together)
    if len(sent) < len(cells):
        left = iter(decoded)
        decoded = [next(left) if cell.__class__ is msgspec.Raw else cell for cell in cells]
    deque(map(getattr(type(rows[0]), held).__set__, rows, decoded), maxlen=0)
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


@frozen
class _Check:
    """A look at the cells of a column that msgspec takes more for than fits."""

    model: type[Any]
    wire: str
    cells: Callable[[Iterable[Any]], Iterable[Any]]

    def within(self, field: Field) -> _Check:
        """Give the same look at the parts of rows that are in one of their fields."""
        get, cells = attrgetter(field.name), self.cells
        flat: Any = chain.from_iterable if field.kind is FieldKind.MODELS else partial(filter, None)
        return attrs.evolve(self, cells=lambda rows: cells(flat(map(get, rows))))


def _fits(field: Field) -> Fits | None:
    if field.kind is FieldKind.AMOUNT:
        return _are_amounts if field.digits else _are_numbers
    return are_whole if field.digits else None


def are_whole(cells: Iterable[str]) -> bool:
    """Tell whether all are digits alone."""
    return not "".join(cells).encode().translate(None, b"0123456789")  # nor `1e2`, nor `null`


def _are_amounts(cells: Sequence[str]) -> bool:
    # Nor `1_000`, other scripts' digits, or NaN.
    return not "".join(cells).encode().translate(None, b"0123456789.-")


def _are_numbers(cells: Sequence[Any]) -> bool:
    if not set(map(type, cells)) <= {int, float}:
        return False
    sizes = list(map(abs, cells))
    return not sizes or (min(sizes) >= 1e-4 and max(sizes) < 1e16)


def _check(checks: Mapping[Fits, Sequence[_Check]], rows: Rows) -> None:
    """Raise OddTextError where msgspec takes more for a number than is one."""
    for fits, alike in checks.items():
        if not fits([*filter(None, chain.from_iterable([check.cells(rows) for check in alike]))]):
            odd = next(check for check in alike if not fits([*filter(None, check.cells(rows))]))
            raise OddTextError(odd.model, odd.wire)


def _extras(unknown: Mapping[str, Callable[[Rows], Iterable[Any]]], *, with_rows: bool) -> Cells:
    """Give what reads the unknown fields of rows, and keeps the row itself if it is to."""
    names = {f"unknown{place}": wire for place, wire in enumerate(unknown)}
    part: Any = msgspec.defstruct("Unknown", [(name, Any) for name in names], rename=names, gc=False)
    keep = Extra.sent.__set__  # type: ignore[attr-defined]

    def cells(rows: Rows) -> Sequence[Extra]:
        parts = map(part, *[get(rows) for get in unknown.values()]) if unknown else repeat({}, len(rows))
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
    for name, cells in row.columns.items():
        deque(map(getattr(model, name).__set__, made, cells(rows)), maxlen=0)
    for field in row.parts:
        get = attrgetter(field.name)
        flat: Any = chain.from_iterable if field.kind is FieldKind.MODELS else partial(filter, None)
        _fill(field.of, list(flat(map(get, made))), list(flat(map(get, rows))))


def payment_of(row: Any) -> Payment:
    """Convert a row to its payment."""
    with localcontext(EXACT):
        return _models_of(Payment, [row])[0]
