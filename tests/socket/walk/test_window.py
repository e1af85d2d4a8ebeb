"""Walks over the payments of a period, in a list that changes meanwhile."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import attrs
import pytest

from b2b_payments import ConfigurationError, PaymentsClient
from b2b_payments.sandbox import Drift, Rules, Sandbox
from tests.support.clients import NEVER, client_of
from tests.support.times import moment, times

RULES = Rules(quota=False, equals="shuffled", max_limit=50)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Yield a store of 3,000 payments, 50 a page."""
    async with Sandbox(payments=3_000, rules=RULES) as sandbox:
        yield sandbox


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[PaymentsClient]:
    """Yield its client."""
    async with client_of(sandbox, retry=NEVER) as client:
        yield client


def bounds(start: int | None, stop: int | None) -> dict[str, Any]:
    """Return the parameters for these epoch seconds."""
    moments = (None if one is None else datetime.fromtimestamp(one, UTC) for one in (start, stop))
    return dict(zip(("created_from", "created_to"), moments, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("order", ["ASC", "DESC"])
async def test_periods_are_exact(sandbox: Sandbox, client: PaymentsClient, order: str) -> None:
    """Each lasting payment of a period is returned once, and no others, at the cost of a few requests."""
    store, draw, extra = sandbox.store, random.Random(order), []
    first, last = store.created(1), store.clock
    drift = sandbox.before_list = Drift(5, rate=0.3)
    for _ in range(6):
        start = draw.choice([first - 5, draw.randint(first, last), draw.randint(first, last)])
        stop = draw.choice(
            [max(start, last - 10**6) + 2 * 10**6, start + draw.choice([1, 86_400, 2_000_000])]
        )
        inside = {one for one in store.ids() if start <= store.created(one) < stop}
        walk = client.payments.list(**bounds(start, stop), order_by=order)
        given = [payment.id async for payment in walk]
        assert walk.report.complete, walk.report.ending
        assert len(given) == len(set(given))
        assert inside - drift.deleted <= set(given) <= inside | drift.inserted
        extra.append(walk.report.requests - max(1, -(-len(inside) // 50)))
    assert sorted(extra)[3] <= 12  # at 50 rows a page, each of which overlaps


@pytest.mark.slow
# `benchmarks.windows` searches among a million in every way.
@pytest.mark.parametrize(
    ("name", "payments"),
    [
        ("evenly", 100_000),
        ("nine in ten within an hour", 100_000),
        ("a second a month", 100_000),
        ("crowds of crowds", 1_000_000),
    ],
)
async def test_a_time_is_found(name: str, payments: int) -> None:
    """However payments are spread over time, at most 12 rows are read to find it, none of them twice."""
    draw = random.Random(name)
    created = times(name, draw, payments)
    async with Sandbox(created, rules=Rules(quota=False)) as sandbox, client_of(sandbox) as client:
        for _ in range(8):
            at = moment(draw, created)
            place = bisect_left(created, at)
            for order, period, nearest in (
                ("ASC", bounds(at, None), created[place : place + 1]),
                ("DESC", bounds(None, at), created[:place][-1:]),
            ):
                if not nearest:
                    continue
                sandbox.requests.clear()
                found = await client.payments.list(**period, order_by=order).first()
                assert found is not None
                assert found.created_at.timestamp() == nearest[0]
                rows = [str(seen.query) for seen in sandbox.requests if ("limit", "1") in seen.query]
                assert len(set(rows)) == len(rows) <= 12


async def test_a_period_is_counted(sandbox: Sandbox, client: PaymentsClient) -> None:
    """Its payments are counted by searching where it starts and ends, and the first one is found."""
    times = [sandbox.store.created(one) for one in sandbox.store.ids()]
    for start, stop in (
        (times[700], times[2_100]),
        (times[0] - 9, None),
        (None, times[5]),
        (times[-1] + 1, None),
    ):
        period = times[bisect_left(times, start or 0) : None if stop is None else bisect_left(times, stop)]
        walk = client.payments.list(**bounds(start, stop))
        assert await walk.count() == len(period)
        newest_first = client.payments.list(**bounds(start, stop), order_by="DESC")
        assert await newest_first.count() == len(period)
        found = [await walk.first(), await newest_first.first()]
        assert [one and int(one.created_at.timestamp()) for one in found] == (
            [period[0], period[-1]] if period else [None, None]
        )
    assert sandbox.request_count < 120


async def test_a_walk_over_a_period_resumes(sandbox: Sandbox, client: PaymentsClient) -> None:
    """It resumes from its checkpoint, and only with the same period."""
    store = sandbox.store
    period = bounds(store.created(1_000), store.created(1_400))
    async for page in client.payments.list(**period).pages():
        checkpoint, given = page.checkpoint, [payment.id for payment in page.items]
        break
    rest = [payment.id async for payment in client.payments.list(**period, checkpoint=checkpoint)]
    assert sorted(given + rest) == [
        one for one in store.ids() if store.created(1_000) <= store.created(one) < store.created(1_400)
    ]
    for other in (
        {},
        bounds(store.created(1_000), None),
        bounds(store.created(999) - 1, store.created(1_400)),
    ):
        with pytest.raises(ConfigurationError, match="for another query"):
            client.payments.list(**other, checkpoint=checkpoint)


@pytest.mark.parametrize(
    "rules", [{"total_count": "absent"}, {"total_cap": 100}, {"total_count": "wandering"}], ids=str
)
async def test_a_misleading_total(sandbox: Sandbox, client: PaymentsClient, rules: dict[str, Any]) -> None:
    """A total that is wrong or absent costs requests, but no payment."""
    store = sandbox.store
    sandbox.rules = attrs.evolve(RULES, **rules)
    walk = client.payments.list(**bounds(store.created(2_000), store.created(2_100)))
    inside = [one for one in store.ids() if store.created(2_000) <= store.created(one) < store.created(2_100)]
    assert sorted([payment.id async for payment in walk]) == inside
    assert walk.report.complete


async def test_a_stream_over_a_period(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A stream over channels can have a period, too."""
    store = sandbox.store
    period = bounds(store.created(500), store.created(900))
    stream = client.payments.stream(channel_ids=[1, 3], **period)
    inside = [one for one in range(500, 900) if store.channel(one) in {1, 3}]
    assert sorted([payment.id async for payment in stream]) == [
        one for one in inside if store.created(500) <= store.created(one) < store.created(900)
    ]
    assert stream.report.complete


@pytest.mark.slow
@pytest.mark.parametrize("order", ["ASC", "DESC"])
async def test_any_year_and_time_zone(sandbox: Sandbox, client: PaymentsClient, order: str) -> None:
    """Bounds of any year and time zone work, also the two equal times of a clock that is set back."""
    store, berlin = sandbox.store, ZoneInfo("Europe/Berlin")
    always = {
        "created_from": datetime.min.replace(tzinfo=UTC),
        "created_to": datetime.max.replace(tzinfo=UTC),
    }
    periods: list[tuple[dict[str, Any], int]] = [
        (always, len(store)),
        ({"created_to": datetime(1969, 1, 1, tzinfo=UTC)}, 0),
        ({"created_from": datetime(9999, 1, 1, tzinfo=UTC)}, 0),
    ]
    for arguments, rows in periods:
        walk = client.payments.list(**arguments, order_by=order)
        assert (len([payment async for payment in walk]), walk.report.complete) == (rows, True)
        assert await walk.count() == rows
    first, second = (datetime(2022, 10, 30, 2, 30, tzinfo=berlin, fold=fold) for fold in (0, 1))
    inside = store.insert(created_at=int(first.timestamp()) + 60)
    store.insert(created_at=int(second.timestamp()) + 60)
    hour = client.payments.list(created_from=first, created_to=second, order_by=order)
    expected = [one for one in store.ids() if first.timestamp() <= store.created(one) < second.timestamp()]
    assert sorted([payment.id async for payment in hour]) == sorted(expected)
    assert inside in expected


async def test_count_in_an_uneven_list() -> None:
    """Where payments became frequent, a period's first row is far before its likely place, and counted."""
    day = 86_400
    async with Sandbox(payments=0, rules=RULES) as sandbox, client_of(sandbox, retry=NEVER) as client:
        start = sandbox.store.clock
        for number in range(100):
            sandbox.store.insert(created_at=start + number * day)
        for number in range(800):
            sandbox.store.insert(created_at=start + 100 * day + number)
        for first in (5, 50, 98):
            walk = client.payments.list(**bounds(start + first * day, start + 100 * day + 3))
            assert await walk.count() == 100 - first + 3


async def test_invalid_periods_are_refused(client: PaymentsClient) -> None:
    """Naive datetimes, empty periods, other sort keys and offsets are refused at once."""
    moment = datetime(2022, 1, 1, tzinfo=UTC)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"created_from": datetime(2022, 1, 1)}, "created_from.*time zone"),  # noqa: DTZ001
        ({"created_to": "2022-01-01"}, "created_to.*time zone"),
        ({"created_from": moment, "created_to": moment}, "must be before"),
        ({"created_to": moment, "created_from": moment.astimezone(ZoneInfo("Asia/Tokyo"))}, "must be before"),
        (
            {"created_from": datetime.min.replace(tzinfo=ZoneInfo("Asia/Tokyo"))},
            "created_from.*outside the years",
        ),
        ({"created_from": moment, "sort_by": "updatedAt"}, "sort_by"),
        ({"created_from": moment, "offset": 5}, "offset"),
    ]
    for arguments, message in wrong:
        with pytest.raises(ConfigurationError, match=message):
            client.payments.list(**arguments)
