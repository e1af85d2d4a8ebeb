"""Decoding JSON: every number exact, one error for every fault."""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import Any

import pytest

from b2b_payments import ResponseDecodeError
from b2b_payments._protocol.json import MAX_BYTES, MAX_LEVELS, MAX_LISTS, MAX_OBJECTS, MAX_VALUES, decode


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"1.5", 1.5),
        (b"0.1", 0.1),
        (b"0.10000000000000000001", Decimal("0.10000000000000000001")),
        (b"12345678901234567890.5", Decimal("12345678901234567890.5")),
        (b"123456789012345678901234567890", 123456789012345678901234567890),
        (b"-0", 0),
    ],
)
def test_numbers_are_exact(text: bytes, expected: Any) -> None:
    """A float if it is exact, else a Decimal; ints of any size."""
    value = decode(text)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{]", "is not JSON"),
        (b"", "is not JSON"),
        (b'{"a":', "is not JSON"),
        (b'{"a":NaN}', "is not JSON"),
        (b'"\xff"', "is not JSON"),
        (b"\xef\xbb\xbf{}", "is not JSON"),
        (b"1e999999999999999999999", "a number at \\$ is out of range"),
        (b"[" * 20_000 + b"]" * 20_000, "nested too deeply"),
    ],
)
def test_invalid_json_is_one_error(body: bytes, says: str) -> None:
    """An unreadable body raises an error that names the path and shows none of the content."""
    with pytest.raises(ResponseDecodeError, match=says) as caught:
        decode(body)
    assert caught.value.paths == ["$"]
    assert caught.value.__cause__ is None
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]")])
def test_nesting_is_limited(opening: bytes, closing: bytes) -> None:
    """The allowed number of levels can be read, and one more cannot."""
    each = opening.count(b"[") + opening.count(b"{")
    levels = MAX_LEVELS // each
    assert decode(opening * levels + b"1" + closing * levels)
    with pytest.raises(ResponseDecodeError, match="nested too deeply"):
        decode(opening * (levels + 1) + b"1" + closing * (levels + 1))


def test_brackets_in_strings_are_not_levels() -> None:
    """A string full of brackets is just a string."""
    text = "[{" * 10 * MAX_LEVELS
    assert decode(f'{{"memo":"{text}"}}'.encode()) == {"memo": text}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (rb'"\ud83d"', "\ufffd"),
        (rb'"\uDE00x"', "\ufffdx"),
        (rb'"\ud83d\ud83d\ude00"', "\ufffd\U0001f600"),
        (rb'"\ud83d\u00fc\\ud83d"', "\ufffdü\\ud83d"),
        (rb'"\\\ud83d\\\\ude00"', "\\\ufffd\\\\ude00"),
        (rb'"\ud83d\\ude00"', "\ufffd\\ude00"),
        (rb'"\ude00\ude00\ud83d\ude00\ude00"', "\ufffd\ufffd\U0001f600\ufffd"),
    ],
)
def test_half_a_surrogate_pair_is_replaced(body: bytes, expected: str) -> None:
    """Half of a surrogate pair is read as U+FFFD; whole pairs are unchanged."""
    assert decode(body) == expected


@pytest.mark.parametrize("escape", [rb"\u0436", rb"\\", rb"\ud83d\ude00", rb"\n"])
def test_half_a_surrogate_pair_among_many_escapes_costs_little(escape: bytes) -> None:
    """No Python code runs for each escape of a text in which half of a surrogate pair is replaced."""
    body = b'"%b\\ud83d"' % (escape * 10_000)
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        decode(body)
    finally:
        sys.setprofile(None)
    assert calls < 50


@pytest.mark.parametrize(
    ("most", "one", "what"),
    [
        (MAX_OBJECTS, b"{}", "objects"),
        (MAX_LISTS - 1, b"[]", "lists and objects"),
        (MAX_VALUES, b"1", "values"),
        (MAX_BYTES - 4, b"", "bytes"),
    ],
    ids=["objects", "lists", "values", "bytes"],
)
def test_size_limits(most: int, one: bytes, what: str) -> None:
    """An answer at each limit is read; one more is too large, and the error says of what."""

    def body(times: int) -> bytes:
        return b"[%b]" % b",".join([one] * times) if one else b'["%b"]' % (b"x" * times)

    assert len(decode(body(most))) in {most, 1}
    with pytest.raises(ResponseDecodeError, match=rf"[0-9,]+ {what}, more than any") as caught:
        decode(body(most + 1))
    assert caught.value.too_large
