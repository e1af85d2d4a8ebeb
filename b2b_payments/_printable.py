"""Text that can be shown: without control characters, and of objects that are half made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from unicodedata import category

if TYPE_CHECKING:
    from attrs import define as define  # noqa: PLC0414 - it is imported from here
    from attrs import frozen as frozen  # noqa: PLC0414

T = TypeVar("T")


def repr_when_incomplete(cls: type[T]) -> type[T]:
    """Make `repr` and `str` of a class work before all attributes are set: then they have those that are."""
    whole: Any = cls.__repr__

    def __repr__(self: Any) -> str:  # noqa: N807 - it becomes the class's own
        try:
            text: str = whole(self)
        except AttributeError:
            import attrs  # noqa: PLC0415 - see `__getattr__`

            fields = attrs.fields(cls) if attrs.has(cls) else ()
            shown = [one.name for one in fields if one.repr and hasattr(self, one.name)]
            known = ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)
            text = f"<{type(self).__name__}, half made: {known or 'nothing is set'}>"
        return text

    said: Any = vars(cls).get("__str__")

    def __str__(self: Any) -> str:  # noqa: N807
        try:
            text: str = said(self)
        except AttributeError:
            text = repr(self)
        return text

    cls.__repr__ = __repr__  # type: ignore[method-assign]
    if said is not None:
        cls.__str__ = __str__  # type: ignore[method-assign]
    return cls


def _shown_when_incomplete(decorator: Callable[..., Any]) -> Callable[..., Any]:
    """Return attrs' decorator with `repr_when_incomplete` for each class that it makes."""

    def decorate(cls: type[Any] | None = None, **options: Any) -> Any:
        def made(one: type[Any]) -> type[Any]:
            return repr_when_incomplete(decorator(one, **options))

        return made if cls is None else made(cls)

    return decorate


if not TYPE_CHECKING:

    def __getattr__(name):
        # attrs is imported for those who ask for its decorators: `b2b-payments --help` does not.
        if name not in {"define", "frozen"}:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import attrs  # noqa: PLC0415

        made = globals()[name] = _shown_when_incomplete(getattr(attrs, name))
        return made


def unset_field(made: Any) -> str | None:
    """Name a field that an object which is half made does not have yet; None for one that is whole."""
    import attrs  # noqa: PLC0415 - see `__getattr__`

    names = (field.name for field in attrs.fields(type(made)))
    return next((name for name in names if not hasattr(made, name)), None)


_MOST_REMEMBERED = 10_000


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, as in ``1 payment`` and ``1,200 payments``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def enumerated(words: Sequence[str]) -> str:
    """Return words as a sentence has them: ``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def printable(text: str) -> str:
    """Return text with control and format characters as escapes, such as ``\\x1b`` and ``\\u202e``.

    Control characters of both sets, DEL, marks of direction, line and paragraph separators and halves of
    surrogate pairs are among them.
    """
    return text if text.isprintable() else text.translate(_LINE)


def printable_lines(text: str) -> str:
    """Do the same to text of several lines: line breaks and tabs stay."""
    return text if text.isprintable() else text.translate(_LINES)


def printable_json(lines: bytes) -> bytes:
    """Return JSON in UTF-8 with the same characters as JSON's own escapes: it says the same."""
    if lines.isascii() and b"\x7f" not in lines and b"\r" not in lines:
        return lines  # JSON has escaped the others already
    return lines.decode(errors="replace").translate(_JSON).encode()


class _Escapes(dict[int, str]):
    """What stands for each character, by its code; found out when it is first met."""

    def __init__(self, escape: Callable[[int], str], kept: dict[int, str]) -> None:
        super().__init__(kept)
        self._escape = escape

    def __missing__(self, code: int) -> str:
        char = chr(code)
        # Python counts all spaces but one as not printable.
        harmless = char.isprintable() or category(char) == "Zs"
        shown = char if harmless else self._escape(code)
        if len(self) < _MOST_REMEMBERED:
            self[code] = shown
        return shown


def _escape(code: int) -> str:
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escape(code: int) -> str:
    units = chr(code).encode("utf-16-be")
    return "".join(f"\\u{units[place : place + 2].hex()}" for place in range(0, len(units), 2))


_LINE = _Escapes(_escape, {})
_LINES = _Escapes(_escape, {ord("\n"): "\n", ord("\t"): "\t"})
# Those stand between values: inside of text, JSON has escaped them.
_JSON = _Escapes(_json_escape, {ord("\n"): "\n", ord("\t"): " ", ord("\r"): " "})
