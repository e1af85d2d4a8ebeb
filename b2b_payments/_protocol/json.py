"""JSON in and out, with every number kept exact."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal, getcontext, localcontext
from itertools import repeat
from operator import add
from typing import Any, Final

import msgspec

from b2b_payments._errors import ResponseDecodeError
from b2b_payments._models.decimals import EXACT

MOST_BYTES = 4 * 2**20
MOST_OBJECTS = 20_000
MOST_LISTS = 50_000
MOST_VALUES = 120_000
"""Of one answer, objects counted with the lists. Reading more could keep the event loop from everything else
for more than a tenth of a second, and take more memory than the rest of a walk (`benchmarks.large`). A page
of 250 real rows has about 200 KB, 2,000 objects, 3,000 lists and 9,000 values; the largest that are read have
some thousands of rows."""

MOST_LEVELS = 100
"""Lists and objects inside each other. Real answers have about six; deeper ones could be decoded, but then no
longer be copied, pickled or written within Python's recursion limit."""

_SHORT = 16
"""Characters of a number, its point included, that a float always gives back: it holds any 15 digits."""

_RUN = 64
"""Brackets that are counted at once: of real rows, half of them open."""
_STRAY = 40
"""Brackets that text may have without its answer being looked at level by level."""

_NO_SIGNS = bytes(set(range(256)) - set(b"[]{},"))
_CONTAINERS: frozenset[type] = frozenset({dict, list})


# A pair of surrogates, half of one, or whatever else is escaped.
_ESCAPE = re.compile(rb"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\u[dD][89a-fA-F]..|\\.", re.DOTALL)


def exact_number(text: str) -> float | Decimal:
    """Return a float where it says exactly what was sent, else a Decimal: money is never rounded.

    Raises OverflowError for an exponent that no number needs.
    """
    number = float(text)
    if len(text) <= _SHORT and "e" not in text and "E" not in text:
        return number
    exact = Decimal(text)
    if Decimal(repr(number)) == exact:
        return number
    if exact.is_nan():
        raise OverflowError  # an exponent out of range, in a context that lets it pass
    return exact


encode_lines: Final = msgspec.json.Encoder().encode_lines
"""Encodes values, a line each."""

decode_numbers: Final = msgspec.json.Decoder(float_hook=exact_number).decode
"""Decode JSON of any depth that Python bears, numbers exact; raises whatever msgspec raises."""

_encoder = msgspec.json.Encoder(decimal_format="number")


def decode(body: bytes | msgspec.Raw) -> Any:
    """Decode a body.

    Raises ResponseDecodeError for whatever is not JSON in UTF-8, too large, or nested too deeply to be read.
    """
    try:
        # So short, it is as any part of an answer.
        brackets = _brackets_of(body) if len(body) > MOST_LEVELS else b""
        value = decode_part(body)
        if _may_be_deep(brackets) and _is_deep(value):
            del value
            raise _too_deep()
    except ResponseDecodeError:
        del body  # a traceback's local variables would show what was sent
        raise
    return value


def decode_part(body: bytes | msgspec.Raw) -> Any:
    """Decode a part of a body whose depth was checked as a whole. Raises as `decode`, but for that.

    Half of a surrogate pair, which JSON can spell and no text can hold, becomes U+FFFD.
    """
    try:
        return decode_numbers(body)
    except RecursionError:
        failure = _too_deep()
    # ValueError covers msgspec's errors and bad UTF-8; ArithmeticError, exponents that Decimal refuses.
    except (ValueError, ArithmeticError) as error:
        failure = _failure(error)
    whole = mended(bytes(body))
    is_whole = whole == bytes(body)
    del body
    if is_whole:
        del whole
        raise failure
    return decode_part(whole)


def mended(body: bytes) -> bytes:
    """Put U+FFFD in place of each half of a surrogate pair, which msgspec does not decode."""
    return _ESCAPE.sub(_whole, body)


def _whole(escape: re.Match[bytes]) -> bytes:
    return b"\\ufffd" if len(escape[0]) == 6 else escape[0]


def check_measure(body: bytes) -> None:
    """Raise ResponseDecodeError for what is too large or nested too deeply. What is no JSON at all passes."""
    try:
        brackets = _brackets_of(body)
    except ResponseDecodeError:
        del body
        raise
    if not _may_be_deep(brackets):
        return
    try:
        too_deep = _is_deep(decode_numbers(body))
    except RecursionError:
        too_deep = True
    except (ValueError, ArithmeticError):
        return
    if too_deep:
        del body
        raise _too_deep()


def _too_deep() -> ResponseDecodeError:
    return ResponseDecodeError("The answer is nested too deeply to be read.", paths=["$"])


def too_large(what: str) -> ResponseDecodeError:
    """Make the error for an answer that holds more than is read."""
    return ResponseDecodeError(
        f"The answer has {what}, more than any of the service's: it is not read.", paths=["$"], too_large=True
    )


def _brackets_of(body: bytes | msgspec.Raw) -> bytes:
    """Return the brackets alone, at a tenth of the cost of decoding. Raises ResponseDecodeError.

    Brackets and commas in strings count too; text that has so many of them is refused with the rest.
    """
    if len(body) > MOST_BYTES:
        raise too_large(f"{len(body):,} bytes")
    signs = bytes(body).translate(None, _NO_SIGNS)
    brackets = signs.translate(None, b",")
    if brackets.count(b"{") > MOST_OBJECTS:
        raise too_large(f"more than {MOST_OBJECTS:,} objects")
    if len(brackets) // 2 > MOST_LISTS:
        raise too_large(f"more than {MOST_LISTS:,} lists and objects")
    # Each value but the last has a comma of its own.
    if len(signs) - len(brackets) >= MOST_VALUES:
        raise too_large(f"more than {MOST_VALUES:,} values")
    return brackets


def _may_be_deep(brackets: bytes) -> bool:
    """Judge by the brackets alone, a run of them at a time; those in strings may mislead it."""
    runs = [brackets[start : start + _RUN] for start in range(0, len(brackets), _RUN)]
    curly, square = (map(bytes.count, runs, repeat(bracket)) for bracket in (b"{", b"["))
    level = 0
    for length, opened in zip(map(len, runs), map(add, curly, square), strict=True):
        if level + opened > MOST_LEVELS - _STRAY:
            return True
        level += 2 * opened - length
        if level < -_STRAY:
            return True
    return level > _STRAY


def _is_deep(value: Any) -> bool:
    level = _containers([value])
    for _ in range(MOST_LEVELS):
        level = _containers(
            item for outer in level for item in (outer.values() if outer.__class__ is dict else outer)
        )
    return bool(level)


def _containers(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if value.__class__ in _CONTAINERS]


def _failure(error: Exception) -> ResponseDecodeError:
    reason, path = "it holds bytes that are not UTF-8", "$"
    if isinstance(error, msgspec.DecodeError):
        # msgspec names the place and the kind of fault, never the content.
        reason, _, place = str(error).partition(" - at `")
        path = place.rstrip("`") or "$"
    if not isinstance(error, UnicodeDecodeError | msgspec.DecodeError) or "out of range" in reason:
        return ResponseDecodeError(
            f"The answer cannot be read: a number at {path} is out of range.", paths=[path]
        )
    return ResponseDecodeError(f"The answer is not JSON: {reason}.", paths=[path])


def encode(value: Any) -> bytes:
    """Encode plain JSON values, Decimals as numbers, to UTF-8."""
    if getcontext().capitals:
        return _encoder.encode(value)
    with localcontext(EXACT):  # else an exponent's `E` would be small
        return _encoder.encode(value)
