"""The gate under generated loads, on virtual time: it never exceeds the quota, and loses no permit."""

from __future__ import annotations

import asyncio
import math

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from b2b_payments._quota import Permit, Priority, Quota, QuotaGate, QuotaReading, TooLate
from tests.support.virtual_time import run

SECONDS = st.floats(0, 20, allow_nan=False).map(lambda value: round(value, 3))
QUOTAS = st.builds(
    Quota,
    st.integers(1, 12),
    st.floats(0.1, 10),
    share=st.floats(0.1, 1),
    margin=st.floats(0, 1),
)
READINGS = st.builds(
    QuotaReading,
    remaining=st.none() | st.integers(-5, 200),
    resets_after=st.none() | st.floats(-10, 1e9) | st.just(float("nan")),
    allocated=st.none() | st.tuples(st.integers(-1, 200), st.floats(-1, 1e9)),
)
ENDS = st.sampled_from(["learn", "refuse", "leave", "silent"])


def most_in_a_window(grants: list[float], span: float) -> int:
    """Return the number of grants in the fullest half-open interval of this length."""
    return max((sum(start <= grant < start + span for grant in grants) for start in grants), default=0)


async def end(gate: QuotaGate, permit: Permit, how: str, reading: QuotaReading) -> None:
    """Report how a permit's request ended, or do not report it."""
    if how == "learn":
        gate.learn(permit, reading)
    elif how == "refuse":
        gate.close_for(reading.pause or 0.0, permit)
    elif how == "leave":
        gate.release(permit)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    quota=QUOTAS,
    load=st.lists(
        st.tuples(SECONDS, st.sampled_from(Priority), SECONDS, ENDS, READINGS, st.booleans()), max_size=40
    ),
)
def test_no_window_holds_more_than_the_quota(
    quota: Quota, load: list[tuple[float, Priority, float, str, QuotaReading, bool]]
) -> None:
    """Whatever is requested, cancelled or stated, no window of per + margin seconds exceeds the limit."""
    grants: list[float] = []

    async def client(
        gate: QuotaGate,
        start: float,
        priority: Priority,
        latency: float,
        how: str,
        reading: QuotaReading,
        gives_up: bool,
    ) -> None:
        await anyio.sleep(start)
        with anyio.move_on_after(latency if gives_up else None):
            permit = await gate.acquire(priority)
            assert isinstance(permit, Permit)
            grants.append(permit.granted_at)
            await anyio.sleep(latency)
            await end(gate, permit, how, reading)

    async def main() -> None:
        gate = QuotaGate(quota, chance=lambda: 0.5)
        async with anyio.create_task_group() as group:
            for line in load:
                group.start_soon(client, gate, *line)
        assert isinstance(await gate.acquire(Priority.PAGE), Permit)

    run(main())
    assert len(grants) >= sum(not line[-1] for line in load)
    assert most_in_a_window(grants, quota.span) <= quota.limit


@settings(max_examples=100, deadline=None)
@given(quota=QUOTAS, line=st.lists(st.sampled_from(Priority), min_size=1, max_size=30))
def test_calls_go_first_and_each_line_keeps_its_order(quota: Quota, line: list[Priority]) -> None:
    """Waiters get permits by priority, and within a priority in the order in which they came."""
    order: list[int] = []

    async def client(gate: QuotaGate, number: int, priority: Priority) -> None:
        permit = await gate.acquire(priority)
        assert isinstance(permit, Permit)
        order.append(number)
        gate.learn(permit, QuotaReading())

    async def main() -> None:
        gate = QuotaGate(quota)
        first = await gate.acquire(Priority.CALL)
        assert isinstance(first, Permit)
        async with asyncio.TaskGroup() as group:
            for number, priority in enumerate(line):
                group.create_task(client(gate, number, priority))
                await asyncio.sleep(0)
            gate.learn(first, QuotaReading())

    run(main())
    assert order == sorted(range(len(line)), key=lambda number: (line[number], number))


@settings(max_examples=100, deadline=None)
@given(quota=QUOTAS, until=st.lists(st.just(math.inf) | SECONDS, min_size=1, max_size=25), closed=SECONDS)
def test_no_one_waits_beyond_the_deadline(quota: Quota, until: list[float], closed: float) -> None:
    """A waiter gets a permit or TooLate by its deadline; without a deadline it always gets a permit."""
    ends: list[tuple[float, float, bool]] = []

    async def client(gate: QuotaGate, deadline: float) -> None:
        permit = await gate.acquire(Priority.CALL, until=deadline)
        ends.append((deadline, anyio.current_time(), isinstance(permit, Permit)))
        if isinstance(permit, Permit):
            gate.learn(permit, QuotaReading())

    async def main() -> None:
        gate = QuotaGate(quota, chance=lambda: 0.0)
        first = await gate.acquire(Priority.PAGE)
        assert isinstance(first, Permit)
        async with anyio.create_task_group() as group:
            for deadline in until:
                group.start_soon(client, gate, deadline)
            await anyio.sleep(closed / 2)
            gate.close_for(closed, first)

    run(main())
    assert len(ends) == len(until)
    for deadline, ended, granted in ends:
        assert granted if deadline == math.inf else ended <= deadline + 1e-9  # floating point


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(quota=QUOTAS, cancelled=st.sets(st.integers(0, 19)), step=st.integers(0, 6))
def test_cancelled_waiter_loses_no_permit(quota: Quota, cancelled: set[int], step: int) -> None:
    """Whoever is cancelled, and when, the others get all permits as soon as the window allows."""
    grants: list[float] = []

    async def client(gate: QuotaGate) -> None:
        permit = await gate.acquire(Priority.CALL)
        assert isinstance(permit, Permit)
        grants.append(permit.granted_at)
        gate.learn(permit, QuotaReading())

    async def main() -> None:
        gate = QuotaGate(quota)
        tasks = [asyncio.create_task(client(gate)) for _ in range(20)]
        for _ in range(step):
            await asyncio.sleep(0)
        for number in cancelled:
            tasks[number].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not any(task.cancelled() for number, task in enumerate(tasks) if number not in cancelled)

    run(main())
    assert len(grants) >= 20 - len(cancelled)
    assert grants == sorted(grants)
    rounds = (len(grants) - 1) // quota.limit
    assert all(granted <= rounds * quota.span + 1e-6 for granted in grants)


def test_wait_beyond_the_deadline_is_not_started() -> None:
    """If the window cannot open before the deadline, TooLate is returned at once."""

    async def main() -> tuple[float, object]:
        gate = QuotaGate(Quota(1, 60, margin=0))
        await gate.acquire(Priority.CALL)
        refused = await gate.acquire(Priority.CALL, until=59.9)
        return anyio.current_time(), refused

    assert run(main()) == (0.0, TooLate(60.0))
