"""Whether a failed attempt is retried, and after how many seconds: one pure function.

=======================================  ===================  =================  ====================
outcome of the attempt                   READ and REPEATABLE  ONCE               a page is retried for
=======================================  ===================  =================  ====================
NOT_SENT: it never arrived; 421, 425     retry                retry              `outage` seconds
UNREACHABLE: no such host, bad TLS       retry                retry              its attempts
AMBIGUOUS: sent, no answer; 408          retry                stop: look for it  `outage` seconds
FAILED: 5xx; 405 and others, see below   retry                stop: look for it  `outage` seconds
REFUSED: 429                             retry                retry              an hour
UNREADABLE: an answer that is not one    retry                stop: look for it  its attempts
UNCLEAR: a redirect, a contradiction     stop                 stop: look for it  –
FINAL: any other answer                  stop                 stop               –
=======================================  ===================  =================  ====================

There is no idempotency key [doc]: a POST is sent again only if it certainly changed nothing. That is certain
after 421 and 425 (RFC 9110, 8470), but not after 408 (a proxy may send it for a request that it passed on),
a redirect (303 may lead to what the POST created), or an error whose body reports success.
405, 406, 411, 415, 417, 426 and 431 refuse a request for its method or headers: if a read with the same
method and headers was answered before, something between client and service is failing.

Somebody waits for a call, so it is made up to `attempts` times. Nobody waits for a walk's page, and losing it
loses much work, so it is retried throughout an outage, and waits while others use up the quota."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from enum import Enum
from typing import Any

import anyio
import attrs

from b2b_payments._errors import (
    APIError,
    B2BPaymentsError,
    ConfigurationError,
    ResponseDecodeError,
    TransportError,
    shown,
)
from b2b_payments._printable import frozen

MAX_RETRY_AFTER = 3600.0
"""Seconds: the longest requested wait that is honoured, and how long a refused page is retried."""

_MAX_DOUBLINGS = 64  # a float overflows after about a thousand


class Effect(Enum):
    """What sending a request twice does."""

    READ = "read"  # GET: nothing
    REPEATABLE = "repeatable"  # PUT, DELETE: the same state again
    ONCE = "once"  # POST: a second payment, or a second operation


class Outcome(Enum):
    """How one attempt ended."""

    NOT_SENT = "not sent"  # certainly not carried out: it never arrived, or was rejected unread
    UNREACHABLE = "unreachable"  # it never arrived, and will not until somebody fixes something
    REFUSED = "refused"  # 429: answered, and certainly not carried out
    AMBIGUOUS = "ambiguous"  # sent, and no answer: reset, timeout, truncated
    FAILED = "failed"  # 5xx, as status or code in the body: it may have been carried out
    UNREADABLE = "unreadable"  # the answer cannot be read: it may have been carried out
    UNCLEAR = "unclear"  # a retry would end the same, and yet it may have been carried out
    FINAL = "final"  # anything else: a retry would end the same

    @property
    def is_outage(self) -> bool:
        """Whether this is how a service that is down for a while fails."""
        return self in {Outcome.NOT_SENT, Outcome.AMBIGUOUS, Outcome.FAILED}

    @property
    def is_uncertain(self) -> bool:
        """Whether the service may have carried out the request despite the failure."""
        return self in {Outcome.AMBIGUOUS, Outcome.FAILED, Outcome.UNREADABLE, Outcome.UNCLEAR}


_RETRYABLE = {
    Effect.READ: frozenset(Outcome) - {Outcome.UNCLEAR, Outcome.FINAL},
    Effect.REPEATABLE: frozenset(Outcome) - {Outcome.UNCLEAR, Outcome.FINAL},
    Effect.ONCE: frozenset({Outcome.NOT_SENT, Outcome.UNREACHABLE, Outcome.REFUSED}),
}


def _is_seconds(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _attempts(_policy: RetryPolicy, _field: attrs.Attribute[int], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(
            f"RetryPolicy attempts={shown(value)}: must be the total number, 1 (no retries) or more."
        )


def _seconds(_policy: RetryPolicy, field: attrs.Attribute[float], value: object) -> None:
    if not _is_seconds(value):
        raise ConfigurationError(f"RetryPolicy {field.name}={shown(value)}: must be seconds, 0 or more.")


@frozen
class RetryPolicy:
    """How often, how soon and for how long a failed attempt is retried.

    `attempts` is the total number of attempts of a call that somebody waits for: the vendor advises three to
    five, with growing delays [doc]. `RetryPolicy(attempts=1)` never retries (except with a renewed token, and
    reads whose answer may belong to another request). The first delay is random, between half of `base_delay`
    seconds and all of it; each further one doubles, up to `max_delay` seconds (the vendor advises a minute
    after a 500 [doc]). By default, a call's delays add up to at most 7.5 s, unless the service asks for more.

    Pages of walks, exports and syncs are retried for `outage` seconds while the service fails or cannot be
    reached (5xx, refused, reset, timeouts), counted from the first failure in a row; the last attempt is made
    at the end of that time. While they are refused (429) because others use up the quota, they wait as long
    as the service asks, and are retried for an hour. `outage=0` retries pages no more often than calls.

    Raises `ConfigurationError` for an invalid value.
    """

    attempts: int = attrs.field(default=5, validator=_attempts)
    base_delay: float = attrs.field(default=0.5, validator=_seconds)
    max_delay: float = attrs.field(default=60.0, validator=_seconds)
    outage: float = attrs.field(default=300.0, validator=_seconds)

    def __attrs_post_init__(self) -> None:
        if self.base_delay > self.max_delay:
            raise ConfigurationError(
                f"RetryPolicy base_delay={self.base_delay!r} is longer than max_delay={self.max_delay!r}: "
                "it must be at most max_delay."
            )

    def delay(
        self,
        effect: Effect,
        outcome: Outcome,
        attempt: int,
        *,
        remaining: float,
        asked: float | None,
        random: Callable[[], float],
        failing_for: float | None = None,
    ) -> float | None:
        """Return the seconds to wait after attempt number `attempt` (from 1), or None to stop.

        `asked` is the least wait: the seconds that the service states or, after a 429 that states none, a
        growing part of the quota's window. It may exceed `max_delay`, but more than an hour means stop.
        `remaining` is the seconds until the deadline: a wait that cannot end by then is not started.
        `random` returns a number in [0, 1). `failing_for` is the seconds since a page's first failure, None
        for a call.
        """
        if outcome not in _RETRYABLE[effect]:
            return None
        patience = None if failing_for is None else self.patience(outcome) - failing_for
        if attempt >= self.attempts and (patience is None or patience <= 0):
            return None
        chance = random()
        # While a page is refused, the service says how long to wait, so our own delay stops growing.
        growth = attempt if outcome.is_outage else min(attempt, self.attempts)
        ceiling = min(self.max_delay, self.base_delay * 2.0 ** min(growth - 1, _MAX_DOUBLINGS))
        delay = ceiling * (1 + chance) / 2
        if attempt >= self.attempts and patience is not None:
            delay = min(delay, patience)
        if asked is not None and asked > delay:
            if asked > MAX_RETRY_AFTER:
                return None
            # Jitter, never shorter than asked: requests refused together should not all return at once.
            delay = asked + chance * min(1.0, asked / 10)
        return None if delay >= remaining else delay

    def patience(self, outcome: Outcome) -> float:
        """Return for how many seconds a page is retried, even beyond `attempts`."""
        if self.attempts == 1 or self.outage == 0:
            return 0.0
        if outcome is Outcome.REFUSED:
            return MAX_RETRY_AFTER
        return self.outage if outcome.is_outage else 0.0


def outcome_of(failure: B2BPaymentsError, *, answered_before: bool = False) -> Outcome:
    """Return the outcome of an attempt that failed in this way.

    `answered_before` says that a read with the same method and headers was answered before.
    """
    if isinstance(failure, TransportError):
        if failure.sent:
            return Outcome.AMBIGUOUS
        return Outcome.UNREACHABLE if failure.lasting else Outcome.NOT_SENT
    if isinstance(failure, ResponseDecodeError):
        return Outcome.UNREADABLE
    if not isinstance(failure, APIError):
        return Outcome.FINAL
    # If the HTTP status is a success and the body is not, the body's code decides.
    status = failure.status if failure.status >= 300 else failure.code or 0
    if answered_before and status in _ABOUT_METHOD_OR_HEADERS:
        return Outcome.FAILED
    if status in _OUTCOMES:
        return _OUTCOMES[status]
    if 400 <= status < 500:
        reports_success = status == failure.status and 200 <= (failure.code or 0) < 300
        return Outcome.UNCLEAR if reports_success else Outcome.FINAL
    return Outcome.UNCLEAR if 300 <= failure.status < 400 else Outcome.FAILED


_OUTCOMES = {
    # These redirects do not carry out the request (RFC 9110); others may follow one that was carried out.
    307: Outcome.FINAL,
    308: Outcome.FINAL,
    408: Outcome.AMBIGUOUS,
    421: Outcome.NOT_SENT,
    425: Outcome.NOT_SENT,
    429: Outcome.REFUSED,
}

_ABOUT_METHOD_OR_HEADERS = frozenset({405, 406, 411, 415, 417, 426, 431})


class Failures:
    """The failures of one page, counted by kind: service down, unreachable, refused, unreadable."""

    def __init__(self) -> None:
        self._counts: Counter[Outcome] = Counter()
        self._since: dict[Outcome, float] = {}

    def record(self, outcome: Outcome, now: float) -> tuple[int, float]:
        """Count a failure. Returns the number of failures of its kind, and the seconds since the first."""
        kind = Outcome.FAILED if outcome.is_outage else outcome
        self._counts[kind] += 1
        return self._counts[kind], now - self._since.setdefault(kind, now)

    def exclude_wait(self, seconds: float) -> None:
        """Exclude a wait from the duration of an outage: meanwhile the service was answering."""
        if Outcome.FAILED in self._since:
            self._since[Outcome.FAILED] += seconds


_OUTAGE_FAILURES = 3
"""The number of consecutive failures, over all pages, that counts as an outage."""


class Recovery:
    """Detects the end of an outage: one failed page keeps trying, and the others wait for its result.

    Pages are numbered as they are sent, since only the answer to a page sent after a failure shows that the
    service has recovered from it.
    """

    def __init__(self) -> None:
        self.sent: int = 0
        """The number of the last page sent."""
        self._answered = 0  # the highest number of an answered page
        self._failures = 0  # in a row
        self._trying: int | None = None  # the call that keeps trying
        self._waiting: list[anyio.Event] = []

    def send(self) -> int:
        """Return the number of a page that is about to be sent."""
        self.sent += 1
        return self.sent

    def answered(self, number: int) -> None:
        """Record that the service answered a page."""
        self._answered = max(self._answered, number)
        self._failures = 0
        self._wake()

    def is_back(self, since: int) -> bool:
        """Whether a page sent after page number `since` was answered."""
        return self._answered > since

    async def wait(self, call_id: int, since: int) -> bool:
        """Record a failure and, in an outage, wait until the service is back or this call is the one to try.

        Returns whether it had to wait.
        """
        self._failures += 1
        if self._failures < _OUTAGE_FAILURES:
            return False
        waited = False
        while not self.is_back(since) and self._trying not in {None, call_id}:
            event = anyio.Event()
            self._waiting.append(event)
            await event.wait()
            waited = True
        if not self.is_back(since):
            self._trying = call_id
        return waited

    def leave(self, call_id: int) -> None:
        """Record that a call has ended. If it was the one that kept trying, another takes over."""
        if self._trying == call_id:
            self._trying = None
            self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for event in waiting:
            event.set()
