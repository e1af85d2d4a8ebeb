"""The service's side of the quota: who is let in, and the headers that say so."""

from __future__ import annotations

import math
from collections import deque
from email.utils import formatdate

from b2b_payments.sandbox._rules import Rules


class Counter:
    """Counts the requests that arrive, over a sliding or a fixed window. Times are in seconds."""

    def __init__(self, rules: Rules, now: float) -> None:
        self._requests, self._per = rules.requests, rules.per
        self._sliding = rules.window == "sliding"
        self._counted: deque[float] = deque()
        # The other integration's requests, spread evenly over the window.
        self._others_every = rules.per / rules.others_per_window if rules.others_per_window else math.inf
        self._next_other = now + self._others_every / 2

    def admit(self, now: float) -> bool:
        """Count a request that arrives now. False if it is over the quota; such a one is not counted."""
        self._let_others(now)
        return self._take(now)

    def remaining(self, now: float) -> int:
        """Give how many more requests would be let in now."""
        self._let_others(now)
        self._forget(now)
        return max(0, self._requests - len(self._counted))

    def resets_after(self, now: float) -> float:
        """Give the seconds until the oldest request leaves the window, or until a fixed window ends."""
        self._forget(now)
        return max(0.0, self._counted[0] + self._per - now) if self._counted else self._per

    def _take(self, now: float) -> bool:
        self._forget(now)
        if len(self._counted) >= self._requests:
            return False
        self._counted.append(now)
        return True

    def _forget(self, now: float) -> None:
        if self._sliding:
            while self._counted and self._counted[0] + self._per <= now:
                self._counted.popleft()
        elif self._counted and self._counted[0] + self._per <= now:
            # A fixed window is opened by its first request, and all of it ends at once.
            self._counted.clear()

    def _let_others(self, now: float) -> None:
        if self._next_other < now - 2 * self._per:
            # What lies further back has left every window.
            skipped = math.floor((now - 2 * self._per - self._next_other) / self._others_every)
            self._next_other += skipped * self._others_every
        while self._next_other <= now:
            self._take(self._next_other)
            self._next_other += self._others_every


def quota_headers(rules: Rules, remaining: int, resets_after: float) -> dict[str, str]:
    """Give the documented headers, with the units that the documentation shows."""
    return {
        "X-Requests-Allocated": f"{rules.requests} times/{rules.per:g} s",
        "X-Requests-Remaining": f"{remaining} times",
        "X-Request-Window-Resets-After": f"{resets_after:.3f} s",
    }


def refusal_headers(rules: Rules, wait: float, date: int) -> dict[str, str]:
    """Give the headers of a 429 under these rules; `wait` is in seconds, rounded up where it must be.

    `date` is that of the answer, in epoch seconds.
    """
    seconds = math.ceil(wait)
    headers = quota_headers(rules, 0, wait) if "documented" in rules.refusal_headers else {}
    if "retry-after" in rules.refusal_headers:
        headers["Retry-After"] = str(seconds)
    elif "retry-after-date" in rules.refusal_headers:
        headers["Retry-After"] = formatdate(date + seconds, usegmt=True)
    if "x-retry-after" in rules.refusal_headers:
        headers["X-Retry-After"] = str(seconds)
    if "rate-limit" in rules.refusal_headers:
        headers["X-Rate-Limit-Time-Reset-Ms"] = str(math.ceil(wait * 1000))
        headers["X-Rate-Limit-Requests-Left"] = "0"
    return headers
