"""Text that can be shown: without control characters, and for objects that are incomplete."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from unicodedata import category

if TYPE_CHECKING:
    from attrs import define as define  # noqa: PLC0414 - other modules import it from here
    from attrs import frozen as frozen  # noqa: PLC0414

T = TypeVar("T")


def repr_when_incomplete(cls: type[T]) -> type[T]:
    """Make `repr` and `str` of a class work before all attributes are set: they show those that are."""
    full_repr: Any = cls.__repr__

    def __repr__(self: Any) -> str:  # noqa: N807 - becomes the class's method
        try:
            text: str = full_repr(self)
        except AttributeError:
            import attrs  # noqa: PLC0415 - see `__getattr__`

            fields = attrs.fields(cls) if attrs.has(cls) else ()
            names = [field.name for field in fields if field.repr and hasattr(self, field.name)]
            values = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
            text = f"<{type(self).__name__}, incomplete: {values or 'nothing is set'}>"
        return text

    own_str: Any = vars(cls).get("__str__")

    def __str__(self: Any) -> str:  # noqa: N807
        try:
            text: str = own_str(self)
        except AttributeError:
            text = repr(self)
        return text

    cls.__repr__ = __repr__  # type: ignore[method-assign]
    if own_str is not None:
        cls.__str__ = __str__  # type: ignore[method-assign]
    return cls


def _shown_when_incomplete(decorator: Callable[..., Any]) -> Callable[..., Any]:
    """Return an attrs decorator that also applies `repr_when_incomplete`."""

    def decorate(cls: type[Any] | None = None, **options: Any) -> Any:
        def wrap(plain: type[Any]) -> type[Any]:
            return repr_when_incomplete(decorator(plain, **options))

        return wrap if cls is None else wrap(cls)

    return decorate


if not TYPE_CHECKING:

    def __getattr__(name):
        # attrs is imported on first use of a decorator, so not for `b2b-payments --help`.
        if name not in {"define", "frozen"}:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import attrs  # noqa: PLC0415

        decorator = globals()[name] = _shown_when_incomplete(getattr(attrs, name))
        return decorator


def unset_field(instance: Any) -> str | None:
    """Return the name of a field that is not set on an attrs instance, None if all are set."""
    import attrs  # noqa: PLC0415 - see `__getattr__`

    names = (field.name for field in attrs.fields(type(instance)))
    return next((name for name in names if not hasattr(instance, name)), None)


_MAX_CACHED = 10_000


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, as in ``1 payment`` and ``1,200 payments``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def enumerated(words: Sequence[str]) -> str:
    """Join words as in a sentence: ``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def printable(text: str) -> str:
    """Return text with control and format characters escaped, such as ``\\x1b`` and ``\\u202e``.

    These include C0 and C1 controls, DEL, direction marks, line and paragraph separators, lone surrogates.
    """
    return text if text.isprintable() else text.translate(_LINE)


def printable_lines(text: str) -> str:
    """Do the same for text of several lines: keep line breaks and tabs."""
    return text if text.isprintable() else text.translate(_LINES)


def printable_json(lines: bytes) -> bytes:
    """Do the same for JSON in UTF-8, with JSON's own escapes: its meaning stays the same."""
    if lines.isascii() and b"\x7f" not in lines and b"\r" not in lines:
        return lines  # JSON itself escapes the other control characters
    return lines.decode(errors="replace").translate(_JSON).encode()


class _Escapes(dict[int, str]):
    """The replacement of each character by code point, computed on first use."""

    def __init__(self, escape: Callable[[int], str], unchanged: dict[int, str]) -> None:
        super().__init__(unchanged)
        self._escape = escape

    def __missing__(self, code: int) -> str:
        char = chr(code)
        # To Python, no space but the ASCII one is printable.
        is_harmless = char.isprintable() or category(char) == "Zs"
        replacement = char if is_harmless else self._escape(code)
        if len(self) < _MAX_CACHED:
            self[code] = replacement
        return replacement


def _escape(code: int) -> str:
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escape(code: int) -> str:
    units = chr(code).encode("utf-16-be")
    return "".join(f"\\u{units[start : start + 2].hex()}" for start in range(0, len(units), 2))


_LINE = _Escapes(_escape, {})
_LINES = _Escapes(_escape, {ord("\n"): "\n", ord("\t"): "\t"})
# These only occur between values: inside strings, JSON escapes them.
_JSON = _Escapes(_json_escape, {ord("\n"): "\n", ord("\t"): " ", ord("\r"): " "})
