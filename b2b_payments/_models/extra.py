"""What the service sent beside the fields that this library knows, and how it spelled those."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, NoReturn

import msgspec


class Extra(dict[str, Any]):
    """The fields that this library does not know, by their names on the wire. Read-only, as its model is.

    `sent` is the whole object as it came, as JSON data or as a row; there is none where a caller built the
    model, and in the parts of a payment. `to_wire` gives it back. It lives here so that copies, pickles and
    `attrs.evolve` take it along, while it is no field of the model's own.
    """

    __slots__ = ("sent",)
    sent: object

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("extra is read-only: give a model another with attrs.evolve(model, extra={...}).")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        # Classes of rows are made as they are needed: no other process has them.
        return extra_with, (dict(self), sent_of(self))


def extra_with(unknown: Iterable[tuple[str, Any]] | Mapping[str, Any], sent: object) -> Extra:
    """Keep what was sent beside the unknown fields."""
    extra = Extra(unknown)
    extra.sent = sent
    return extra


def extra_of(unknown: Mapping[str, Any]) -> Extra:
    """Take what a caller gives."""
    return unknown if isinstance(unknown, Extra) else Extra(unknown)


def json_of(sent: Any) -> Any:
    """Return what was sent as JSON data, rows as objects."""
    return msgspec.to_builtins(sent, builtin_types=(Decimal,)) if isinstance(sent, msgspec.Struct) else sent


def sent_of(extra: Mapping[str, Any]) -> Any:
    """Return what was sent as JSON data; None where there is nothing."""
    sent = json_of(getattr(extra, "sent", None))
    return _lists(sent)


def _lists(value: Any) -> Any:
    """Return JSON data with lists where rows have tuples."""
    if isinstance(value, dict):
        return {name: _lists(item) for name, item in value.items()}
    return [_lists(item) for item in value] if isinstance(value, list | tuple) else value
