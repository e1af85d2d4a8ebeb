"""How the sandbox counts the quota, and its headers."""

from __future__ import annotations

from email.utils import formatdate
from typing import Literal

import pytest

from b2b_payments.sandbox import Rules
from b2b_payments.sandbox._admission import Counter, LeakyBucket, quota_headers, refusal_headers


def test_sliding_window() -> None:
    """In a sliding window, a request counts for exactly the window's length."""
    counter = Counter(Rules(requests=2, per=10.0), 0.0)
    assert [counter.admit(at) for at in (0.0, 4.0, 5.0, 9.99, 10.0, 10.5, 14.0)] == [
        True, True, False, False, True, False, True,
    ]  # fmt: skip
    assert counter.remaining(14.0) == 0
    assert counter.resets_after(14.0) == pytest.approx(6.0)


def test_fixed_window() -> None:
    """A fixed window is opened by its first request, and expires as a whole."""
    counter = Counter(Rules(requests=2, per=10.0, window="fixed"), 0.0)
    assert counter.resets_after(3.0) == 10.0
    assert [counter.admit(at) for at in (3.0, 12.0, 12.5, 13.0, 13.1, 13.2)] == [
        True, True, False, True, True, False,
    ]  # fmt: skip
    assert counter.resets_after(14.0) == pytest.approx(9.0)
    assert counter.remaining(24.0) == 2


def test_leaky_bucket() -> None:
    """A bucket admits the quota at once, then a request whenever one has leaked; it resets when empty."""
    counter = LeakyBucket(Rules(requests=150, per=60.0, window="leaky"), 0.0)
    assert (counter.remaining(0.0), counter.resets_after(0.0)) == (150, 0.0)
    assert counter.admit(0.0)
    assert counter.remaining(0.0) == 149
    assert counter.resets_after(0.0) == pytest.approx(0.4)
    assert [counter.admit(0.4) for _ in range(151)] == [True] * 150 + [False]
    assert counter.remaining(0.4) == 0
    assert counter.wait(0.4) == pytest.approx(0.4)
    assert counter.resets_after(0.4) == pytest.approx(60.0)
    assert [counter.admit(at) for at in (0.79, 0.8, 1.2, 1.6, 1.61)] == [False, True, True, True, False]
    assert counter.remaining(31.6) == 75


@pytest.mark.parametrize("window", ["sliding", "fixed"])
def test_others_spend(window: Literal["sliding", "fixed"]) -> None:
    """Another integration spends its part of every window evenly, also after a long silence."""
    counter = Counter(Rules(requests=150, per=60.0, others_per_window=100, window=window), 0.0)
    assert [counter.remaining(at) for at in (0.0, 0.4, 29.9, 59.9)] == [150, 149, 100, 50]
    for start in (1_000.0, 20_000.0):
        assert all(counter.admit(start + 1.3 * number) for number in range(200))
    assert 0 < sum(counter.admit(30_000.0) for _ in range(151)) < 150


def test_others_are_refused_too() -> None:
    """Our requests count against the other integration, too."""
    counter = Counter(Rules(requests=10, per=10.0, others_per_window=5), 0.0)
    assert [counter.admit(0.5) for _ in range(11)] == [True] * 10 + [False]
    assert counter.remaining(10.4) == 0
    assert counter.remaining(10.5) == 10


def test_headers_have_units() -> None:
    """The documented headers have the units of the documentation."""
    assert quota_headers(Rules(), 149, 0.397) == {
        "X-Requests-Allocated": "150 times/60 s",
        "X-Requests-Remaining": "149 times",
        "X-Request-Window-Resets-After": "0.397 s",
    }


def test_refusal_headers() -> None:
    """A refusal has the headers that the rules name, and no others."""
    assert refusal_headers(Rules(refusal_headers=()), 1.2, 0) == {}
    assert refusal_headers(Rules(refusal_headers=("retry-after",)), 1.2, 0) == {"Retry-After": "2"}
    assert refusal_headers(Rules(refusal_headers=("x-retry-after", "rate-limit")), 1.2, 0) == {
        "X-Retry-After": "2",
        "X-Rate-Limit-Time-Reset-Ms": "1200",
        "X-Rate-Limit-Requests-Left": "0",
    }
    assert refusal_headers(Rules(), 1.2, 0) == quota_headers(Rules(), 0, 1.2)
    assert refusal_headers(Rules(refusal_headers=("retry-after-date",)), 29.5, 1_700_000_000) == {
        "Retry-After": formatdate(1_700_000_030, usegmt=True)
    }
