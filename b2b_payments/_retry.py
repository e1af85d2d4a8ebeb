"""Whether a failed attempt is made again, and after how many seconds: one pure function.

=======================================  ===================  =================  ====================
what became of the attempt               READ and REPEATABLE  ONCE               a page is tried for
=======================================  ===================  =================  ====================
NOT_SENT: it never arrived; 421, 425     again                again              `outage` seconds
UNREACHABLE: no such host, no trust      again                again              its attempts
AMBIGUOUS: sent, no answer; 408          again                stop: look for it  `outage` seconds
FAILED: 5xx; 405 and its like in between again                stop: look for it  `outage` seconds
REFUSED: 429                             again                again              an hour
UNREADABLE: an answer that makes none    again                stop: look for it  its attempts
UNCLEAR: a redirect, a contradiction     stop                 stop: look for it  –
FINAL: any other answer                  stop                 stop               –
=======================================  ===================  =================  ====================

There is no idempotency key [doc]: a POST is sent again only where it is certain that it changed nothing.
408 leaves that open (a proxy may say it of a request that it passed on), 421 and 425 do not (RFC 9110, 8470).
So does a redirect, which may lead to what a POST has made (303), and an error whose body says success.
405, 406, 411, 415, 417, 426 and 431 refuse a request for its method and headers: where a read with the same
was answered before, something on the way fails.

Somebody waits for a call, so it is made `attempts` times. Nobody waits for a walk's page, and much is lost
with it: it outlives an outage, and it waits for the quota that others spend."""

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

LONGEST_ASKED = 3600.0
"""Seconds: a service that asks to wait longer than this is not waited for. So long a page is refused, too."""

_MOST_DOUBLINGS = 64  # a float takes no more than about a thousand


class Effect(Enum):
    """What sending a request twice would do."""

    READ = "read"  # GET: nothing
    REPEATABLE = "repeatable"  # PUT, DELETE: the same state again
    ONCE = "once"  # POST: a second payment, or a second operation


class Outcome(Enum):
    """What became of one attempt."""

    NOT_SENT = "not sent"  # it certainly was not carried out: it never arrived, or was turned away unseen
    UNREACHABLE = "unreachable"  # it never arrived, and will not until something is set right
    REFUSED = "refused"  # 429: answered, and certainly not carried out
    AMBIGUOUS = "ambiguous"  # sent, and no answer: reset, timeout, truncated
    FAILED = "failed"  # 5xx, or such a code in the body: it may have been carried out
    UNREADABLE = "unreadable"  # answered, but not so that it can be read; it may have been carried out
    UNCLEAR = "unclear"  # another attempt would end the same, and yet it may have been carried out
    FINAL = "final"  # anything else: another attempt would end the same

    @property
    def is_outage(self) -> bool:
        """Whether a service that is down for a while shows in this way."""
        return self in {Outcome.NOT_SENT, Outcome.AMBIGUOUS, Outcome.FAILED}

    @property
    def leaves_doubt(self) -> bool:
        """Whether the service may have carried the request out all the same."""
        return self in {Outcome.AMBIGUOUS, Outcome.FAILED, Outcome.UNREADABLE, Outcome.UNCLEAR}


_WORTH_ANOTHER = {
    Effect.READ: frozenset(Outcome) - {Outcome.UNCLEAR, Outcome.FINAL},
    Effect.REPEATABLE: frozenset(Outcome) - {Outcome.UNCLEAR, Outcome.FINAL},
    Effect.ONCE: frozenset({Outcome.NOT_SENT, Outcome.UNREACHABLE, Outcome.REFUSED}),
}


def _is_seconds(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _attempts(_policy: RetryPolicy, _field: attrs.Attribute[int], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(
            f"RetryPolicy attempts={shown(value)}: give the tries in all, 1 or more (1 never tries again)."
        )


def _seconds(_policy: RetryPolicy, field: attrs.Attribute[float], value: object) -> None:
    if not _is_seconds(value):
        raise ConfigurationError(f"RetryPolicy {field.name}={shown(value)}: give seconds, 0 or more.")


@frozen
class RetryPolicy:
    """How often, how soon and for how long a failed attempt is made again.

    `attempts` is the number of tries in all of a call that somebody waits for: the vendor advises three to
    five, with growing delays [doc], and `RetryPolicy(attempts=1)` tries nothing again that failed (a read
    whose answer may be another request's is asked for again all the same). The delay before the second try
    lies between half of `base_delay` seconds and all of it, by chance; each further one doubles, up to
    `max_delay` seconds (the vendor advises a minute after a 500 [doc]). By default a call waits 7.5 seconds
    at the most in all, beside what the service asks for.

    Pages of walks, exports and syncs go on for `outage` seconds where the service fails or cannot be reached
    (5xx, refused, reset, timeouts), counted from the first failure in a row; the last try is made then. Where
    they are refused (429), since others spend the quota, they wait as long as the service asks, and go on for
    an hour. `outage=0` tries pages no more often than calls.

    Raises `ConfigurationError` for anything else.
    """

    attempts: int = attrs.field(default=5, validator=_attempts)
    base_delay: float = attrs.field(default=0.5, validator=_seconds)
    max_delay: float = attrs.field(default=60.0, validator=_seconds)
    outage: float = attrs.field(default=300.0, validator=_seconds)

    def __attrs_post_init__(self) -> None:
        if self.base_delay > self.max_delay:
            raise ConfigurationError(
                f"RetryPolicy base_delay={self.base_delay!r} is longer than max_delay={self.max_delay!r}: "
                "give a base_delay that is at most max_delay."
            )

    def delay(
        self,
        effect: Effect,
        outcome: Outcome,
        attempt: int,
        *,
        remaining: float | None,
        asked: float | None,
        random: Callable[[], float],
        failing_for: float | None = None,
    ) -> float | None:
        """Return the seconds to wait after the attempt of this number (from 1), or None to stop.

        `asked` is what the service asks to wait: never less than that, even beyond `max_delay`, but more than
        an hour means stop. `remaining` is the time until the deadline: a wait that cannot end by then is not
        begun. `random` gives a number in [0, 1). `failing_for` is given for a page: the seconds since its
        first failure.
        """
        if outcome not in _WORTH_ANOTHER[effect]:
            return None
        patience = None if failing_for is None else self.patience(outcome) - failing_for
        if attempt >= self.attempts and (patience is None or patience <= 0):
            return None
        chance = random()
        # While it is refused, the service says how long to wait, and our own delays need not go on growing.
        growth = attempt if outcome.is_outage else min(attempt, self.attempts)
        ceiling = min(self.max_delay, self.base_delay * 2.0 ** min(growth - 1, _MOST_DOUBLINGS))
        delay = ceiling * (1 + chance) / 2
        if attempt >= self.attempts and patience is not None:
            delay = min(delay, patience)
        if asked is not None and asked > delay:
            if asked > LONGEST_ASKED:
                return None
            # Later than asked, never sooner: those who were refused together do not come back together.
            delay = asked + chance * min(1.0, asked / 10)
        return None if remaining is not None and delay >= remaining else delay

    def patience(self, outcome: Outcome) -> float:
        """Return for how many seconds a page is tried, whatever its attempts."""
        if self.attempts == 1 or self.outage == 0:
            return 0.0
        if outcome is Outcome.REFUSED:
            return LONGEST_ASKED
        return self.outage if outcome.is_outage else 0.0


def outcome_of(failure: B2BPaymentsError, *, answered_before: bool = False) -> Outcome:
    """Say what became of an attempt that failed in this way.

    `answered_before` says that a read with the same method and headers was.
    """
    if isinstance(failure, TransportError):
        if failure.sent:
            return Outcome.AMBIGUOUS
        return Outcome.UNREACHABLE if failure.lasting else Outcome.NOT_SENT
    if isinstance(failure, ResponseDecodeError):
        return Outcome.UNREADABLE
    if not isinstance(failure, APIError):
        return Outcome.FINAL
    # Where HTTP says success and the body does not, it is the body's code that tells, if it refuses.
    status = failure.status if failure.status >= 300 else failure.code or 0
    if answered_before and status in _OF_METHOD_AND_HEADERS:
        return Outcome.FAILED
    if status in _OUTCOMES:
        return _OUTCOMES[status]
    if 400 <= status < 500:
        says_success = status == failure.status and 200 <= (failure.code or 0) < 300
        return Outcome.UNCLEAR if says_success else Outcome.FINAL
    return Outcome.UNCLEAR if 300 <= failure.status < 400 else Outcome.FAILED


_OUTCOMES = {
    # What was asked for was not done here (RFC 9110): only other redirects may follow what was.
    307: Outcome.FINAL,
    308: Outcome.FINAL,
    408: Outcome.AMBIGUOUS,
    421: Outcome.NOT_SENT,
    425: Outcome.NOT_SENT,
    429: Outcome.REFUSED,
}

_OF_METHOD_AND_HEADERS = frozenset({405, 406, 411, 415, 417, 426, 431})


class Failures:
    """The failures of one request, counted apart: the service is down, refuses, or cannot be understood."""

    def __init__(self) -> None:
        self._counts: Counter[Outcome] = Counter()
        self._since: dict[Outcome, float] = {}

    def note(self, outcome: Outcome, now: float) -> tuple[int, float]:
        """Count one more; give how many of this sort there were, and the seconds since the first of them."""
        sort = Outcome.FAILED if outcome.is_outage else outcome
        self._counts[sort] += 1
        return self._counts[sort], now - self._since.setdefault(sort, now)

    def waited(self, seconds: float) -> None:
        """Leave a wait for the quota out of an outage: meanwhile the service was there."""
        if Outcome.FAILED in self._since:
            self._since[Outcome.FAILED] += seconds


_OUTAGE = 3
"""Failures in a row, of all pages together, that are no accident any more."""


class Recovery:
    """Whether the service is back: one page that failed tries on, and the others wait for what it finds.

    Only the answer to a page that was sent after a failure shows that the service is back since, so the pages
    are numbered as they are sent.
    """

    def __init__(self) -> None:
        self.sent: int = 0
        """The number of the page that was sent last."""
        self._answered = 0  # the highest number of one that was answered
        self._failures = 0  # in a row
        self._trying: int | None = None
        self._waiting: list[anyio.Event] = []

    def send(self) -> int:
        """Number a page that is about to be sent."""
        self.sent += 1
        return self.sent

    def answered(self, number: int) -> None:
        """Take in that the service answered a page."""
        self._answered = max(self._answered, number)
        self._failures = 0
        self._wake()

    def is_back(self, since: int) -> bool:
        """Whether a page was answered that was sent after the one of this number."""
        return self._answered > since

    async def wait(self, call_id: int, since: int) -> bool:
        """Take in a failure, and wait in an outage: for this call's turn to try, or for the service.

        Tells whether it had to wait.
        """
        self._failures += 1
        if self._failures < _OUTAGE:
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
        """Take in that this call is over; if it was the one that tried, another does."""
        if self._trying == call_id:
            self._trying = None
            self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for event in waiting:
            event.set()
