"""Fields that this library does not know, and the object as received, which `to_wire` returns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Never

import msgspec


class Extra(dict[str, Any]):
    """The fields that this library does not know, by wire name. Read-only, like its model.

    ``attrs.evolve(model, extra=model.extra | {...})`` adds or replaces fields, and leaves the others as
    received.

    `source` is the whole object as received, as JSON data or as a row. It is unset if a caller built the
    model, and in the nested models of a payment. It is stored here, not in a field of the model, so that
    copies, pickles and `attrs.evolve` keep it, and `attrs.asdict` does not show it.
    """

    __slots__ = ("source",)
    source: object

    def _refuse(self, *_: Never, **__: Never) -> Any:  # so mypy rejects every argument
        raise TypeError("extra is read-only: use attrs.evolve(model, extra=model.extra | {...}).")

    __setitem__ = __delitem__ = __ior__ = _refuse  # type: ignore[assignment]
    clear = pop = popitem = setdefault = update = _refuse  # type: ignore[assignment]

    def __or__(self, other: Mapping[str, Any]) -> Extra:  # type: ignore[override]
        """Return these fields with others added or replaced, for `attrs.evolve`: they keep the source."""
        return extra_with({**self, **other}, getattr(self, "source", None))

    def __ror__(self, other: Mapping[str, Any]) -> Extra:  # type: ignore[override]
        """Return other fields with these added or in their place."""
        return extra_with({**other, **self}, getattr(self, "source", None))

    def __reduce__(self) -> tuple[Any, ...]:
        # A row as the source cannot be pickled: its class was generated in this process.
        return extra_with, (dict(self), source_of(self))


def extra_with(unknown: Iterable[tuple[str, Any]] | Mapping[str, Any], source: object) -> Extra:
    """Build an Extra with its source. Pickles refer to this function by name."""
    extra = Extra(unknown)
    extra.source = source
    return extra


def extra_of(unknown: Mapping[str, Any]) -> Extra:
    """Convert a caller's mapping."""
    return unknown if isinstance(unknown, Extra) else Extra(unknown)


def json_of(data: Any) -> Any:
    """Return a source as JSON data: a row becomes a dict."""
    return msgspec.to_builtins(data, builtin_types=(Decimal,)) if isinstance(data, msgspec.Struct) else data


def source_of(extra: Mapping[str, Any]) -> Any:
    """Return the source as JSON data, or None if there is none."""
    return of_dicts_and_lists(json_of(getattr(extra, "source", None)))


def of_dicts_and_lists(value: Any) -> Any:
    """Copy JSON data, with a dict for every mapping, and a list for every tuple, as in rows."""
    if isinstance(value, Mapping):
        return {name: of_dicts_and_lists(item) for name, item in value.items()}
    return [of_dicts_and_lists(item) for item in value] if isinstance(value, list | tuple) else value
