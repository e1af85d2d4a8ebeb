"""The largest answers: how long each blocks the event loop, whether it is read or refused.

Run with ``uv run python -m benchmarks.large``. Measured in CPU seconds of the thread, minimum of five runs,
so that other work on the machine matters little. Exit code 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress

from b2b_payments import B2BPaymentsError, PaymentsClient
from tests.socket.test_large_answers import LARGEST, PAGES, page_of, row, serving

_BAR = 0.1
_RUNS = 5


async def longest_block(work: Awaitable[object]) -> float:
    """Return the maximum CPU seconds of this thread between two turns of the event loop."""
    longest, over = 0.0, False

    async def watch() -> None:
        nonlocal longest
        while not over:
            before = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - before)

    watching = asyncio.create_task(watch())
    try:
        with suppress(B2BPaymentsError):
            await work
    finally:
        over = True
        await watching
    return longest


async def _raw(client: PaymentsClient) -> int:
    return sum([1 async for _ in client.payments.list().raw()])


USES: dict[str, Callable[[PaymentsClient], Awaitable[object]]] = {
    "typed": lambda client: client.payments.list().collect(),
    "raw": _raw,
    "first()": lambda client: client.payments.list().first(),
}


async def blocks(page: bytes, opposite: bytes) -> list[float]:
    """Return the longest block for each use, if every answer to a list request is this page."""

    def answer(_: str, query: dict[str, str]) -> bytes:
        return opposite if query.get("orderBy") == "DESC" else page

    with serving(answer) as (_, client):
        async with client:
            return [min([await longest_block(use(client)) for _ in range(_RUNS)]) for use in USES.values()]


def answers() -> Iterator[tuple[str, bytes, bytes]]:
    """Yield each answer: its name, its body, and the body for the opposite order."""
    for what, largest in LARGEST.items():
        body = largest()
        count = json.loads(body)["meta"]["pagination"]["totalCount"]
        backwards = page_of([row(number) for number in range(count, 0, -1)]) if count > 1 else body
        yield f"read: {what}", body, backwards
    for what, refused in PAGES.items():
        body = refused()
        yield f"refused: {what}", body, body


async def main() -> int:
    """Measure everything and print the tables."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    print(
        f"| answer | MiB | {' | '.join(USES)} | bar | kept |\n| --- | --- {'| --- ' * len(USES)}| --- | --- |"
    )
    kept = True
    for what, body, opposite in answers():
        seconds = await blocks(body, opposite)
        good = max(seconds) <= _BAR
        kept = kept and good
        figures = " | ".join(f"{1000 * one:.0f} ms" for one in seconds)
        size = f"{len(body) / 2**20:.1f}"
        print(f"| {what} | {size} | {figures} | ≤ {1000 * _BAR:.0f} ms | {'yes' if good else 'NO'} |")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
