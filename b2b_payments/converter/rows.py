"""From the bytes of a page to models, without a dict for every object.

msgspec decodes the rows into structs, C structures of fixed fields, at half the cost of dicts; a reader
compiled for them makes the models. A struct has no room for what is unknown, so its decoder refuses unknown
names: then the names are learned from the page, and structs and reader are made anew with room for them.

Whatever else does not fit is no fault here: such a row is left to the reader of dicts, which knows every
tolerance, and says what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from b2b_payments.converter.compiler import FAILURES, arguments, conversion, function, indented, names_of
from b2b_payments.converter.kinds import Field, Table, are_ints
from b2b_payments.models.sent import ABSENT
from b2b_payments.protocol.json import decode_numbers, exact_number

T = TypeVar("T")

_MOST_NAMES: Final = 200
"""Unknown names that are learned at most, so that a service which makes names up costs no memory."""
_LONGEST_NAME: Final = 100
_UNFIT: Final = (*FAILURES, AttributeError)  # AttributeError: a list holds something else than objects

_MOST_LISTS: Final = 256

Struct = Any
_Known = tuple[Any, Mapping[str, object]]
"""An attribute, and how it was spelled where that is not the usual way."""
Unknown = dict[type[Any], tuple[str, ...]]


class _Compiled(NamedTuple):
    unknown: Unknown  # of which it was made
    decoder: msgspec.json.Decoder[Any]
    read: Callable[[Struct], Any]


class RowReader(Generic[T]):
    """Reads the rows of pages into one model. What it learns of unknown names, it keeps."""

    def __init__(self, table: Table[T]) -> None:
        self._table = table
        self._unknown: Unknown = {}
        self._compiled: _Compiled | None = None

    def read(
        self, body: bytes, places: Sequence[int], otherwise: Callable[[int], T]
    ) -> Generator[T, None, None]:
        """Give the rows at these places of a page, one by one: `otherwise` reads what does not fit."""
        compiled, structs = self._decode(body)
        if compiled is None:
            yield from map(otherwise, places)
            return
        read = compiled.read
        for place in places:
            try:
                made = read(structs[place])
            except _UNFIT:
                made = otherwise(place)
            yield made

    def _decode(self, body: bytes) -> tuple[_Compiled | None, Sequence[Struct]]:
        while True:
            # Another thread's loop may replace it meanwhile: decoder and reader have to be of one make.
            compiled = self._compiled = self._compiled or self._compile()
            try:
                return compiled, compiled.decoder.decode(body).data
            except (ValueError, ArithmeticError, RecursionError):
                if compiled.unknown is not self._unknown:
                    self._compiled = None  # another thread has learned meanwhile
                elif not self._learn(body):
                    return None, ()

    def _learn(self, body: bytes) -> bool:
        """Take in the unknown names of a page; tell whether there were any new ones."""
        room = _MOST_NAMES - sum(map(len, self._unknown.values()))
        try:
            rows = msgspec.json.decode(body)["data"] if room > 0 else None
        except (ValueError, LookupError, TypeError, RecursionError):
            return False
        found: dict[type[Any], list[str]] = {}
        _collect(self._table, rows, found)
        unknown = dict(self._unknown)
        for model, names in found.items():
            before = unknown.get(model, ())
            new = [name for name in names if name not in before][:room]
            room -= len(new)
            unknown[model] = (*before, *new)
        if unknown == self._unknown:
            return False
        self._unknown, self._compiled = unknown, None
        return True

    def _compile(self) -> _Compiled:
        unknown = self._unknown
        row, read = _row_of(self._table, unknown)
        page = msgspec.defstruct("Page", [("data", list[row])])  # type: ignore[valid-type]
        return _Compiled(unknown, msgspec.json.Decoder(page, float_hook=exact_number), read)


def _collect(table: Table[Any], objects: object, found: dict[type[Any], list[str]]) -> None:
    known = {field.wire: field for field in table.fields}
    names = found.setdefault(table.model, [])
    for item in objects if isinstance(objects, list) else [objects]:
        if not isinstance(item, dict):
            continue
        new = (name for name in item if name not in known and name not in names and _can_be_field(name))
        names += list(islice(new, _MOST_NAMES))
        for name, value in item.items():
            below = known[name].kind.table if name in known else None
            if below is not None:
                _collect(below, value, found)


def _can_be_field(name: str) -> bool:
    # A struct's field cannot be called what JSON has to escape.
    return len(name) <= _LONGEST_NAME and name.isprintable() and not {'"', "\\"} & set(name)


def _row_of(table: Table[T], unknown: Unknown) -> tuple[type[Any], Callable[[Struct], T]]:
    """Make the struct for one of a table's objects, and what reads it."""
    model, extra = table.model, unknown.get(table.model, ())
    names, types, body = names_of(model), list[Any](), list[str]()
    for index, field in enumerate(table.fields):
        type_, known = _type_of(field, unknown)
        types.append(type_)
        names |= {f"{name}{index}": value for name, value in known.items()}
        body += [f"v{index} = row.{field.attribute}", *_conversion(index, field)]
    names |= {"Raw": msgspec.Raw, "decode": decode_numbers, "lacking": _lacking(table.fields)}
    source = f"""\
def read_row_of_{model.__name__}(row):
    sent, missing = {{}}, 0
{indented(body, 4)}
    if missing:
        sent = lacking(missing, sent)
{indented(_extra_of(extra), 4)}
    made = draft({arguments(model, table.fields)})
    made.__class__ = model
    return made
"""
    return _struct_of(table, types, extra), function(f"read_row_of_{model.__name__}", source, names)


def _type_of(field: Field, unknown: Unknown) -> tuple[Any, dict[str, Any]]:
    """Give a field's type in the struct, and what its conversion calls by name."""
    kind = field.kind
    names = {"field": field, "using": kind.using, "empty": kind.empty, "object": dict}
    if kind.codes:
        known: dict[bytes, _Known] = {}
        return msgspec.Raw, names | {"known": known, "learn": _learner(field, known)}
    if kind.nested:
        return msgspec.Raw, names
    if kind.table is None:
        return Any, names
    struct, read = _row_of(kind.table, unknown)
    # What was sent instead of an object is told apart later.
    one = struct | str | int | float | bool | list[Any] | None
    if kind.is_list:
        # Tuples: the empty one is no object of its own, and costs the garbage collector nothing.
        several = tuple[one, ...] | str | int | float | bool | None  # type: ignore[valid-type]
        return several, names | {"using": read, "object": tuple}
    return one, names | {"using": read, "object": struct}


def _conversion(index: int, field: Field) -> list[str]:
    absent = () if field.required else (f"v{index} = empty{index}()", f"missing |= {1 << index}")
    if not field.kind.codes:
        late = [f"if v{index}.__class__ is Raw:", f"    v{index} = decode(v{index})"] * field.kind.nested
        return late + conversion(index, field, absent=absent)
    lines = [
        f"if v{index}.__class__ is Raw:",
        f"    v{index}, spelled = known{index}.get(bytes(v{index})) or learn{index}(v{index})",
        "    if spelled:",
        "        sent = {**sent, **spelled} if sent else spelled",
    ]
    return [*lines, "else:", *[f"    {line}" for line in absent or [f"odd(field{index}, ABSENT, sent)"]]]


def _learner(field: Field, known: dict[bytes, _Known]) -> Callable[[msgspec.Raw], _Known]:
    def learn(raw: msgspec.Raw) -> _Known:
        """Read a list of codes, and remember it by its bytes, in bounds."""
        value, spelling = decode_numbers(raw), bytes(raw)
        usual = isinstance(value, list) and are_ints(value)
        found = field.read(value), {} if usual else {field.wire: value}
        if len(known) < _MOST_LISTS and len(spelling) <= _LONGEST_NAME:
            known[spelling] = found
        return found

    return learn


def _struct_of(table: Table[Any], types: Sequence[Any], extra: Sequence[str]) -> type[Any]:
    names = {field.attribute: field.wire for field in table.fields}
    names |= {f"extra{index}": name for index, name in enumerate(extra)}
    return msgspec.defstruct(
        f"{table.model.__name__}Row",
        [(name, type_, ABSENT) for name, type_ in zip(names, [*types, *[Any] * len(extra)], strict=True)],
        rename=names,
        gc=False,  # JSON has no cycles
        forbid_unknown_fields=True,
    )


def _extra_of(extra: Sequence[str]) -> list[str]:
    """Write the lines that put what is unknown into `extra`."""
    if not extra:
        return ["extra = {}"]
    values = {name: f"extra{index}" for index, name in enumerate(extra)}
    return [
        *[f"{value} = row.{value}" for value in values.values()],
        f"extra = {{{', '.join(f'{name!r}: {value}' for name, value in values.items())}}}",
        f"if {' or '.join(f'{value} is ABSENT' for value in values.values())}:",
        "    extra = {name: value for name, value in extra.items() if value is not ABSENT}",
    ]


def _lacking(fields: Sequence[Field]) -> Callable[[int, Mapping[str, object]], Mapping[str, object]]:
    known: dict[int, Mapping[str, object]] = {}

    def lacking(missing: int, sent: Mapping[str, object]) -> Mapping[str, object]:
        """Note the absent fields, given as bits. Rows share what is the same: there are few such sets."""
        absent = known.get(missing)
        if absent is None:
            absent = {field.wire: ABSENT for index, field in enumerate(fields) if missing >> index & 1}
            if len(known) < _MOST_NAMES:
                known[missing] = absent
        return {**absent, **sent} if sent else absent

    return lacking
