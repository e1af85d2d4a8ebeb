"""Whether a failed attempt is made again, and after how many seconds: one pure function.

====================================  =========================  ===================
what became of the attempt            READ and REPEATABLE        ONCE
====================================  =========================  ===================
NOT_SENT: it never reached the store  again                      again
REFUSED: 429                          again                      again
AMBIGUOUS: sent, no usable answer     again                      stop: look for it
FAILED: 5xx                           again                      stop: look for it
FINAL: any other answer               stop                       stop
====================================  =========================  ===================

There is no idempotency key [doc]: a POST is sent again only where it is certain that it changed nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum
from typing import Any

import attrs

from b2b_payments.errors import ConfigurationError, shown

LONGEST_ASKED = 600.0
"""Seconds: a service that asks to wait longer than this is not waited for."""

_MOST_DOUBLINGS = 64  # a float takes no more than about a thousand


class Kind(Enum):
    """What sending a request twice would do."""

    READ = "read"  # GET: nothing
    REPEATABLE = "repeatable"  # PUT, DELETE: the same state again
    ONCE = "once"  # POST: a second payment, or a second operation


class Outcome(Enum):
    """What became of one attempt."""

    NOT_SENT = "not sent"  # it certainly never reached the service
    REFUSED = "refused"  # 429: answered, and certainly not carried out
    AMBIGUOUS = "ambiguous"  # sent, and no usable answer: reset, timeout, truncated, unreadable
    FAILED = "failed"  # 5xx, or such a code in the body: it may have been carried out
    FINAL = "final"  # anything else: another attempt would end the same


_WORTH_ANOTHER = {
    Kind.READ: frozenset(Outcome) - {Outcome.FINAL},
    Kind.REPEATABLE: frozenset(Outcome) - {Outcome.FINAL},
    Kind.ONCE: frozenset({Outcome.NOT_SENT, Outcome.REFUSED}),
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


@attrs.frozen
class RetryPolicy:
    """How often and how soon a failed attempt is made again.

    `attempts` is the number of tries in all: the vendor advises three to five, with growing delays [doc], and
    `RetryPolicy(attempts=1)` never tries again. The delay before the second try lies between half of
    `base_delay` seconds and all of it, by chance; each further one doubles, up to `max_delay` seconds.

    Raises `ConfigurationError` for anything else.
    """

    attempts: int = attrs.field(default=5, validator=_attempts)
    base_delay: float = attrs.field(default=0.5, validator=_seconds)
    max_delay: float = attrs.field(default=60.0, validator=_seconds)

    def __attrs_post_init__(self) -> None:
        if self.base_delay > self.max_delay:
            raise ConfigurationError(
                f"RetryPolicy base_delay={self.base_delay!r} is longer than max_delay={self.max_delay!r}: "
                "give a base_delay that is at most max_delay."
            )

    def delay(
        self,
        kind: Kind,
        outcome: Outcome,
        attempt: int,
        *,
        remaining: float | None,
        asked: float | None,
        random: Callable[[], float],
    ) -> float | None:
        """Give the seconds to wait after the attempt of this number (from 1), or None to stop.

        `asked` is what the service asks to wait: never less than that, even beyond `max_delay`, but more than
        10 minutes means stop. `remaining` is the time until the deadline: a wait that cannot end by then is
        not begun. `random` gives a number in [0, 1).
        """
        if attempt >= self.attempts or outcome not in _WORTH_ANOTHER[kind]:
            return None
        chance = random()
        ceiling = min(self.max_delay, self.base_delay * 2.0 ** min(attempt - 1, _MOST_DOUBLINGS))
        delay = ceiling * (1 + chance) / 2
        if asked is not None and asked > delay:
            if asked > LONGEST_ASKED:
                return None
            # Later than asked, never sooner: those who were refused together do not come back together.
            delay = asked + chance * min(1.0, asked / 10)
        return None if remaining is not None and delay >= remaining else delay
