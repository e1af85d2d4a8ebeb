"""The cost of the exact walk: requests beyond the minimum, time beyond the ideal, memory by length.

Run with ``uv run python -m benchmarks.walk``. The service is the sandbox, in its own process when time or
memory is measured. Exit code 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import multiprocessing
import random
import resource
import sys
import time
import tracemalloc
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import attrs

from b2b_payments import PaymentsClient, StoreAuth
from b2b_payments.sandbox import Drift, Rules, Sandbox

PAGE = 250


@attrs.frozen
class Row:
    """One measured figure and its bar."""

    what: str
    figure: str
    bar: str
    kept: bool


async def requests_spent(payments: int, changes: float) -> tuple[int, int]:
    """Walk a store. Returns the requests spent, and the minimum for its pages."""
    async with Sandbox(payments=payments, channels=(1, 2, 3), seed=7, rules=Rules(quota=False)) as sandbox:
        if changes:
            sandbox.before_list = Drift(7, rate=changes)
        before = set(sandbox.store.ids())
        async with PaymentsClient(sandbox.auth, base_url=sandbox.base_url, quota=None) as client:
            walk = client.payments.list(page_size=PAGE)
            ids = [row["id"] async for page in walk.raw_pages() for row in page.items]
        lasting = before & set(sandbox.store.ids())
        if len(ids) != len(set(ids)) or not lasting <= set(ids):
            raise AssertionError("the walk was not exact")
        return sandbox.request_count, math.ceil(payments / PAGE)


def serve(pipe: Connection, payments: int, rules: Rules) -> None:
    """Run a sandbox until the other end of the pipe sends something."""

    async def main() -> None:
        async with Sandbox(payments=payments, channels=(1,), seed=7, rules=rules) as sandbox:
            warm = Drift(0, rate=0)
            sandbox.before_list = warm
            pipe.send((sandbox.base_url, sandbox.headers["X-Store-Hash"], sandbox.headers["X-Auth-Token"]))
            await asyncio.get_running_loop().run_in_executor(None, pipe.recv)

    asyncio.run(main())


@contextmanager
def service(payments: int, rules: Rules) -> Iterator[tuple[str, StoreAuth]]:
    """Yield the address and credential of a sandbox in its own process."""
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(there, payments, rules))
    process.start()
    try:
        base_url, store_hash, token = here.recv()
        yield base_url, StoreAuth(store_hash, token)
    finally:
        here.send(None)
        process.join(10)
        process.kill()


async def seconds_for(
    base_url: str, auth: StoreAuth, *, concurrency: int, page_size: int
) -> tuple[float, int]:
    """Walk. Returns the seconds and the requests it took."""
    async with PaymentsClient(auth, base_url=base_url, quota=None) as client:
        walk = client.payments.list(page_size=page_size, concurrency=concurrency)
        begun = time.perf_counter()
        async for _ in walk:
            pass
        return time.perf_counter() - begun, walk.report.requests


async def peak_of(base_url: str, auth: StoreAuth) -> int:
    """Walk, after a warm-up page. Returns the peak of Python's allocations in bytes."""
    async with PaymentsClient(auth, base_url=base_url, quota=None) as client:
        async for _ in client.payments.list(page_size=PAGE):
            break
        tracemalloc.start()
        async for _ in client.payments.list(page_size=PAGE):
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak


def in_process(function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Any:
    """Run a coroutine function in a fresh process, so that measurements are independent."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_run, (function, args))


def _run(function: Callable[..., Coroutine[Any, Any, Any]], args: tuple[Any, ...]) -> Any:
    return asyncio.run(function(*args))


def requests_rows() -> Iterator[Row]:
    """Measure requests: without changes, and with a change every 20 requests."""
    for changes, bar, what in ((0.0, 1.03, "no changes"), (1 / 20, 1.10, "a change every 20 requests")):
        for payments in (10_000, 100_000):
            spent, least = asyncio.run(requests_spent(payments, changes))
            figure = f"{spent} requests for {least} pages: {spent / least:.3f} ×"
            yield Row(f"{payments:,} payments, {what}", figure, f"≤ {bar:.2f} ×", spent / least <= bar)


def time_row() -> Row:
    """Measure 100 pages of 100 ms with 16 in flight, compared with the first page and the rounds after it."""
    page_size, latency, concurrency = 250, 0.1, 16
    rounds = 1 + math.ceil(99 / concurrency)
    ratios = []
    # 100 pages, allowing for their overlap.
    payments = 100 * (page_size - 4)
    with service(payments, Rules(quota=False, latency=latency)) as (base_url, auth):
        for _ in range(6):
            seconds, requests = in_process(_timed, base_url, auth, concurrency, page_size)
            ratios.append(seconds / (rounds * latency))
    ratio = sorted(ratios[1:])[len(ratios[1:]) // 2]  # the first run makes the sandbox render its rows
    ideal = rounds * latency
    figure = f"{requests} pages in {ratio * ideal:.3f} s: {ratio:.3f} × the ideal {ideal:.1f} s"
    return Row(f"100 ms a page, {concurrency} in flight (median of 5)", figure, "≤ 1.25 ×", ratio <= 1.25)


async def _timed(base_url: str, auth: StoreAuth, concurrency: int, page_size: int) -> tuple[float, int]:
    return await seconds_for(base_url, auth, concurrency=concurrency, page_size=page_size)


def memory_row() -> Row:
    """Measure the peak of allocations for a short and a long walk."""
    peaks = []
    for payments in (20_000, 200_000):
        with service(payments, Rules(quota=False)) as (base_url, auth):
            peaks.append(in_process(peak_of, base_url, auth) / 2**20)
    grown = peaks[1] - peaks[0]
    figure = f"{peaks[0]:.1f} MiB, and {peaks[1]:.1f} MiB at ten times the length"
    return Row("memory of a walk, 20,000 and 200,000 payments", figure, "grows by < 2 MiB", grown < 2)


def main() -> int:
    """Measure everything and print the tables."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    random.seed(0)
    rows = [*requests_rows(), time_row(), memory_row()]
    print("| what | measured | bar | kept |\n| --- | --- | --- | --- |")
    for row in rows:
        print(f"| {row.what} | {row.figure} | {row.bar} | {'yes' if row.kept else 'NO'} |")
    rss = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    print(f"\nPython {sys.version.split()[0]}; largest process {rss} MiB.")
    return 0 if all(row.kept for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
