"""Which requests are admitted: credentials, quota and the number of concurrent requests. No I/O."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from email.utils import formatdate

import attrs

from b2b_payments.sandbox._answer import Answer
from b2b_payments.sandbox._data import STORE_HASH
from b2b_payments.sandbox._rules import Rules


class Counter:
    """Counts the requests that arrive, over a sliding or a fixed window. Times are in seconds."""

    def __init__(self, rules: Rules, now: float) -> None:
        self._requests, self._per = rules.requests, rules.per
        self._sliding = rules.window == "sliding"
        self._counted: deque[float] = deque()
        # The other integration's requests, spread evenly over the window.
        self._others_interval = rules.per / rules.others_per_window if rules.others_per_window else math.inf
        self._next_other = now + self._others_interval / 2

    def admit(self, now: float) -> bool:
        """Count a request that arrives now. Returns False, and does not count it, if it is over the quota."""
        self._count_others(now)
        return self._count(now)

    def remaining(self, now: float) -> int:
        """Return how many more requests would be admitted now."""
        self._count_others(now)
        self._drop_expired(now)
        return max(0, self._requests - len(self._counted))

    def resets_after(self, now: float) -> float:
        """Return the seconds until the oldest request leaves the window, or until a fixed window ends."""
        self._drop_expired(now)
        return max(0.0, self._counted[0] + self._per - now) if self._counted else self._per

    def wait(self, now: float) -> float:
        """Return the seconds until a request that is refused now would be admitted."""
        return self.resets_after(now)

    def _count(self, now: float) -> bool:
        self._drop_expired(now)
        if len(self._counted) >= self._requests:
            return False
        self._counted.append(now)
        return True

    def _drop_expired(self, now: float) -> None:
        if self._sliding:
            while self._counted and self._counted[0] + self._per <= now:
                self._counted.popleft()
        elif self._counted and self._counted[0] + self._per <= now:
            # A fixed window is opened by its first request, and expires as a whole.
            self._counted.clear()

    def _count_others(self, now: float) -> None:
        if self._next_other < now - 2 * self._per:
            # Skip what is older than every window.
            skipped = math.floor((now - 2 * self._per - self._next_other) / self._others_interval)
            self._next_other += skipped * self._others_interval
        while self._next_other <= now:
            self._count(self._next_other)
            self._next_other += self._others_interval


class LeakyBucket(Counter):
    """Counts with GCRA: a bucket as large as the quota, which leaks evenly, one request at a time."""

    def __init__(self, rules: Rules, now: float) -> None:
        super().__init__(rules, now)
        self._leak_interval = rules.per / rules.requests
        self._empty_at = now

    def remaining(self, now: float) -> int:
        """Return how many more requests would be admitted now."""
        self._count_others(now)
        # The tolerance is for floating-point times that are not exact multiples of the leak interval.
        return math.floor((self._per - self.resets_after(now)) / self._leak_interval + 1e-6)

    def resets_after(self, now: float) -> float:
        """Return the seconds until the bucket is empty, which the documentation's sample headers state."""
        return max(0.0, self._empty_at - now)

    def wait(self, now: float) -> float:
        """Return the seconds until a request that is refused now would be admitted."""
        return max(0.0, self.resets_after(now) + self._leak_interval - self._per)

    def _count(self, now: float) -> bool:
        if self.wait(now) > 1e-6 * self._leak_interval:
            return False
        self._empty_at = max(self._empty_at, now) + self._leak_interval
        return True


def quota_headers(rules: Rules, remaining: int, resets_after: float) -> dict[str, str]:
    """Return the documented headers, with units as in the documentation."""
    return {
        "X-Requests-Allocated": f"{rules.requests} times/{rules.per:g} s",
        "X-Requests-Remaining": f"{remaining} times",
        "X-Request-Window-Resets-After": f"{resets_after:.3f} s",
    }


def refusal_headers(
    rules: Rules, wait: float, date: int, resets_after: float | None = None
) -> dict[str, str]:
    """Return the headers of a 429 under these rules.

    `wait` is in seconds; integers and dates are rounded up. `date` is the answer's, in epoch seconds.
    The quota is full again after `resets_after` seconds, or `wait` if that is None.
    """
    seconds = math.ceil(wait)
    resets_after = wait if resets_after is None else resets_after
    headers = quota_headers(rules, 0, resets_after) if "documented" in rules.refusal_headers else {}
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


class Admission:
    """Admits or refuses requests. Times are the event loop's, in seconds."""

    def __init__(self, rules: Rules, now: float) -> None:
        self.token_number = 0
        self.open_window(rules, now)

    def open_window(self, rules: Rules, now: float) -> None:
        """Start counting under these rules, with an empty window."""
        self._counter = (LeakyBucket if rules.window == "leaky" else Counter)(rules, now)

    @property
    def access_token(self) -> str:
        """The currently valid token for `X-Auth-Token`."""
        return f"sandbox-access-token-{self.token_number}"

    @property
    def auth_token(self) -> str:
        """The currently valid token for `authToken`."""
        return f"sandbox-auth-token-{self.token_number}"

    def refusal(
        self, rules: Rules, headers: Mapping[str, str], now: float, in_service: int, date: int
    ) -> Answer | None:
        """Return the answer to a refused request, or None if the request is admitted.

        `date` is the answer's, in epoch seconds.
        """
        if (denial := self._denial(rules, headers)) is not None:
            return denial
        if rules.quota and not self._counter.admit(now):
            return too_many(rules, self._counter.wait(now), date, self._counter.resets_after(now))
        if rules.content_type_required and headers.get("Content-Type") != "application/json":
            return Answer.error(415, "The Content-Type must be application/json")
        if rules.concurrent is not None and in_service >= rules.concurrent:
            return too_many(rules, rules.refusal_wait, date)
        return None

    def headers(self, rules: Rules, answered: Answer, now: float) -> dict[str, str]:
        """Return the quota headers of an answer."""
        # A 429 has the headers of its own rule, and a gateway does not know the quota.
        own = answered.status == 429 or answered.content_type != "application/json"
        if own or not (rules.quota and rules.quota_headers):
            return {}
        return quota_headers(rules, self._counter.remaining(now), self._counter.resets_after(now))

    def _denial(self, rules: Rules, headers: Mapping[str, str]) -> Answer | None:
        store_hash, legacy_token = headers.get("X-Store-Hash"), headers.get("authToken")
        if legacy_token is not None and store_hash is not None:
            return Answer.error(500, "authToken was sent together with X-Store-Hash, which is undefined")
        if legacy_token is not None:
            known = "legacy" in rules.authentication and legacy_token == self.auth_token
        else:
            known = store_hash is not None and headers.get("X-Auth-Token") == self.access_token
            known = known and "store" in rules.authentication
        if not known:
            return Answer.denied(401, "Invalid or missing token")
        if store_hash not in {None, STORE_HASH}:
            return Answer.error(500, "Something went wrong")
        if rules.missing_scope_status == 404:
            return Answer.error(404, "Not found")
        if rules.missing_scope_status is not None:
            return Answer.denied(rules.missing_scope_status, "The token lacks a scope that this needs")
        return None


def too_many(rules: Rules, wait: float, date: int, resets_after: float | None = None) -> Answer:
    """Return a 429 that asks to wait `wait` seconds from `date` on, in the headers that the rules name."""
    refused = Answer.error(429, "Too many requests. Try again later.")
    return attrs.evolve(refused, headers=refusal_headers(rules, wait, date, resets_after))
