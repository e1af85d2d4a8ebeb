"""The rule, without I/O: our own grants in a sliding window, and what the service said remains."""

from __future__ import annotations

import math
from collections import deque

from b2b_payments._quota.quota import LONGEST_READING, Quota, QuotaReading, believable, part_of

_MOST_ALLOCATED = 100_000


class Grants:
    """The moments of the last grants, and when the next one is due.

    In no half-open interval of a quota's `span` lie more than its `limit`. It holds at most `limit` moments,
    and takes the same small time for each grant.
    """

    def __init__(self, quota: Quota) -> None:
        self._quotas = {quota}
        self._allocated: tuple[int, float] | None = None
        self._moments: deque[float] = deque()
        self._set_windows()

    def tighten(self, quota: Quota) -> None:
        """Keep this quota too, beside those already kept."""
        self._quotas.add(quota)
        self._set_windows()

    def allocate(self, requests: int, per: float) -> None:
        """Keep the quota that the service states, of which our share is ours; an absurd one is ignored."""
        if not 1 <= requests <= _MOST_ALLOCATED or not 0 < per <= LONGEST_READING:
            return
        if (requests, per) != self._allocated:
            self._allocated = requests, per
            self._set_windows()

    def add(self, now: float) -> None:
        """Count a grant that is given now."""
        self._moments.append(now)
        if len(self._moments) > self._most:
            self._moments.popleft()

    def due(self, now: float, ahead: int) -> float:
        """Give the first moment for a grant with so many others `ahead` of it."""
        due = now
        for limit, span in self._windows:
            rounds, place = divmod(ahead, limit)
            index = len(self._moments) - limit + place
            start = self._moments[index] + span if index >= 0 else now
            due = max(due, start + rounds * span)
        return due

    def live(self, now: float) -> bool:
        """Whether the last grant still counts in one of the windows."""
        return bool(self._moments) and self._moments[-1] + max(span for _, span in self._windows) > now

    def spare(self, now: float) -> int:
        """Give how many more grants the smallest window holds now."""
        return self.limit - len(self._within(now))

    def gone(self, since: float, now: float) -> int:
        """Give how many grants left the window after `since`, until now."""
        return sum(since < granted + self.span <= now for granted in self._moments)

    def half_gone(self, now: float) -> float:
        """Give the moment at which half of the grants that are in the window now will have left it."""
        within = self._within(now)
        return within[(len(within) - 1) // 2] + self.span if within else now

    def _within(self, now: float) -> list[float]:
        return [granted for granted in self._moments if granted + self.span > now]

    def _set_windows(self) -> None:
        windows = {(quota.limit, quota.span) for quota in self._quotas}
        if self._allocated is not None:
            requests, per = self._allocated
            share = min(quota.share for quota in self._quotas)
            windows.add((part_of(requests, share), per + max(quota.margin for quota in self._quotas)))
        self._windows = sorted(windows)
        self.limit, self.span = self._windows[0]
        self._most = max(limit for limit, _ in windows)


AGEING = 2.0
"""How many times as fast as the quota allows others are taken to spend what was said to remain."""

RESERVE = 0.02
"""The part of the quota that is left for what others send between a reading and our next request."""

LOW = 0.25
"""The part of the quota that is little: a refusal while more was said to remain has another reason."""

MUCH = 0.5
"""The part of the quota that a reset frees, beyond our own old grants, where the window is fixed."""


class Forecast:
    """How many requests may be in flight, and until when none may.

    `room` and the moments that `learn` and `refuse` give are rules 2 to 4 of the package's docstring.
    """

    def __init__(self, grants: Grants) -> None:
        self._grants = grants
        self._trust = 1.0
        self._remaining = math.inf
        self._stated_at = -math.inf
        self._resets_at = math.inf
        self._slides = False

    def room(self, now: float) -> float:
        """Give how many requests may be in flight now: always one."""
        return max(1, min(self._trust, self._left(now) // 2))

    def learn(self, granted_at: float, reading: QuotaReading, now: float) -> float | None:
        """Take in a reading of a request granted then; gives the moment until which to close, if any."""
        newer = granted_at >= self._stated_at
        if newer and reading.allocated is not None:
            self._grants.allocate(*reading.allocated)
        if reading.remaining is None or reading.remaining < 0:
            # A service that states nothing is trusted quickly, but not at once.
            self._trust *= 4
            return None
        self._trust = math.inf
        # A request that was sent before the last reading came may have been counted before it, too.
        if not newer and reading.remaining >= self._remaining:
            return None
        self._judge_reset(granted_at, reading.remaining, now)
        resets_after = believable(reading.resets_after)
        self._remaining, self._stated_at = reading.remaining, now
        self._resets_at = math.inf if resets_after is None else now + resets_after
        return None if resets_after is None else self._exhausted(reading.remaining, now)

    def refuse(self, granted_at: float, opens: float, now: float) -> float:
        """Take in a refusal; gives the moment until which to close, `opens` or later."""
        self._trust = 1.0
        if self._left(now) > LOW * self._grants.limit:
            return opens
        self._slides = self._slides or granted_at >= self._resets_at
        self._resets_at = max(opens, self._half_gone(now))
        return self._resets_at

    def _left(self, now: float) -> float:
        """What was said to remain, less what others may have spent since."""
        return self._remaining - AGEING * self._grants.limit * (now - self._stated_at) / self._grants.span

    def _judge_reset(self, granted_at: float, remaining: int, now: float) -> None:
        if granted_at >= self._resets_at:
            freed = remaining - self._remaining - self._grants.gone(self._stated_at, now)
            self._slides = freed <= (MUCH * self._grants.limit if self._slides else 0)

    def _exhausted(self, remaining: int, now: float) -> float | None:
        # Where our own grants explain what remains, our own window says when to go on.
        if remaining > RESERVE * self._grants.limit or remaining >= self._grants.spare(now):
            return None
        return max(self._resets_at, self._half_gone(now))

    def _half_gone(self, now: float) -> float:
        return self._grants.half_gone(now) if self._slides else now
