"""Exports into each format: CPU time and memory, compared with a floor that checks nothing.

Run with ``uv run python -m benchmarks.exports``. The service is the sandbox in its own process, without a
quota; each export runs in a fresh process, and they take turns with the floor: aiohttp with plain offsets,
which writes each page as it arrives. Exit code 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import attrs

from b2b_payments.sandbox import Rules
from benchmarks.compare.contender import Where
from benchmarks.compare.job import ROOT
from benchmarks.compare.service import service
from benchmarks.compare.table import Bar, Table, bars_text

PAGE, IN_FLIGHT = 250, 8
BARS = {"jsonl": 11, "csv": 25, "parquet": 20, "sqlite": 35, "duckdb": 20}
"""Maximum CPU microseconds per payment."""
MOST = 250
"""Maximum MiB of memory."""
_MIB = 2**20

Runs = dict[str, list[dict[str, Any]]]


def run(format_: str, where: Where, folder: str, server: str = "") -> dict[str, Any]:
    """Export or copy everything in a fresh process. Returns its figures."""
    path = Path(folder, f"payments.{format_}")
    job = [
        sys.executable,
        "-m",
        "benchmarks.exports_job",
        format_,
        json.dumps(attrs.asdict(where)),
        str(path),
        server,
    ]
    done = subprocess.run(job, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(done.stderr)
    figures: dict[str, Any] = json.loads(done.stdout)
    for made in Path(folder).iterdir():
        made.unlink()
    return figures


def measured(payments: int, formats: list[str], rounds: int, folder: str) -> Runs:
    """Export the payments to each format in turn, `rounds` times."""
    runs: Runs = {format_: [] for format_ in ("bare", *formats)}
    with service(payments, Rules(quota=False)) as here:
        where = Where(here.base_url, here.headers, PAGE, IN_FLIGHT)
        for _ in range(rounds):
            for format_, done in runs.items():
                done.append(run(format_, where, folder))
                print(f"{payments:,} {format_}: {done[-1]['wall']:.1f} s", file=sys.stderr, flush=True)
                if done[-1]["rows"] < payments:
                    raise AssertionError(f"{format_} wrote {done[-1]['rows']} payments of {payments}")
    return runs


def table(payments: int, runs: Runs) -> Table:
    """Return the table of rates, CPU time and memory."""
    head = ("format", "payments per second", "CPU µs per payment", "of the floor", "× floor", "peak MiB")
    shown = Table(f"{payments:,} payments (median of {len(runs['bare'])})", head)
    floor = statistics.median(one["cpu"] for one in runs["bare"]) / payments * 1e6
    for format_, done in runs.items():
        pairs = zip(done, runs["bare"], strict=True)
        shown.rows.append([
            format_,
            f"{payments / statistics.median(one['wall'] for one in done):,.0f}",
            f"{cpu_of(done, payments):.1f}",
            f"{floor:.1f}",
            f"{statistics.median(one['cpu'] / other['cpu'] for one, other in pairs):.2f}",
            f"{max(one['peak'] for one in done) / _MIB:.0f}",
        ])  # fmt: skip
    return shown


def cpu_of(done: list[dict[str, Any]], payments: int) -> float:
    """Return the CPU microseconds per payment."""
    return float(statistics.median(one["cpu"] for one in done)) / payments * 1e6


def main() -> int:
    """Measure everything and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--payments", type=int, default=1_000_000, help="in each export [1000000]")
    parser.add_argument("--rounds", type=int, default=1, help="of all formats [1]")
    parser.add_argument(
        "--format", action="append", choices=list(BARS), help="one of them [all]; may be repeated"
    )
    options = parser.parse_args()
    begun = time.perf_counter()
    formats = options.format or list(BARS)
    with tempfile.TemporaryDirectory() as folder:
        runs = measured(options.payments, formats, options.rounds, folder)
    print(table(options.payments, runs))
    bars = [Bar(f"{one}: CPU", cpu_of(runs[one], options.payments), BARS[one], "µs") for one in formats]
    bars += [
        Bar(f"{one}: peak", max(run["peak"] for run in runs[one]) / _MIB, MOST, "MiB") for one in formats
    ]
    print(bars_text(bars))
    print(f"\nPython {sys.version.split()[0]}; {time.perf_counter() - begun:.0f} s.")
    return 0 if all(bar.kept for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
