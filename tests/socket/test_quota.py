"""The quota end to end: whole walks over real sockets, on virtual time, against a service that counts."""

from __future__ import annotations

import pytest

from benchmarks.quota import OTHERS, PAYMENTS, REQUESTS, STARTS, WINDOWS, Window, pages_before_a_call, walks
from tests.virtual_time import run

either_window = pytest.mark.parametrize("window", WINDOWS)


@either_window
def test_300_pages_are_read_in_two_windows_without_a_refusal(window: Window) -> None:
    """A walk of 300 pages on 150 requests a minute takes at most 5 % more than it must, and is never refused."""
    spent = run(walks(window))
    assert (spent.rows, spent.refused) == (PAYMENTS, [])
    assert 2 * REQUESTS - 5 < spent.requests <= 2 * REQUESTS
    assert spent.bound <= spent.seconds <= 1.05 * spent.bound


@either_window
def test_two_clients_of_a_store_share_its_quota(window: Window) -> None:
    """Two clients that walk at once send no more together than one may, and are never refused."""
    spent = run(walks(window, clients=2))
    assert spent.refused == []
    assert spent.requests > REQUESTS
    assert spent.bound <= spent.seconds <= 1.05 * spent.bound


@either_window
@pytest.mark.parametrize("start", STARTS)
def test_with_another_integration_one_request_a_window_is_refused_at_most(
    window: Window, start: float
) -> None:
    """With two thirds of the quota spent by another, the walk is complete, and hardly ever refused."""
    spent = run(walks(window, others=OTHERS, start=start))
    assert spent.rows == PAYMENTS
    assert spent.most_refused <= 1


@either_window
def test_a_call_goes_ahead_of_pages(window: Window) -> None:
    """A payment asked for while a walk waits for the quota is the next request that is sent."""
    assert run(pages_before_a_call(window)) == 0


@either_window
def test_without_a_quota_the_same_walk_is_refused(window: Window) -> None:
    """A client that keeps no quota runs into refusals: the service counts."""
    assert run(walks(window, quota=None)).most_refused > 1
