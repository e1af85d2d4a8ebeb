"""How fast an export is, and how long it will still take."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

from b2b_payments._printable import frozen
from b2b_payments._quota import Quota
from b2b_payments._walk.report import WalkReport
from b2b_payments.events import Event, QuotaWait, RequestStarted


@frozen
class PaceReading:
    """The pace of an export at one point in time.

    `rows`, `pages` and `requests` count this run; `before` counts the payments that an interrupted export had
    committed, and `total` is the service's count. `rate` is payments per second, `waiting` the seconds until
    the quota allows the next request, and `seconds_left` the estimate until the end, or None while unknown.
    """

    before: int = 0
    rows: int = 0
    pages: int = 0
    requests: int = 0
    total: int | None = None
    rate: float = 0.0
    waiting: float = 0.0
    seconds_left: float | None = None


class Pace:
    """Estimates an export's pace from the client's events and from the walk's report after each page.

    If `quota` is None, only responses are waited for. `clock` returns seconds. The counts are those of a
    `PaceReading`, as of the latest event or report.
    """

    def __init__(self, quota: Quota | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._quota = quota
        self._clock = clock
        self._began = clock()
        self._sent: deque[float] = deque(maxlen=0 if quota is None else quota.limit)
        self.requests = 0
        self._idle = 0.0  # seconds in which no request could be sent
        self._idle_until = self._began
        self._ends_at: float | None = None
        self.before = 0
        self.rows = 0
        self.pages = 0
        self.total: int | None = None

    def listen(self, event: Event) -> None:
        """Record a request, or a wait for the quota."""
        now = self._clock()
        if isinstance(event, RequestStarted):
            self._sent.append(now)
            self.requests += 1
            if self._quota is not None and len(self._sent) == self._quota.limit:
                self._add_pause(now, self._sent[0] + self._quota.span)
        elif isinstance(event, QuotaWait) and event.reason != "in flight":
            self._add_pause(now, now + event.seconds)

    def advance(self, report: WalkReport) -> None:
        """Record the walk's progress, and estimate the time left."""
        self.rows, self.pages, self.total = report.rows, report.pages, report.total_last
        left = self._estimate()
        self._ends_at = None if left is None else self._clock() + left

    def reading(self) -> PaceReading:
        rate = self.rows / self.elapsed if self.elapsed > 0 else 0.0
        left = None if self._ends_at is None else max(0.0, self._ends_at - self._clock())
        return PaceReading(
            self.before, self.rows, self.pages, self.requests, self.total, rate, self._waiting, left
        )

    @property
    def elapsed(self) -> float:
        """Seconds since the export began."""
        return self._clock() - self._began

    @property
    def _waiting(self) -> float:
        return max(0.0, self._idle_until - self._clock())

    def _add_pause(self, now: float, until: float) -> None:
        self._idle += max(0.0, until - max(now, self._idle_until))
        self._idle_until = max(until, self._idle_until)

    def _estimate(self) -> float | None:
        if self.total is None or not self.rows:
            return None
        rows = max(0, self.total - self.before - self.rows)
        now, waiting = self._clock(), self._waiting
        busy = max(0.0, now - self._began - (self._idle - waiting))
        in_flight = max(0, self.requests - self.pages)
        requests = -(-rows * self.pages // self.rows) - in_flight
        if requests <= 0:
            return rows * busy / self.rows
        by_quota = 0.0 if self._quota is None else seconds_for(requests, self._quota, self._sent, now)
        return max(rows * busy / self.rows, waiting, by_quota)


def seconds_for(requests: int, quota: Quota, sent: Sequence[float], now: float) -> float:
    """Return the seconds until the quota allows the last of this many requests (at least one).

    `sent` holds the times of recent requests, oldest first: each makes room for one request a span after it
    was sent, and that request for another one a span later.
    """
    rounds, place = divmod(requests - 1, quota.limit)
    # Negative if a slot is free at once; otherwise it waits until one of the recent requests is a span old.
    place += min(len(sent), quota.limit) - quota.limit
    waited = 0.0 if place < 0 else max(0.0, sent[place - min(len(sent), quota.limit)] + quota.span - now)
    return waited + rounds * quota.span
