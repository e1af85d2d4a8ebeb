"""The gate against a simulated service, with another integration and heavy-tailed latency."""

from __future__ import annotations

import math
import random
from collections import deque

import anyio
import attrs
import pytest

from b2b_payments._quota import (
    Permit,
    Priority,
    Quota,
    QuotaGate,
    QuotaReading,
)
from tests.support.virtual_time import run


async def granted(gate: QuotaGate, priority: Priority = Priority.PAGE) -> Permit:
    """Acquire a permit that must be granted."""
    permit = await gate.acquire(priority)
    assert isinstance(permit, Permit)
    return permit


@attrs.define
class Service:
    """A service's quota of 150 in 60 seconds, counted by arrivals from all senders."""

    slides: bool
    refused: list[float] = attrs.field(factory=list)
    seen: deque[float] = attrs.field(factory=deque)

    def take(self) -> tuple[bool, QuotaReading]:
        """Count an arrival, and return whether it is admitted and what remains."""
        now = anyio.current_time()
        start = now - 60 if self.slides else now // 60 * 60
        while self.seen and (self.seen[0] <= start if self.slides else self.seen[0] < start):
            self.seen.popleft()
        admitted = len(self.seen) < 150
        if admitted:
            self.seen.append(now)
        resets_after = (self.seen[0] if self.slides else start) + 60 - now
        return admitted, QuotaReading(150 - len(self.seen), resets_after)

    def most_refused(self) -> int:
        """Return the most refusals of our requests in any of the service's windows."""
        if not self.slides:
            windows = [at // 60 for at in self.refused]
            return max((windows.count(window) for window in windows), default=0)
        return max((sum(at <= other < at + 60 for other in self.refused) for at in self.refused), default=0)


async def latency(chance: random.Random) -> None:
    """Wait for one way of a request: about 40 ms, with a heavy tail."""
    await anyio.sleep(min(3.0, chance.lognormvariate(math.log(0.04), 0.8)))


async def fetch(service: Service, count: int, chance: random.Random) -> float:
    """Send `count` requests, sixteen at a time, until each is accepted. Returns the seconds taken."""
    # A generator of its own, so that the gate does not influence the latencies.
    gate = QuotaGate(Quota(), chance=random.Random(count).random)
    left = iter(range(count))
    begun = anyio.current_time()

    async def worker() -> None:
        for _ in left:
            admitted = False
            while not admitted:
                permit = await granted(gate)
                await latency(chance)
                admitted, reading = service.take()
                if not admitted:
                    service.refused.append(anyio.current_time())
                await latency(chance)
                if admitted:
                    gate.learn(permit, reading)
                else:
                    gate.close_for(reading.pause or 0.0, permit)

    async with anyio.create_task_group() as group:
        for _ in range(16):
            group.start_soon(worker)
    return anyio.current_time() - begun


@pytest.mark.slow
@pytest.mark.parametrize("slides", [False, True], ids=["fixed", "sliding"])
def test_two_windows_are_filled_without_a_refusal(slides: bool) -> None:
    """300 requests on a quota of 150 take at most 5 % more than the minimum of 60 s, and none is refused."""
    for seed in range(10):
        service = Service(slides)
        assert run(fetch(service, 300, random.Random(seed))) <= 60 * 1.05
        assert service.refused == []


@pytest.mark.slow
@pytest.mark.parametrize("slides", [False, True], ids=["fixed", "sliding"])
@pytest.mark.parametrize("spending", ["evenly", "by chance", "at once"])
@pytest.mark.parametrize("start", [0.0, 20.0, 43.0])
def test_another_integration_costs_one_refusal_a_window_at_most(
    slides: bool, spending: str, start: float
) -> None:
    """If another integration spends two thirds of the quota, at most one request a window is refused."""

    async def others(service: Service, chance: random.Random) -> None:
        while True:
            for _ in range(100 if spending == "at once" else 1):
                service.take()
            pause = {"evenly": 0.6, "by chance": chance.expovariate(1 / 0.6), "at once": 60.0}[spending]
            await anyio.sleep(pause)

    async def main(service: Service, seed: int) -> float:
        chance = random.Random(seed)
        async with anyio.create_task_group() as group:
            group.start_soon(others, service, chance)
            await anyio.sleep(start + seed)
            took = await fetch(service, 400, chance)
            group.cancel_scope.cancel()
        return took

    for seed in range(4):
        service = Service(slides)
        assert run(main(service, seed)) <= 60 * 400 / 50 * 1.1
        assert service.most_refused() <= 1
