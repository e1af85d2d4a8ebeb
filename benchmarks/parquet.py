"""A million payments into Parquet: memory, and the rate beside a bare loop of aiohttp, msgspec and pyarrow.

Run with ``uv run --extra parquet python -m benchmarks.parquet``. The service is the sandbox in a process of
its own, without a quota; each export has a fresh process, and ours and the bare loop take turns. The bare
loop reads plain offsets and writes the same columns: it checks nothing and cannot be resumed. Exit code 1
where a bar is missed.
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
MOST, GROWTH = 200, 16  # MiB
NAMES = {"ours": "b2b_payments, ParquetSink", "bare": "bare loop: aiohttp + msgspec + pyarrow"}
_MIB = 2**20

Runs = dict[str, list[dict[str, Any]]]


def run(key: str, where: Where, folder: str) -> dict[str, Any]:
    """Export everything in a fresh process, and give its figures."""
    path = Path(folder, f"{key}.parquet")
    command = [
        sys.executable,
        "-m",
        "benchmarks.parquet_job",
        key,
        json.dumps(attrs.asdict(where)),
        str(path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(done.stderr)
    figures: dict[str, Any] = json.loads(done.stdout)
    path.unlink()
    return figures


def measured(payments: int, rounds: int, folder: str) -> Runs:
    """Export so many payments, each in turn, so many times over."""
    runs: Runs = {key: [] for key in NAMES}
    with service(payments, Rules(quota=False)) as here:
        where = Where(here.base_url, here.headers, PAGE, IN_FLIGHT)
        for _ in range(rounds):
            for key, done in runs.items():
                done.append(run(key, where, folder))
                print(f"{payments:,} {key}: {done[-1]['wall']:.1f} s", file=sys.stderr, flush=True)
                if done[-1]["rows"] != payments:
                    raise AssertionError(f"{key} wrote {done[-1]['rows']} payments of {payments}")
    return runs


def table(payments: int, runs: Runs) -> Table:
    """Give the rate and the memory."""
    head = (
        "export",
        "payments a second",
        "CPU µs a payment",
        "× bare",
        "peak MiB",
        "RSS MiB at a quarter, …",
    )
    shown = Table(f"{payments:,} payments into Parquet (median of {len(runs['ours'])})", head)
    for key, done in runs.items():
        pairs = zip(done, runs["bare"], strict=True)
        times = statistics.median(one["cpu"] / other["cpu"] for one, other in pairs)
        samples = done[-1]["samples"]
        along = [samples[len(samples) * quarter // 4 - 1] / _MIB for quarter in (1, 2, 3, 4)]
        shown.rows.append([
            NAMES[key],
            f"{payments / statistics.median(one['wall'] for one in done):,.0f}",
            f"{statistics.median(one['cpu'] for one in done) / payments * 1e6:.1f}",
            f"{times:.2f}",
            f"{max(one['peak'] for one in done) / _MIB:.0f}",
            ", ".join(f"{one:.0f}" for one in along),
        ])  # fmt: skip
    return shown


def main() -> int:
    """Measure and print everything."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--payments", type=int, default=1_000_000, help="of the long export [1000000]")
    options = parser.parse_args()
    begun = time.perf_counter()
    short, long = options.payments // 10, options.payments
    peaks: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for payments, rounds in ((short, 3), (long, 1)):
            runs = measured(payments, rounds, folder)
            peaks.append(max(one["peak"] for one in runs["ours"]) / _MIB)
            print(table(payments, runs), flush=True)
    bars = [
        Bar(f"peak memory, {long:,} payments", peaks[1], MOST, "MiB"),
        Bar(f"growth of the peak, {short:,} to {long:,} payments", peaks[1] - peaks[0], GROWTH, "MiB"),
    ]
    print(bars_text(bars))
    print(f"\nPython {sys.version.split()[0]}; {time.perf_counter() - begun:.0f} s.")
    return 0 if all(bar.kept for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
