"""How a row holds the fields of a model, and how those are read that msgspec does not: for many rows at once.

What a field usually is, a row holds under the field's own name, and msgspec converts it. Anything else it
holds under another name, as it was sent, as bytes where it may be of any kind. Such fields are read a column
at a time, as the cattrs converter reads them, and put into models that are made already.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from itertools import chain, islice, repeat
from operator import attrgetter
from typing import Annotated, Any, Final, TypeAlias

import attrs
import msgspec
from msgspec import UNSET, Meta, UnsetType

from b2b_payments._converter.service import reader_of
from b2b_payments._models.description import Field, FieldKind
from b2b_payments._models.extra import Extra
from b2b_payments._printable import frozen
from b2b_payments._protocol.json import decode

Rows: TypeAlias = Sequence[Any]
Cells: TypeAlias = Callable[[Rows], Sequence[Any]]

_MOST_VALUES: Final = 200
"""Values of a field whose meaning is remembered."""
_LONGEST: Final = 100


def _json_of(levels: int) -> Any:
    """Give the type of JSON data of so many levels. Without floats, which would lose digits."""
    if not levels:
        return str | int | bool | None
    part: Any = _json_of(levels - 1)
    return str | int | bool | list[part] | dict[str, part] | None


_FLAT: Any = _json_of(4)
_USUAL: Final[Mapping[tuple[FieldKind, bool], Any]] = {
    (FieldKind.WHOLE, False): Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)],
    (FieldKind.WHOLE, True): Annotated[str, Meta(min_length=1, max_length=18)],
    (FieldKind.TEXT, False): str,
    (FieldKind.AMOUNT, True): Annotated[str, Meta(min_length=1, max_length=40)],
    # The years 1 to 9999.
    (FieldKind.MOMENT, False): Annotated[int, Meta(ge=-62_135_596_800, le=253_402_300_799)],
    (FieldKind.OBJECT, False): dict[str, _FLAT],
    (FieldKind.CODES, False): tuple[int | str, ...],
}
_IN_PLACE: Final[Mapping[FieldKind, Any]] = {
    FieldKind.WHOLE: 0, FieldKind.TEXT: "", FieldKind.AMOUNT: Decimal(0), FieldKind.FLAG: False,
    FieldKind.MOMENT: datetime.fromtimestamp(0, UTC), FieldKind.OBJECT: {}, FieldKind.MODELS: (),
    FieldKind.CODES: (),
}  # fmt: skip
_AS_READ: Final[Mapping[FieldKind, type]] = {FieldKind.TEXT: str, FieldKind.OBJECT: dict}


class OddTextError(ValueError):
    """A text of a model's field is not the digits that it usually is."""

    def __init__(self, model: type[Any], wire: str) -> None:
        super().__init__()
        self.model = model
        self.wire = wire


@frozen
class Way:
    """A way to hold a field: its type, its default, and what reads it if msgspec does not, or looks at it.

    `reads` and `checks` are given the name under which the row holds it.
    """

    type: Any
    nothing: Any = msgspec.NODEFAULT
    reads: Callable[[str], Cells] | None = None
    checks: Callable[[str], Callable[[Rows], None]] | None = None


def in_place_of(field: Field) -> Any:
    """Give what msgspec takes for the field until it is read."""
    if field.nullable:
        return None
    return object.__new__(field.of) if field.kind is FieldKind.MODEL else _IN_PLACE.get(field.kind, 0)


def ways_of(
    model: type[Any], field: Field, anything: Any, struct: Any = None, models: Cells = list
) -> Sequence[Way]:
    """Give the ways to hold a field: as it usually is, and another for each time that this did not fit.

    `anything` is the type of what may be anything. `struct` is the row type of the field's own model, if it
    has one, and `models` makes that model of such rows.
    """
    kind, usual = field.kind, _USUAL.get((field.kind, field.digits))
    some: Any = usual
    first, later = Way(usual), partial(_read, field)
    if kind is FieldKind.AMOUNT:
        first = Way(usual, reads=partial(_amounts, model, field))
    elif kind is FieldKind.CODES:
        later = partial(_few, field)
        first, some = Way(usual, reads=later), usual | str
    elif kind is FieldKind.CODE:
        first, some, later = Way(field.of), int | str, partial(_few, field)
    elif kind is FieldKind.OBJECT:
        some = usual | list[_FLAT] | str
    elif kind is FieldKind.MODEL:
        first, some, later = Way(struct), struct | list[_FLAT] | str, partial(_nested, field, models)
    elif kind is FieldKind.MODELS:
        # The empty tuple is no object of its own, and costs the garbage collector nothing.
        several: Any = tuple[struct, ...]
        first, some, later = Way(several), several | dict[str, _FLAT] | str, partial(_nested, field, models)
    elif field.digits:
        first = Way(usual, checks=partial(_digits, model, field))
    last = Way(anything, UNSET, partial(_read, field))
    if first.type is None:
        return [last]
    usually = [first]
    if field.nullable:
        usually = [attrs.evolve(first, type=first.type | None), attrs.evolve(first, nothing=None)]
    found = [*usually, Way(some | UnsetType | None, UNSET, later)]
    # What is no object where one belongs is refused; so it is not looked for in other rows.
    is_part = kind in {FieldKind.MODEL, FieldKind.MODELS}
    return found if is_part and not field.bare else [*found, last]


def ways_of_unknown(anything: Any, *, missing: bool) -> Sequence[Way]:
    """Give the ways to hold an unknown field. The second is for one that is `missing` in some rows."""
    nothing = UNSET if missing else msgspec.NODEFAULT
    return [Way(_FLAT, nothing), Way(_FLAT, nothing), Way(anything, nothing, _sent)]


def _sent(held: str) -> Cells:
    """Give what reads a column as it was sent. Bytes are decoded for good: they keep the page in memory."""
    get = attrgetter(held)

    def cells(rows: Rows) -> Sequence[Any]:
        found = list(map(get, rows))
        if msgspec.Raw in set(map(type, found)):
            places = [place for place, one in enumerate(found) if type(one) is msgspec.Raw]
            decoded = decode(b"[%b]" % b",".join([found[place] for place in places]))
            for place, one in zip(places, decoded, strict=True):
                found[place] = one
                setattr(rows[place], held, one)
        return found

    return cells


def _read(field: Field, held: str) -> Cells:
    sent, read, usual = _sent(held), reader_of(field), _AS_READ.get(field.kind, ())
    return lambda rows: [one if isinstance(one, usual) else read(one) for one in sent(rows)]


def _few(field: Field, held: str) -> Cells:
    """Give what reads a column of few different values: what they are read as is remembered."""
    get, read = attrgetter(held), reader_of(field)
    known: dict[object, Any] = {}

    def cells(rows: Rows) -> Sequence[Any]:
        found = list(map(get, rows))
        with suppress(KeyError):
            return list(map(known.__getitem__, found))
        made = {one: read(list(one) if isinstance(one, tuple) else one) for one in set(found)}
        if len(known) < _MOST_VALUES:
            known.update({one: meant for one, meant in made.items() if len(str(one)) < _LONGEST})
        return [made[one] for one in found]

    return cells


def _amounts(model: type[Any], field: Field, held: str) -> Cells:
    get = attrgetter(held)

    def cells(rows: Rows) -> Sequence[Any]:
        texts = list(map(get, rows))
        # Decimal takes more: `1_000`, other scripts' digits, NaN.
        if "".join(texts).encode().translate(None, b"0123456789.-"):
            raise OddTextError(model, field.wire)
        return list(map(Decimal, texts))

    return cells


def _digits(model: type[Any], field: Field, held: str) -> Callable[[Rows], None]:
    get = attrgetter(held)

    def check(rows: Rows) -> None:
        # msgspec takes more: `1e2`, `null`.
        text = "".join(filter(None, map(get, rows)))
        if text and not text.isdecimal():
            raise OddTextError(model, field.wire)

    return check


def _nested(field: Field, models: Cells, held: str) -> Cells:
    sent, read, many = _sent(held), reader_of(field), field.kind is FieldKind.MODELS
    usual: Any = tuple if many else msgspec.Struct

    def cells(rows: Rows) -> Sequence[Any]:
        found = [one if isinstance(one, usual) else read(one) for one in sent(rows)]
        if many:
            made = iter(models(list(chain.from_iterable(found))))
            return [tuple(islice(made, length)) for length in map(len, found)]
        made = iter(models([one for one in found if one is not None]))
        return [None if one is None else next(made) for one in found]

    return cells


def extras_of(unknown: Mapping[str, str], decoded: Sequence[Cells], *, missing: bool, whole: bool) -> Cells:
    """Give what reads the unknown fields of rows; those of whole ones keep the row itself, too.

    `unknown` has the names under which rows hold them, and those on the wire; `decoded` decodes what is held
    as bytes.
    """
    names = tuple(unknown.values())
    # The last one twice: of one name alone, attrgetter gives no tuple.
    several = attrgetter(*unknown, list(unknown)[-1]) if names else lambda _: ()
    keep = Extra.sent.__set__  # type: ignore[attr-defined]

    def cells(rows: Rows) -> Sequence[Extra]:
        for decode_column in decoded:
            decode_column(rows)
        pairs: Any = map(zip, repeat(names), map(several, rows))
        if missing:
            pairs = ({name: one for name, one in some if one is not UNSET} for some in pairs)
        made = list(map(Extra, pairs))
        if whole:
            deque(map(keep, made, rows), maxlen=0)
        return made

    return cells
