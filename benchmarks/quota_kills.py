"""Schedules of kills: processes share a quota; they and the shared state are damaged at random times.

Run with ``uv run python -m benchmarks.quota --kills``; ``--schedules N`` is the number of schedules, from
seed ``--first SEED`` on, and ``--at-once N`` the number of concurrent ones. In each, three processes use
their permits at a service that counts, over real sockets in real time. Meanwhile processes are killed, or
stopped and continued; the Redis server is killed and restarted, its window forgotten, or its clock set; or
the file is removed or emptied. Exit code 1 if a window at the service held more than is allowed (see
`Outcome`), or if a process starved.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import attrs

from b2b_payments._quota import Permit, Priority, Quota, QuotaReading, gate_for
from b2b_payments._quota import redis as redis_module
from b2b_payments.sandbox import Rules
from b2b_payments.sandbox._admission import Counter as Window
from b2b_payments.sandbox._admission import LeakyBucket
from tests.support.redis_server import RedisServer

REQUESTS, PER, MARGIN = 20, 1.0, 0.5
PROCESSES, SECONDS = 3, 6.0
GRACE = 60.0
"""Seconds after the last harm within which every process must be granted a permit."""
HARMS = {
    "file": ("kill", "stop", "remove", "empty"),
    "redis": ("kill", "stop", "restart", "forget", "set clock"),
}
_fork = multiprocessing.get_context("forkserver")


@attrs.frozen
class Arrival:
    """A request as the service saw it. `late` is the seconds since its permit."""

    at: float
    process: int
    late: float


@attrs.define
class Outcome:
    """The outcome of a schedule.

    `most` is the maximum number of arrivals in a window; `most_in_time` excludes requests whose permit was
    older than the margin, because their process was stopped. If the shared state was `lost`, each process
    continues with its part, in addition to earlier grants: at most twice the quota. `waiting` are the
    processes that starved.
    """

    seed: int
    harms: Sequence[str]
    lost: bool
    most: int
    most_in_time: int
    refused: int
    waiting: Sequence[int]

    @property
    def is_kept(self) -> bool:
        """Whether the outcome is allowed."""
        return self.most_in_time <= (2 if self.lost else 1) * REQUESTS and not self.waiting


def _worker(number: int, port: int, shared: str) -> None:
    logging.disable()
    source = redis_module.script()
    stepped = source.replace(
        "redis.call('TIME')", "redis.call('TIME'); time[1] = time[1] + (redis.call('GET', 'step') or 0)"
    )
    redis_module.script = lambda _=None: stepped  # type: ignore[assignment]
    asyncio.run(_spend(number, port, shared))


async def _spend(number: int, port: int, shared: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    gate = gate_for(("kills", "store"), Quota(REQUESTS, PER, margin=MARGIN, shared=shared))
    while True:
        permit = await gate.acquire(Priority.PAGE)
        assert isinstance(permit, Permit)
        writer.write(f"{number} {permit.granted_at}\n".encode())
        remaining, resets_after, refused = map(float, (await reader.readline()).split())
        if refused:
            gate.close_for(resets_after, permit)
        elif remaining < 0:
            gate.learn(permit, QuotaReading())
        else:
            gate.learn(permit, QuotaReading(int(remaining), resets_after))


class Schedule:
    """One running schedule."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.seed = seed
        self.shared = self.chance.choice(["file", "redis"])
        self.headers = self.chance.random() < 0.5
        window = self.chance.choice(["sliding", "fixed", "leaky"])
        rules = Rules(requests=REQUESTS, per=PER, window=window)  # type: ignore[arg-type]
        self.window = (LeakyBucket if window == "leaky" else Window)(rules, time.monotonic())
        self.arrivals: list[Arrival] = []
        self.refused = 0
        self.harms: list[str] = []
        self.processes: dict[int, Any] = {}
        self.reach = 0, ""

    async def run(self) -> Outcome:
        """Run the schedule to its end."""
        with ExitStack() as stack:
            server = stack.enter_context(RedisServer()) if self.shared == "redis" else None
            path = Path(stack.enter_context(tempfile.TemporaryDirectory()), "quota")
            listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            self.reach = listener.sockets[0].getsockname()[1], server.url if server else str(path)
            try:
                for _ in range(PROCESSES):
                    self._start()
                await self._wait_for_all()
                end = time.monotonic() + SECONDS
                while time.monotonic() < end:
                    await asyncio.sleep(self.chance.uniform(0, 2))
                    harm = self.chance.choice(HARMS[self.shared])
                    self.harms.append(harm)
                    await self._harm(harm, server, path)
                waiting = await self._wait_for_all()
            finally:
                for process in self.processes.values():
                    process.kill()
                listener.close()
        most, in_time = (self._most(late) for late in (float("inf"), MARGIN))
        lost = bool(set(self.harms) & {"restart", "forget", "remove", "empty"})
        return Outcome(self.seed, self.harms, lost, most, in_time, self.refused, waiting)

    async def _harm(self, harm: str, server: RedisServer | None, path: Path) -> None:
        number = self.chance.choice(list(self.processes))
        process = self.processes[number]
        if harm == "kill":
            process.kill()
            del self.processes[number]
            self._start()
        elif harm == "stop":
            os.kill(process.pid, signal.SIGSTOP)
            await asyncio.sleep(self.chance.uniform(0.1, 3))
            os.kill(process.pid, signal.SIGCONT)
        elif harm == "remove":
            with suppress(FileNotFoundError):
                os.unlink(path)
        elif harm == "empty":
            with suppress(FileNotFoundError):
                os.truncate(path, 0)
        elif server is not None and harm == "restart":
            server.kill()
            await asyncio.sleep(self.chance.uniform(0, 2))
            server.start()
        elif server is not None:
            with server.client as client:
                if harm == "forget":
                    client.flushall()
                else:
                    client.set("step", self.chance.choice([-3600, -2, 2, 3600]))

    async def _wait_for_all(self) -> list[int]:
        """Wait until all processes are granted a permit. Returns those that are not within `GRACE`."""
        since, end = time.monotonic(), time.monotonic() + GRACE
        while time.monotonic() < end:
            waiting = set(self.processes) - {one.process for one in self.arrivals if one.at > since}
            if not waiting:
                return []
            await asyncio.sleep(0.1)
        return sorted(waiting)

    def _start(self) -> None:
        number = max(self.processes, default=0) + 1
        process = _fork.Process(target=_worker, args=(number, *self.reach), daemon=True)
        process.start()
        self.processes[number] = process

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.CancelledError):
            async for line in reader:
                now = time.monotonic()
                number, granted_at = line.split()
                self.arrivals.append(Arrival(now, int(number), now - float(granted_at)))
                is_refused = not self.window.admit(now)
                self.refused += is_refused
                remaining = self.window.remaining(now) if self.headers else -1
                wait = self.window.wait(now) if is_refused else self.window.resets_after(now)
                writer.write(f"{remaining} {wait} {int(is_refused)}\n".encode())
        writer.close()

    def _most(self, late: float) -> int:
        times = [one.at for one in self.arrivals if one.late <= late]
        return max((sum(at <= other < at + PER for other in times) for at in times), default=0)


async def measure(seeds: Sequence[int], at_once: int) -> list[Outcome]:
    """Run the schedules of these seeds."""
    slots, outcomes = asyncio.Semaphore(at_once), list[Outcome]()

    async def one(seed: int) -> None:
        async with slots:
            outcome = await Schedule(seed).run()
        outcomes.append(outcome)
        if not outcome.is_kept or outcome.most > REQUESTS:
            print(outcome, flush=True)
        elif len(outcomes) % 25 == 0:
            print(f"{len(outcomes)} schedules so far", file=sys.stderr, flush=True)

    async with asyncio.TaskGroup() as group:
        for seed in seeds:
            group.create_task(one(seed))
    return outcomes


def main(argv: Sequence[str]) -> int:
    """Run all schedules and print their outcomes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--schedules", type=int, default=300)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--at-once", type=int, default=4)
    given = parser.parse_args(argv)
    _fork.set_forkserver_preload(["benchmarks.quota_kills"])
    outcomes = asyncio.run(measure(range(given.first, given.first + given.schedules), given.at_once))
    harms = Counter(harm for outcome in outcomes for harm in outcome.harms)
    print(
        f"{len(outcomes)} schedules: "
        + ", ".join(f"{count} × {harm}" for harm, count in sorted(harms.items()))
    )
    for lost in (False, True):
        of_kind = [outcome for outcome in outcomes if outcome.lost is lost]
        print(
            f"{len(of_kind)} in which the shared state was {'lost' if lost else 'never lost'}: "
            f"at most {max((one.most_in_time for one in of_kind), default=0)} of {REQUESTS} in a window "
            f"({max((one.most for one in of_kind), default=0)} with permits of stopped processes), "
            f"more than the quota in {sum(one.most_in_time > REQUESTS for one in of_kind)}, "
            f"{sum(one.refused for one in of_kind)} refused"
        )
    bad = [outcome.seed for outcome in outcomes if not outcome.is_kept]
    print(f"not kept: {bad}; starved processes: {sum(len(one.waiting) for one in outcomes)}")
    return int(bool(bad))
