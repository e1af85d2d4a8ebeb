"""The quota's rules, without I/O: who may send the next request to a store, given past grants and answers.

A `Window` holds everything known about one store's quota. Several event loops or processes use it, one at a
time. Times are seconds on a clock that they share. `window.lua` has the same rules for a window in Redis.
"""

from __future__ import annotations

import math
from bisect import insort
from collections import Counter, OrderedDict, deque
from enum import Enum, IntEnum
from random import getrandbits
from typing import NamedTuple

from b2b_payments._quota.quota import LONGEST_READING, Quota, QuotaReading, believable, part_of

PATIENCE = 3.0
"""Seconds after which an unanswered request no longer holds others back."""

LOST = 2.5
"""Seconds after its last attempt at which a waiter that stopped trying loses its place in the line."""

AGEING = 2.0
"""Others are assumed to spend what was stated to remain at this multiple of the quota's rate."""

SPARE = 0.02
"""The part of the quota left for what other integrations send between a reading and our next request."""

LOW = 0.25
"""A refusal while more than this part of the quota should remain has another reason than the quota."""

MUCH = 0.5
"""The part of the quota that a reset must free, beyond our expired grants, to show a fixed window again."""

JITTER = 0.5
"""A closed gate opens up to a tenth of the wait later, and at most this many seconds."""

_MAX_ALLOCATED = 100_000


class Priority(IntEnum):
    """Who goes first: a call that somebody waits for, before a walk's page."""

    CALL = 0
    PAGE = 1


class WaitReason(Enum):
    """Why a request waits for its permit."""

    WINDOW = "window"  # our own window is full
    CLOSED = "closed"  # refused, or nothing remains
    IN_FLIGHT = "in flight"  # another request has to be answered first, to learn what remains


class Grants:
    """The times of the last grants, and when the next one is due.

    No half-open interval of a quota's `span` holds more grants than its `limit`, nor more pages than its
    `limit` less its `reserve`. At most the largest `limit` of times is kept, for all grants and for pages.
    """

    def __init__(self, *quotas: Quota) -> None:
        self.quotas: set[Quota] = set(quotas)
        self.allocated: tuple[int, float] | None = None
        self.times: deque[float] = deque()
        self.pages: deque[float] = deque()  # those granted to pages; kept only if there is a reserve
        self._set_windows()

    def tighten(self, *quotas: Quota) -> None:
        """Apply these quotas too, in addition to the current ones."""
        if not self.quotas.issuperset(quotas):
            self.quotas.update(quotas)
            self._set_windows()

    def allocate(self, requests: int, per: float) -> None:
        """Apply our share of the quota that the service states, in addition to our own quotas."""
        if (requests, per) != self.allocated:
            self.allocated = requests, per
            self._set_windows()

    def add(self, now: float, priority: Priority) -> None:
        """Count a grant made now."""
        self.times.append(now)
        while len(self.times) > self._max_kept:
            self.times.popleft()
        if priority is Priority.PAGE and self._reserve:
            self.pages.append(now)
            while len(self.pages) > self._max_kept:
                self.pages.popleft()

    def fill(self, now: float) -> None:
        """Assume that a full window of requests was granted now."""
        self.times = deque([now] * self._max_kept)
        self.pages = deque(self.times)

    def postpone(self, granted_at: float, ended_at: float) -> None:
        """Count a grant later if its request took so long that it may have arrived after the margin."""
        counted = ended_at - min(quota.margin for quota in self.quotas)
        if counted > granted_at:
            for times in (self.times, self.pages):
                if granted_at in times:
                    times.remove(granted_at)
                    insort(times, counted)

    def merge(self, other: Grants) -> None:
        """Add the grants that `other` counted; those counted by both count once."""
        for own, others in ((self.times, other.times), (self.pages, other.pages)):
            merged = sorted((Counter(own) | Counter(others)).elements())[-self._max_kept :]
            own.clear()
            own.extend(merged)

    def due(self, now: float, ahead: int, priority: Priority) -> float:
        """Return the earliest time for a grant with `ahead` others before it."""
        due = now
        for limit, span in self._windows:
            due = max(due, _due(self.times, limit, span, ahead, now))
            if priority is Priority.PAGE and self._reserve:
                due = max(due, _due(self.pages, max(1, limit - self._reserve), span, ahead, now))
        return due

    def is_live(self, now: float) -> bool:
        """Whether the last grant is still inside one of the windows."""
        return bool(self.times) and self.times[-1] + max(span for _, span in self._windows) > now

    def spare(self, now: float) -> int:
        """Return how many more grants fit into the smallest window now."""
        return self.limit - len(self._in_window(now))

    def count_expired(self, since: float, now: float) -> int:
        """Return how many grants left the window between `since` and `now`."""
        return sum(since < granted + self.span <= now for granted in self.times)

    def half_expired_at(self, now: float) -> float:
        """Return the time when half of the grants now in the window will have left it."""
        within = self._in_window(now)
        return within[(len(within) - 1) // 2] + self.span if within else now

    def _in_window(self, now: float) -> list[float]:
        return [granted for granted in self.times if granted + self.span > now]

    def _set_windows(self) -> None:
        windows = {(quota.limit, quota.span) for quota in self.quotas}
        if self.allocated is not None:
            requests, per = self.allocated
            share = min(quota.share for quota in self.quotas)
            windows.add((part_of(requests, share), per + max(quota.margin for quota in self.quotas)))
        self._windows = sorted(windows)
        self.limit: int = self._windows[0][0]
        self.span: float = self._windows[0][1]
        self._max_kept = max(limit for limit, _ in windows)
        self._reserve = max(quota.reserve for quota in self.quotas)


def _due(times: deque[float], limit: int, span: float, ahead: int, now: float) -> float:
    rounds, place = divmod(ahead, limit)
    index = len(times) - limit + place
    return (times[index] + span if index >= 0 else now) + rounds * span


class Forecast:
    """How many requests may be in flight, and until when none may: rules 2 to 4 of the package docstring."""

    def __init__(self, grants: Grants) -> None:
        self._grants = grants
        self.trust: float = 1.0
        self.remaining: float = math.inf
        self.stated_at: float = -math.inf
        self.resets_at: float = math.inf
        self.slides: bool = False

    def max_in_flight(self, now: float) -> float:
        """Return how many requests may be in flight now: at least one."""
        return max(1, min(self.trust, self._expected_remaining(now) // 2))

    def learn(self, granted_at: float, reading: QuotaReading, now: float) -> float | None:
        """Learn from an answer. Returns the time until which to close the gate, or None to leave it open."""
        newer = granted_at >= self.stated_at
        if newer and (allocated := believable_quota(reading.allocated)) is not None:
            self._grants.allocate(*allocated)
        if reading.remaining is None or reading.remaining < 0:
            # If the service states nothing, the number of requests in flight grows quickly, but stepwise.
            self.trust *= 4
            return None
        self.trust = math.inf
        # Sent before the last reading arrived, so maybe counted before it: may only lower what remains.
        if not newer and reading.remaining >= self.remaining:
            return None
        self._judge_reset(granted_at, reading.remaining, now)
        resets_after = believable(reading.resets_after)
        self.remaining, self.stated_at = reading.remaining, now
        self.resets_at = math.inf if resets_after is None else now + resets_after
        return None if resets_after is None else self._reopens_at(reading.remaining, now)

    def refuse(self, granted_at: float, opens_at: float, now: float) -> float:
        """Learn from a refusal. Returns the time until which to close the gate: `opens_at` or later."""
        self.trust = 1.0
        if self._expected_remaining(now) > LOW * self._grants.limit:
            return opens_at
        self.slides = self.slides or granted_at >= self.resets_at
        self.resets_at = max(opens_at, self._half_expired_at(now))
        return self.resets_at

    def _expected_remaining(self, now: float) -> float:
        """Return the stated remaining requests less what others may have spent since."""
        return self.remaining - AGEING * self._grants.limit * (now - self.stated_at) / self._grants.span

    def _judge_reset(self, granted_at: float, remaining: int, now: float) -> None:
        if granted_at >= self.resets_at:
            freed = remaining - self.remaining - self._grants.count_expired(self.stated_at, now)
            self.slides = freed <= (MUCH * self._grants.limit if self.slides else 0)

    def _reopens_at(self, remaining: int, now: float) -> float | None:
        # If our own grants explain what remains, our own window decides when to continue.
        if remaining > SPARE * self._grants.limit or remaining >= self._grants.spare(now):
            return None
        return max(self.resets_at, self._half_expired_at(now))

    def _half_expired_at(self, now: float) -> float:
        return self._grants.half_expired_at(now) if self.slides else now


def believable_quota(allocated: tuple[int, float] | None) -> tuple[int, float] | None:
    """Return the requests and seconds if they can be a store's quota, None if they are absurd."""
    if allocated is None or not 1 <= allocated[0] <= _MAX_ALLOCATED:
        return None
    return allocated if 0 < allocated[1] <= LONGEST_READING else None


class Claim(NamedTuple):
    """A waiter's place in the line: by priority, then first come, first served."""

    priority: Priority
    since: float
    seen_at: float


class Verdict(NamedTuple):
    """The result of an attempt: a permit's key, or None with the time to try again and the reason to wait.

    `window_time` is when it was granted, on the window's own clock; the permit's report repeats it.
    """

    key: int | None
    opens_at: float
    reason: WaitReason
    ahead: int = 0
    window_time: float = 0.0


class ReportKind(IntEnum):
    """How a permit's request ended, or that a member left the line."""

    ANSWERED = 0
    REFUSED = 1
    UNANSWERED = 2
    WITHDRAWN = 3


class Report(NamedTuple):
    """A report to the window. `key` is the permit's key; for WITHDRAWN, the member's number.

    `pause` is the seconds to wait after a refusal; `chance`, in [0, 1), sets how much later the gate opens.
    """

    kind: ReportKind
    key: int
    window_time: float = 0.0
    reading: QuotaReading = QuotaReading()
    pause: float = 0.0
    chance: float = 0.0


class Window:
    """Everything known about one store's quota. See the module's docstring."""

    def __init__(self, *quotas: Quota) -> None:
        self.grants: Grants = Grants(*quotas)
        self.forecast: Forecast = Forecast(self.grants)
        self.closed_until: float = -math.inf
        self.in_flight: OrderedDict[int, float] = OrderedDict()
        self.claims: dict[int, Claim] = {}

    def is_live(self, now: float) -> bool:
        """Whether anything still limits requests: a grant inside its window, or a closed gate."""
        return self.closed_until > now or self.grants.is_live(now)

    def is_ahead(self, now: float) -> bool:
        """Whether its grants lie in the future, and were therefore counted on another clock."""
        return bool(self.grants.times) and self.grants.times[-1] > now + 1

    def earliest(self, now: float, ahead: int, priority: Priority) -> float:
        """Return when a waiter with `ahead` others before it may go, by our window and the closed gate."""
        return max(self.closed_until, self.grants.due(now, ahead, priority))

    def try_acquire(self, member: int, priority: Priority, since: float, now: float) -> Verdict:
        """Grant a member a permit for one request if it may be sent now, else keep its place in the line."""
        ahead = self._count_ahead(member, priority, since, now)
        while self.in_flight and next(iter(self.in_flight.values())) + PATIENCE <= now:
            self.in_flight.popitem(last=False)
        verdict = self.estimate(now, ahead, priority)
        if verdict.opens_at > now:
            return verdict
        del self.claims[member]
        key = new_key()
        self.grants.add(now, priority)
        self.in_flight[key] = now
        return verdict._replace(key=key, opens_at=now, window_time=now)

    def estimate(self, now: float, ahead: int, priority: Priority) -> Verdict:
        """Return when a waiter with `ahead` others before it may go and why it waits, barring new answers."""
        opens_at = self.earliest(now, ahead, priority)
        if opens_at <= now and len(self.in_flight) + ahead >= self.forecast.max_in_flight(now):
            first = next(iter(self.in_flight.values()), now)
            return Verdict(None, first + PATIENCE, WaitReason.IN_FLIGHT, ahead)
        reason = WaitReason.CLOSED if self.closed_until >= opens_at else WaitReason.WINDOW
        return Verdict(None, opens_at, reason, ahead)

    def record(self, report: Report, now: float) -> None:
        """Record how a request ended, or that a member left the line. A request's grant stays counted."""
        if report.kind is ReportKind.WITHDRAWN:
            self.claims.pop(report.key, None)
            return
        self.in_flight.pop(report.key, None)
        opens_at: float | None = None
        if report.kind is not ReportKind.REFUSED:
            self.grants.postpone(report.window_time, now)
        if report.kind is ReportKind.ANSWERED:
            opens_at = self.forecast.learn(report.window_time, report.reading, now)
        elif report.kind is ReportKind.REFUSED:
            opens_at = self.forecast.refuse(report.window_time, now + report.pause, now)
        if opens_at is not None:
            self.close(opens_at + report.chance * min(JITTER, (opens_at - now) / 10))

    def close(self, opens_at: float) -> None:
        """Grant nothing before `opens_at`."""
        self.closed_until = max(self.closed_until, opens_at)

    def _count_ahead(self, member: int, priority: Priority, since: float, now: float) -> int:
        """Enter a member's claim, and return how many others are before it."""
        self.claims[member] = Claim(priority, since, now)
        if len(self.claims) == 1:
            return 0
        for other in [other for other, claim in self.claims.items() if claim.seen_at + LOST < now]:
            del self.claims[other]
        return sum(
            (claim.priority, claim.since) < (priority, since)
            for other, claim in self.claims.items()
            if other != member
        )


def new_key() -> int:
    """Return an id for a permit or member: unique across processes, and exact as a double, for Lua."""
    return getrandbits(53)
