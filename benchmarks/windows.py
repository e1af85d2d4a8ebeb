"""Walks of periods, over a million payments that change meanwhile: exactness, and the number of requests.

Run with ``uv run python -m benchmarks.windows [--windows N] [--payments N] [--spread all]``. The service is
the sandbox over real sockets; at about every third list request a payment is created, updated or deleted.
Windows start anywhere, often next to a gap or a crowd, are a minute to ten days long, or a sixtieth of the
list, and are walked in either order. Exit code 1 if a walk is not exact or a bar is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
from bisect import bisect_left
from collections.abc import Sequence
from datetime import UTC, datetime
from operator import eq

import attrs

from b2b_payments import OrderBy, PaymentsClient
from b2b_payments.sandbox import Rules, Sandbox, SeenRequest, Store
from benchmarks.compare.table import Bar, bars_text
from tests.support.times import TIMES, moment, times

PAGE = 250
CHANGES = 0.3
"""Mean number of changes before each list request."""
MOST = 50_000
"""Maximum number of payments in a window."""
SPREADS = [name for name in TIMES if "one second" not in name]
_MINUTE, _TEN_DAYS = 60, 864_000


@attrs.define
class Measured:
    """Rows read in search of the start, by walk, and requests beyond the pages that the windows fill."""

    reads: list[int] = attrs.field(factory=list)
    extra: list[int] = attrs.field(factory=list)
    months: list[int] = attrs.field(factory=list)


@attrs.define
class ChangingStore:
    """A store that changes before lists are read, and records when each payment was created."""

    store: Store
    draw: random.Random
    created: list[int]
    deleted: set[int] = attrs.field(factory=set)

    def change(self, _store: Store, _seen: SeenRequest) -> None:
        """Change a random payment, or none."""
        if self.draw.random() >= CHANGES or (one := self.store.pick(self.draw)) is None:
            return
        match self.draw.choice(("insert", "update", "delete")):
            case "insert":
                self.created.append(self.store.created(self.store.insert()))
            case "update":
                self.store.update(one, payerName=f"p{self.draw.random()}")
            case _:
                self.store.delete(one)
                self.deleted.add(one)

    def within(self, start: int, stop: int) -> set[int]:
        """Return the ids of payments that were created within a period and not deleted."""
        return {
            *range(bisect_left(self.created, start) + 1, bisect_left(self.created, stop) + 1)
        } - self.deleted


async def walked(
    client: PaymentsClient, changing: ChangingStore, start: int, stop: int, order: OrderBy
) -> int:
    """Walk a window. Returns the requests beyond the pages that its payments fill. Raises AssertionError."""
    before = changing.within(start, stop)
    bounds = [datetime.fromtimestamp(one, UTC) for one in (start, stop)]
    walk = client.payments.list(created_from=bounds[0], created_to=bounds[1], order_by=order)
    ids = [payment.id async for payment in walk]
    assert walk.report.complete, walk.report.ending
    assert len(set(ids)) == len(ids), "a payment was yielded twice"
    assert {*ids} >= before - changing.deleted, "a payment that lasted is missing"
    assert {*ids} <= before | changing.within(start, stop), "a payment of another time was yielded"
    return walk.report.requests - pages([changing.created[one - 1] for one in sorted(ids)])


def pages(created: Sequence[int]) -> int:
    """Return how many pages these payments fill, if each starts one row before the last second of the
    previous one.
    """
    count, start = 1, 0
    while start + PAGE < len(created):
        count, start = count + 1, max(start + 1, bisect_left(created, created[start + PAGE - 1]) - 1)
    return count


async def measured(name: str, windows: int, payments: int, seed: int) -> Measured:
    """Walk `windows` windows, and sixtieths of the list, in payments spread over time as `name` says."""
    draw = random.Random(f"{name} {seed}")
    created = times(name, draw, payments)
    measured = Measured()
    async with Sandbox(created, rules=Rules(quota=False, equals="shuffled")) as sandbox:
        changing = ChangingStore(sandbox.store, draw, created)
        sandbox.before_list = changing.change
        async with PaymentsClient(sandbox.auth, base_url=sandbox.base_url, quota=None) as client:
            month = (created[-1] - created[0]) // 60
            while len(measured.extra) < windows or len(measured.months) < windows / 20:
                start = moment(draw, created)
                widths = [month, round(_MINUTE * (_TEN_DAYS / _MINUTE) ** draw.random())]
                width = widths[len(measured.extra) < windows]
                times_in_it = created[bisect_left(created, start) : bisect_left(created, start + width)]
                if len(times_in_it) > MOST or any(map(eq, times_in_it, times_in_it[PAGE // 2 :])):
                    continue  # if a second fills pages, counting them takes more requests than the search
                order = draw.choice(list(OrderBy))
                sandbox.requests.clear()
                extra = await walked(client, changing, start, start + width, order)
                measured.reads.append(sum(("limit", "1") in seen.query for seen in sandbox.requests))
                (measured.months if width == month else measured.extra).append(extra)
    return measured


def main() -> int:
    """Measure everything and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--windows", type=int, default=200, help="of each spread [200]")
    parser.add_argument("--payments", type=int, default=1_000_000, help="in the list [1000000]")
    parser.add_argument("--seed", type=int, default=1, help="of the windows and changes [1]")
    parser.add_argument("--spread", choices=[*SPREADS, "all"], default="evenly", help="[evenly]")
    options = parser.parse_args()
    bars = []
    print("| payments over time | rows read: median | most | extra: median | most | for a month: most |")
    print("| --- " * 6 + "|")
    for name in SPREADS if options.spread == "all" else [options.spread]:
        found = asyncio.run(measured(name, options.windows, options.payments, options.seed))
        reads, extra = statistics.median(found.reads), statistics.median(found.extra)
        figures = f"{reads:g} | {max(found.reads)} | {extra:g} | {max(found.extra)} | {max(found.months)}"
        print(f"| {name} | {figures} |", flush=True)
        bars.append(Bar(f"{name}: rows read, most", max(found.reads), 12, ""))
        if name == "evenly":
            bars.append(Bar("extra requests of a window, median", extra, 6, ""))
            bars.append(Bar("extra requests of a sixtieth of the list", max(found.months), 12, ""))
    print("\nAll walks exact.\n")
    print(bars_text(bars))
    return 0 if all(bar.kept for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
