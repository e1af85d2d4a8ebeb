"""How fast an export goes, and how long it will still take."""

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
    """How fast an export goes, as of a moment.

    `rows`, `pages` and `requests` are this run's; `before` are the payments that an interrupted one had kept,
    `total` is the service's count. `rate` is payments per second, `waiting` the seconds until the quota lets
    the next request go, `seconds_left` those until the end, None while that is not known.
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
    """Watches an export: told of the client's events and of the walk's report after each page.

    Without a quota nothing is waited for but answers. `clock` gives seconds. All of what it says is as of
    the latest event or report. `rows` and `requests` are this run's; `before` are the payments that an
    interrupted one had kept.
    """

    def __init__(self, quota: Quota | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._quota = quota
        self._clock = clock
        self._began = clock()
        self._sent: deque[float] = deque(maxlen=0 if quota is None else quota.limit)
        self.requests = 0
        self._idle = 0.0  # seconds in which nothing could be sent
        self._idle_until = self._began
        self._ends: float | None = None
        self.before = 0
        self.rows = 0
        self.pages = 0
        self.total: int | None = None

    def listen(self, event: Event) -> None:
        """Take in what the client does."""
        now = self._clock()
        if isinstance(event, RequestStarted):
            self._sent.append(now)
            self.requests += 1
            if self._quota is not None and len(self._sent) == self._quota.limit:
                self._held_back(now, self._sent[0] + self._quota.span)
        elif isinstance(event, QuotaWait) and event.reason != "in flight":
            self._held_back(now, now + event.seconds)

    def advance(self, report: WalkReport) -> None:
        """Take in how far the walk is."""
        self.rows, self.pages, self.total = report.rows, report.pages, report.total_last
        left = self._estimate()
        self._ends = None if left is None else self._clock() + left

    def reading(self) -> PaceReading:
        """Return how it goes now."""
        return PaceReading(
            self.before,
            self.rows,
            self.pages,
            self.requests,
            self.total,
            self.rate,
            self.waiting,
            self.seconds_left,
        )

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return self._clock() - self._began

    @property
    def rate(self) -> float:
        """Payments per second, over all."""
        return self.rows / self.elapsed if self.elapsed > 0 else 0.0

    @property
    def waiting(self) -> float:
        """Seconds until the quota lets the next request go; 0 where it does."""
        return max(0.0, self._idle_until - self._clock())

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the end, None while the service has not said how many payments there are."""
        return None if self._ends is None else max(0.0, self._ends - self._clock())

    def _held_back(self, now: float, until: float) -> None:
        self._idle += max(0.0, until - max(now, self._idle_until))
        self._idle_until = max(until, self._idle_until)

    def _estimate(self) -> float | None:
        if self.total is None or not self.rows:
            return None
        rows = max(0, self.total - self.before - self.rows)
        now, waiting = self._clock(), self.waiting
        busy = max(0.0, now - self._began - (self._idle - waiting))
        on_their_way = max(0, self.requests - self.pages)
        requests = -(-rows * self.pages // self.rows) - on_their_way
        if requests <= 0:
            return rows * busy / self.rows
        by_quota = 0.0 if self._quota is None else seconds_for(requests, self._quota, self._sent, now)
        return max(rows * busy / self.rows, waiting, by_quota)


def seconds_for(requests: int, quota: Quota, sent: Sequence[float], now: float) -> float:
    """Return the seconds until the quota lets the last of so many requests go.

    There is at least one. `sent` are the moments of those sent lately, oldest first: each makes room for
    another one span after it was sent, and that one for the next a span later.
    """
    rounds, place = divmod(requests - 1, quota.limit)
    # So many are free at once; then each waits until one of those sent lately is a span old.
    place += min(len(sent), quota.limit) - quota.limit
    waited = 0.0 if place < 0 else max(0.0, sent[place - min(len(sent), quota.limit)] + quota.span - now)
    return waited + rounds * quota.span
