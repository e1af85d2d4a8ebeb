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
    """Take a permit that must come."""
    permit = await gate.acquire(priority)
    assert isinstance(permit, Permit)
    return permit


async def spend(gate: QuotaGate, count: int, reading: QuotaReading | None = None) -> None:
    """Take so many permits, each answered at once."""
    for _ in range(count):
        gate.learn(await granted(gate), reading or QuotaReading())


async def in_flight(gate: QuotaGate) -> list[Permit]:
    """Take every permit that can be had at this moment."""
    permits: list[Permit] = []
    while isinstance(permit := await gate.acquire(Priority.PAGE, until=anyio.current_time()), Permit):
        permits.append(permit)
    return permits


# Our own window


def test_the_window_slides() -> None:
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


def test_a_turn_says_how_long_it_waited() -> None:
    """The seconds between asking for a permit and getting it are in the permit."""

    async def main() -> float:
        gate = QuotaGate(Quota(1, 10, margin=0))
        await spend(gate, 1)
        await anyio.sleep(4)
        return (await granted(gate)).waited

    assert run(main()) == 6.0


def test_a_call_goes_ahead_of_waiting_pages() -> None:
    """A call that comes last gets the next permit, though pages wait."""

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


def test_a_place_in_the_line_counts_for_the_deadline() -> None:
    """One who would get the third window's permit is told so at once, with the seconds it would take."""

    async def main() -> object:
        gate = QuotaGate(Quota(1, 10, margin=0))
        await spend(gate, 1)
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(spend(gate, 1))
            await asyncio.sleep(0)
            return await gate.acquire(Priority.PAGE, until=29)

    assert run(main()) == TooLate(30.0)


def test_a_closing_gate_sends_those_away_who_cannot_wait() -> None:
    """Whoever cannot wait until the gate opens again is told when it closes, not at the deadline."""

    async def main() -> tuple[object, float]:
        gate = QuotaGate(Quota(2, 10, margin=0), chance=lambda: 0.0)
        await spend(gate, 1)
        last = await granted(gate)
        asked = asyncio.create_task(gate.acquire(Priority.CALL, until=20))
        await asyncio.sleep(1)
        gate.close_for(100, last)
        return await asked, anyio.current_time()

    assert run(main()) == (TooLate(100.0), 1.0)


def test_a_deadline_ends_a_wait_for_an_answer() -> None:
    """Who waits for another request's answer stops waiting at the deadline."""

    async def main() -> tuple[object, float]:
        gate = QuotaGate(Quota())
        await granted(gate)
        return await gate.acquire(Priority.CALL, until=2), anyio.current_time()

    assert run(main()) == (TooLate(0.0), 2.0)


def test_clock_wait_and_chance_are_given_in() -> None:
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


def test_the_first_request_goes_alone() -> None:
    """Until one answer has come, one request is in flight; then as many as half of what remains."""

    async def main() -> tuple[int, int]:
        gate = QuotaGate(Quota())
        first = await in_flight(gate)
        gate.learn(first[0], QuotaReading(remaining=20))
        return len(first), len(await in_flight(gate))

    assert run(main()) == (1, 10)


def test_a_silent_service_is_trusted_quickly() -> None:
    """Where answers state nothing, the first lets four go, and the next ones sixteen and more."""

    async def main() -> tuple[int, int]:
        gate = QuotaGate(Quota())
        await spend(gate, 1)
        four = await in_flight(gate)
        gate.learn(four[0], QuotaReading())
        return len(four), len(four) - 1 + len(await in_flight(gate))

    assert run(main()) == (4, 16)


def test_a_request_without_answer_makes_room() -> None:
    """A permit that is released, and one that is silent for three seconds, no longer count as in flight."""

    async def main() -> tuple[float, float]:
        gate = QuotaGate(Quota())
        gate.release(await granted(gate))
        second = await granted(gate)
        third = await granted(gate)
        return second.waited, third.waited

    assert run(main()) == (0.0, 3.0)


def test_a_late_reading_only_lowers() -> None:
    """A reading whose request was sent before the last was read counts if it is lower, and else not."""

    async def main() -> list[int]:
        gate = QuotaGate(Quota())
        await spend(gate, 1, QuotaReading(remaining=100))
        early, later, *rest = [await granted(gate) for _ in range(4)]
        await anyio.sleep(0.1)
        gate.learn(later, QuotaReading(remaining=40))
        gate.learn(early, QuotaReading(remaining=90))
        counts = [len(rest) + len(await in_flight(gate))]
        gate.learn(rest[0], QuotaReading(remaining=20))
        counts.append(len(await in_flight(gate)))
        return counts

    assert run(main()) == [20, 0]


def test_an_old_reading_is_believed_less_and_less() -> None:
    """What was said to remain shrinks by twice the quota's rate, as others may have spent it."""

    async def main() -> list[int]:
        counts = []
        for idle in (0, 12.1, 60):
            gate = QuotaGate(Quota())
            await spend(gate, 1, QuotaReading(remaining=100))
            await anyio.sleep(idle)
            counts.append(len(await in_flight(gate)))
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
def test_nothing_remaining_closes_until_the_reset(
    remaining: int, resets_after: float | None, waited: float
) -> None:
    """The gate closes for the stated time; more than an hour, and absurd values, change nothing."""

    async def main() -> float:
        gate = QuotaGate(Quota(), chance=lambda: 0.0)
        await spend(gate, 1, QuotaReading(remaining, resets_after))
        return (await granted(gate)).waited

    assert run(main()) == pytest.approx(waited)


def test_our_own_spending_does_not_close_the_gate() -> None:
    """Where our own grants explain that nothing remains, our window says when to go on, not the reset."""

    async def main() -> float:
        gate = QuotaGate(Quota(2, 10, margin=0), chance=lambda: 0.0)
        await spend(gate, 1, QuotaReading(1, 10))
        await spend(gate, 1, QuotaReading(0, 500))
        return (await granted(gate)).waited

    assert run(main()) == 10.0


def test_a_refusal_closes_for_all_and_opens_to_one() -> None:
    """After a refusal nobody goes before the time is over, then one, and the rest once it was answered."""

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
def test_the_gate_opens_a_little_later_by_chance(seconds: float, opens: float) -> None:
    """A closed gate opens a tenth later at most, never sooner, and more than an hour does not close it."""

    async def main() -> float:
        gate = QuotaGate(Quota(), chance=lambda: 1.0)
        gate.close_for(seconds, await granted(gate))
        return (await granted(gate)).granted_at

    assert run(main()) == pytest.approx(opens)


def test_a_lower_allocation_is_adopted() -> None:
    """A quota that the service states counts if it is the stricter, and our share of it is kept."""

    async def main() -> tuple[int, int]:
        strict, loose = QuotaGate(Quota(100, share=0.5)), QuotaGate(Quota(10))
        await spend(strict, 2, QuotaReading(500, 1.0, allocated=(20, 60.0)))
        await spend(loose, 1, QuotaReading(500, 1.0, allocated=(300, 60.0)))
        return 2 + len(await in_flight(strict)), 1 + len(await in_flight(loose))

    assert run(main()) == (10, 10)


@pytest.mark.parametrize(
    "allocated", [(0, 60.0), (10**6, 60.0), (1, 0.0), (1, math.nan), (1, 1e9), (1, -60.0)]
)
def test_an_absurd_allocation_is_ignored(allocated: tuple[int, float]) -> None:
    """No window of no length or of more than ten minutes is believed."""

    async def main() -> int:
        gate = QuotaGate(Quota(10))
        await spend(gate, 1, QuotaReading(500, 1.0, allocated=allocated))
        return 1 + len(await in_flight(gate))

    assert run(main()) == 10


# Waiting is visible


def test_each_wait_is_told_with_its_reason() -> None:
    """The hook hears once of each wait: its seconds at least, and why."""

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


def test_a_closed_gate_is_told_as_such() -> None:
    """A wait for a closed gate has its own reason."""

    async def main() -> list[tuple[float, WaitReason]]:
        told: list[tuple[float, WaitReason]] = []
        gate = QuotaGate(Quota(), chance=lambda: 0.0)
        gate.close_for(10, await granted(gate))
        await gate.acquire(Priority.CALL, on_wait=lambda *about: told.append(about))
        return told

    assert run(main()) == [(10.0, WaitReason.CLOSED)]


def test_a_hook_that_raises_breaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The permit comes although the hook raises, and the error is in the log."""

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
    """The same store has the same gate in one event loop, and another store another."""

    async def main() -> tuple[bool, bool, QuotaGate]:
        gate = gate_for(("abc",), Quota())
        return gate_for(("abc",), Quota()) is gate, gate_for(("xyz",), Quota()) is gate, gate

    same, other, gate = run(main())
    assert (same, other) == (True, False)
    assert run(main())[2] is not gate


def test_the_stricter_quota_holds() -> None:
    """Where two clients bring different quotas, both are kept."""

    async def main() -> list[float]:
        gate = gate_for(("abc",), Quota(4, 10, margin=0))
        gate_for(("abc",), Quota(2, 1, margin=0))
        permits = []
        for _ in range(6):
            permits.append(await granted(gate))
            gate.learn(permits[-1], QuotaReading())
        return [round(permit.granted_at - permits[0].granted_at, 6) for permit in permits]

    assert run(main()) == [0.0, 0.0, 1.0, 1.0, 10.0, 10.0]


def test_a_new_client_does_not_forget_what_the_last_one_spent() -> None:
    """A gate outlives its clients until its window is empty, and no longer."""

    async def main() -> tuple[float, float]:
        await spend(gate_for(("abc",), Quota(1, 10, margin=0)), 1)
        gc.collect()
        waited = (await granted(gate_for(("abc",), Quota(1, 10, margin=0)))).waited
        await asyncio.sleep(11)
        gate_for(("xyz",), Quota())
        gc.collect()
        return waited, (await granted(gate_for(("abc",), Quota(5, 10, margin=0)))).waited

    assert run(main()) == (10.0, 0.0)
