"""Estimates of how long an export will still take."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2b_payments import Quota, WalkReport
from b2b_payments.events import PageJoined, QuotaWait, RequestStarted
from b2b_payments.export._pace import Pace, seconds_for

_STARTED = RequestStarted("payments.list", "GET", "/ip/payments", 1)


class _Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@given(
    limit=st.integers(1, 8),
    gaps=st.lists(st.floats(0, 20), max_size=12),
    requests=st.integers(1, 40),
    since=st.floats(0, 15),
)
def test_quota_bound(limit: int, gaps: list[float], requests: int, since: float) -> None:
    """The bound equals the time of sending each request as soon as the window has room."""
    quota = Quota(limit, 10, margin=0)
    sent: list[float] = []
    now = 0.0
    for gap in gaps:
        now = max(now + gap, sent[-limit] + 10 if len(sent) >= limit else 0.0)
        sent.append(now)
    now += since
    bound = seconds_for(requests, quota, sent, now)
    last = now
    for _ in range(requests):
        last = max(last, sent[-limit] + 10 if len(sent) >= limit else last)
        sent.append(last)
    assert bound == pytest.approx(last - now, abs=1e-6)


def test_unknown_total() -> None:
    """There is no estimate while the total is unknown."""
    pace = Pace(Quota(), _Clock())
    assert pace.reading().seconds_left is None
    assert pace.reading().rate == 0
    pace.advance(WalkReport(rows=250, pages=1))
    assert pace.reading().seconds_left is None


def test_by_rate() -> None:
    """Well within the quota, the estimate follows from the average rate."""
    clock = _Clock()
    pace = Pace(Quota(), clock)
    clock.now += 2
    pace.listen(_STARTED)
    pace.advance(WalkReport(rows=500, pages=2, total_last=2000))
    assert pace.reading().rate == 250
    assert pace.reading().seconds_left == pytest.approx(6)
    clock.now += 2
    assert pace.reading().seconds_left == pytest.approx(4)
    clock.now += 20
    assert pace.reading().seconds_left == 0


def test_by_quota() -> None:
    """With 10 requests a minute, the estimate respects the quota, however fast the first ten are."""
    clock = _Clock()
    pace = Pace(Quota(10, 60, margin=0), clock)
    for page in range(10):
        clock.now += 0.1
        pace.listen(_STARTED)
        pace.advance(WalkReport(rows=250 * (page + 1), pages=page + 1, total_last=250 * 25))
    # Fifteen pages are left: ten once the window has room, five a minute later.
    assert pace.reading().seconds_left == pytest.approx(59.5 + 60, abs=0.1)


def test_waiting() -> None:
    """A wait for the quota counts down, two at once count once, and the rate ignores it."""
    clock = _Clock()
    pace = Pace(Quota(1000, 60), clock)
    clock.now += 1
    pace.listen(QuotaWait(30, "closed"))
    pace.listen(QuotaWait(20, "window"))
    pace.listen(QuotaWait(3, "in flight"))
    pace.listen(PageJoined(0, 250, 250, 1000))
    assert pace.reading().waiting == 30
    clock.now += 10
    assert pace.reading().waiting == 20
    clock.now += 21
    assert pace.reading().waiting == 0
    pace.advance(WalkReport(rows=500, pages=2, total_last=1000))
    assert pace.reading().seconds_left == pytest.approx(2)


def test_resumed() -> None:
    """Payments of an interrupted export count neither as remaining nor for the rate."""
    clock = _Clock()
    pace = Pace(Quota(), clock)
    pace.before = 1000
    clock.now += 2
    pace.listen(_STARTED)
    pace.advance(WalkReport(rows=500, pages=2, total_last=2000))
    assert pace.reading().rate == 250
    assert pace.reading().seconds_left == pytest.approx(2)


def test_a_large_quota_takes_no_memory() -> None:
    """The estimate for a quota of a million requests needs no list of that length."""
    pace = Pace(Quota(1_000_000, 1), clock := _Clock())
    clock.now += 2
    pace.listen(_STARTED)
    tracemalloc.start()
    try:
        pace.advance(WalkReport(rows=500, pages=2, total_last=10**9))
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
    assert pace.reading().seconds_left == pytest.approx(2 * (10**9 - 500) / 500)


def test_without_a_quota() -> None:
    """Without a quota, the estimate follows from the rate alone."""
    pace = Pace(None, clock := _Clock())
    clock.now += 1
    pace.listen(_STARTED)
    pace.advance(WalkReport(rows=100, pages=1, total_last=100_100))
    assert pace.reading().seconds_left == pytest.approx(1000)
