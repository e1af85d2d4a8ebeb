"""The cost of starting: imports, the command line's help, and the time to the first payment."""

from __future__ import annotations

import statistics
import time

from b2b_payments.sandbox import Rules
from benchmarks.compare.contender import ALL, RAW, Entry, Where
from benchmarks.compare.job import contest, named, rounds, seconds
from benchmarks.compare.service import service
from benchmarks.compare.speed import PAGE, Size
from benchmarks.compare.table import Bar, Table

_BARE = Entry("bare", "bare Python", "pass")
_AIOHTTP = Entry("aiohttp", "aiohttp alone", "import aiohttp")
_PACKAGE = Entry("package", "b2b_payments, imported but not used", "import b2b_payments")
_HELP = Entry(
    "help",
    "b2b-payments --help",
    "import sys; sys.argv = ['b2b-payments', '--help']; from b2b_payments.cli import main; main()",
)


def imports(size: Size) -> Table:
    """Measure whole processes that only import."""
    entries = [_BARE, _AIOHTTP, _PACKAGE, *[entry for entry in ALL if entry is not RAW], _HELP]
    found, failed = rounds(entries, lambda entry: seconds(["-c", entry.imports]), 2 * size.rounds + 1)
    table = Table(
        "Import: CPU milliseconds of the whole process",
        ("what", "ms", "ms in addition to bare Python"),
        failures=named(failed),
    )

    def beyond(key: str, base: Entry) -> float | None:
        entry = next(entry for entry in entries if entry.key == key)
        if entry not in found or base not in found:
            return None
        pairs = zip(found[entry], found[base], strict=True)
        return 1000 * statistics.median(one[0] - other[0] for one, other in pairs)

    for entry, figures in found.items():
        spent = 1000 * statistics.median(cpu for cpu, _ in figures)
        table.rows.append([entry.name, f"{spent:.0f}", f"{beyond(entry.key, _BARE):.0f}"])
    table.bars = [
        Bar(
            "`import b2b_payments` (which imports lazily), in addition to importing aiohttp",
            beyond("package", _AIOHTTP),
            60,
            "ms",
        ),
        Bar("… and `PaymentsClient` with all that it needs", beyond("ours", _AIOHTTP), 60, "ms"),
        Bar("`b2b-payments --help`, CPU time in addition to bare Python", beyond("help", _BARE), 150, "ms"),
    ]
    return table


def first(size: Size, generated: str) -> Table:
    """Measure a process that ends after the first payment of a list of 1,000."""
    with service(1_000, Rules(quota=False)) as here:
        where = Where(here.base_url, here.headers, PAGE, generated=generated)

        def wall(entry: Entry) -> float:
            begun = time.perf_counter()
            contest(entry.key, "first", where)
            return time.perf_counter() - begun

        found, failed = rounds(ALL, wall, size.rounds)
    table = Table(
        "From the start of the process to the first payment",
        ("reader", "milliseconds"),
        failures=named(failed),
    )
    table.rows = [
        [entry.name, f"{1000 * statistics.median(figures):.0f}"] for entry, figures in found.items()
    ]
    return table
