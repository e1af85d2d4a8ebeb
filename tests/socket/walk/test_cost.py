"""What exactness costs, counted."""

from __future__ import annotations

import pytest

from benchmarks.walk import requests_spent


async def test_a_quiet_list_costs_three_percent_at_most() -> None:
    """With nothing changing, 250 a page, the overlap costs at most 3 % more requests than there are pages."""
    spent, least = await requests_spent(10_000, 0)
    assert spent <= 1.03 * least


@pytest.mark.slow
async def test_a_change_every_20_requests_costs_ten_percent_at_most() -> None:
    """With one change every 20 requests, the walk takes at most 10 % more requests than there are pages."""
    spent, least = await requests_spent(20_000, 1 / 20)
    assert spent <= 1.10 * least


@pytest.mark.slow
async def test_a_change_at_every_request_is_paid_for_in_half_as_many_again() -> None:
    """With a change at every request, the walk takes at most half as many requests again."""
    spent, least = await requests_spent(20_000, 1.0)
    assert spent <= 1.5 * least
