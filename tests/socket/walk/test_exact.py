"""Schedules of inserts, deletes and updates between requests, on a real socket."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from b2b_payments import PaymentsClient, ProcessingStatus, SortBy
from b2b_payments.sandbox import Drift, Rules, Sandbox, Store

SCHEDULES = 60
BATCH = 15


def rules(draw: random.Random) -> Rules:
    """Draw the behaviour of a service."""
    return Rules(
        quota=False,
        equals=draw.choice(["shuffled", "shuffled", "stable"]),
        max_limit=draw.choice([250, 250, 20]),
        over_limit=draw.choice(["clamp", "refuse"]),
        echo=draw.choice(["effective", "asked", None]),
        short_pages=draw.choice([0, 0, 0.1]),
        ids_as=draw.choice(["number", "fraction", "string"]),
    )


@asynccontextmanager
async def scheduled(seed: int) -> AsyncIterator[tuple[Sandbox, PaymentsClient, Drift, random.Random]]:
    """Yield a store that changes at about every request, and a client for it."""
    draw = random.Random(seed)
    sandbox = Sandbox(payments=draw.choice([30, 150, 300]), channels=(1, 2, 3), seed=seed, rules=rules(draw))
    async with sandbox:
        drift = Drift(seed, rate=draw.choice([0.2, 1.0, 2.0]), insert=1, delete=1.5, update=1)
        sandbox.before_list = drift
        async with PaymentsClient(sandbox.auth, base_url=sandbox.base_url, quota=None) as client:
            yield sandbox, client, drift, draw


@pytest.mark.slow
@pytest.mark.virtual_time
@pytest.mark.parametrize("first", range(0, SCHEDULES, BATCH))
async def test_list_and_stream_lose_and_repeat_nothing(first: int) -> None:
    """Every payment that exists from start to end is returned once, by `list` and by `stream`."""
    for seed in range(first, first + BATCH):
        async with scheduled(seed) as (sandbox, client, drift, draw):
            page_size, concurrency = draw.choice([10, 25, 50]), draw.choice([1, 4, 8])
            before = set(sandbox.store.ids())
            walk = client.payments.list(page_size=page_size, concurrency=concurrency)
            listed = [payment.id async for payment in walk]
            assert len(listed) == len(set(listed)), seed
            assert drift.lasting(before) <= set(listed), seed
            assert walk.report.complete, seed

            before = set(sandbox.store.ids())
            stream = client.payments.stream(
                channel_ids=[1, 2, 3], page_size=page_size, concurrency=concurrency, ordered=seed % 2 == 0
            )
            streamed = [payment.id async for payment in stream]
            assert len(streamed) == len(set(streamed)), seed
            assert drift.lasting(before) <= set(streamed), seed
            assert stream.report.complete, seed


@pytest.mark.slow
async def test_a_plain_offset_walk_loses_rows_on_the_same_schedules() -> None:
    """Paging by offset until a page is short loses or repeats payments, so the schedules are hard enough."""
    wrong = runs = 0
    for seed in range(0, SCHEDULES, 10):
        async with scheduled(seed) as (sandbox, _, drift, _):
            before = set(sandbox.store.ids())
            ids: list[int] = []
            async with aiohttp.ClientSession(headers=sandbox.headers) as session:
                while True:
                    query = f"sortBy=createdAt&orderBy=ASC&offset={len(ids)}&limit=10"
                    async with session.get(f"{sandbox.base_url}/ip/payments?{query}") as answer:
                        rows = (await answer.json())["data"]
                    ids += [int(row["id"]) for row in rows]
                    if len(rows) < 10:
                        break
            runs += 1
            wrong += not drift.lasting(before) <= set(ids) or len(ids) != len(set(ids))
    assert wrong > runs / 2


@pytest.mark.parametrize("seed", range(10))
async def test_payments_that_leave_a_filter_hide_no_others(seed: int) -> None:
    """Under a status filter, payments whose status changes shift the list, and none of the others is lost."""
    draw = random.Random(seed)
    async with Sandbox(payments=300, channels=(1,), seed=seed, rules=Rules(quota=False)) as sandbox:
        completed = {i for i in sandbox.store.ids() if sandbox.store.wire(i)["processingStatus"] == 3}
        left: set[int] = set()

        def change(store: Store, _seen: object) -> None:
            gone = draw.choice(sorted(completed - left))
            left.add(gone)
            store.update(gone, processingStatus=2)

        sandbox.before_list = change
        async with PaymentsClient(sandbox.auth, base_url=sandbox.base_url, quota=None) as client:
            walk = client.payments.list(processing_status=ProcessingStatus.COMPLETED, page_size=10)
            ids = [payment.id async for payment in walk]
    assert len(ids) == len(set(ids))
    assert completed - left <= set(ids)


async def test_another_sort_key_repeats_nothing_but_is_not_complete() -> None:
    """Sorted by totalAmount nothing is repeated, and the report does not claim completeness."""
    async with Sandbox(payments=400, channels=(1,), seed=3, rules=Rules(quota=False)) as sandbox:
        sandbox.before_list = Drift(3, rate=1.0)
        async with PaymentsClient(sandbox.auth, base_url=sandbox.base_url, quota=None) as client:
            walk = client.payments.list(sort_by=SortBy.TOTAL_AMOUNT, page_size=25)
            ids = [payment.id async for payment in walk]
    assert len(ids) == len(set(ids))
    assert not walk.report.exact
    assert not walk.report.complete
    assert "not guaranteed" in str(walk.report)
