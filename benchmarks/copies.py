"""First copies into each database: CPU time of our process, compared with a floor that checks nothing.

Run with ``uv run python -m benchmarks.copies``. The sandbox, without a quota, and PostgreSQL have their own
processes; each copy runs in a fresh process, and they take turns with the floor of `benchmarks.exports`. The
minimum of several rounds counts. Exit code 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from typing import Any

from b2b_payments.sandbox import Rules
from benchmarks.compare.contender import Where
from benchmarks.compare.service import service
from benchmarks.compare.table import Bar, Table, bars_text
from benchmarks.exports import IN_FLIGHT, PAGE, run
from tests.support.postgres_server import postgres_server
from tests.support.synced import KINDS

BARS = {"postgres": 40}
"""Maximum CPU microseconds per payment."""


def main() -> int:
    """Measure everything and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--payments", type=int, default=100_000, help="in each copy [100000]")
    parser.add_argument("--rounds", type=int, default=3, help="of all databases [3]")
    options = parser.parse_args()
    begun = time.perf_counter()
    runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in ("bare", *KINDS)}
    with (
        postgres_server() as server,
        service(options.payments, Rules(quota=False)) as here,
        tempfile.TemporaryDirectory() as folder,
    ):
        where = Where(here.base_url, here.headers, PAGE, IN_FLIGHT)
        for _ in range(options.rounds):
            for kind, done in runs.items():
                done.append(run(kind if kind == "bare" else f"copy-{kind}", where, folder, server))
                if done[-1]["rows"] < options.payments:
                    raise AssertionError(f"{kind}: {done[-1]['rows']} payments of {options.payments}")
    least = {kind: min(one["cpu"] for one in done) / options.payments * 1e6 for kind, done in runs.items()}
    head = ("database", "CPU µs per payment", "× floor", "payments per second")
    shown = Table(f"{options.payments:,} payments (minimum of {options.rounds})", head)
    for kind, cpu in least.items():
        rate = max(options.payments / one["wall"] for one in runs[kind])
        shown.rows.append([kind, f"{cpu:.1f}", f"{cpu / least['bare']:.1f}", f"{rate:,.0f}"])
    print(shown)
    bars = [Bar(f"{kind}: CPU", least[kind], bar, "µs") for kind, bar in BARS.items()]
    print(bars_text(bars))
    print(f"\nPython {sys.version.split()[0]}; {time.perf_counter() - begun:.0f} s.")
    return 0 if all(bar.kept for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
