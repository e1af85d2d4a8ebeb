"""Exact walks over lists that change at every request."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from b2b_payments._tasks import Tasks
from b2b_payments._walk.checkpoint import Origin
from b2b_payments._walk.page import Order
from b2b_payments._walk.prefetch import ConcurrencyLimiter, Prefetcher
from b2b_payments._walk.proof import Ends
from b2b_payments._walk.reader import Reader
from b2b_payments._walk.report import WalkReport
from b2b_payments._walk.service_limits import Totals
from b2b_payments.events import Events
from tests.support.changing_list import ChangingList
from tests.support.virtual_time import run

ORIGIN = Origin("a store", "")
ASCENDING = Order("created_at", False)


def prefetching(
    listed: ChangingList, ends: Ends, limiter: ConcurrencyLimiter, concurrency: int
) -> Prefetcher:
    """Return a prefetcher of the list's pages, as a walk makes it."""
    max_pages = 2 * concurrency - 1
    return Prefetcher(limiter, listed.read, ends, max_pages=max_pages, page_size=listed.page_size)


async def walk(listed: ChangingList, *, concurrency: int) -> tuple[list[int], WalkReport]:
    """Walk over the list. Returns the ids in the order delivered, and the report."""
    tasks = Tasks()
    await tasks.start()
    report, ends = WalkReport(), Ends(listed.order, Totals())
    prefetcher = prefetching(listed, ends, ConcurrencyLimiter(tasks, concurrency), concurrency)
    reader = Reader(prefetcher, ends, report, Events(), ORIGIN, listed.is_there)
    ids: list[int] = []
    try:
        while (page := await reader.next()) is not None:
            ids += [page.listing.heads[place].id for place in page.places]
    finally:
        prefetcher.drop()
        await tasks.stop()
    return ids, report


def drawn(seed: int) -> tuple[ChangingList, int]:
    """Draw a list, the behaviour of its service, and a concurrency."""
    draw = random.Random(seed)
    listed = ChangingList.drawn(
        draw,
        draw.choice([0, 1, 5, 40, 120, 400]),
        runs=draw.choice([[1], [1, 1, 1, 2, 3], [1, 1, 4, 9], [1, 30], [1, 1, 1, 60]]),
    )
    listed.page_size = draw.choice([1, 2, 3, 5, 10, 25, 50])
    listed.most = draw.choice([10**9] * 4 + [10, 25])
    listed.changes = draw.choice([0, 0.05, 0.5, 1, 2])
    listed.short = draw.choice([0, 0, 0, 0.2])
    listed.stable = draw.random() < 0.4
    listed.total = draw.choice(["true"] * 6 + ["too large", "absent"])
    if listed.total != "true":
        listed.changes = min(listed.changes, 0.5)  # without a true total, the end needs a quiet moment
    listed.order = Order("created_at", draw.random() < 0.3)
    return listed, draw.choice([1, 2, 4, 8])


@pytest.mark.slow
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32))
def test_no_lasting_row_is_lost_or_repeated(seed: int) -> None:
    """Whatever changes and however the service pages, a walk that ends has every lasting row once."""
    listed, concurrency = drawn(seed)
    single_second = len(set(listed.rows.values())) == 1
    ids, report = run(walk(listed, concurrency=concurrency))
    single_second = single_second or len(set(listed.rows.values())) == 1
    assert len(ids) == len(set(ids)) == report.rows
    # No walk can settle a list of one second that is longer than a page, or a handful of payments that all
    # change while they are read: it says so instead.
    assert report.complete or single_second or len(listed.lasting) < 6
    assert not report.complete or listed.lasting <= set(ids)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [4, 12])
@pytest.mark.parametrize("seed", range(2))
def test_a_store_that_is_being_emptied_is_read_to_its_end(seed: int, changes: int) -> None:
    """Many deletes at each request leave a gap at nearly every page: none of the lasting rows is missed."""
    draw = random.Random(seed)
    listed = ChangingList.drawn(draw, 1_500, runs=[1, 1, 3])
    listed.page_size, listed.most, listed.changes = 50, 50, changes
    ids, report = run(walk(listed, concurrency=8))
    assert report.complete
    assert report.gaps > 5
    assert listed.lasting <= set(ids)


@pytest.mark.slow
@settings(max_examples=75, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), stable=st.booleans())
def test_a_run_of_equals_longer_than_any_page_is_read_whole(seed: int, stable: bool) -> None:
    """Four full pages of one second, in an order that changes at each request: every row once."""
    draw = random.Random(seed)
    listed = ChangingList.drawn(draw, 130, runs=[1, 1, 1, 100])
    listed.page_size, listed.most, listed.stable = 25, 25, stable
    ids, report = run(walk(listed, concurrency=4))
    assert sorted(ids) == sorted(listed.lasting)
    assert report.complete


async def pages_of(
    listed: ChangingList, ends: Ends, *, concurrency: int, max_pages: int
) -> tuple[list[int], Any, bool]:
    """Walk up to `max_pages` pages. Returns the ids, the last checkpoint, and whether the walk is over."""
    tasks = Tasks()
    await tasks.start()
    prefetcher = prefetching(listed, ends, ConcurrencyLimiter(tasks, concurrency), concurrency)
    reader = Reader(prefetcher, ends, WalkReport(), Events(), ORIGIN, listed.is_there)
    ids: list[int] = []
    checkpoint: Any = None
    try:
        while (page := await reader.next()) is not None:
            ids += [page.listing.heads[place].id for place in page.places]
            checkpoint = page.checkpoint
            max_pages -= 1
            if max_pages == 0:
                return ids, checkpoint, False
        return ids, checkpoint, True
    finally:
        prefetcher.drop()
        await tasks.stop()


@pytest.mark.slow
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32))
def test_a_walk_in_parts_is_exact_too(seed: int) -> None:
    """Stopped after any page, and resumed while rows change, it has every lasting row once."""
    listed, concurrency = drawn(seed)
    listed.total, listed.order = "true", ASCENDING
    draw = random.Random(seed)
    ids: list[int] = []
    near, far = None, None
    for _ in range(1_000):
        ends = Ends(ASCENDING, Totals(), near=near, far=far)
        part, checkpoint, through = run(
            pages_of(listed, ends, concurrency=concurrency, max_pages=draw.randint(1, 6))
        )
        ids += part
        if through:
            break
        near, far = ORIGIN.unpack(json.loads(json.dumps(checkpoint)))
    assert len(ids) == len(set(ids))
    assert listed.lasting <= set(ids)


def plain_offset_walk(listed: ChangingList) -> list[int]:
    """Page as most clients do: by offset, until a page is short."""
    ids: list[int] = []
    while True:
        heads = listed.listing(len(ids), listed.page_size).heads
        ids += [head.id for head in heads]
        if len(heads) < listed.page_size:
            return ids


@pytest.mark.parametrize("stable", [True, False])
def test_a_plain_offset_walk_fails_on_such_lists(stable: bool) -> None:
    """It loses or repeats rows in most runs, so the schedules are hard enough."""
    wrong = 0
    for seed in range(100):
        listed = ChangingList.drawn(random.Random(seed), 200, runs=[1, 1, 1, 2, 3])
        listed.changes, listed.stable = 0.5, stable
        ids = plain_offset_walk(listed)
        wrong += not listed.lasting <= set(ids) or len(ids) != len(set(ids))
    assert wrong > 80
