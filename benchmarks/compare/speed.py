"""The cost of reading: CPU per payment, wall time with latency and under a quota, memory, exports."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from functools import partial

import attrs

from b2b_payments.sandbox import Rules
from benchmarks.compare.contender import ALL, FLOOR, PYDANTIC, RAW, TYPED, Entry, Where
from benchmarks.compare.job import contest, named, ratio, rounds
from benchmarks.compare.service import service
from benchmarks.compare.table import Bar, Table

PAGE = 250
_LATENCY = 0.1
_REQUESTS, _PER = 15, 1.0
_ROWS_KEPT = 17.66  # new rows on a page of 20, without the overlap with the previous page
_FREE = Rules(quota=False)


@attrs.frozen
class Size:
    """The size of the measurement."""

    payments: int
    rounds: int
    quota_requests: int
    memory: tuple[int, ...]
    """Numbers of payments for the peak memory; only this library and the floor read the largest."""


FULL = Size(20_000, 5, 120, (10_000, 100_000, 1_000_000))
QUICK = Size(6_000, 3, 60, (10_000, 50_000))


def _figure(name: str, where: Where, entry: Entry) -> float:
    return float(contest(entry.key, "walk", where)[name])


def cpu(size: Size, generated: str) -> Iterator[Table]:
    """Measure the CPU time of streaming every payment, each contender in its own process."""
    yield _cpu(size, generated, "the sandbox's rows", others=False)
    yield _cpu(
        size, generated, "other rows: fees, more fields, several line items, four scripts", others=True
    )


def _cpu(size: Size, generated: str, which: str, *, others: bool) -> Table:
    with service(size.payments, _FREE, others=others) as here:
        where = Where(here.base_url, here.headers, PAGE, generated=generated)
        contest(FLOOR.key, "walk", where)  # makes the sandbox render its rows
        found, failed = rounds(ALL, partial(_figure, "cpu", where), size.rounds)
    table = Table(
        f"CPU per payment, {size.payments:,} payments, {PAGE} per page (median of {size.rounds}), {which}",
        ("reader", "µs per payment", "× floor", "payments per CPU second"),
        failures=named(failed),
        chart_unit="" if others else "µs",
    )
    for entry, figures in found.items():
        each = statistics.median(figures) / size.payments
        times = ratio(found, entry, FLOOR)
        table.rows.append([entry.name, f"{each * 1e6:.1f}", f"{times:.2f}", f"{1 / each:,.0f}"])
        table.chart[entry.name] = each * 1e6
    table.bars = [
        Bar(f"typed streaming, {which}: CPU time relative to the floor", ratio(found, TYPED, FLOOR), 1.8),
        Bar("… relative to httpx + pydantic", ratio(found, TYPED, PYDANTIC), 0.45),
    ]
    if not others:
        table.bars.append(
            Bar("raw streaming, CPU time relative to the floor", ratio(found, RAW, FLOOR), 1.25)
        )
    return table


def latency(size: Size, generated: str) -> Iterator[Table]:
    """Measure wall time with 100 ms per page, with 1, 4 and 16 requests in flight."""
    for in_flight, pages in ((1, 17), (4, 33), (16, 100)):
        # The pages of this library's walk, including overlap; a plain offset walk needs at most one less.
        payments = pages * (PAGE - 4)
        ideal = (1 + -(-(pages - 1) // in_flight)) * _LATENCY
        entries = [entry for entry in ALL if entry.ahead or in_flight == 1]
        with service(payments, Rules(quota=False, latency=_LATENCY)) as here:
            where = Where(here.base_url, here.headers, PAGE, in_flight, generated=generated)
            contest(FLOOR.key, "walk", where)
            work = partial(_figure, "wall", where)
            found, failed = rounds(entries, work, size.rounds if in_flight == 16 else 1)
        table = Table(
            f"Wall time, 100 ms per page, {pages} pages, {in_flight} in flight (ideal {ideal:.1f} s)",
            ("reader", "seconds", "× ideal"),
            failures=named(failed),
        )
        for entry, figures in found.items():
            wall = statistics.median(figures)
            table.rows.append([entry.name, f"{wall:.2f}", f"{wall / ideal:.2f}"])
        if in_flight == 16:
            ours = statistics.median(found[TYPED]) / ideal if TYPED in found else None
            table.bars = [Bar("16 in flight, 100 ms per page, time relative to the ideal", ours, 1.15)]
        yield table


def quota(size: Size, generated: str) -> Iterator[Table]:
    """Measure a walk under a quota, with 0 and 20 ms latency, and count refused requests."""
    for seconds in (0.0, 0.02):
        yield _quota(size, seconds, generated)


def _quota(size: Size, seconds: float, generated: str) -> Table:
    rules = Rules(requests=_REQUESTS, per=_PER, latency=seconds)
    page = 20
    # This library's last window is full: ending early in a window would hide how far apart requests are.
    payments = int(size.quota_requests * _ROWS_KEPT)

    def spend(entry: Entry) -> tuple[int, int, float]:
        # A service per reader: its window would still hold the previous reader's requests.
        with service(payments, rules) as here:
            # Only contenders with a quota use it.
            where = Where(here.base_url, here.headers, page, 16, (_REQUESTS, _PER), generated)
            contest(entry.key, "walk", where)
            return here.seen()

    found, failed = rounds(ALL, spend, 1)
    table = Table(
        f"A quota of {_REQUESTS} requests in {_PER:g} s, {1000 * seconds:.0f} ms latency, "
        f"{page} payments per page",
        ("reader", "requests", "refused (429)", "seconds", "× bound of its requests"),
        failures=named(failed),
    )
    worst, refusals = None, None
    for entry, ((requests, refused, spent),) in found.items():
        bound = (requests - refused - 1) // _REQUESTS * _PER
        table.rows.append([entry.name, str(requests), str(refused), f"{spent:.2f}", f"{spent / bound:.3f}"])
        if entry in {TYPED, RAW}:
            worst, refusals = max(worst or 0.0, spent / bound), (refusals or 0) + refused
    table.bars = [
        Bar(f"quota-bound walk, {1000 * seconds:.0f} ms latency, time relative to the bound", worst, 1.03),
        Bar(f"quota-bound walk, {1000 * seconds:.0f} ms latency, refused", refusals, 0, "requests"),
    ]
    return table


def memory(size: Size, generated: str) -> Table:
    """Measure the peak memory of whole processes, for lists of growing length."""
    peaks: dict[Entry, dict[int, float]] = {}
    failures: dict[str, str] = {}
    for payments in size.memory:
        is_for_all = payments < 1_000_000
        with service(payments, _FREE) as here:
            where = Where(here.base_url, here.headers, PAGE, 8, generated=generated)
            entries = ALL if is_for_all else (FLOOR, TYPED)
            found, failed = rounds(entries, partial(_figure, "peak", where), 1)
        failures |= named(failed)
        for entry, (peak,) in found.items():
            peaks.setdefault(entry, {})[payments] = peak / 2**20
    table = Table(
        "Peak memory of the process, MiB, 8 in flight if configurable",
        ("reader", *[f"{payments:,}" for payments in size.memory]),
        failures=failures,
    )
    for entry, by_length in peaks.items():
        cells = [f"{by_length[length]:.1f}" if length in by_length else "–" for length in size.memory]
        table.rows.append([entry.name, *cells])
    grown = None
    if TYPED in peaks and len(peaks[TYPED]) == len(size.memory):
        grown = peaks[TYPED][size.memory[-1]] - peaks[TYPED][size.memory[0]]
    what = f"peak memory, growth from {size.memory[0]:,} to {size.memory[-1]:,} payments"
    table.bars = [Bar(what, grown, 16, "MiB")]
    return table


def exports(size: Size, generated: str) -> Table:
    """Measure writing files: this library's sinks with checkpoints and fsync, a plain loop for the others."""
    ours: Sequence[Entry] = (
        Entry("export_jsonl", "b2b_payments, JSONL sink", ""),
        Entry("export_parquet", "b2b_payments, Parquet sink", ""),
    )
    entries = [*ours, *[entry for entry in ALL if entry not in {TYPED, RAW}]]
    with service(size.payments, _FREE) as here:
        where = Where(here.base_url, here.headers, PAGE, 8, generated=generated)
        contest(FLOOR.key, "walk", where)
        found, failed = rounds(entries, lambda entry: contest(entry.key, "lines", where), 3)
    table = Table(
        f"Export of {size.payments:,} payments: this library's sinks; the others write JSON lines in a "
        "plain loop",
        ("exporter", "payments per second", "CPU µs per payment"),
        failures=named(failed),
    )
    for entry, figures in found.items():
        rate = size.payments / statistics.median(float(one["wall"]) for one in figures)
        each = statistics.median(float(one["cpu"]) for one in figures) / size.payments
        table.rows.append([entry.name, f"{rate:,.0f}", f"{each * 1e6:.1f}"])
    return table
