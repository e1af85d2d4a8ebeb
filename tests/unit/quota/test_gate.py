"""The gate, rule by rule, on virtual time."""

from __future__ import annotations

import asyncio
import gc
import logging
import math

import anyio
import pytest

from b2b_payments._quota import (
    Permit,
    Priority,
    Quota,
    QuotaGate,
    QuotaReading,
    TooLate,
    WaitReason,
    gate_for,
)
from tests.support.virtual_time import run


async def granted(gate: QuotaGate, priority: Priority = Priority.PAGE) -> Permit:
    """Acquire a permit that must be granted."""
    permit = await gate.acquire(priority)
    assert isinstance(permit, Permit)
    return permit


async def spend(gate: QuotaGate, count: int, reading: QuotaReading | None = None) -> None:
    """Acquire `count` permits, each answered at once."""
    for _ in range(count):
        gate.learn(await granted(gate), reading or QuotaReading())


async def acquire_all(gate: QuotaGate) -> list[Permit]:
    """Acquire every permit available at this time."""
    permits: list[Permit] = []
    while isinstance(permit := await gate.acquire(Priority.PAGE, until=anyio.current_time()), Permit):
        permits.append(permit)
    return permits


# Our own window


def test_window_slides() -> None:
    """With the window full, the next grant comes exactly one span after the oldest."""

    async def main() -> list[float]:
        gate = QuotaGate(Quota(3, 10, margin=0.5))
        moments = []
        for _ in range(4):
            permit = await granted(gate)
            gate.learn(permit, QuotaReading())
            moments.append(permit.granted_at)
            await anyio.sleep(1)
        return moments

    assert run(main()) == [0.0, 1.0, 2.0, 10.5]


def test_permit_says_how_long_it_waited() -> None:
    """`Permit.waited` is the seconds between request and grant."""

    async def main() -> float:
        gate = QuotaGate(Quota(1, 10, margin=0))
        await spend(gate, 1)
        await anyio.sleep(4)
        return (await granted(gate)).waited

    assert run(main()) == 6.0


def test_call_goes_before_waiting_pages() -> None:
    """A call that comes last gets the next permit, although pages wait."""

    async def main() -> list[str]:
        gate = QuotaGate(Quota(1, 10, margin=0))
        await spend(gate, 1)
        order = []

        async def ask(name: str, priority: Priority) -> None:
            gate.learn(await granted(gate, priority), QuotaReading())
            order.append(name)

        async with asyncio.TaskGroup() as group:
            group.create_task(ask("page", Priority.PAGE))
            await asyncio.sleep(5)
            group.create_task(ask("call", Priority.CALL))
        return order

    assert run(main()) == ["call", "page"]


def test_place_in_the_line_counts_for_the_deadline() -> None:
    """A waiter that would get a permit in the third window is refused at once, with the seconds."""

    async def main() -> object:
        gate = QuotaGate(Quota(1, 10, margin=0))
        await spend(gate, 1)
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(spend(gate, 1))
            await asyncio.sleep(0)
            return await gate.acquire(Priority.PAGE, until=29)

    assert run(main()) == TooLate(30.0)


def test_closing_gate_ends_waits_that_would_be_too_late() -> None:
    """A waiter that cannot wait until the gate reopens ends when it closes, not at the deadline."""

    async def main() -> tuple[object, float]:
        gate = QuotaGate(Quota(2, 10, margin=0), chance=lambda: 0.0)
        await spend(gate, 1)
        last = await granted(gate)
        asked = asyncio.create_task(gate.acquire(Priority.CALL, until=20))
        await asyncio.sleep(1)
        gate.close_for(100, last)
        return await asked, anyio.current_time()

    assert run(main()) == (TooLate(100.0), 1.0)


def test_deadline_ends_a_wait_for_an_answer() -> None:
    """A waiter for another request's answer stops waiting at the deadline."""

    async def main() -> tuple[object, float]:
        gate = QuotaGate(Quota())
        await granted(gate)
        return await gate.acquire(Priority.CALL, until=2), anyio.current_time()

    assert run(main()) == (TooLate(0.0), 2.0)


def test_waiter_that_wakes_too_late_takes_no_permit() -> None:
    """A waiter that wakes after its deadline, as when the machine slept, leaves the permit to others."""
    now = 0.0

    async def sleep(_event: anyio.Event, seconds: float) -> None:
        nonlocal now
        now += seconds + 100

    async def main() -> object:
        gate = QuotaGate(Quota(1, 60, margin=0), clock=lambda: now, wait=sleep)
        gate.learn(await granted(gate), QuotaReading())
        late = await gate.acquire(Priority.CALL, until=70)
        assert (await granted(gate)).granted_at == now
        return late

    assert isinstance(asyncio.run(main()), TooLate)


def test_clock_wait_and_chance_are_parameters() -> None:
    """A gate runs on any clock: here one that only moves when it waits."""
    now = 0.0

    async def wait(_event: anyio.Event, seconds: float) -> None:
        nonlocal now
        now += seconds

    async def main() -> Permit:
        gate = QuotaGate(Quota(1, 60, margin=0), clock=lambda: now, wait=wait, chance=lambda: 0.5)
        gate.close_for(100, await granted(gate))
        return await granted(gate)

    permit = asyncio.run(main())
    assert (permit.granted_at, permit.waited) == (100.25, 100.25)


# What the service says


def test_first_request_goes_alone() -> None:
    """Until one answer has arrived, one request is in flight; then up to half of what remains."""

    async def main() -> tuple[int, int]:
        gate = QuotaGate(Quota())
        first = await acquire_all(gate)
        gate.learn(first[0], QuotaReading(remaining=20))
        return len(first), len(await acquire_all(gate))

    assert run(main()) == (1, 10)


def test_silent_service_is_trusted_quickly() -> None:
    """If answers state nothing, four requests may be in flight after the first, then sixteen and more."""

    async def main() -> tuple[int, int]:
        gate = QuotaGate(Quota())
        await spend(gate, 1)
        four = await acquire_all(gate)
        gate.learn(four[0], QuotaReading())
        return len(four), len(four) - 1 + len(await acquire_all(gate))

    assert run(main()) == (4, 16)


def test_request_without_answer_makes_room() -> None:
    """A permit that is released, or not reported for three seconds, no longer counts as in flight."""

    async def main() -> tuple[float, float]:
        gate = QuotaGate(Quota())
        gate.release(await granted(gate))
        second = await granted(gate)
        third = await granted(gate)
        return second.waited, third.waited

    assert run(main()) == (0.0, 3.0)


def test_late_reading_only_lowers_what_remains() -> None:
    """A reading whose request was sent before the last reading counts only if it is lower."""

    async def main() -> list[int]:
        gate = QuotaGate(Quota())
        await spend(gate, 1, QuotaReading(remaining=100))
        early, later, *rest = [await granted(gate) for _ in range(4)]
        await anyio.sleep(0.1)
        gate.learn(later, QuotaReading(remaining=40))
        gate.learn(early, QuotaReading(remaining=90))
        counts = [len(rest) + len(await acquire_all(gate))]
        gate.learn(rest[0], QuotaReading(remaining=20))
        counts.append(len(await acquire_all(gate)))
        return counts

    assert run(main()) == [20, 0]


def test_old_reading_loses_weight() -> None:
    """What was stated to remain shrinks at twice the quota's rate, as others may have spent it."""

    async def main() -> list[int]:
        counts = []
        for idle in (0, 12.1, 60):
            gate = QuotaGate(Quota())
            await spend(gate, 1, QuotaReading(remaining=100))
            await anyio.sleep(idle)
            counts.append(len(await acquire_all(gate)))
        return counts

    assert run(main()) == [50, 20, 1]


@pytest.mark.parametrize(
    ("remaining", "resets_after", "waited"),
    [
        (0, 7.0, 7.0),
        (0, 3600.0, 3600.0),
        (0, 3600.1, 0.0),
        (0, None, 0.0),
        (0, -3.0, 0.0),
        (0, math.nan, 0.0),
        (-1, 7.0, 0.0),
        (10**9, 7.0, 0.0),
    ],
)
def test_gate_closes_until_the_reset_if_nothing_remains(
    remaining: int, resets_after: float | None, waited: float
) -> None:
    """The gate closes for the stated time; more than an hour, and absurd values, change nothing."""

    async def main() -> float:
        gate = QuotaGate(Quota(), chance=lambda: 0.0)
        await spend(gate, 1, QuotaReading(remaining, resets_after))
        return (await granted(gate)).waited

    assert run(main()) == pytest.approx(waited)


def test_our_own_spending_does_not_close_the_gate() -> None:
    """If our own grants explain that nothing remains, our window decides, not the reset."""

    async def main() -> float:
        gate = QuotaGate(Quota(2, 10, margin=0), chance=lambda: 0.0)
        await spend(gate, 1, QuotaReading(1, 10))
        await spend(gate, 1, QuotaReading(0, 500))
        return (await granted(gate)).waited

    assert run(main()) == 10.0


def test_gate_reopens_to_one_request_after_a_refusal() -> None:
    """After a refusal none goes before the time is over, then one, and the rest after its answer."""

    async def main() -> tuple[list[float], int]:
        gate = QuotaGate(Quota(), chance=lambda: 0.0)
        await spend(gate, 1, QuotaReading(remaining=140))
        gate.close_for(5, await granted(gate))
        tasks = [asyncio.create_task(granted(gate)) for _ in range(8)]
        await asyncio.sleep(6)
        first = [task.result() for task in tasks if task.done()]
        gate.learn(first[0], QuotaReading(remaining=139))
        await asyncio.gather(*tasks)
        return [permit.granted_at for permit in first], len({task.result().granted_at for task in tasks})

    assert run(main()) == ([5.0], 2)


@pytest.mark.parametrize(
    ("seconds", "opens"), [(5, 5.5), (1, 1.1), (-1, 0.0), (math.nan, 0.0), (3600, 3600.5), (3601, 0.0)]
)
def test_gate_opens_a_random_time_later(seconds: float, opens: float) -> None:
    """A closed gate opens up to a tenth later, never earlier; more than an hour does not close it."""

    async def main() -> float:
        gate = QuotaGate(Quota(), chance=lambda: 1.0)
        gate.close_for(seconds, await granted(gate))
        return (await granted(gate)).granted_at

    assert run(main()) == pytest.approx(opens)


def test_lower_allocation_is_adopted() -> None:
    """A quota that the service states applies if it is stricter, and our share of it is used."""

    async def main() -> tuple[int, int]:
        strict, loose = QuotaGate(Quota(100, share=0.5)), QuotaGate(Quota(10))
        await spend(strict, 2, QuotaReading(500, 1.0, allocated=(20, 60.0)))
        await spend(loose, 1, QuotaReading(500, 1.0, allocated=(300, 60.0)))
        return 2 + len(await acquire_all(strict)), 1 + len(await acquire_all(loose))

    assert run(main()) == (10, 10)


@pytest.mark.parametrize(
    "allocated", [(0, 60.0), (10**6, 60.0), (1, 0.0), (1, math.nan), (1, 1e9), (1, -60.0)]
)
def test_absurd_allocation_is_ignored(allocated: tuple[int, float]) -> None:
    """A window without length, or of more than an hour, is not believed."""

    async def main() -> int:
        gate = QuotaGate(Quota(10))
        await spend(gate, 1, QuotaReading(500, 1.0, allocated=allocated))
        return 1 + len(await acquire_all(gate))

    assert run(main()) == 10


# Waiting is visible


def test_hook_is_called_once_for_each_wait() -> None:
    """The hook gets each wait's minimum seconds and reason."""

    async def main() -> list[tuple[float, WaitReason]]:
        told: list[tuple[float, WaitReason]] = []
        gate = QuotaGate(Quota(3, 60, margin=0), chance=lambda: 0.0)

        async def ask() -> Permit:
            permit = await gate.acquire(Priority.CALL, on_wait=lambda *about: told.append(about))
            assert isinstance(permit, Permit)
            return permit

        gate.release(await ask())
        await ask()
        second = await ask()
        gate.close_for(10, second)
        gate.learn(await ask(), QuotaReading())
        return told

    assert run(main()) == [(3.0, WaitReason.IN_FLIGHT), (57.0, WaitReason.WINDOW)]


def test_wait_for_a_closed_gate_has_its_own_reason() -> None:
    """A wait for a closed gate is reported as CLOSED."""

    async def main() -> list[tuple[float, WaitReason]]:
        told: list[tuple[float, WaitReason]] = []
        gate = QuotaGate(Quota(), chance=lambda: 0.0)
        gate.close_for(10, await granted(gate))
        await gate.acquire(Priority.CALL, on_wait=lambda *about: told.append(about))
        return told

    assert run(main()) == [(10.0, WaitReason.CLOSED)]


def test_failing_hook_breaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The permit is granted although the hook raises, and the error is logged."""

    def hook(_seconds: float, _reason: WaitReason) -> None:
        raise ZeroDivisionError

    async def main() -> float:
        gate = QuotaGate(Quota(1, 10, margin=0))
        await spend(gate, 1)
        permit = await gate.acquire(Priority.CALL, on_wait=hook)
        assert isinstance(permit, Permit)
        return permit.waited

    with caplog.at_level(logging.WARNING, logger="b2b_payments"):
        assert run(main()) == 10.0
    assert "ZeroDivisionError" in caplog.text


# One gate a store


def test_clients_of_one_store_share_a_gate() -> None:
    """In one event loop, clients of the same store have the same gate, and other stores another one."""

    async def main() -> tuple[bool, bool, QuotaGate]:
        gate = gate_for(("abc",), Quota())
        return gate_for(("abc",), Quota()) is gate, gate_for(("xyz",), Quota()) is gate, gate

    same, other, gate = run(main())
    assert (same, other) == (True, False)
    assert run(main())[2] is not gate


def test_stricter_quota_wins() -> None:
    """If two clients have different quotas, both apply."""

    async def main() -> list[float]:
        gate = gate_for(("abc",), Quota(4, 10, margin=0))
        gate_for(("abc",), Quota(2, 1, margin=0))
        permits = []
        for _ in range(6):
            permits.append(await granted(gate))
            gate.learn(permits[-1], QuotaReading())
        return [round(permit.granted_at - permits[0].granted_at, 6) for permit in permits]

    assert run(main()) == [0.0, 0.0, 1.0, 1.0, 10.0, 10.0]


def test_new_client_counts_the_last_ones_grants() -> None:
    """A window outlives its clients until its grants have expired, and no longer."""

    async def main() -> tuple[float, float]:
        await spend(gate_for(("abc",), Quota(1, 10, margin=0)), 1)
        gc.collect()
        waited = (await granted(gate_for(("abc",), Quota(1, 10, margin=0)))).waited
        await asyncio.sleep(11)
        gate_for(("xyz",), Quota())
        gc.collect()
        return waited, (await granted(gate_for(("abc",), Quota(5, 10, margin=0)))).waited

    assert run(main()) == (10.0, 0.0)
