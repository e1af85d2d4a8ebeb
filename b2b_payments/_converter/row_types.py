"""How a row holds the fields of a model, and what is learned of the rows that come.

A row type has the service's names, and the type that each field usually has. Where a page does not fit, its
cells are looked at, and the types are made again: a field that was absent, null or of another type gets a
wider type, and an unknown name becomes a field. So rows cost Python no more than what their store has of its
own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from itertools import chain, islice
from typing import Annotated, Any, Final, TypeAlias

import attrs
import msgspec
from msgspec import UNSET, Meta, UnsetType

from b2b_payments._converter.unreadable import UNREADABLE
from b2b_payments._errors import ResponseDecodeError
from b2b_payments._models import Payment
from b2b_payments._models.description import Field, FieldKind, fields_of
from b2b_payments._printable import frozen

Fits: TypeAlias = Callable[[Iterable[Any]], bool]
_Object: TypeAlias = dict[str, msgspec.Raw]

_MOST_NAMES: Final = 200
"""Unknown names that are remembered."""
LONGEST: Final = 100
"""Characters of a name or a value that is remembered."""
UNFIT: Final = (
    *UNREADABLE, ResponseDecodeError, ValueError, ArithmeticError, RecursionError, TypeError, AttributeError,
)  # fmt: skip
_MOMENT: Final[Any] = Annotated[int, Meta(ge=-62_135_596_800, le=253_402_300_799)]  # the years 1 to 9999
_CODES: Final[Any] = Annotated[tuple[int | str, ...], Meta(max_length=LONGEST)]


def _json_of(levels: int) -> Any:
    """Return the type of JSON data of so many levels. Without floats, which would lose digits."""
    if not levels:
        return str | int | bool | None
    part: Any = _json_of(levels - 1)
    return str | int | bool | list[part] | dict[str, part] | None


FLAT: Final[Any] = _json_of(4)
_EXPECTED: Final[Mapping[tuple[FieldKind, bool], Any]] = {
    (FieldKind.WHOLE, False): Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)],
    (FieldKind.WHOLE, True): Annotated[str, Meta(min_length=1, max_length=18)],
    (FieldKind.TEXT, False): str,
    (FieldKind.AMOUNT, False): Any,
    (FieldKind.AMOUNT, True): Annotated[str, Meta(min_length=1, max_length=40)],
    (FieldKind.MOMENT, False): _MOMENT,
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

    @property
    def member(self) -> Any:
        """The type of the row's attribute."""
        return self.type | UnsetType if self.default is UNSET else self.type


AS_SENT: Final = Way(msgspec.Raw, UNSET, is_usual=False)
"""Takes anything, of any depth, and decodes none of it."""
OF_UNKNOWN: Final = (Way(FLAT, UNSET), AS_SENT)
"""The ways to hold an unknown field."""


def ways_of(field: Field, part: Any) -> Sequence[Way]:
    """Return the ways to hold a field: as it usually is, and others for cells that do not fit.

    `part` is the row type of the field's own model, if it has one.
    """
    if field.kind is FieldKind.OBJECT:
        return [AS_SENT]
    usual = [_EXPECTED.get((field.kind, field.digits), field.of or Any)]
    odd: Sequence[Any] = _ODD.get(field.kind, [Any])
    if field.kind is FieldKind.MODEL:
        usual, odd = [part], [part | list[FLAT] | str]
    elif field.kind is FieldKind.MODELS:
        # The empty tuple is no object of its own, and costs the garbage collector nothing.
        usual = [tuple[()], tuple[part, ...]] if field.bare else [tuple[part, ...]]
        # A part that is no object makes its payment unreadable: no way to hold that is needed.
        odd = [] if field.bare else [usual[-1] | dict[str, FLAT] | str]
    ways = [Way(type_) for type_ in usual]
    if field.nullable:
        ways = [Way(usual[0] | None), Way(usual[0], None)]
    ways += [Way(type_ | None, UNSET, is_usual=False) for type_ in odd]
    return [*ways, AS_SENT] if field.bare else ways


def fits_of(field: Field) -> Fits | None:
    """Return what looks at the cells of a field that msgspec takes more for than fits."""
    if field.kind is FieldKind.AMOUNT:
        return are_digits if field.digits else are_numbers
    return are_whole if field.digits else None


def are_whole(cells: Iterable[str]) -> bool:
    """Tell whether all are digits alone: neither `1e2` nor `null`."""
    return not "".join(cells).encode().translate(None, b"0123456789")


def are_digits(cells: Iterable[str]) -> bool:
    """Tell whether all are digits, points and signs: neither `1_000`, other scripts' digits, nor NaN."""
    return not "".join(cells).encode().translate(None, b"0123456789.-")


def are_numbers(cells: Iterable[Any]) -> bool:
    """Tell whether all are numbers that are written without an exponent."""
    sizes = [abs(cell) if cell.__class__ in {int, float} else 0 for cell in cells]
    return not sizes or (min(sizes) >= 1e-4 and max(sizes) < 1e16)


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
        omit_defaults=True,  # a field that may be left out is never null in the same type
    )


@frozen
class Learned:
    """What rows were seen to have beyond the usual: unknown names, and the way that a field has to be held.

    No more is remembered than there are ways to hold a field, and `_MOST_NAMES` unknown names: one more, and
    learning starts again.
    """

    unknown: Mapping[type[Any], tuple[str, ...]] = attrs.field(factory=dict)
    odd: Mapping[tuple[type[Any], str], int] = attrs.field(factory=dict)

    def names(self, model: type[Any]) -> dict[str, str]:
        """Return the unknown names of a model's rows, by the names under which rows hold them."""
        return {f"unknown{place}": name for place, name in enumerate(self.unknown.get(model, ()))}

    def way(self, model: type[Any], name: str, ways: Sequence[Way]) -> Way:
        """Return the way in which a field, or an unknown one, is held."""
        return ways[self.odd.get((model, name), 0)]

    def with_page(self, body: bytes) -> Learned:
        """Add what the rows of a page have. Raises one of `UNFIT` for no page, and for too many names."""
        rows = _decode_rows(body).data
        with suppress(_TooManyNamesError):
            return self.with_objects(Payment, rows)
        return Learned().with_objects(Payment, rows)

    def with_objects(self, model: type[Any], objects: Sequence[_Object]) -> Learned:
        """Add what objects of a model have. Raises ValueError for more names than are remembered."""
        fields = {field.wire: field for field in fields_of(model)}
        before = self.unknown.get(model, ())
        names = dict.fromkeys([*before, *filter(_is_usable, dict.fromkeys(chain.from_iterable(objects)))])
        known = tuple(name for name in names if name not in fields)
        learned = self if known == before else attrs.evolve(self, unknown={**self.unknown, model: known})
        # Before a look at the cells of each: a service may make up thousands of names.
        if sum(map(len, learned.unknown.values())) > _MOST_NAMES:
            raise _TooManyNamesError
        for name in (*fields, *known):
            field = fields.get(name)
            cells = [one[name] for one in objects if name in one]
            is_absent, index = len(cells) < len(objects), self.odd.get((model, name), 0)
            looks = islice(enumerate(_looks_of(field)), index, None)
            fitting = next((at for at, look in looks if look(cells, is_absent)), index)
            if fitting != index:
                learned = attrs.evolve(learned, odd={**learned.odd, (model, name): fitting})
            if field is not None and field.kind in {FieldKind.MODEL, FieldKind.MODELS}:
                learned = learned.with_objects(field.of, _parts_in(cells))
        return learned


def _is_usable(name: str) -> bool:
    # A struct's field cannot be called what JSON has to escape.
    return len(name) <= LONGEST and name.isprintable() and not {*name} & {'"', "\\"}


class _Page(msgspec.Struct):
    data: list[_Object]


_decode_rows: Final = msgspec.json.Decoder(_Page).decode


class _TooManyNamesError(ValueError):
    """Objects have more unknown names than are remembered."""


_Look: TypeAlias = Callable[[Sequence[msgspec.Raw], bool], bool]
"""Tells whether rows can hold cells in a way; told whether some rows have none."""


@cache
def _looks_of(field: Field | None) -> Sequence[_Look]:
    """Return what looks at the cells of a field, or of an unknown one, for each way to hold it.

    Kept, since msgspec takes longer to understand a type than to decode by it.
    """
    if field is None:
        return [_look(way, None) for way in OF_UNKNOWN]
    return [_look(way, fits_of(field)) for way in ways_of(field, _Object)]


def _look(way: Way, fits: Fits | None) -> _Look:
    decode = msgspec.json.Decoder(list[way.type]).decode  # type: ignore[name-defined]

    def look(cells: Sequence[msgspec.Raw], is_absent: bool) -> bool:
        if is_absent and way.default is msgspec.NODEFAULT:
            return False
        try:
            held = decode(b"[%b]" % b",".join(cells))
        except UNFIT:
            return False
        return fits is None or not way.is_usual or fits(filter(None, held))

    return look


_decode_objects: Final = msgspec.json.Decoder(_Object | list[_Object]).decode


def _parts_in(cells: Sequence[msgspec.Raw]) -> list[_Object]:
    """Return the objects that are cells, or in lists that are cells."""
    found: list[_Object] = []
    for cell in cells:
        with suppress(*UNFIT):
            value = _decode_objects(cell)
            found += value if isinstance(value, list) else [value]
    return found
