"""Decodes and encodes JSON with every number kept exact."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from decimal import Decimal, getcontext, localcontext
from itertools import repeat
from operator import add
from typing import Any, Final

import msgspec

from b2b_payments._errors import ResponseDecodeError, without_data
from b2b_payments._models.decimals import EXACT, whole_of

MAX_BYTES = 4 * 2**20
MAX_OBJECTS = 20_000
MAX_LISTS = 50_000
MAX_VALUES = 120_000
"""The limits of one answer; the limit of lists counts objects too. Reading more could block the event loop
for more than a tenth of a second, and take more memory than the rest of a walk (`benchmarks.large`). A page
of 250 real rows has about 200 KB, 2,000 objects, 3,000 lists and 9,000 values: a few thousand rows fit."""

MAX_LEVELS = 100
"""The deepest nesting of lists and objects. Real answers have about six levels; more than this could be
decoded, but not copied, pickled or encoded within Python's recursion limit."""

_SHORT = 16
"""The most characters of a number, point included, that a float always represents exactly: 15 digits."""

_RUN = 64
"""Brackets that are counted at once: in real rows, half of them open."""
_STRAY = 40
"""Brackets inside strings that are tolerated before the nesting is checked level by level."""

_NOT_STRUCTURE = bytes(set(range(256)) - set(b"[]{},"))
_CONTAINERS: frozenset[type] = frozenset({dict, list})


_HALF = re.compile(
    rb"\\u[dD](?:[89abAB]..(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..\\u[dD])[c-fC-F]..)", re.DOTALL
)
"""Half of a surrogate pair, in text without escaped backslashes."""
_NO_UTF8 = b"\xff"


def exact_number(text: str) -> float | Decimal:
    """Return a float if that is exactly the number in the text, else a Decimal: money is never rounded.

    Raises OverflowError for an exponent beyond Decimal's range.
    """
    number = float(text)
    if len(text) <= _SHORT and "e" not in text and "E" not in text:
        return number
    exact = Decimal(text)
    if Decimal(repr(number)) == exact:
        return number
    if exact.is_nan():
        raise OverflowError  # an exponent out of range, in a decimal context that does not trap it
    return exact


encode_lines: Final = msgspec.json.Encoder().encode_lines
"""Encodes values as JSON lines."""

decode_numbers: Final = msgspec.json.Decoder(float_hook=exact_number).decode
"""Decodes JSON up to Python's recursion limit, numbers exact. Raises msgspec's own errors."""

_decode_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encoder = msgspec.json.Encoder(decimal_format="number")


@without_data
def decode(body: bytes | msgspec.Raw) -> Any:
    """Decode a body.

    Raises ResponseDecodeError if it is not JSON in UTF-8, too large, or nested too deeply.
    """
    # A body this short cannot exceed any limit.
    brackets = _brackets_of(body) if len(body) > MAX_LEVELS else b""
    value = decode_part(body)
    if _may_be_deep(brackets) and _is_deep(value):
        raise _too_deep()
    return value


def decode_part(body: bytes | msgspec.Raw) -> Any:
    """Decode a part of a body whose limits were checked already. Raises ResponseDecodeError.

    Half of a surrogate pair, which JSON can express but UTF-8 cannot, becomes U+FFFD.
    """
    try:
        return decode_numbers(body)
    except RecursionError:
        failure = _too_deep()
    # ValueError covers msgspec's errors and bad UTF-8; ArithmeticError, exponents that Decimal refuses.
    except (ValueError, ArithmeticError) as error:
        failure = _failure(error)
    whole = repaired(bytes(body))
    is_unchanged = whole == bytes(body)
    del body
    if is_unchanged:
        del whole
        raise failure
    return decode_part(whole)


def decode_row(row: bytes | msgspec.Raw, *, is_measured: bool = True) -> Any:
    """Decode the row of a payment. The error names the payment if its id can be read.

    If the limits of its page were not checked, those of the row are, at its level in a page.
    """
    if is_measured:
        with suppress(ValueError, ArithmeticError, RecursionError):
            return decode_numbers(row)  # as `decode_part` does, at the cost of one call less
    try:
        return decode_part(row) if is_measured else decode(b"[[%b]]" % row)[0][0]
    except ResponseDecodeError as error:
        name_payment(error, row)
        del row
        raise


def name_payment(error: ResponseDecodeError, row: bytes | msgspec.Raw) -> None:
    """Add the payment of this row to an error's message, if its id can be read."""
    with suppress(ValueError, RecursionError):
        if (payment_id := whole_of(_decode_id(row).id)) is not None:
            error.message = f"payment {payment_id}: {error.message[:1].lower()}{error.message[1:]}"


class _Identified(msgspec.Struct):
    id: int | str


_decode_id: Final = msgspec.json.Decoder(_Identified).decode


def members_of(body: bytes | msgspec.Raw) -> dict[str, msgspec.Raw]:
    """Return the members of a JSON object, undecoded. Returns none for anything else."""
    try:
        return _decode_members(body)
    except (ValueError, RecursionError):
        return {}


def in_one_line(row: bytes | msgspec.Raw) -> bytes | msgspec.Raw:
    """Return JSON without line breaks: unchanged if it has none, otherwise without any white space."""
    text = bytes(row)
    return msgspec.json.format(text, indent=-1) if b"\n" in text or b"\r" in text else row


def repaired(body: bytes) -> bytes:
    """Replace each half of a surrogate pair, which msgspec does not decode, with U+FFFD."""
    if _NO_UTF8 in body:
        return body  # it cannot be decoded either way
    # Every remaining backslash begins an escape. No Python code runs for each: some services escape all text.
    escapes = body.replace(b"\\\\", _NO_UTF8)
    return _HALF.sub(rb"\\ufffd", escapes).replace(_NO_UTF8, b"\\\\")


@without_data
def check_measure(body: bytes) -> None:
    """Raise ResponseDecodeError for a body that is too large or nested too deeply. Invalid JSON passes."""
    if not _may_be_deep(_brackets_of(body)):
        return
    try:
        too_deep = _is_deep(decode_numbers(body))
    except RecursionError:
        too_deep = True
    except (ValueError, ArithmeticError):
        return
    if too_deep:
        raise _too_deep()


def _too_deep() -> ResponseDecodeError:
    return ResponseDecodeError("The answer is nested too deeply to be read.", paths=["$"])


def too_large(what: str) -> ResponseDecodeError:
    """Return the error for an answer that exceeds the limits of this module."""
    return ResponseDecodeError(
        f"The answer has {what}, more than any real answer: it was not read.", paths=["$"], too_large=True
    )


def _brackets_of(body: bytes | msgspec.Raw) -> bytes:
    """Return only a body's brackets, and check its size, at a tenth of the cost of decoding it.

    Raises ResponseDecodeError. Brackets and commas inside strings count too, so a body with too many of those
    is refused as well.
    """
    if len(body) > MAX_BYTES:
        raise too_large(f"{len(body):,} bytes")
    signs = bytes(body).translate(None, _NOT_STRUCTURE)
    brackets = signs.translate(None, b",")
    if brackets.count(b"{") > MAX_OBJECTS:
        raise too_large(f"more than {MAX_OBJECTS:,} objects")
    if len(brackets) // 2 > MAX_LISTS:
        raise too_large(f"more than {MAX_LISTS:,} lists and objects")
    # Each value but the last is followed by a comma.
    if len(signs) - len(brackets) >= MAX_VALUES:
        raise too_large(f"more than {MAX_VALUES:,} values")
    return brackets


def _may_be_deep(brackets: bytes) -> bool:
    """Whether the depth has to be checked level by level. Brackets in strings may cause a false alarm."""
    runs = [brackets[start : start + _RUN] for start in range(0, len(brackets), _RUN)]
    curly, square = (map(bytes.count, runs, repeat(bracket)) for bracket in (b"{", b"["))
    level = 0
    for length, opened in zip(map(len, runs), map(add, curly, square), strict=True):
        if level + opened > MAX_LEVELS - _STRAY:
            return True
        level += 2 * opened - length
        if level < -_STRAY:
            return True
    return level > _STRAY


def _is_deep(value: Any) -> bool:
    level = _containers([value])
    for _ in range(MAX_LEVELS):
        level = _containers(
            item for outer in level for item in (outer.values() if outer.__class__ is dict else outer)
        )
    return bool(level)


def _containers(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if value.__class__ in _CONTAINERS]


def _failure(error: Exception) -> ResponseDecodeError:
    reason, path = "it holds bytes that are not UTF-8", "$"
    if isinstance(error, msgspec.DecodeError):
        # msgspec names the path and the kind of error, never the content.
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
    with localcontext(EXACT):  # else an exponent would be written with a lower-case `e`
        return _encoder.encode(value)
