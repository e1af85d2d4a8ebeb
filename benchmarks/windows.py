"""Walks between two moments, over a million payments that change meanwhile: exact, and at how many requests.

Run with ``uv run python -m benchmarks.windows [--windows N] [--payments N]``. The service is the sandbox over
real sockets; at every third list request or so a payment is created, updated or deleted. Windows begin
anywhere, are a minute to ten days wide, and are walked in either order. Exit code 1 where a walk is not exact
or a bar is missed.
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

import attrs

from b2b_payments import OrderBy, PaymentsClient
from b2b_payments.sandbox import Rules, Sandbox, SeenRequest, Store
from benchmarks.compare.table import Bar, bars_text

PAGE = 250
CHANGES = 0.3
"""Changes before each list request, in the mean."""
_MINUTE, _TEN_DAYS = 60, 864_000


@attrs.define
class ChangingStore:
    """A store that changes before lists are read, and knows when each payment was created, by its id."""

    store: Store
    draw: random.Random
    created: list[int]
    deleted: set[int] = attrs.field(factory=set)

    def change(self, _store: Store, _seen: SeenRequest) -> None:
        """Change something, at times."""
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
        """Give the ids of payments created from one moment on, and before another, that were not deleted."""
        return {
            *range(bisect_left(self.created, start) + 1, bisect_left(self.created, stop) + 1)
        } - self.deleted


async def walked(
    client: PaymentsClient, changing: ChangingStore, start: int, stop: int, order: OrderBy
) -> int:
    """Walk a window; give the requests beyond the pages that its payments fill. Raises AssertionError."""
    before = changing.within(start, stop)
    bounds = [datetime.fromtimestamp(one, UTC) for one in (start, stop)]
    walk = client.payments.list(created_from=bounds[0], created_to=bounds[1], order_by=order)
    ids = [payment.id async for payment in walk]
    assert walk.report.complete, walk.report.ending
    assert len(set(ids)) == len(ids), "a payment came twice"
    assert {*ids} >= before - changing.deleted, "a payment that lasted is missing"
    assert {*ids} <= before | changing.within(start, stop), "a payment of another time came"
    return walk.report.requests - max(1, -(-len(ids) // PAGE))


async def measured(windows: int, payments: int, seed: int) -> tuple[Sequence[int], int]:
    """Walk so many windows, and a sixtieth of the list; give the extra requests of each."""
    draw = random.Random(seed)
    async with Sandbox(payments=payments, rules=Rules(quota=False, equals="shuffled")) as sandbox:
        store = sandbox.store
        changing = ChangingStore(store, draw, [store.created(one) for one in range(1, payments + 1)])
        sandbox.before_list = changing.change
        async with PaymentsClient(sandbox.auth, base_url=sandbox.base_url, quota=None) as client:
            first, last = changing.created[0], changing.created[-1]
            extra = []
            for _ in range(windows):
                start = round(draw.uniform(first, last))
                width = round(_MINUTE * (_TEN_DAYS / _MINUTE) ** draw.random())
                order = draw.choice(list(OrderBy))
                extra.append(await walked(client, changing, start, start + width, order))
            month = (last - first) // 60
            start = round(draw.uniform(first, last - month))
            return extra, await walked(client, changing, start, start + month, OrderBy.ASC)


def main() -> int:
    """Measure and print everything."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--windows", type=int, default=200, help="how many [200]")
    parser.add_argument("--payments", type=int, default=1_000_000, help="in the list [1000000]")
    parser.add_argument("--seed", type=int, default=1, help="which windows and changes [1]")
    options = parser.parse_args()
    extra, month = asyncio.run(measured(options.windows, options.payments, options.seed))
    counts = ", ".join(f"{extra.count(one)} × {one}" for one in sorted(set(extra)))
    print(f"{len(extra)} windows, all exact; requests beside their pages: {counts}.")
    bars = [
        Bar("extra requests of a window, median", statistics.median(extra), 6, ""),
        Bar("extra requests of a sixtieth of the list", month, 12, ""),
    ]
    print(bars_text(bars))
    return 0 if all(bar.kept for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
