"""The retry policy, case by case."""

from __future__ import annotations

import math
from typing import Any

import pytest

from b2b_payments._errors import ConfigurationError
from b2b_payments._retry import MAX_RETRY_AFTER, Effect, Failures, Outcome, RetryPolicy

OUTAGES = [Outcome.NOT_SENT, Outcome.AMBIGUOUS, Outcome.FAILED]
TEMPORARY = [*OUTAGES, Outcome.UNREACHABLE, Outcome.REFUSED, Outcome.UNREADABLE]


def delay(policy: RetryPolicy, attempt: int = 1, **about: Any) -> float | None:
    """Return the policy's delay after a failed GET, with the test's changes."""
    case: dict[str, Any] = {
        "effect": Effect.READ,
        "outcome": Outcome.FAILED,
        "remaining": math.inf,
        "asked": None,
        "random": lambda: 0.0,
    } | about
    return policy.delay(case.pop("effect"), case.pop("outcome"), attempt, **case)


@pytest.mark.parametrize("effect", [Effect.READ, Effect.REPEATABLE])
@pytest.mark.parametrize("outcome", TEMPORARY)
def test_repeatable_requests_are_retried(effect: Effect, outcome: Outcome) -> None:
    """GET, PUT and DELETE are retried after every temporary failure."""
    assert delay(RetryPolicy(), effect=effect, outcome=outcome) == 0.25


@pytest.mark.parametrize(
    ("outcome", "again"),
    [
        (Outcome.NOT_SENT, True),
        (Outcome.UNREACHABLE, True),
        (Outcome.REFUSED, True),
        (Outcome.AMBIGUOUS, False),
        (Outcome.FAILED, False),
        (Outcome.UNREADABLE, False),
        (Outcome.FINAL, False),
    ],
)
def test_post_is_retried_only_if_it_changed_nothing(outcome: Outcome, again: bool) -> None:
    """A POST is retried only if it certainly was not carried out."""
    assert (delay(RetryPolicy(), effect=Effect.ONCE, outcome=outcome) is not None) is again


@pytest.mark.parametrize("effect", list(Effect))
def test_final_answer_is_never_retried(effect: Effect) -> None:
    """No request, whatever its effect, is retried after a final answer."""
    assert delay(RetryPolicy(), effect=effect, outcome=Outcome.FINAL) is None


def test_attempts_is_the_total_number() -> None:
    """With three attempts, there is a delay after the first and the second, but not after the third."""
    policy = RetryPolicy(attempts=3)
    assert [delay(policy, attempt) is not None for attempt in (1, 2, 3, 4)] == [True, True, False, False]


def test_one_attempt_never_retries() -> None:
    """`RetryPolicy(attempts=1)` stops after the first attempt."""
    assert delay(RetryPolicy(attempts=1)) is None


def test_delays_of_a_call_add_up_to_seconds() -> None:
    """By default the delays of a call that somebody waits for add up to at most 7.5 seconds."""
    policy = RetryPolicy()
    waits = [delay(policy, attempt, random=lambda: 1.0) or 0.0 for attempt in range(1, policy.attempts + 1)]
    assert sum(waits) == 7.5


@pytest.mark.parametrize("outcome", OUTAGES)
def test_page_is_retried_through_an_outage(outcome: Outcome) -> None:
    """A page is retried until the outage lasts too long, with a last attempt at that time."""
    policy = RetryPolicy(outage=300.0)
    assert delay(policy, 99, outcome=outcome, failing_for=0.0) == 30.0
    assert delay(policy, 99, outcome=outcome, failing_for=290.0) == 10.0
    assert delay(policy, 99, outcome=outcome, failing_for=300.0) is None
    assert delay(policy, 4, outcome=outcome, failing_for=9_999.0) == 2.0


def test_refused_page_is_retried_for_an_hour() -> None:
    """A refused page waits as long as the service asks, repeatedly, for an hour."""
    refused: dict[str, Any] = {"outcome": Outcome.REFUSED, "asked": 45.0}
    assert delay(RetryPolicy(), 99, **refused, failing_for=3_599.0) == 45.0
    assert delay(RetryPolicy(), 99, **refused, failing_for=MAX_RETRY_AFTER) is None
    assert delay(RetryPolicy(), 99, outcome=Outcome.REFUSED, asked=0.1, failing_for=60.0) == 4.0
    assert delay(RetryPolicy(), 5, **refused) is None


@pytest.mark.parametrize("outcome", [Outcome.UNREADABLE, Outcome.UNREACHABLE, Outcome.FINAL])
def test_page_has_no_patience_for_lasting_failures(outcome: Outcome) -> None:
    """If the answer is unreadable, or the service unreachable, a page is retried no more than a call."""
    assert delay(RetryPolicy(), 5, outcome=outcome, failing_for=0.0) is None


@pytest.mark.parametrize("outcome", TEMPORARY)
@pytest.mark.parametrize("policy", [RetryPolicy(attempts=1), RetryPolicy(outage=0)])
def test_policy_may_treat_pages_like_calls(policy: RetryPolicy, outcome: Outcome) -> None:
    """With one attempt, or `outage=0`, a page has the attempts of a call."""
    assert delay(policy, policy.attempts, outcome=outcome, failing_for=0.0) is None
    assert delay(policy, policy.attempts, outcome=outcome) is None


def test_failures_are_counted_by_kind() -> None:
    """Each kind of failure has its own count and clock; waits for the quota do not count as outage."""
    failures = Failures()
    assert failures.record(Outcome.FAILED, 10.0) == (1, 0.0)
    assert failures.record(Outcome.NOT_SENT, 15.0) == (2, 5.0)
    assert failures.record(Outcome.REFUSED, 20.0) == (1, 0.0)
    failures.exclude_wait(60.0)
    assert failures.record(Outcome.AMBIGUOUS, 90.0) == (3, 20.0)
    assert failures.record(Outcome.UNREADABLE, 95.0) == (1, 0.0)


def test_delays_double_up_to_max_delay() -> None:
    """Each delay is twice the one before, up to `max_delay`."""
    policy = RetryPolicy(attempts=99, base_delay=1.0, max_delay=6.0)
    assert [delay(policy, attempt) for attempt in (1, 2, 3, 4, 98)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_thousands_of_attempts_do_not_overflow() -> None:
    """The delay stays at its maximum, however many attempts there were."""
    assert delay(RetryPolicy(attempts=10_000), 9_999) == 30.0


def test_jitter_covers_the_upper_half() -> None:
    """The random delay lies between half of the full delay and all of it."""
    policy = RetryPolicy(base_delay=8.0)
    assert [delay(policy, random=lambda chance=chance: chance) for chance in (0.0, 0.5, 1.0)] == [
        4.0,
        6.0,
        8.0,
    ]


@pytest.mark.parametrize(
    ("asked", "chance", "expected"),
    [
        (2.0, 0.0, 2.0),
        (2.0, 1.0, 2.2),
        (100.0, 1.0, 101.0),
        (3600.0, 0.0, 3600.0),
        (3600.1, 0.0, None),
        (math.inf, 0.0, None),
        (0.1, 0.0, 0.25),
        (-5.0, 0.0, 0.25),
        (math.nan, 0.0, 0.25),
    ],
)
def test_longer_delay_wins(asked: float, chance: float, expected: float | None) -> None:
    """The delay is at least what the service asks, with jitter, up to an hour."""
    assert delay(RetryPolicy(), asked=asked, random=lambda: chance) == expected


@pytest.mark.parametrize(("remaining", "expected"), [(0.26, 0.25), (0.25, None), (0.0, None), (-1.0, None)])
def test_wait_beyond_the_deadline_is_not_started(remaining: float, expected: float | None) -> None:
    """A delay that would end after the deadline means stop."""
    assert delay(RetryPolicy(), remaining=remaining) == expected


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"attempts": 0}, "attempts=0"),
        ({"attempts": True}, "attempts=True"),
        ({"attempts": 2.5}, "attempts=2.5"),
        ({"base_delay": -1}, "base_delay=-1"),
        ({"base_delay": "1"}, "base_delay='1'"),
        ({"max_delay": math.inf}, "max_delay=inf"),
        ({"max_delay": math.nan}, "max_delay=nan"),
        ({"max_delay": True}, "max_delay=True"),
        ({"outage": -1}, "outage=-1"),
        ({"outage": math.inf}, "outage=inf"),
        ({"outage": None}, "outage=None"),
        ({"base_delay": 9.0, "max_delay": 3.0}, "base_delay=9.0 is longer than max_delay=3.0"),
    ],
)
def test_invalid_policy_is_refused(given: dict[str, Any], named: str) -> None:
    """An invalid setting is named in the error."""
    with pytest.raises(ConfigurationError) as caught:
        RetryPolicy(**given)
    assert named in str(caught.value)
