"""The rule, without I/O: who may send the next request to a store, by what was granted and what was answered.

A `Window` is all that is known of one store's quota. It is held by one at a time and asked by several: the
event loops of a process, or the processes of a machine. Moments are seconds of a clock that they have in
common. `window.lua` is the same rule for a window that Redis holds.
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
"""Seconds after which one who no longer asks has no place in the line any more."""

AGEING = 2.0
"""How many times as fast as the quota allows others are taken to spend what was said to remain."""

SPARE = 0.02
"""The part of the quota that is left for what others send between a reading and our next request."""

LOW = 0.25
"""The part of the quota that is little: a refusal while more was said to remain has another reason."""

MUCH = 0.5
"""The part of the quota that a reset frees, beyond our own old grants, where the window is fixed."""

JITTER = 0.5
"""Seconds by which a closed gate opens later at most: a tenth of the wait, up to this."""

_MOST_ALLOCATED = 100_000


class Priority(IntEnum):
    """Who goes first: a call that somebody waits for, or a walk's page."""

    CALL = 0
    PAGE = 1


class WaitReason(Enum):
    """Why a request waits for its permit."""

    WINDOW = "window"  # our own window is full
    CLOSED = "closed"  # refused, or nothing remains
    IN_FLIGHT = "in flight"  # an answer is awaited first, to learn what remains


class Grants:
    """The moments of the last grants, and when the next one is due.

    In no half-open interval of a quota's `span` lie more than its `limit`, nor more pages than its `limit`
    less its `reserve`. It holds at most `limit` moments of each.
    """

    def __init__(self, *quotas: Quota) -> None:
        self.quotas: set[Quota] = set(quotas)
        self.allocated: tuple[int, float] | None = None
        self.moments: deque[float] = deque()
        self.pages: deque[float] = deque()  # those of them that were given to pages
        self._set_windows()

    def tighten(self, *quotas: Quota) -> None:
        """Keep these quotas too, beside those already kept."""
        if not self.quotas.issuperset(quotas):
            self.quotas.update(quotas)
            self._set_windows()

    def allocate(self, requests: int, per: float) -> None:
        """Keep the quota that the service states, of which our share is ours."""
        if (requests, per) != self.allocated:
            self.allocated = requests, per
            self._set_windows()

    def add(self, now: float, priority: Priority) -> None:
        """Count a grant that is given now."""
        self.moments.append(now)
        while len(self.moments) > self._most:
            self.moments.popleft()
        if priority is Priority.PAGE and self._reserve:
            self.pages.append(now)
            while len(self.pages) > self._most:
                self.pages.popleft()

    def fill(self, now: float) -> None:
        """Take as many as a window holds to have been granted now."""
        self.moments = deque([now] * self._most)
        self.pages = deque(self.moments)

    def postpone(self, moment: float, ended: float) -> None:
        """Count the grant of that moment so that it covers an arrival as late as its request's end."""
        counted = ended - min(quota.margin for quota in self.quotas)
        if counted > moment:
            for moments in (self.moments, self.pages):
                if moment in moments:
                    moments.remove(moment)
                    insort(moments, counted)

    def merge(self, other: Grants) -> None:
        """Count what another counted, too; what both counted counts once."""
        for own, others in ((self.moments, other.moments), (self.pages, other.pages)):
            merged = sorted((Counter(own) | Counter(others)).elements())[-self._most :]
            own.clear()
            own.extend(merged)

    def due(self, now: float, ahead: int, priority: Priority) -> float:
        """Return the first moment for a grant with so many others `ahead` of it."""
        due = now
        for limit, span in self._windows:
            due = max(due, _due(self.moments, limit, span, ahead, now))
            if priority is Priority.PAGE and self._reserve:
                due = max(due, _due(self.pages, max(1, limit - self._reserve), span, ahead, now))
        return due

    def live(self, now: float) -> bool:
        """Whether the last grant still counts in one of the windows."""
        return bool(self.moments) and self.moments[-1] + max(span for _, span in self._windows) > now

    def spare(self, now: float) -> int:
        """Return how many more grants the smallest window holds now."""
        return self.limit - len(self._within(now))

    def gone(self, since: float, now: float) -> int:
        """Return how many grants left the window after `since`, until now."""
        return sum(since < granted + self.span <= now for granted in self.moments)

    def half_gone(self, now: float) -> float:
        """Return the moment at which half of the grants that are in the window now will have left it."""
        within = self._within(now)
        return within[(len(within) - 1) // 2] + self.span if within else now

    def _within(self, now: float) -> list[float]:
        return [granted for granted in self.moments if granted + self.span > now]

    def _set_windows(self) -> None:
        windows = {(quota.limit, quota.span) for quota in self.quotas}
        if self.allocated is not None:
            requests, per = self.allocated
            share = min(quota.share for quota in self.quotas)
            windows.add((part_of(requests, share), per + max(quota.margin for quota in self.quotas)))
        self._windows = sorted(windows)
        self.limit: int = self._windows[0][0]
        self.span: float = self._windows[0][1]
        self._most = max(limit for limit, _ in windows)
        self._reserve = max(quota.reserve for quota in self.quotas)


def _due(moments: deque[float], limit: int, span: float, ahead: int, now: float) -> float:
    rounds, place = divmod(ahead, limit)
    index = len(moments) - limit + place
    return (moments[index] + span if index >= 0 else now) + rounds * span


class Forecast:
    """How many requests may be in flight, and until when none may: rules 2 to 4 of the package."""

    def __init__(self, grants: Grants) -> None:
        self._grants = grants
        self.trust: float = 1.0
        self.remaining: float = math.inf
        self.stated_at: float = -math.inf
        self.resets_at: float = math.inf
        self.slides: bool = False

    def room(self, now: float) -> float:
        """Return how many requests may be in flight now: always one."""
        return max(1, min(self.trust, self._left(now) // 2))

    def learn(self, granted_at: float, reading: QuotaReading, now: float) -> float | None:
        """Take in a reading of a request granted then; gives the moment until which to close, if any."""
        newer = granted_at >= self.stated_at
        if newer and (allocated := is_a_quota(reading.allocated)) is not None:
            self._grants.allocate(*allocated)
        if reading.remaining is None or reading.remaining < 0:
            # A service that states nothing is trusted quickly, but not at once.
            self.trust *= 4
            return None
        self.trust = math.inf
        # A request that was sent before the last reading came may have been counted before it, too.
        if not newer and reading.remaining >= self.remaining:
            return None
        self._judge_reset(granted_at, reading.remaining, now)
        resets_after = believable(reading.resets_after)
        self.remaining, self.stated_at = reading.remaining, now
        self.resets_at = math.inf if resets_after is None else now + resets_after
        return None if resets_after is None else self._exhausted(reading.remaining, now)

    def refuse(self, granted_at: float, opens: float, now: float) -> float:
        """Take in a refusal; gives the moment until which to close, `opens` or later."""
        self.trust = 1.0
        if self._left(now) > LOW * self._grants.limit:
            return opens
        self.slides = self.slides or granted_at >= self.resets_at
        self.resets_at = max(opens, self._half_gone(now))
        return self.resets_at

    def _left(self, now: float) -> float:
        """What was said to remain, less what others may have spent since."""
        return self.remaining - AGEING * self._grants.limit * (now - self.stated_at) / self._grants.span

    def _judge_reset(self, granted_at: float, remaining: int, now: float) -> None:
        if granted_at >= self.resets_at:
            freed = remaining - self.remaining - self._grants.gone(self.stated_at, now)
            self.slides = freed <= (MUCH * self._grants.limit if self.slides else 0)

    def _exhausted(self, remaining: int, now: float) -> float | None:
        # Where our own grants explain what remains, our own window says when to go on.
        if remaining > SPARE * self._grants.limit or remaining >= self._grants.spare(now):
            return None
        return max(self.resets_at, self._half_gone(now))

    def _half_gone(self, now: float) -> float:
        return self._grants.half_gone(now) if self.slides else now


def is_a_quota(allocated: tuple[int, float] | None) -> tuple[int, float] | None:
    """Return requests and seconds that can be a store's quota; None for absurd ones."""
    if allocated is None or not 1 <= allocated[0] <= _MOST_ALLOCATED:
        return None
    return allocated if 0 < allocated[1] <= LONGEST_READING else None


class Claim(NamedTuple):
    """The place in the line of one who asks: by priority, then first come, first served."""

    priority: Priority
    came: float
    seen: float


class Verdict(NamedTuple):
    """What one who asks is told: a grant's key, or None with when to ask again, and why to wait.

    `granted_at` is by the clock of the window, as a report of the grant has to say it again.
    """

    key: int | None
    opens: float
    reason: WaitReason
    ahead: int = 0
    granted_at: float = 0.0


class ReportKind(IntEnum):
    """What there is to report."""

    ANSWERED = 0
    REFUSED = 1
    UNANSWERED = 2
    WITHDRAWN = 3


class Report(NamedTuple):
    """How a permit's request ended, or that a member left the line. `key` is the permit's, or the member.

    A refusal asks to wait `pause` seconds; `chance`, in [0, 1), says how much later a closed gate opens.
    """

    kind: ReportKind
    key: int
    granted_at: float = 0.0
    reading: QuotaReading = QuotaReading()
    pause: float = 0.0
    chance: float = 0.0


class Window:
    """All that is known of one store's quota. See the module's docstring."""

    def __init__(self, *quotas: Quota) -> None:
        self.grants: Grants = Grants(*quotas)
        self.forecast: Forecast = Forecast(self.grants)
        self.closed_until: float = -math.inf
        self.in_flight: OrderedDict[int, float] = OrderedDict()
        self.claims: dict[int, Claim] = {}

    def counts(self, now: float) -> bool:
        """Whether what is known still matters: a grant in its window, or a closed gate."""
        return self.closed_until > now or self.grants.live(now)

    def is_ahead(self, now: float) -> bool:
        """Whether it was counted by another clock, which is ahead of this moment."""
        return bool(self.grants.moments) and self.grants.moments[-1] > now + 1

    def earliest(self, now: float, ahead: int, priority: Priority) -> float:
        """When one with so many `ahead` can go, by our own window and the closed gate."""
        return max(self.closed_until, self.grants.due(now, ahead, priority))

    def ask(self, member: int, priority: Priority, came: float, now: float) -> Verdict:
        """Ask for a member that sends one request, the first in its own line, whether it may go now."""
        ahead = self._ahead(member, priority, came, now)
        while self.in_flight and next(iter(self.in_flight.values())) + PATIENCE <= now:
            self.in_flight.popitem(last=False)
        verdict = self.outlook(now, ahead, priority)
        if verdict.opens > now:
            return verdict
        del self.claims[member]
        key = new_key()
        self.grants.add(now, priority)
        self.in_flight[key] = now
        return verdict._replace(key=key, opens=now, granted_at=now)

    def outlook(self, now: float, ahead: int, priority: Priority) -> Verdict:
        """Return when one with so many `ahead` may go, unless an answer comes and changes it."""
        opens = self.earliest(now, ahead, priority)
        if opens <= now and len(self.in_flight) + ahead >= self.forecast.room(now):
            first = next(iter(self.in_flight.values()), now)
            return Verdict(None, first + PATIENCE, WaitReason.IN_FLIGHT, ahead)
        reason = WaitReason.CLOSED if self.closed_until >= opens else WaitReason.WINDOW
        return Verdict(None, opens, reason, ahead)

    def take_in(self, report: Report, now: float) -> None:
        """Take in how a request ended, or that a member left the line. Its grant stays counted."""
        if report.kind is ReportKind.WITHDRAWN:
            self.claims.pop(report.key, None)
            return
        self.in_flight.pop(report.key, None)
        opens: float | None = None
        if report.kind is not ReportKind.REFUSED:
            self.grants.postpone(report.granted_at, now)
        if report.kind is ReportKind.ANSWERED:
            opens = self.forecast.learn(report.granted_at, report.reading, now)
        elif report.kind is ReportKind.REFUSED:
            opens = self.forecast.refuse(report.granted_at, now + report.pause, now)
        if opens is not None:
            self.close(opens + report.chance * min(JITTER, (opens - now) / 10))

    def close(self, opens: float) -> None:
        """Let nobody go before that moment."""
        self.closed_until = max(self.closed_until, opens)

    def _ahead(self, member: int, priority: Priority, came: float, now: float) -> int:
        """Return how many others are in front of a member, whose own claim is entered."""
        self.claims[member] = Claim(priority, came, now)
        if len(self.claims) == 1:
            return 0
        for other in [other for other, claim in self.claims.items() if claim.seen + LOST < now]:
            del self.claims[other]
        return sum(
            (claim.priority, claim.came) < (priority, came)
            for other, claim in self.claims.items()
            if other != member
        )


def new_key() -> int:
    """Return an id for a permit or member, unique across processes and exact as a double, for Lua."""
    return getrandbits(53)
