"""The memory of a table that is read in batches, at ten times the length.

Run with ``uv run python -m benchmarks.tables``. The service is the sandbox in its own process, without a
quota; each walk runs in a fresh process. Exit code 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import sys
import time
from functools import partial
from typing import Literal

import attrs

from b2b_payments.sandbox import Rules
from benchmarks.compare.contender import Where
from benchmarks.compare.rivals.ours import client_of
from benchmarks.compare.service import service
from benchmarks.compare.table import Bar, Table, bars_text
from benchmarks.exports_job import memory

PAGE, IN_FLIGHT = 250, 8
GROWTH = 16
"""Maximum MiB that ten times the payments may take in addition."""
_MIB = 2**20

Of = Literal["payments", "line_items"]
OF: tuple[Of, ...] = ("payments", "line_items")


@attrs.frozen
class Read:
    """The size of one walk, and the memory of its process in bytes."""

    rows: int
    batches: int
    first: int
    """Memory after the first batch, with Arrow's library loaded."""
    peak: int


def read(where: Where, of: Of, rows: int) -> Read:
    """Read everything in batches, without keeping any."""
    return asyncio.run(_read(where, of, rows))


async def _read(where: Where, of: Of, rows: int) -> Read:
    got = batches = first = 0
    async with client_of(where) as client:
        walk = client.payments.list(page_size=where.page_size, concurrency=where.in_flight)
        async for batch in walk.arrow_batches(rows=rows, table=of):
            got, batches, first = got + batch.num_rows, batches + 1, first or memory("VmRSS")
    assert walk.report.complete
    return Read(got, batches, first, memory("VmHWM"))


def measured(payments: int, rows: int) -> dict[Of, Read]:
    """Read the payments as each table, each in its own process."""
    fresh = partial(multiprocessing.get_context("spawn").Pool, 1)
    found: dict[Of, Read] = {}
    with service(payments, Rules(quota=False)) as here:
        where = Where(here.base_url, here.headers, PAGE, IN_FLIGHT)
        for of in OF:
            with fresh() as pool:
                found[of] = pool.apply(read, (where, of, rows))
    if found["payments"].rows != payments:
        raise AssertionError(f"{found['payments'].rows} payments of {payments} were read")
    return found


def main() -> int:
    """Measure everything and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--payments", type=int, default=300_000, help="in the longer walks [300000]")
    parser.add_argument("--rows", type=int, default=5_000, help="per batch [5000]")
    options = parser.parse_args()
    begun = time.perf_counter()
    sizes = options.payments // 10, options.payments
    short, long = (measured(size, options.rows) for size in sizes)
    head = ("table", "payments", "rows", "batches", "MiB after the first", "peak MiB")
    shown = Table(f"Batches of {options.rows:,} rows", head)
    for size, found in zip(sizes, (short, long), strict=True):
        for of, one in found.items():
            cells = (f"{one.first / _MIB:.0f}", f"{one.peak / _MIB:.0f}")
            shown.rows.append([of, f"{size:,}", f"{one.rows:,}", f"{one.batches:,}", *cells])
    bars = [
        Bar(f"{of}: growth of the peak", (long[of].peak - short[of].peak) / _MIB, GROWTH, "MiB") for of in OF
    ]
    print(shown)
    print(bars_text(bars))
    print(f"\nPython {sys.version.split()[0]}; {time.perf_counter() - begun:.0f} s.")
    return 0 if all(bar.kept for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
