"""One store's quota, shared by real processes through a file or a Redis server.

Run with ``uv run python -m benchmarks.quota --processes``; ``--per SECONDS`` is the length of the window (10
by default), ``--pairs`` a selection of cases that covers each pair of properties, and ``--at-once N`` the
number of concurrent cases. Each case starts processes that walk the same store concurrently, over real
sockets in real time. Exit code 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

import attrs

from b2b_payments import PaymentsClient, Quota, StoreAuth
from b2b_payments._quota import Permit, Priority, QuotaReading, gate_for
from b2b_payments.sandbox import Rules, Sandbox, SeenRequest
from tests.support.redis_server import RedisServer

Shared = Literal["file", "redis"]
Window = Literal["sliding", "fixed", "leaky"]

REQUESTS, MARGIN, PAGE = 150, 0.5, 20
WINDOWS_SPENT = 4
OTHERS = 100
"""Requests of another integration in each window: two thirds."""
RESERVE = 25
TURNS = 1_000


@attrs.frozen
class Case:
    """A number of processes that walk, the kind of service, and what else spends its quota."""

    shared: Shared | None
    window: Window
    headers: bool
    processes: int
    apart: bool = False
    others: int = 0
    calls: bool = False

    @property
    def name(self) -> str:
        """The name in the table."""
        return ", ".join(
            [
                f"{self.processes} processes" if self.shared else f"{self.processes} walks in one process",
                *([self.shared] if self.shared else []),
                self.window,
                "headers" if self.headers else "no headers",
                *(["started apart"] if self.apart else []),
                *([f"others spend {self.others}"] if self.others else []),
            ]
        )


PAIRS = (
    Case("file", "sliding", headers=True, processes=4),
    Case("redis", "sliding", headers=False, processes=8, apart=True),
    Case("redis", "fixed", headers=True, processes=8),
    Case("file", "fixed", headers=False, processes=4, apart=True),
    Case("file", "leaky", headers=True, processes=8, apart=True),
    Case("redis", "leaky", headers=False, processes=4),
    Case("file", "sliding", headers=False, processes=8),
    Case("redis", "fixed", headers=True, processes=4, apart=True),
)
EVERY_CASE = tuple(
    Case(*case) for case in product(get_args(Shared), get_args(Window), (True, False), (4, 8), (False, True))
)
WITH_OTHERS = tuple(
    Case(shared, window, headers=True, processes=4, others=OTHERS)
    for shared, window in product(get_args(Shared), get_args(Window))
)
WITH_CALLS = tuple(
    Case(shared, "sliding", headers=True, processes=3, calls=True) for shared in (None, "file", "redis")
)


@attrs.frozen
class Outcome:
    """What the service saw, and what the processes received. Times are in seconds."""

    refused: Sequence[float]
    most: int
    beside_the_bound: float
    fairness: float
    failed: Sequence[str]
    calls: Sequence[float]

    def most_refused(self, per: float) -> int:
        """Return the maximum number of refusals within the length of one window."""
        return max((sum(at <= other < at + per for other in self.refused) for at in self.refused), default=0)


async def _walk(client: PaymentsClient, name: str) -> None:
    async for _ in client.payments.list(page_size=PAGE).pages():
        print(json.dumps({"walk": name, "page": time.monotonic()}), flush=True)


async def _call(client: PaymentsClient, per: float) -> None:
    while True:
        begun = time.monotonic()
        await client.payments.get(1)
        print(json.dumps({"call": time.monotonic() - begun}), flush=True)
        await asyncio.sleep(per / 20)


async def _process(given: argparse.Namespace) -> None:
    quota = Quota(REQUESTS, given.per, margin=MARGIN, reserve=given.reserve, shared=given.shared or None)
    auth = StoreAuth(given.store_hash, given.token)
    async with PaymentsClient(auth, base_url=given.url, quota=quota, allow_http=True) as client:
        print(json.dumps({"ready": True}), flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        async with asyncio.TaskGroup() as group:  # ends with the process
            for name in given.walks.split(","):
                group.create_task(_walk(client, name) if name else _call(client, given.per))


async def measure(case: Case, per: float) -> Outcome:
    """Run one case."""
    walks = [str(number) for number in range(case.processes)]
    works = [*walks, *([""] if case.calls else [])] if case.shared else [",".join([*walks, ""])]
    rules = Rules(
        requests=REQUESTS,
        per=per,
        window=case.window,
        quota_headers=case.headers,
        others_per_window=case.others,
        latency=0.02,
    )
    with ExitStack() as stack:
        shared = ""
        if case.shared == "file":
            shared = str(Path(stack.enter_context(tempfile.TemporaryDirectory()), "quota"))
        elif case.shared == "redis":
            shared = stack.enter_context(RedisServer()).url
        async with Sandbox(payments=REQUESTS * PAGE * 2 * (WINDOWS_SPENT + 2), rules=rules) as sandbox:
            running = [
                await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "benchmarks.quota_processes", "--walks", work),
                    *("--url", sandbox.base_url, "--per", str(per), "--shared", shared),
                    *("--store-hash", sandbox.headers["X-Store-Hash"]),
                    *("--token", sandbox.headers["X-Auth-Token"]),
                    *("--reserve", str(RESERVE if case.calls else 0)),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
                for work in works
            ]
            for process in running:
                assert process.stdout is not None
                await process.stdout.readline()
            said = [asyncio.create_task(_lines(process)) for process in running]
            for process in running:
                assert process.stdin is not None
                process.stdin.write(b"\n")
                await asyncio.sleep(per / len(running) if case.apart else 0)
            await asyncio.sleep(WINDOWS_SPENT * (per + MARGIN) + 2)
            failed = [
                f"process {number} ended" for number, one in enumerate(running) if one.returncode is not None
            ]
            seen = list(sandbox.requests)
            for process in running:
                if process.returncode is None:
                    process.kill()
            lines = [json.loads(line) for task in said for line in await task]
    return outcome_of(case, per, seen, lines, failed)


async def _lines(process: asyncio.subprocess.Process) -> list[bytes]:
    assert process.stdout is not None
    return [line async for line in process.stdout if line.endswith(b"\n")]


def outcome_of(
    case: Case,
    per: float,
    seen: Sequence[SeenRequest],
    lines: Sequence[dict[str, Any]],
    failed: Sequence[str],
) -> Outcome:
    """Return the figures from what the service saw and what the processes printed."""
    times = sorted(request.at for request in seen if request.status != 429)
    pages_by_walk: dict[str, list[float]] = {}
    for line in lines:
        if "page" in line:
            pages_by_walk.setdefault(line["walk"], []).append(line["page"])
    windows, place = divmod(len(times) - 1, REQUESTS)
    # The first window as measured, then each request one window after the one a quota before it.
    bound = times[place] - times[0] + windows * (per + MARGIN)
    return Outcome(
        refused=[request.at for request in seen if request.status == 429],
        most=max(sum(at <= other < at + per for other in times[n:]) for n, at in enumerate(times)),
        beside_the_bound=(times[-1] - times[0]) / bound,
        fairness=_fairness(list(pages_by_walk.values()), case.processes, per + MARGIN),
        failed=failed,
        calls=[line["call"] for line in lines if "call" in line],
    )


def _fairness(pages_by_walk: list[list[float]], processes: int, span: float) -> float:
    """Return Jain's index of the pages of each walk in the full windows in which all of them walked."""
    if len(pages_by_walk) < processes:
        return 0.0
    begun, ended = max(pages[0] for pages in pages_by_walk), max(pages[-1] for pages in pages_by_walk)
    ended = begun + (ended - begun) // span * span
    counts = [sum(begun <= at < ended for at in pages) for pages in pages_by_walk]
    return sum(counts) ** 2 / (len(counts) * sum(count**2 for count in counts))


async def turns(shared: str | None) -> tuple[float, float]:
    """Return the minimum and median milliseconds to acquire a permit, in windows that fill up."""
    taken: list[float] = []
    for number in range(TURNS // REQUESTS):
        gate = gate_for(("turns", str(shared), str(number)), Quota(shared=shared))
        for _ in range(REQUESTS):
            begun = time.perf_counter()
            permit = await gate.acquire(Priority.CALL)
            taken.append(time.perf_counter() - begun)
            assert isinstance(permit, Permit)
            gate.learn(permit, QuotaReading(1000, 5.0))
            await asyncio.sleep(0.002)  # reporting the answer is not part of the next permit
    return min(taken) * 1000, statistics.median(taken) * 1000


def _verdict(case: Case, outcome: Outcome, per: float) -> bool:
    if outcome.failed:
        return False
    if case.others:
        return outcome.most_refused(per) <= 1
    if case.calls:
        return not outcome.refused
    return not outcome.refused and outcome.beside_the_bound <= 1.03 and outcome.fairness >= 0.95


async def tables(cases: Sequence[Case], per: float, at_once: int) -> bool:
    """Measure cases and print a table. Returns whether every bar was kept."""
    slots, kept = asyncio.Semaphore(at_once), []

    async def row(case: Case) -> None:
        async with slots:
            outcome = await measure(case, per)
        kept.append(_verdict(case, outcome, per))
        line = [
            case.name,
            f"{len(outcome.refused)}",
            f"{outcome.most}",
            "–" if case.others or case.calls else f"{outcome.beside_the_bound:.3f} ×",
            f"{outcome.fairness:.3f}",
        ]
        if case.others:
            line[1] += f", at most {outcome.most_refused(per)} in a window"
        if case.calls:
            middle, late = _quantiles(outcome.calls)
            kept[-1] = kept[-1] and middle <= 0.2 and late <= 2
            line[0] += f"; {len(outcome.calls)} calls: median {middle:.3f} s, 99th percentile {late:.2f} s"
        print(f"| {' | '.join([*line, *outcome.failed, 'yes' if kept[-1] else 'NO'])} |", flush=True)

    print(f"\nWindows of {per:g} s:\n")
    print("| what | refused | most in a window | time relative to the bound | fairness | kept |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    async with asyncio.TaskGroup() as group:
        for case in cases:
            group.create_task(row(case))
    return all(kept)


def _quantiles(seconds: Sequence[float]) -> tuple[float, float]:
    return statistics.median(seconds), sorted(seconds)[int(len(seconds) * 0.99)]


def _turn_rows() -> Iterator[bool]:
    print("| one permit | minimum | median | bar | kept |\n| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder, RedisServer() as server:
        for name, shared, bar in (
            ("one process", None, 0.05),
            ("file", folder, 0.3),
            ("redis", server.url, 0.6),
        ):
            least, middle = asyncio.run(turns(shared))
            kept = middle <= bar
            print(f"| {name} | {least:.3f} ms | {middle:.3f} ms | ≤ {bar} ms | {'yes' if kept else 'NO'} |")
            yield kept


def main(argv: Sequence[str]) -> int:
    """Measure every case and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", action="store_true")
    parser.add_argument("--per", type=float, default=10.0)
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--reserve", type=int, default=0)
    for name in ("--walks", "--url", "--shared", "--store-hash", "--token"):
        parser.add_argument(name)
    given = parser.parse_args(argv)
    if given.walks is not None:
        asyncio.run(_process(given))
        return 0
    kept = list(_turn_rows())
    cases = [*(PAIRS if given.pairs else EVERY_CASE), *WITH_OTHERS, *WITH_CALLS]
    kept.append(asyncio.run(tables(cases, given.per, given.at_once)))
    return int(not all(kept))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
