"""From a table of fields to two functions: one that reads the service's object, and one that gives it back.

Both are written out as source and compiled once, as attrs and cattrs do it: no loop over fields and no call
per field is left for the usual case. The whole way of one object is:

1. Its keys, as a tuple, are looked up: rows of a store have few sets of keys, and each set tells once and for
   all which fields are absent and which are unknown.
2. Each value is tested inline for the usual spelling. Any other goes to `Field.read`, and is remembered in
   `_sent` so that it can be given back as it came.
3. The model is made without its public constructor, whose conversions are for callers. See `draft_of`.
4. Whatever goes wrong, every field is read again, slowly, to say of each what is wrong with it.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC
from typing import Any, Final, NoReturn, TypeAlias, TypeVar

import attrs

from b2b_payments.converter.kinds import Field, Reader, Table, Writer, are_ints
from b2b_payments.converter.unreadable import Problem, UnreadableError, unreadable
from b2b_payments.converter.values import is_plain_number, plain
from b2b_payments.models.sent import ABSENT, Sent

T = TypeVar("T")
Shape: TypeAlias = tuple[Mapping[str, object], tuple[str, ...]]
"""Of a set of keys: the fields that are absent, as `_sent` has them, and the keys that are unknown."""

FAILURES: Final = (UnreadableError, ArithmeticError, ValueError, OSError)
"""What reading a value may raise."""

_MOST_SHAPES: Final = 256
_MOST_KEYS: Final = 100


def compiled(model: type[T], fields: Sequence[Field]) -> Table[T]:
    """Make the reader and the writer of a model."""
    return Table(model, tuple(fields), _reader, _writer)


def _reader(model: type[T], fields: Sequence[Field]) -> Reader[T]:
    shapes: dict[tuple[str, ...], Shape] = {}
    names = names_of(model) | {"explain": _explain, "fields": fields, "shapes": shapes}
    names["learn"] = _learner(fields, shapes)
    body: list[str] = []
    for index, field in enumerate(fields):
        names |= {
            f"field{index}": field,
            f"using{index}": field.kind.using if field.kind.table is None else field.kind.table.read,
            f"object{index}": list if field.kind.is_list else dict,
        }
        absent = "ABSENT" if field.required else field.kind.absent
        body.append(f"v{index} = get({field.wire!r}, {absent})")
        body += conversion(index, field)
    source = f"""\
def read_{model.__name__}(raw):
    if raw.__class__ is not dict:
        explain(fields, raw)
    keys = tuple(raw)
    sent, unknown = shapes.get(keys) or learn(keys)
    get = raw.get
    try:
{indented(body, 8)}
    except FAILURES as error:
        explain(fields, raw, error)
    extra = {{name: raw[name] for name in unknown}} if unknown else {{}}
    made = draft({arguments(model, fields)})
    made.__class__ = model
    return made
"""
    read: Reader[T] = function(f"read_{model.__name__}", source, names)
    return read


def names_of(model: type[Any]) -> dict[str, Any]:
    """Give what the source of every reader of a model calls by name."""
    return {
        "ABSENT": ABSENT, "UTC": UTC, "FAILURES": FAILURES, "are_ints": are_ints, "odd": odd,
        "is_plain_number": is_plain_number, "model": model, "draft": draft_of(model),
    }  # fmt: skip


def conversion(index: int, field: Field, *, absent: Sequence[str] = ()) -> list[str]:
    """Write the lines that make an attribute of the value in ``v{index}``.

    `absent` are those for a value that stands for an absent field, where such a value may be there.
    """
    value, kind = f"v{index}", field.kind
    parts = {"v": value, "f": f"using{index}", "o": f"object{index}"}
    usual, taken = kind.usual.format(**parts), kind.take.format(**parts)
    cases = [(usual, [f"{value} = {taken}" if taken else "pass"])]
    if absent:
        # Last, since it is rare; unless anything at all is usual.
        cases.insert(0 if usual == "True" else 1, (f"{value} is ABSENT", list(absent)))
    lines: list[str] = []
    for test, then in cases:
        lines += [f"{'elif' if lines else 'if'} {test}:", *[f"    {line}" for line in then]]
    return [*lines, "else:", f"    {value}, sent = odd(field{index}, {value}, sent)"]


def _writer(model: type[T], fields: Sequence[Field]) -> Writer[T]:
    names: dict[str, Any] = {
        "plain": plain,
        "fields": {field.wire: field for field in fields},
        "restore": _restore,
    }
    items: list[str] = []
    for index, field in enumerate(fields):
        names[f"writing{index}"] = field.kind.writing if field.kind.table is None else field.kind.table.write
        given = field.kind.give.format(v=f"made.{field.attribute}", w=f"writing{index}")
        items.append(f"{field.wire!r}: {given},")
    source = f"""\
def write_{model.__name__}(made):
    wire = {{
{indented(items, 8)}
    }}
    if made._sent or made._sent is None:
        restore(fields, made, made._sent, wire)
    for name, value in made.extra.items():
        wire.setdefault(name, plain(value))
    return wire
"""
    write: Writer[T] = function(f"write_{model.__name__}", source, names)
    return write


def arguments(model: type[Any], fields: Sequence[Field]) -> str:
    """Write the arguments that a model is made of."""
    values = {field.attribute: f"v{index}" for index, field in enumerate(fields)}
    values |= {"extra": "extra", "_sent": "sent"}
    return ", ".join(values[name] for name in attributes_of(model))


def indented(lines: Sequence[str], by: int) -> str:
    """Write lines of source, moved to the right."""
    return "\n".join(" " * by + line for line in lines)


def function(name: str, source: str, names: dict[str, Any]) -> Any:
    """Compile a function."""
    filename = f"<b2b_payments {name}>"
    exec(compile(source, filename, "exec"), names)  # noqa: S102  the source is made of this package's tables alone
    # So that a traceback, a debugger and a profiler show the lines.
    linecache.cache[filename] = len(source), None, source.splitlines(keepends=True), filename
    return names[name]


def attributes_of(model: type[Any]) -> list[str]:
    """Give the names of a model's attributes, in the order of its constructor."""
    return [attribute.name for attribute in attrs.fields(model)]


def draft_of(model: type[Any]) -> Callable[..., Any]:
    """Make an unfrozen twin of a model, to be filled and then declared to be the model.

    A frozen class sets each attribute through `object.__setattr__`: three times the cost, and with 25 fields
    most of what a payment costs to make. Python allows `__class__` to be set between classes of the same
    slots (CPython: without `__weakref__` among them, hence the models' `weakref_slot=False`).
    """
    return attrs.make_class(
        f"{model.__name__}Draft", attributes_of(model), slots=True, weakref_slot=False, eq=False, repr=False
    )


def _learner(
    fields: Sequence[Field], shapes: dict[tuple[str, ...], Shape]
) -> Callable[[tuple[str, ...]], Shape]:
    known = {field.wire for field in fields}

    def learn(keys: tuple[str, ...]) -> Shape:
        """Tell of a set of keys which fields are absent and which are unknown; remember it, in bounds."""
        absent = {field.wire: ABSENT for field in fields if field.wire not in keys}
        shape = absent, tuple(key for key in keys if key not in known)
        if len(shapes) >= _MOST_SHAPES:
            shapes.clear()
        if len(keys) <= _MOST_KEYS and len(str(keys)) <= 40 * _MOST_KEYS:
            shapes[keys] = shape
        return shape

    return learn


def odd(field: Field, value: object, sent: Mapping[str, object]) -> tuple[Any, Mapping[str, object]]:
    """Read a value of unusual spelling, and remember the spelling."""
    made = field.read(value)
    return made, sent if value is ABSENT else {**sent, field.wire: value}


def _explain(fields: Sequence[Field], raw: object, error: Exception | None = None) -> NoReturn:
    """Read field by field, and raise what is wrong with each."""
    if not isinstance(raw, dict):
        raise unreadable(raw, "an object")
    problems: list[Problem] = []
    for field in fields:
        try:
            field.read(raw.get(field.wire, ABSENT))
        except UnreadableError as unread:
            problems += unread.below(f".{field.wire}")
    raise UnreadableError(problems or [("", "the documented form", "another")]) from error


def _restore(fields: Mapping[str, Field], made: object, sent: Sent, wire: dict[str, Any]) -> None:
    """Give fields back as they came, as far as their attributes still are what was read from that."""
    if sent is None:
        sent = {name: ABSENT for name, field in fields.items() if not field.required}
    for name, was in sent.items():
        field = fields[name]
        if getattr(made, field.attribute) != field.read(was):
            continue
        if was is ABSENT:
            del wire[name]
        else:
            wire[name] = plain(was)
