"""From the bytes of a page to models, in C: by row types that are derived from the models.

msgspec decodes a page into structs, and converts them to models by their attributes. What a field usually is,
a row holds under the field's own name. Anything else it holds under another name, as it was sent; such fields
are read a column at a time, as the cattrs converter reads them, and put into models that are made already.
Whatever does not fit even so is left to the cattrs converter, which says what is wrong.

A page is decoded whole. Row types that take nothing but the usual have few levels: a page that fits needs no
measure beforehand.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from functools import cache, lru_cache, partial
from itertools import chain, islice, repeat
from operator import attrgetter
from typing import Any, Final, TypeAlias, TypeVar, get_args

import msgspec
from msgspec import UNSET, UnsetType

from b2b_payments._converter.row_types import (
    UNFIT,
    Learned,
    LearnedTypes,
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
from b2b_payments._protocol.json import check_measure, exact_number
from b2b_payments._protocol.listing import Head, Listing

T = TypeVar("T")
Rows: TypeAlias = Sequence[Any]
Cells: TypeAlias = Callable[[Rows], Sequence[Any]]
Sent: TypeAlias = bytes | msgspec.Raw

_BLOCK: Final = 50
"""Models that are made at once: so few that come and go together do not wake the garbage collector."""
_MOST_VALUES: Final = 200
"""Values of a field whose meaning is remembered."""
_IN_PLACE: Final[Mapping[FieldKind, Any]] = {
    FieldKind.TEXT: "", FieldKind.AMOUNT: Decimal(0), FieldKind.MOMENT: datetime.fromtimestamp(0, UTC),
    FieldKind.OBJECT: {}, FieldKind.MODELS: (), FieldKind.CODES: (),
}  # fmt: skip
"""What msgspec takes for a field until it is read; 0 for the others."""
_AS_READ: Final[Mapping[FieldKind, type]] = {FieldKind.TEXT: str, FieldKind.OBJECT: dict}
_FEW: Final = frozenset({FieldKind.CODE, FieldKind.CODES})


class RowReader:
    """Reads the rows of pages into payments. What it learns of them, it keeps."""

    def __init__(self) -> None:
        self.learner = Learner(RowTypes)

    def page(self, body: bytes) -> Any:
        """Give a page whose rows are decoded, and are heads as well; None where one does not fit."""
        self.learner.begin()
        page = self.learner.made(RowTypes.unmeasured_page, body) if self.learner.types.has_heads else None
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
            types, rows = self.learner.types, decoded.data if decoded is not None else ()
        sent = cache(page.rows)  # for the few pages that have rows to be looked at one by one
        blocks = (places[start : start + _BLOCK] for start in range(0, len(places), _BLOCK))
        # No name is given to what is made, so that one block is gone before the next one is there.
        return chain.from_iterable(self._block(types, rows, sent, block, otherwise) for block in blocks)

    def _block(
        self,
        types: RowTypes,
        rows: Rows,
        sent: Callable[[], Sequence[Sent]],
        places: Sequence[int],
        otherwise: Callable[[int, Sent], Payment],
    ) -> Iterable[Payment]:
        if rows:
            with suppress(*UNFIT):
                return types.payments([rows[place] for place in places])
        some = [sent()[place] for place in places]
        made = self.learner.made(RowTypes.read, some)
        if made is not None:
            return made
        if len(places) == 1:
            return map(otherwise, places, some)
        return chain.from_iterable(self._block(types, (), sent, [place], otherwise) for place in places)

    def read_object(self, sent: object) -> Payment | None:
        """Give the payment of an object that is decoded already; None where it does not fit."""
        self.learner.begin()
        made = self.learner.made(RowTypes.convert, [sent])
        return None if made is None else made[0]


class RowTypes(LearnedTypes):
    """The row types of payments and of what is within them, as far as learned; `row` is that of payments.

    `has_heads` says that rows have what a walk has to know of them by its name, as it was sent.
    """

    def __init__(self, learned: Learned) -> None:
        super().__init__(learned)
        self._may_be_deep = False
        self.row: Any = self._type(Payment)
        self.has_heads: bool = {*Head.__struct_fields__} <= {*self.row.__struct_fields__}
        self._rows: Any = list[self.row]  # type: ignore[name-defined]
        members: Any = [("data", self._rows), ("code", Any, None), ("meta", Any, None)]
        page = msgspec.defstruct("Page", members)
        self._decode = msgspec.json.Decoder(page, float_hook=exact_number).decode

    def page(self, body: bytes) -> Any:
        """Read a page: `data` has its rows."""
        return self._decode(body)

    def unmeasured_page(self, body: bytes) -> Any:
        """Read a page of which nobody knows how deep it is. Raises as `check_measure`."""
        if self._may_be_deep:
            check_measure(body)
        return self._decode(body)

    def read(self, sent: Sequence[Sent]) -> list[Payment]:
        """Make payments of rows as they were sent."""
        return self.payments(self.page(b'{"data":[%b]}' % b",".join(sent)).data)

    def convert(self, objects: Sequence[object]) -> list[Payment]:
        """Make payments of objects."""
        return self.payments(msgspec.convert(objects, self._rows))

    def payments(self, rows: Rows) -> list[Payment]:
        """Make payments of rows."""
        with localcontext(EXACT):
            return _models_of(Payment, rows)

    def _type(self, model: type[Any]) -> Any:
        """Make a row type that knows how its rows become models.

        `columns` read what msgspec does not, `checks` look at what it reads, and `parts` are the fields with
        either of their own.
        """
        odd, members = self.learned.odd, dict[str, tuple[str, Any, Any]]()
        columns, checks, parts = dict[str, Cells](), list[Callable[[Rows], None]](), list[Field]()
        namespace: dict[str, Any] = {"extra": Extra()}
        for field in fields_of(model):
            part = self._type(field.of) if field.kind in {FieldKind.MODEL, FieldKind.MODELS} else None
            way = ways_of(field, part)[odd.get((model, field.wire), 0)]
            held = field.name
            if not way.is_usual or field.kind is FieldKind.CODES:
                held, namespace[field.name] = f"{field.name}_", _in_place_of(field)
                columns[field.name] = _reader(field, held, way.type)
            elif field.digits or field.kind is FieldKind.AMOUNT:
                checks.append(partial(_check, model, field))
            elif part is not None and (part.columns or part.checks or part.parts):
                parts.append(field)
            members[held] = field.wire, way.type, way.default
            self._may_be_deep |= way.is_deep
        unknown = self.learned.names(model)
        for held, wire in unknown.items():
            way = ways_of_unknown()[odd.get((model, wire), 0)]
            members[held] = wire, way.type, way.default
            self._may_be_deep |= way.is_deep
        if unknown or model is Payment:
            columns["extra"] = _extras(unknown, with_rows=model is Payment)
        return row_type(model, members, columns=columns, checks=checks, parts=parts, **namespace)


def _in_place_of(field: Field) -> Any:
    if field.nullable:
        return None
    return object.__new__(field.of) if field.kind is FieldKind.MODEL else _IN_PLACE.get(field.kind, 0)


def _reader(field: Field, held: str, type_: Any) -> Cells:
    """Give what reads a column as the cattrs converter reads each cell."""
    if field.kind in {FieldKind.MODEL, FieldKind.MODELS} and not field.bare:
        return partial(_nested, field, attrgetter(held))
    get, read, usual = attrgetter(held), reader_of(field), _AS_READ.get(field.kind, ())
    if field.kind in _FEW and Any not in get_args(type_):
        known = lru_cache(_MOST_VALUES)(lambda one: read(list(one) if isinstance(one, tuple) else one))
        return lambda rows: list(map(known, map(get, rows)))
    return lambda rows: [one if isinstance(one, usual) else read(one) for one in map(get, rows)]


def _nested(field: Field, get: Callable[[Any], Any], rows: Rows) -> Sequence[Any]:
    many = field.kind is FieldKind.MODELS
    read, usual = reader_of(field), tuple if many else msgspec.Struct
    found: list[Any] = [one if isinstance(one, usual) else read(one) for one in map(get, rows)]
    if many:
        made = iter(_models_of(field.of, list(chain.from_iterable(found))))
        return [tuple(islice(made, length)) for length in map(len, found)]
    made = iter(_models_of(field.of, [one for one in found if one is not None]))
    return [None if one is None else next(made) for one in found]


def _check(model: type[Any], field: Field, rows: Rows) -> None:
    """Raise OddTextError where msgspec takes more for a number than is one."""
    cells = list(filter(None, map(attrgetter(field.name), rows)))
    if field.kind is FieldKind.WHOLE:
        fits = not cells or "".join(cells).isdecimal()  # nor `1e2`, nor `null`
    elif field.digits:
        # Nor `1_000`, other scripts' digits, or NaN.
        fits = not "".join(cells).encode().translate(None, b"0123456789.-")
    else:
        fits = set(map(type, cells)) <= {int, float} and all(1e-4 <= abs(cell) < 1e16 for cell in cells)
    if not fits:
        raise OddTextError(model, field.wire)


def _extras(unknown: Mapping[str, str], *, with_rows: bool) -> Cells:
    """Give what reads the unknown fields of rows, and keeps the row itself if it is to."""
    names, gets = tuple(unknown.values()), list(map(attrgetter, unknown))
    keep = Extra.sent.__set__  # type: ignore[attr-defined]

    def cells(rows: Rows) -> Sequence[Extra]:
        columns = [list(map(get, rows)) for get in gets]
        pairs: Any = map(zip, repeat(names), zip(*columns, strict=True)) if columns else [()] * len(rows)
        if any(UnsetType in set(map(type, column)) for column in columns):
            pairs = ({name: one for name, one in some if one is not UNSET} for some in pairs)
        made = list(map(Extra, pairs))
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
    for check in row.checks:
        check(rows)
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
