"""A week of nightly syncs: errors in the copy, and requests compared with a full export each night.

Run with ``uv run python -m benchmarks.sync``. The service is the sandbox over real sockets, on an event loop
whose clock skips waits. Its lists lag writes by up to 20 minutes, and payments are created, updated and
deleted all day and during the syncs. Six nights sync, the seventh sweeps. Exit code 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import attrs

from b2b_payments import PaymentsClient
from b2b_payments.events import Event, RequestStarted
from b2b_payments.export import JSONLSink, export
from b2b_payments.sandbox import Rules, Sandbox
from b2b_payments.sync import sync
from benchmarks.walk import Row
from tests.support.postgres_server import postgres_server
from tests.support.synced import KINDS, LAG, LivingStore, Wrong, held_in, store_in, uneven_lag
from tests.support.virtual_time import run

PAYMENTS = 20_000
CHANGES = 400
"""Changes per day, a tenth of which affect many payments at once."""
DAY = 86_400.0
SEEDS = range(3)


@attrs.frozen
class Week:
    """The outcome of a week: list requests of the first sync, of each night's sync and of seven exports;
    requests by id and deleted payments of the week; and what was wrong."""

    first: int
    nights: tuple[int, ...]
    exports: int
    by_id: int
    deleted: int
    wrong: Wrong
    quiet: Wrong
    """After the lists have caught up and a final sweep: every payment is compared."""
    differing: int
    """Payments that then differ between copy and service in any way."""
    changed: int


async def week(kind: str, seed: int, payments: int, changes: int, server: str = "") -> Week:
    """Simulate a week."""
    loop, draw = asyncio.get_running_loop(), random.Random(seed)
    rules = Rules(quota=False, list_lag=uneven_lag(seed), latency=0.2, equals="shuffled")
    with tempfile.TemporaryDirectory() as folder:
        copy = store_in(kind, Path(folder), server)
        async with Sandbox(payments=payments, seed=seed, rules=rules) as sandbox:
            living = LivingStore(sandbox, seed, during=0.5)
            by_id = 0

            def count(event: Event) -> None:
                nonlocal by_id
                by_id += isinstance(event, RequestStarted) and event.call == "payments.get"

            async with PaymentsClient(
                sandbox.auth, base_url=sandbox.base_url, quota=None, on_event=count
            ) as client:

                async def synced(*, sweep: bool = False) -> tuple[int, int, Wrong]:
                    begun, before, looked_up = loop.time(), sandbox.request_count, by_id
                    reports = [await sync(client, copy, sweep=sweep)]
                    while reports[-1].candidates:
                        reports.append(await sync(client, copy))
                    assert reports[-1].complete
                    spent = sandbox.request_count - before
                    assert spent == sum(report.requests for report in reports)
                    deleted = sum(report.deleted for report in reports)
                    wrong = living.wrong(copy, begun=begun, swept=reports[0].swept)
                    return spent - (by_id - looked_up), deleted, wrong

                first, _, wrong = await synced()
                nights, exports, deleted = [], 0, 0
                for night in range(7):
                    moments = sorted(draw.uniform(loop.time(), loop.time() + DAY) for _ in range(changes))
                    for moment in moments:
                        await asyncio.sleep(moment - loop.time())
                        living.change()
                    # Lists do not show the most recent of the day's changes yet.
                    spent, gone, more = await synced(sweep=night == 6)
                    nights.append(spent)
                    wrong += more
                    deleted += gone
                    report = await export(
                        client.payments.list(), JSONLSink(Path(folder) / f"night{night}.jsonl")
                    )
                    exports += report.requests
                living.during, week_by_id = 0, by_id
                await asyncio.sleep(2 * LAG)
                *_, quiet = await synced(sweep=True)
                differing = len(held_in(copy).items() ^ living.now_versions.items())
    return Week(
        first,
        tuple(nights),
        exports,
        week_by_id,
        deleted,
        wrong,
        quiet,
        differing,
        len(living.written) + len(living.deleted),
    )


def rows(kind: str, server: str) -> Iterator[Row]:
    """Measure some weeks of copies in one kind of database, and yield the figures."""
    weeks = [run(week(kind, seed, PAYMENTS, CHANGES, server)) for seed in SEEDS]
    what = f"{len(weeks)} weeks into {kind}"
    changed = sum(one.changed for one in weeks)
    wrong = sum((one.wrong + one.quiet for one in weeks), Wrong())
    differing = sum(one.differing for one in weeks)
    yield _none(
        f"{what}, {changed:,} payments changed: rows in the copy that the service never had", wrong.never
    )
    yield _none(
        f"{what}: different from the service, although written {LAG / 60:.0f} minutes before", wrong.stale
    )
    yield _none(f"{what}: left after a sweep, although deleted {LAG / 60:.0f} minutes before", wrong.left)
    yield _none(f"{what}: different in any way after a last sweep without changes", differing)
    spent, exports = sum(sum(one.nights) for one in weeks), sum(one.exports for one in weeks)
    nights = [night for one in weeks for night in one.nights[:-1]]
    sweeps = [one.nights[-1] for one in weeks]
    figure = (
        f"{spent / len(weeks):.0f} list requests a week ({min(nights)} to {max(nights)} a night, up to "
        f"{max(sweeps)} for the sweep): {spent / exports:.3f} × seven exports' {exports / len(weeks):.0f}"
    )
    yield Row(f"{what}: six nightly syncs and a sweep", figure, "≤ 0.25 ×", spent <= exports / 4)
    by_id, deleted = sum(one.by_id for one in weeks), sum(one.deleted for one in weeks)
    each = by_id / deleted
    figure = (
        f"{by_id / len(weeks):.0f} requests by id for {deleted / len(weeks):.0f} deleted: {each:.3f} each"
    )
    yield Row(f"{what}: lookups by id per deleted payment", figure, "≤ 1.1 each", each <= 1.1)


def _none(what: str, count: int) -> Row:
    return Row(what, f"{count:,} payments", "0", count == 0)


def main() -> int:
    """Measure everything and print the tables."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    with postgres_server() as server:
        measured = [row for kind in KINDS for row in rows(kind, server)]
    print("| what | measured | bar | kept |\n| --- | --- | --- | --- |")
    for row in measured:
        print(f"| {row.what} | {row.figure} | {row.bar} | {'yes' if row.kept else 'NO'} |")
    return 0 if all(row.kept for row in measured) else 1


if __name__ == "__main__":
    sys.exit(main())
