"""Objects that show themselves while they are half made: in a debugger, or in an error report's variables."""

from __future__ import annotations

from typing import Any, TypeVar

import attrs

T = TypeVar("T")


def repr_when_incomplete(cls: type[T]) -> type[T]:
    """Make the `repr` of a class work before all attributes are set: then it has those that are."""
    whole: Any = cls.__repr__

    def __repr__(self: Any) -> str:  # noqa: N807 - it becomes the class's own
        try:
            text: str = whole(self)
        except AttributeError:
            fields = attrs.fields(cls) if attrs.has(cls) else ()
            shown = [one.name for one in fields if one.repr and hasattr(self, one.name)]
            known = ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)
            text = f"<{type(self).__name__}, half made: {known or 'nothing is set'}>"
        return text

    cls.__repr__ = __repr__  # type: ignore[method-assign]
    return cls
