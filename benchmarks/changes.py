"""Simulated histories of a store, followed by a process that is killed and restarted at random.

Run with ``uv run python -m benchmarks.changes [--lives N] [--first SEED]``, and with ``--group bench`` and
``--dlt N`` for that many histories with dlt's incremental cursor. Each history is generated from its seed
(`tests.support.followed`): creates, updates, deletes, bursts in one second, lists that lag unevenly by up to
20 minutes, times in the future, outages, restores from a backup. Then a day of following at 60 seconds, and
the size of a checkpoint. Exit code 1 if a lasting version is missing, is yielded twice, or never existed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import random
import sys
from collections.abc import Iterable, Iterator
from contextlib import aclosing
from functools import partial
from typing import Any

from tests.support.followed import Life, life, naive_loop
from tests.support.living import living_store
from tests.support.virtual_time import run

FEED, NAIVE = "the feed", "newest first down to a watermark"
DLT = {"dlt's incremental cursor": None, "dlt's incremental cursor, lag=1800": 1800.0}
LIVES = 1_000
DAY = 86_400


def follower(name: str) -> Any:
    """Return the follower of this name; None is the feed."""
    if name == FEED:
        return None
    if name == NAIVE:
        return naive_loop
    from benchmarks.changes_dlt import follow  # noqa: PLC0415 - only if it is installed

    return partial(follow, lag=DLT[name])


def one_life(name: str, seed: int) -> tuple[int, Life]:
    """Simulate one history."""
    return seed, run(life(seed, follower(name)))


def lives(name: str, seeds: Iterable[int], processes: int) -> Iterator[tuple[int, Life]]:
    """Simulate the histories of these seeds."""
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap(partial(one_life, name), seeds, chunksize=5)


async def day(seed: int) -> tuple[int, int, int, float]:
    """Follow for a day. Returns polls, requests, changes, and the bytes of a checkpoint per change."""
    draw = random.Random(seed)
    async with living_store(seed, draw) as (_, living, direct, client):
        living.during = 0
        feed = client.payments.changes(follow=True, interval=60.0)
        sizes = []

        async def follow() -> None:
            async with aclosing(feed):
                async for change in feed:
                    kept = json.dumps(change.checkpoint["given"], separators=(",", ":"))
                    sizes.append(len(kept) / len(change.checkpoint["given"]))

        running = asyncio.create_task(follow())
        for _ in range(24):
            await asyncio.sleep(DAY / 24)
            living.change(2)
        running.cancel()
        await asyncio.wait([running])
        return feed.report.polls, direct.requests, feed.report.changes, max(sizes, default=0.0)


def main() -> int:
    """Simulate all histories and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lives", type=int, default=LIVES)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--dlt", type=int, default=0, help="histories with dlt's cursor [0]")
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args()
    wrong = 0
    print("| | histories | lasting versions | missing | twice | never existed | kills | polls | requests |")
    print("| --- " * 9 + "|")
    counts = {FEED: given.lives, NAIVE: given.lives}
    if given.dlt:
        counts |= dict.fromkeys(DLT, given.dlt)
    for name, count in counts.items():
        seeds = range(given.first, given.first + count)
        total = Life()
        for seed, one in lives(name, seeds, given.processes):
            total += one
            if name == FEED and (one.missing or one.twice or one.never):
                wrong += 1
                print(f"seed {seed}: {one}", file=sys.stderr)
        print(
            f"| {name} | {len(seeds):,} | {total.lasting:,} | {total.missing:,} | {total.twice:,} | "
            f"{total.never:,} | {total.kills:,} | {total.polls:,} | {total.requests:,} |",
            flush=True,
        )
    print("| a day at 60 s | polls | requests | changes | bytes per change |\n" + "| --- " * 5 + "|")
    for seed in range(4):
        polls, requests, changes, size = run(day(seed))
        print(f"| {seed} | {polls:,} | {requests:,} | {changes:,} | {size:.0f} |")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
