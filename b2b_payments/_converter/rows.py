"""Reads pages of payments: msgspec decodes rows to structs, and converts these to models, both in C.

A row type (see `row_types.py`) holds each field in one of two ways:

- A direct variant is an attribute of the field's own name. msgspec converts it to the model's attribute.
- Any other variant is an attribute of another name (`fallback_slot`), and the class has a placeholder under
  the field's name, so that msgspec can create the model. A column reader then reads this attribute of all
  rows, just as the cattrs converter reads a value, and replaces the placeholders in the models.

A row that fits no row type is left to the cattrs converter, which also reports what is wrong with it.

A page is decoded at once, except objects with arbitrary names, such as `details`: they are decoded together
with their models, a few at a time. Thus they do not trigger the garbage collector, and row types have few
levels: a page that fits one needs no depth check beforehand.
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
    MISFIT_ERRORS,
    RAW,
    SHALLOW_JSON,
    UNKNOWN_FIELD_VARIANTS,
    Check,
    InferredSchema,
    Variant,
    check_of,
    row_type,
    variants_of,
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
GetCells: TypeAlias = Callable[[Iterable[Any]], Iterable[Any]]
RawRow: TypeAlias = bytes | msgspec.Raw

_OBJECTS_PER_BLOCK: Final = 500
"""Objects created at once for models: so few can come and go without triggering the garbage collector."""
_PER_PAYMENT, _PER_ITEM = 8, 2
"""Objects created for a usual payment, and in addition for each of its line items."""
_SAMPLED_ROWS: Final = 25
_MAX_INFERENCES: Final = 2
"""Schema inferences per page, which take some milliseconds each: a service may invent names without end."""
_PAYMENT_LEVEL: Final = 3
"""The nesting level of a payment's fields in a page: in the page, the list, and the payment."""
_CACHED_VALUES: Final = 200
"""Cached values of a field of codes."""
_PLACEHOLDERS: Final[Mapping[FieldKind, Any]] = {
    FieldKind.TEXT: "", FieldKind.AMOUNT: Decimal(0), FieldKind.MOMENT: datetime.fromtimestamp(0, UTC),
    FieldKind.OBJECT: {}, FieldKind.MODELS: (), FieldKind.CODES: (),
}  # fmt: skip
"""Valid values for msgspec until the field is read; 0 for other kinds."""
_decode_shallow: Final = msgspec.json.Decoder(list[dict[str, SHALLOW_JSON]]).decode
_CODE_KINDS: Final = frozenset({FieldKind.CODE, FieldKind.CODES})


def fallback_slot(field: Field) -> str:
    """Return the attribute in which a row holds a field whose variant is not direct."""
    return f"{field.name}_"


class PageReader:
    """Decodes pages to rows, and extends its schema by what they have. Its schema outlives a page.

    If `keep_raw`, the rows' fees and unknown fields are not decoded.
    """

    def __init__(self, *, keep_raw: bool = False) -> None:
        self._keep_raw = keep_raw
        self._inferences_left = 0
        self.types = RowTypes(InferredSchema(), keep_raw=keep_raw)

    def start_page(self) -> None:
        """Allow `_MAX_INFERENCES` inferences for another page."""
        self._inferences_left = _MAX_INFERENCES

    def read(self, body: bytes) -> Any:
        """Decode a page, extending the schema if needed. Returns None if a row still does not fit."""
        while True:
            types = self.types
            with suppress(*MISFIT_ERRORS):
                return types.page(body)
            if not self._inferences_left:
                return None
            self._inferences_left -= 1
            try:
                schema = types.schema.with_page(body)
            except MISFIT_ERRORS:
                return None
            if schema == types.schema:
                return None
            # May overwrite another thread's schema: what is lost is inferred again.
            self.types = RowTypes(schema, keep_raw=self._keep_raw)

    def converted(self, body: bytes, places: Sequence[int], convert: Callable[[Rows], T]) -> T | None:
        """Convert the rows at these positions of a page. Returns None if a row does not fit."""
        with suppress(*MISFIT_ERRORS):
            if (page := self.read(body)) is not None:
                return convert([page.data[place] for place in places])
        return None

    def in_parts(
        self, rows: Sequence[RawRow], convert: Callable[[Rows], T], convert_alone: Callable[[RawRow], T]
    ) -> Iterator[T]:
        """Convert rows, bisecting those that do not fit until `convert_alone` gets a single one."""
        converted = self.converted(b'{"data":[%b]}' % b",".join(rows), range(len(rows)), convert)
        if converted is not None:
            yield converted
        elif len(rows) == 1:
            yield convert_alone(rows[0])
        else:
            middle = len(rows) // 2
            yield from self.in_parts(rows[:middle], convert, convert_alone)
            yield from self.in_parts(rows[middle:], convert, convert_alone)


class RowReader:
    """Reads the rows of pages into payments. Its schema outlives a page."""

    def __init__(self) -> None:
        self.pages = PageReader()

    def page(self, body: bytes) -> Any:
        """Decode a page to rows that also serve as heads. Returns None if a row does not fit."""
        self.pages.start_page()
        page = self.pages.read(body) if self.pages.types.usable_as_heads else None
        return page if page is not None and page.usable_as_heads else None

    def read(
        self, page: Listing, places: Sequence[int], read_alone: Callable[[RawRow], Payment]
    ) -> Iterator[Payment]:
        """Yield the payments at these positions of a page. `read_alone` reads a row that does not fit.

        A row in `page.heads` is replaced by None once its payment exists.
        """
        self.pages.start_page()
        rows = page.heads
        if not (rows and isinstance(rows[0], self.pages.types.row)):
            decoded = self.pages.read(page.body)
            rows = [] if decoded is None else decoded.data
        raw_rows = cache(page.rows)  # called only if a block does not fit

        def read_block(places: Sequence[int]) -> Iterable[Payment]:
            if rows:
                with suppress(*MISFIT_ERRORS):
                    payments = payments_of([rows[place] for place in places])
                    for place in places:
                        rows[place] = None  # only the payment keeps its row alive
                    return payments
            block = [raw_rows()[place] for place in places]
            # Read by `map`, so that no frame that holds rows is in an error's traceback.
            parts = self.pages.in_parts(block, payments_of, lambda row: map(read_alone, [row]))
            return chain.from_iterable(parts)

        size = _block_size(rows)
        blocks = (places[start : start + size] for start in range(0, len(places), size))
        # The payments of a block are bound to no name, so that they are freed before the next block is made.
        return chain.from_iterable(map(read_block, blocks))


def _block_size(rows: Rows) -> int:
    """Return how many payments to create at once from rows like these."""
    items = [len(getattr(row, "line_items", ())) for row in rows[:_SAMPLED_ROWS]]
    return max(1, _OBJECTS_PER_BLOCK // (_PER_PAYMENT + _PER_ITEM * (sum(items) // (len(items) or 1))))


class RowTypes:
    """The row types of payments and their nested objects for a schema; `row` is that of payments.

    `usable_as_heads`: rows have all attributes of `Head`. If `keep_raw`, fees and unknown fields are not
    decoded.
    """

    def __init__(self, schema: InferredSchema, *, keep_raw: bool = False) -> None:
        self.schema = schema
        self._keep_raw = keep_raw
        self.row: Any = self._type(Payment)
        self.usable_as_heads: bool = {*Head.__struct_fields__} <= {*self.row.__struct_fields__}
        rows: Any = list[self.row]  # type: ignore[name-defined]
        members: Any = [("data", rows), ("code", Any, None), ("meta", Any, None)]
        page = msgspec.defstruct("Page", members, namespace={"usable_as_heads": self.usable_as_heads})
        self._decode = msgspec.json.Decoder(page, float_hook=exact_number).decode

    def page(self, body: bytes) -> Any:
        """Decode a page: `data` has its rows."""
        page: Any = self._decode(body)
        _check(self.row.checks, page.data)
        return page

    def _type(self, model: type[Any], level: int = _PAYMENT_LEVEL) -> Any:
        """Generate a model's row type, for rows whose fields are at this nesting level of a page.

        Attributes of the class: `readers` read the columns that msgspec does not convert. `checks` has the
        columns that it does convert, also of nested rows, by their check, so that each check runs once.
        `nested` are the fields whose own row types have readers. `unknown` is a struct of the unknown fields.
        """
        members, readers, nested = dict[str, tuple[str, Any, Any]](), dict[str, ReadColumn](), list[Field]()
        checks = defaultdict[Check, list[GetCells]](list)
        unknown = self.schema.unknown_slots(model)
        unknown_fields = msgspec.defstruct("Unknown", list(unknown), rename=unknown, gc=False)
        namespace: dict[str, Any] = {"extra": Extra(), "unknown": unknown_fields}
        for field in fields_of(model):
            depth = {FieldKind.MODEL: 1, FieldKind.MODELS: 2}.get(field.kind)
            nested_type = None if depth is None else self._type(field.of, level + depth)
            variants = variants_of(field, nested_type)
            variant = RAW if self._keep_raw and field.bare else self.schema.pick(model, field.wire, variants)
            slot, check = field.name, check_of(field)
            if not variant.is_direct:
                slot, namespace[field.name] = fallback_slot(field), _placeholder(field)
                readers[field.name] = _column_reader(field, slot, variant, level)
            elif check is not None:
                checks[check].append(partial(map, attrgetter(field.name)))
            elif nested_type is not None:
                for check, getters in nested_type.checks.items():
                    checks[check] += [_nested_getter(field, get) for get in getters]
                nested += [field] if nested_type.readers or nested_type.nested else []
            members[slot] = field.wire, variant.declared_type, variant.default
        unknown_cells: list[Callable[[Rows], Iterable[Any]]] = []
        for slot, wire in unknown.items():
            variant = RAW if self._keep_raw else self.schema.pick(model, wire, UNKNOWN_FIELD_VARIANTS)
            members[slot] = wire, variant.declared_type, variant.default
            unknown_cells.append(_cell_getter(slot, variant, level))
        if unknown or model is Payment:
            readers["extra"] = _extra_reader(unknown_fields, unknown_cells, with_rows=model is Payment)
        return row_type(model, members, readers=readers, checks=checks, nested=nested, **namespace)


def _placeholder(field: Field) -> Any:
    if field.nullable:
        return None
    return object.__new__(field.of) if field.kind is FieldKind.MODEL else _PLACEHOLDERS.get(field.kind, 0)


def _column_reader(field: Field, slot: str, variant: Variant, level: int) -> ReadColumn:
    """Return a function that reads a column as the cattrs converter reads each value."""
    if field.kind in {FieldKind.MODEL, FieldKind.MODELS} and not field.bare:
        return partial(_read_nested, field, attrgetter(slot))
    cells, read = _cell_getter(slot, variant, level), reader_of(field)
    if field.kind in _CODE_KINDS and Any not in get_args(variant.type):  # cells of any type may be unhashable
        cached = lru_cache(_CACHED_VALUES)(lambda one: read(list(one) if isinstance(one, tuple) else one))
        return lambda rows: list(map(cached, cells(rows)))
    unchanged: type[Any] | None = {FieldKind.TEXT: str, FieldKind.OBJECT: dict}.get(field.kind)
    return lambda rows: [cell if cell.__class__ is unchanged else read(cell) for cell in cells(rows)]


def _cell_getter(slot: str, variant: Variant, level: int) -> Callable[[Rows], Iterable[Any]]:
    return partial(_decode_in_place, slot, level) if variant is RAW else partial(map, attrgetter(slot))


def _decode_in_place(slot: str, level: int, rows: Rows) -> Sequence[Any]:
    """Decode a raw column, and store the values in the rows: Raw values would keep the whole page alive."""
    cells: list[Any] = list(map(attrgetter(slot), rows))
    raw = [cell for cell in cells if cell.__class__ is msgspec.Raw]
    if not raw:
        return cells
    joined = b",".join(raw)
    try:
        decoded: list[Any] = _decode_shallow(b"[%b]" % joined)
    except ValueError:
        # Nest the cells as deeply as in their page, so that the limit of levels holds.
        decoded = decode(b"[" * level + joined + b"]" * level)
        for _ in range(1, level):
            (decoded,) = decoded
    if len(raw) < len(cells):
        values = iter(decoded)
        decoded = [next(values) if cell.__class__ is msgspec.Raw else cell for cell in cells]
    _set_all(getattr(type(rows[0]), slot), rows, decoded)
    return decoded


def nested_rows(field: Field, cells: Iterable[Any]) -> list[Any]:
    """Return the rows in cells, in a tuple if they are many. Others are read: as none, or they raise."""
    many = field.kind is FieldKind.MODELS
    read, fitting = reader_of(field), tuple if many else msgspec.Struct
    cells = [cell if isinstance(cell, fitting) else read(cell) for cell in cells]
    if nested := list(chain.from_iterable(cells) if many else filter(None, cells)):
        _check(type(nested[0]).checks, nested)
    return cells


def _read_nested(field: Field, get: Callable[[Any], Any], rows: Rows) -> Sequence[Any]:
    many = field.kind is FieldKind.MODELS
    cells = nested_rows(field, map(get, rows))
    models = iter(_to_models(field.of, list(chain.from_iterable(cells) if many else filter(None, cells))))
    if many:
        return [tuple(islice(models, length)) for length in map(len, cells)]
    return [None if cell is None else next(models) for cell in cells]


def _nested_in(field: Field, objects: Iterable[Any]) -> Iterator[Any]:
    """Return the nested objects that a field holds in each of these objects, in one sequence."""
    values = map(attrgetter(field.name), objects)
    return chain.from_iterable(values) if field.kind is FieldKind.MODELS else filter(None, values)


def _nested_getter(field: Field, get: GetCells) -> GetCells:
    """Return a getter that applies `get` to the objects nested in a field."""
    return lambda rows: get(_nested_in(field, rows))


def _check(checks: Mapping[Check, Sequence[GetCells]], rows: Rows) -> None:
    """Raise ValueError if msgspec accepted a number that is not valid."""
    for check, getters in checks.items():
        if not check(filter(None, chain.from_iterable([get(rows) for get in getters]))):
            raise ValueError


def _extra_reader(
    fields: Any, unknown: Sequence[Callable[[Rows], Iterable[Any]]], *, with_rows: bool
) -> ReadColumn:
    """Return the reader of `extra`: its unknown fields, and the row as its source if `with_rows`."""

    def read(rows: Rows) -> Sequence[Extra]:
        objects = map(fields, *[get(rows) for get in unknown]) if unknown else repeat({}, len(rows))
        # Members that are UNSET are omitted.
        extras = list(map(Extra, msgspec.to_builtins(list(objects), builtin_types=(Decimal,))))
        if with_rows:
            _set_all(Extra.source, extras, rows)
        return extras

    return read


def _to_models(model: type[T], rows: Rows) -> list[T]:
    # Not strict, so that epoch seconds become datetimes, and digits in strings numbers.
    models: list[T] = msgspec.convert(rows, list[model], strict=False, from_attributes=True)  # type: ignore[valid-type]
    _fill_in(model, models, rows)
    return models


def _fill_in(model: type[Any], models: Sequence[Any], rows: Rows) -> None:
    """Replace the placeholders. Models are frozen, but these are not visible to anybody yet."""
    if not rows:
        return
    row = type(rows[0])
    for name, read in row.readers.items():
        _set_all(getattr(model, name), models, read(rows))
    for field in row.nested:
        _fill_in(field.of, list(_nested_in(field, models)), list(_nested_in(field, rows)))


def _set_all(attribute: Any, objects: Rows, values: Rows) -> None:
    """Set a slot of each object, also of frozen ones."""
    deque(map(attribute.__set__, objects, values), maxlen=0)


def payments_of(rows: Rows) -> list[Payment]:
    """Convert rows to payments."""
    with localcontext(EXACT):
        return _to_models(Payment, rows)
