"""What remains of the store's quota, by what the service said last."""

from __future__ import annotations

import math

from b2b_payments._quota.allowance import QuotaReading, believable
from b2b_payments._quota.grants import Grants

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
