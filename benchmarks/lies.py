"""Services that lie: what is reported as complete, what is lost, and what a sweep wrongly deletes.

Run with ``uv run python -m benchmarks.lies [--services N] [--first SEED]``. Each service is generated from
its seed (`tests.support.lying`), is the sandbox over real sockets, and is walked, streamed, exported, synced
or swept once. Exit code 1 on any fault; each is printed with the seed that reproduces it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from collections.abc import Iterable, Iterator
from itertools import chain

from tests.support.lied_to import Outcome, action_of, lied_to
from tests.support.lying import drawn
from tests.support.virtual_time import run

SERVICES = 5_000
_SHOWN = 40


def tried(seed: int) -> Outcome:
    """Generate a service, use it once, and check the outcome."""
    return run(lied_to(drawn(seed), action_of(seed)))


def outcomes(seeds: Iterable[int]) -> Iterator[Outcome]:
    """Try many services, on all cores."""
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        yield from pool.imap(tried, seeds, chunksize=20)


def table(found: Iterable[Outcome]) -> Iterator[str]:
    """Yield the lines of a table, by kind of lie and by action. A service counts under each of its kinds."""
    rows = list(found)
    kinds = sorted(set(chain.from_iterable(one.kinds for one in rows)))
    parts = [(kind, [one for one in rows if kind in one.kinds]) for kind in kinds]
    parts += [("honest", [one for one in rows if not one.kinds])]
    parts += [
        (action, [one for one in rows if one.action == action])
        for action in dict.fromkeys(one.action for one in rows)
    ]
    columns = ("lost", "doubled", "deleted", "stale")
    yield f"| kind | services | reported complete | raised | {' | '.join(columns)} | requests × allowance |"
    yield "| --- " * (5 + len(columns)) + "|"
    for kind, part in [*parts, ("all", rows)]:
        complete = sum(one.complete for one in part)
        raised = sum(bool(one.error) for one in part)
        sums = " | ".join(f"{sum(getattr(one, name) for one in part):,}" for name in columns)
        most = max((one.requests / one.allowed for one in part if one.allowed), default=0.0)
        yield f"| {kind} | {len(part):,} | {complete:,} | {raised:,} | {sums} | {most:.2f} |"


def main() -> int:
    """Try all services, and print the table and the faults."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=SERVICES)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    asked = parser.parse_args()
    seeds = range(asked.first, asked.first + asked.services)
    found = list(outcomes(seeds))
    print("\n".join(table(found)))
    faulty = [(seed, one) for seed, one in zip(seeds, found, strict=True) if one.faults]
    print(f"\n{len(faulty):,} of {len(found):,} services: faults")
    for seed, one in faulty[:_SHOWN]:
        print(f"seed {seed}, {one.action}, {'; '.join(one.kinds)}: {', '.join(one.faults)}")
    return 1 if faulty else 0


if __name__ == "__main__":
    sys.exit(main())
