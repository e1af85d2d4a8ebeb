"""The cost of exactness in requests."""

from __future__ import annotations

import math
from typing import Any

import pytest

from b2b_payments.sandbox import Rules, Sandbox
from benchmarks.walk import requests_spent
from tests.support.clients import client_of

pytestmark = pytest.mark.virtual_time


@pytest.mark.parametrize("total_count", ["filtered", "absent"])
@pytest.mark.parametrize(
    ("payments", "filters"),
    [
        (1, {}),
        (10, {}),
        (50, {}),
        (51, {}),
        (190, {}),
        (190, {"order_by": "DESC"}),
        (50, {"processing_status": 3}),
        (190, {"processing_status": 3}),
        (190, {"search_by": "id", "q": "7"}),
        (10, {"channel_ids": [1]}),
        (190, {"channel_ids": [1]}),
        (190, {"channel_ids": [1, 2]}),
    ],
)
async def test_the_proof_costs_one_request(payments: int, filters: Any, total_count: Any) -> None:
    """With any filter, a walk takes one request more than there are pages, or than show the end."""
    rules = Rules(quota=False, max_limit=50, total_count=total_count)
    async with Sandbox(payments, rules=rules) as sandbox, client_of(sandbox) as client:
        walk = client.payments.list(page_size=50, **filters)
        rows = len(await walk.collect())
        assert walk.report.complete
        # Without a total, the end shows by a page that is not full, or by an empty one.
        pages = math.ceil(rows / 50) if total_count == "filtered" else rows // 50 + 1
        assert sandbox.request_count == walk.report.requests <= pages + 1


@pytest.mark.parametrize("ordered", [True, False])
async def test_the_proof_of_a_stream_costs_one_request_per_channel(ordered: bool) -> None:
    """The end of each channel is proven separately."""
    async with Sandbox(190, rules=Rules(quota=False, max_limit=50)) as sandbox, client_of(sandbox) as client:
        stream = client.payments.stream(channel_ids=[1, 2, 3], page_size=50, ordered=ordered)
        assert len(await stream.collect()) == 190
        assert stream.report.complete
        pages = sum(math.ceil(report.rows / 50) for report in stream.reports.values())
        assert sandbox.request_count <= pages + 3


@pytest.mark.parametrize("filters", [{}, {"search_by": "id", "q": "none"}])
async def test_an_empty_list_costs_three_more_requests(filters: Any) -> None:
    """Only further answers show that an empty one is true: four of them are enough."""
    async with (
        Sandbox(60 if filters else 0, rules=Rules(quota=False)) as sandbox,
        client_of(sandbox) as client,
    ):
        walk = client.payments.list(**filters)
        assert await walk.collect() == []
        assert walk.report.complete
        assert sandbox.request_count == walk.report.requests == 4


async def test_a_quiet_list_costs_at_most_three_percent() -> None:
    """With nothing changing, 250 a page, the overlap costs at most 3 % more requests than there are pages."""
    spent, least = await requests_spent(10_000, 0)
    assert spent <= 1.03 * least


@pytest.mark.slow
async def test_a_change_every_20_requests_costs_at_most_ten_percent() -> None:
    """With one change every 20 requests, the walk takes at most 10 % more requests than there are pages."""
    spent, least = await requests_spent(20_000, 1 / 20)
    assert spent <= 1.10 * least


@pytest.mark.slow
async def test_a_change_at_every_request_costs_at_most_half_as_many_again() -> None:
    """With a change at every request, the walk takes at most 50 % more requests than there are pages."""
    spent, least = await requests_spent(20_000, 1.0)
    assert spent <= 1.5 * least
