"""How long a feed that follows waits between polls, and which errors it survives."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from b2b_payments import (
    AuthenticationError,
    B2BPaymentsError,
    ConfigurationError,
    PaginationError,
    RateLimitError,
    ServerError,
    TransportError,
)
from b2b_payments._changes.feed import Changes, FailedPolls
from tests.support.virtual_time import run

FAILED = TransportError("no connection", sent=False)


def feed_of(chance: float = 1.0) -> Changes:
    """Return a feed that polls every 60 seconds."""
    walker: Any = SimpleNamespace(store="a store", caller=SimpleNamespace(chance=lambda: chance))
    return Changes(walker, None, follow=True, interval=60.0, overlap=1800.0)


def pause(
    took: float,
    waited: float = 0.0,
    failure: B2BPaymentsError | None = None,
    failures: int = 0,
    **settings: Any,
) -> tuple[float, str]:
    """Return how long a feed waits after a poll of `took` seconds, and why."""

    async def main() -> tuple[float, str]:
        began = anyio.current_time()
        await anyio.sleep(took)
        return feed_of(**settings)._pause(began, waited, failure, failures)

    return run(main())


def test_it_polls_once_per_interval() -> None:
    """Polls start one interval apart; those that were missed are not made up for."""
    assert pause(0.5) == (59.5, "interval")
    assert pause(60) == (0.0, "interval")
    assert pause(86_400) == (0.0, "interval")  # one poll at once, however many were missed


def test_it_gives_way_to_others_that_use_the_quota() -> None:
    """A poll that had to wait for the quota puts the next one off by as long."""
    assert pause(50, waited=45) == (55.0, "quota")
    assert pause(600, waited=590) == (590.0, "quota")
    assert pause(2, waited=1) == (58.0, "interval")


def test_it_backs_off_while_the_service_is_down() -> None:
    """Pauses double up to ten minutes, with jitter, and are at least as long as the service asks for."""
    pauses = [pause(1, failure=FAILED, failures=count)[0] for count in (1, 2, 3, 4, 100)]
    assert pauses == [120, 240, 480, 600, 600]
    assert pause(1, failure=FAILED, failures=4, chance=0.0) == (300, "TransportError")
    refused = RateLimitError("slow down", status=429, retry_after=1_000.0, method="GET", url="/")
    assert pause(1, failure=refused, failures=1) == (1_000, "RateLimitError")


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (FAILED, True),
        (ServerError("down", status=503, method="GET", url="/"), True),
        (AuthenticationError("no", status=401, method="GET", url="/"), False),
        (ConfigurationError("closed"), False),
        (PaginationError("contradicts itself"), True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_that_may_pass(error: B2BPaymentsError, passes: bool) -> None:
    """An outage may pass by itself, and so may a list that contradicts itself; a refusal may not."""
    assert FailedPolls().record(error) == passes


def test_a_list_that_keeps_contradicting_itself() -> None:
    """Five contradictions do not pass by themselves, however many outages come between them."""
    failures = FailedPolls()
    contradiction = PaginationError("contradicts itself")
    assert [failures.record(error) for error in 9 * [FAILED] + 4 * [contradiction]] == 13 * [True]
    assert failures.record(FAILED)
    assert not failures.record(contradiction)
    assert failures.count == 15
