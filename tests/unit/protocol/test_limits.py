"""The quota's headers, as documented and in other formats."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from b2b_payments._protocol.limits import read_limits
from b2b_payments._quota import QuotaReading

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)

NAMES = [
    "X-Requests-Allocated",
    "X-Requests-Remaining",
    "X-Request-Window-Resets-After",
    "X-Rate-Limit-Time-Reset-Ms",
    "X-Rate-Limit-Requests-Left",
    "X-Retry-After",
    "Retry-After",
]


def test_documented_example_is_read() -> None:
    """The three documented headers are read, with their units."""
    headers = {
        "X-Requests-Allocated": "150 times/60 s",
        "X-Requests-Remaining": "149 times",
        "X-Request-Window-Resets-After": "0.397 s",
    }
    assert read_limits(headers, NOW) == QuotaReading(149, 0.397, None, (150, 60.0))


def test_no_headers_is_an_empty_reading() -> None:
    """An answer without any of the headers has an empty reading."""
    assert read_limits({"Content-Type": "application/json"}, NOW) == QuotaReading()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("150 times/60 s", (150, 60.0)),
        ("150/60", (150, 60.0)),
        ("20 requests / 500ms", (20, 0.5)),
        ("150", None),
    ],
)
def test_allocated_quota_is_read(text: str, expected: tuple[int, float] | None) -> None:
    """Requests and window are read with and without their units."""
    assert read_limits({"X-Requests-Allocated": text}, NOW).allocated == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0.397 s", 0.397), ("12", 12.0), ("250 ms", 0.25), ("3seconds", 3.0), ("5 S", 5.0)],
)
def test_reset_unit(text: str, expected: float) -> None:
    """The reset is in seconds, unless its unit is milliseconds."""
    assert read_limits({"X-Request-Window-Resets-After": text}, NOW).resets_after == expected


def test_core_api_reset_is_in_milliseconds() -> None:
    """The core API's reset is in milliseconds; its remainder is read like the other."""
    reading = read_limits({"X-Rate-Limit-Time-Reset-Ms": "1500", "X-Rate-Limit-Requests-Left": "0"}, NOW)
    assert reading == QuotaReading(remaining=0, resets_after=1.5)


def test_retry_after_date_is_relative_to_the_date_header() -> None:
    """The service's clock is used; if its `Date` cannot be read, the given time is."""
    headers = {"Retry-After": "Sun, 22 Nov 2026 12:00:30 GMT", "Date": "Sun, 22 Nov 2026 12:00:10 GMT"}
    assert read_limits(headers, NOW.replace(year=2020)).wait == 20.0
    assert read_limits(headers | {"Date": "soon"}, NOW).wait == 30.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("120", 120.0),
        ("Sun, 22 Nov 2026 12:00:30 GMT", 30.0),
        ("Sun, 22 Nov 2026 13:00:30 +0100", 30.0),
        ("Sun, 22 Nov 2026 12:00:30 -0000", 30.0),
        ("Sun, 22 Nov 2026 11:00:00 GMT", 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str, expected: float) -> None:
    """Both formats of HTTP's `Retry-After` are read; a date that has passed means 0 seconds."""
    assert read_limits({"Retry-After": text}, NOW).wait == expected


def test_longest_wait_and_smallest_remainder_win() -> None:
    """If headers disagree, the more careful value counts."""
    headers = {
        "X-Requests-Remaining": "7 times",
        "X-Rate-Limit-Requests-Left": "3",
        "X-Request-Window-Resets-After": "2 s",
        "X-Rate-Limit-Time-Reset-Ms": "9000",
        "X-Retry-After": "4",
        "Retry-After": "5",
    }
    reading = read_limits(headers, NOW)
    assert reading == QuotaReading(remaining=3, resets_after=9.0, wait=5.0)
    assert reading.pause == 9.0


def test_header_names_ignore_case() -> None:
    """Header names match in any case, in a dict and in aiohttp's own mapping."""
    plain = {"x-requests-remaining": "7 times"}
    assert read_limits(plain, NOW).remaining == 7
    assert read_limits(CIMultiDictProxy(CIMultiDict({"X-REQUESTS-REMAINING": "7"})), NOW).remaining == 7


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "text",
    ["", "-1", "nan", "inf", "1e9", "soon", "٣", "9" * 5000, "1 h", "Sun, 99 Nov 2026 12:00:30 GMT", "5/"],
)
def test_invalid_values_are_ignored(name: str, text: str) -> None:
    """An invalid value is treated as absent."""
    assert read_limits({name: text}, NOW) == QuotaReading()


@pytest.mark.slow
@given(st.dictionaries(st.sampled_from(NAMES), st.text(max_size=40)))
def test_no_header_raises(headers: dict[str, str]) -> None:
    """Any headers result in a reading whose numbers are not negative."""
    reading = read_limits(headers, NOW)
    numbers = [reading.remaining, reading.resets_after, reading.wait, *(reading.allocated or ())]
    assert all(number is None or number >= 0 for number in numbers)
