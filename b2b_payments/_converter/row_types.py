"""Row types: msgspec structs for the rows of a page, generated from the models and an inferred schema.

Structs are decoded in C, but a struct fixes the type of each field, and the service does not: it may leave a
field out, send null or another type, and add unknown fields. So row types follow the data:

- Each field has variants (`variants_of`): types to declare it with, the usual ones first, then wider ones.
- A row type declares one variant of each field, at first the most usual.
- If a page does not fit, `InferredSchema.with_page` picks, for each field, the first variant that fits all of
  the page's cells, and adds unknown names as fields. Row types are then generated again from that schema.

So Python code runs only for what is unusual in a store's rows. `rows.py` converts rows to models.
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

Check: TypeAlias = Callable[[Iterable[Any]], bool]
"""Whether all cells of a column are valid, for types of which msgspec accepts too many values."""
_Object: TypeAlias = dict[str, msgspec.Raw]

_MAX_UNKNOWN_NAMES: Final = 400
"""The most unknown names in a schema."""
MAX_CACHED_LENGTH: Final = 100
"""The most characters of an unknown name in a schema, and the most codes of a list that is cached."""
MISFIT_ERRORS: Final = (
    *UNREADABLE, ResponseDecodeError, ValueError, ArithmeticError, RecursionError, TypeError, AttributeError,
)  # fmt: skip
"""Raised if data does not fit a row type."""
_MOMENT: Final[Any] = Annotated[int, Meta(ge=-62_135_596_800, le=253_402_300_799)]  # the years 1 to 9999
_CODES: Final[Any] = Annotated[tuple[int | str, ...], Meta(max_length=MAX_CACHED_LENGTH)]


def _json_of(levels: int) -> Any:
    """Return the type of JSON data nested this deep, without floats, which would lose digits."""
    if not levels:
        return str | int | bool | None
    nested: Any = _json_of(levels - 1)
    return str | int | bool | list[nested] | dict[str, nested] | None


SHALLOW_JSON: Final[Any] = _json_of(4)
_USUAL_TYPES: Final[Mapping[tuple[FieldKind, bool], Any]] = {  # True: sent as a string
    (FieldKind.WHOLE, False): Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)],
    (FieldKind.WHOLE, True): Annotated[str, Meta(min_length=1, max_length=18)],
    (FieldKind.TEXT, False): str,
    (FieldKind.AMOUNT, False): Any,
    (FieldKind.AMOUNT, True): Annotated[str, Meta(min_length=1, max_length=40)],
    (FieldKind.MOMENT, False): _MOMENT,
    (FieldKind.CODES, False): _CODES,
}
_FALLBACK_TYPES: Final[Mapping[FieldKind, Sequence[Any]]] = {
    FieldKind.CODE: [int | str, Any],
    FieldKind.CODES: [_CODES | str, Any],
}


@frozen
class Variant:
    """A type and default to declare a row's field with.

    `is_direct`: msgspec converts the field's value to the model's attribute. Otherwise a reader has to.
    """

    type: Any
    default: Any = msgspec.NODEFAULT
    is_direct: bool = True

    @property
    def declared_type(self) -> Any:
        """The type in the struct's definition."""
        return self.type | UnsetType if self.default is UNSET else self.type


RAW: Final = Variant(msgspec.Raw, UNSET, is_direct=False)
"""Accepts JSON of any type and depth, and leaves it undecoded."""
UNKNOWN_FIELD_VARIANTS: Final = (Variant(_json_of(0), UNSET), RAW)
"""Without nested types: for hundreds of fields, msgspec would take 30 ms to build a decoder."""


def variants_of(field: Field, nested: Any) -> Sequence[Variant]:
    """Return the variants of a field: the usual ones first, then fallbacks for cells that do not fit them.

    `nested` is the row type of the field's own model, if it has one.
    """
    if field.kind is FieldKind.OBJECT:
        return [RAW]
    usual = [_USUAL_TYPES.get((field.kind, field.digits), field.of or Any)]
    fallbacks: Sequence[Any] = _FALLBACK_TYPES.get(field.kind, [Any])
    if field.kind is FieldKind.MODEL:
        usual, fallbacks = [nested], [nested | list[SHALLOW_JSON] | str]
    elif field.kind is FieldKind.MODELS:
        # The empty tuple is a singleton: decoding one allocates nothing that the garbage collector tracks.
        usual = [tuple[()], tuple[nested, ...]] if field.bare else [tuple[nested, ...]]
        # An item that is not an object makes its payment unreadable, so no variant has to accept it.
        fallbacks = [] if field.bare else [usual[-1] | dict[str, SHALLOW_JSON] | str]
    is_direct = field.kind is not FieldKind.CODES  # readers cache these
    variants = [Variant(type_, is_direct=is_direct) for type_ in usual]
    if field.nullable:
        variants = [Variant(usual[0] | None), Variant(usual[0], None)]
    variants += [Variant(type_ | None, UNSET, is_direct=False) for type_ in fallbacks]
    return [*variants, RAW] if field.bare else variants


def check_of(field: Field) -> Check | None:
    """Return the check of a field's cells, or None if msgspec's own validation is enough."""
    if field.kind is FieldKind.AMOUNT:
        return are_plain_decimals if field.digits else are_plain_numbers
    return are_digits if field.digits else None


def are_digits(cells: Iterable[str]) -> bool:
    """Whether all texts have digits only: neither `1e2` nor `null`."""
    return not "".join(cells).encode().translate(None, b"0123456789")


def are_plain_decimals(cells: Iterable[str]) -> bool:
    """Whether all texts have digits, points and minus signs only: no `1_000`, other scripts' digits, NaN."""
    return not "".join(cells).encode().translate(None, b"0123456789.-")


def are_plain_numbers(cells: Iterable[Any]) -> bool:
    """Whether all cells are numbers that Python formats without an exponent."""
    sizes = [abs(cell) if cell.__class__ in {int, float} else 0 for cell in cells]
    return not sizes or (min(sizes) >= 1e-4 and max(sizes) < 1e16)


def row_type(model: type[Any], members: Mapping[str, tuple[str, Any, Any]], **namespace: Any) -> Any:
    """Generate a row type. `members` has each attribute's wire name, type and default."""
    return msgspec.defstruct(
        f"{model.__name__}Row",
        [(name, type_, default) for name, (_, type_, default) in members.items()],
        namespace=namespace,
        rename={name: wire for name, (wire, *_) in members.items()},
        kw_only=True,
        gc=False,  # JSON has no cycles
        forbid_unknown_fields=True,
        omit_defaults=True,  # loses nothing: a variant with the default None does not accept null
    )


@frozen
class InferredSchema:
    """How the rows seen so far differ from the usual: unknown names, and which variant each field needs.

    Its size is bounded by the number of fields and `_MAX_UNKNOWN_NAMES`: with one more name, inference starts
    over. `variants` has indexes in `variants_of` or `UNKNOWN_FIELD_VARIANTS`, by model and wire name.
    """

    unknown: Mapping[type[Any], tuple[str, ...]] = attrs.field(factory=dict)
    variants: Mapping[tuple[type[Any], str], int] = attrs.field(factory=dict)

    def unknown_slots(self, model: type[Any]) -> dict[str, str]:
        """Return the unknown wire names in a model's rows, by the attributes that hold them."""
        return {f"unknown{place}": name for place, name in enumerate(self.unknown.get(model, ()))}

    def pick(self, model: type[Any], name: str, variants: Sequence[Variant]) -> Variant:
        """Return the variant that a field needs."""
        return variants[self.variants.get((model, name), 0)]

    def with_page(self, body: bytes) -> InferredSchema:
        """Extend by a page. Raises one of `MISFIT_ERRORS` if it is not a page, or has too many names."""
        rows = _decode_rows(body).data
        with suppress(_TooManyNamesError):
            return self.with_objects(Payment, rows)
        return InferredSchema().with_objects(Payment, rows)

    def with_objects(self, model: type[Any], objects: Sequence[_Object]) -> InferredSchema:
        """Extend by a model's objects. Raises ValueError if more than `_MAX_UNKNOWN_NAMES` are unknown."""
        fields = {field.wire: field for field in fields_of(model)}
        before = self.unknown.get(model, ())
        names = dict.fromkeys([*before, *filter(_is_usable, dict.fromkeys(chain.from_iterable(objects)))])
        # Sorted, so that their order in `extra` does not depend on which rows were read before.
        unknown = tuple(sorted(name for name in names if name not in fields))
        schema = self if unknown == before else attrs.evolve(self, unknown={**self.unknown, model: unknown})
        # Checked before the cells of each name are decoded: a service may invent thousands of names.
        if sum(map(len, schema.unknown.values())) > _MAX_UNKNOWN_NAMES:
            raise _TooManyNamesError
        for name in (*fields, *unknown):
            field = fields.get(name)
            cells = [one[name] for one in objects if name in one]
            is_absent, index = len(cells) < len(objects), self.variants.get((model, name), 0)
            probes = islice(enumerate(_probes_of(field)), index, None)
            # If none fits, the cattrs converter reads these rows.
            fitting = next((at for at, probe in probes if probe(cells, is_absent)), index)
            if fitting != index:
                schema = attrs.evolve(schema, variants={**schema.variants, (model, name): fitting})
            if field is not None and field.kind in {FieldKind.MODEL, FieldKind.MODELS}:
                schema = schema.with_objects(field.of, _nested_objects(cells))
        return schema


def _is_usable(name: str) -> bool:
    return len(name) <= MAX_CACHED_LENGTH and _ESCAPED.isdisjoint(name)


_ESCAPED: Final = frozenset({'"', "\\", *map(chr, range(32))})
"""Characters that JSON escapes: msgspec refuses a struct field with one of them in its wire name."""


class _Page(msgspec.Struct):
    data: list[_Object]


_decode_rows: Final = msgspec.json.Decoder(_Page).decode


class _TooManyNamesError(ValueError):
    """Objects have more than `_MAX_UNKNOWN_NAMES` unknown names."""


_Probe: TypeAlias = Callable[[Sequence[msgspec.Raw], bool], bool]
"""Whether a variant fits cells; the second argument says that some rows do not have the field."""


@cache
def _probes_of(field: Field | None) -> Sequence[_Probe]:
    """Return a probe for each variant of a field; None is an unknown one. Cached, as building one is slow."""
    if field is None:
        return [_probe(variant, None) for variant in UNKNOWN_FIELD_VARIANTS]
    return [_probe(variant, check_of(field)) for variant in variants_of(field, _Object)]


def _probe(variant: Variant, check: Check | None) -> _Probe:
    decode = msgspec.json.Decoder(list[variant.type]).decode  # type: ignore[name-defined]

    def fits(cells: Sequence[msgspec.Raw], is_absent: bool) -> bool:
        if is_absent and variant.default is msgspec.NODEFAULT:
            return False
        try:
            decoded = decode(b"[%b]" % b",".join(cells))
        except MISFIT_ERRORS:
            return False
        return check is None or not variant.is_direct or check(filter(None, decoded))

    return fits


_decode_objects: Final = msgspec.json.Decoder(_Object | list[_Object]).decode


def _nested_objects(cells: Sequence[msgspec.Raw]) -> list[_Object]:
    """Return the objects in cells that are an object or a list of objects; other cells are skipped."""
    objects: list[_Object] = []
    for cell in cells:
        with suppress(*MISFIT_ERRORS):
            value = _decode_objects(cell)
            objects += value if isinstance(value, list) else [value]
    return objects
