"""The store's quota, end to end: walks of 300 pages against 150 requests a minute.

Run with ``uv run python -m benchmarks.quota``. Clients and sandbox communicate over real sockets, on an event
loop whose clock skips waits. Exit code 1 if a bar is missed. With ``--processes``, real processes share the
quota in real time, and with ``--kills`` they are killed: see `benchmarks.quota_processes` and
`benchmarks.quota_kills`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import Literal

import anyio
import attrs

from b2b_payments import PaymentsClient, Quota
from b2b_payments.events import Event, QuotaWait, RequestStarted
from b2b_payments.sandbox import Rules, Sandbox
from benchmarks import quota_kills, quota_processes
from tests.support.virtual_time import run

Window = Literal["sliding", "fixed", "leaky"]

WINDOWS: tuple[Window, ...] = ("sliding", "fixed", "leaky")
REQUESTS, PER = 150, 60.0
PAGE = 20
_DEFAULT = Quota()
PAYMENTS = 5_300
"""The number that 300 pages of 20 rows hold, allowing for their overlap."""
OTHERS = 100
"""Requests of another integration in each window: two thirds."""
STARTS = (0.0, 20.0, 43.0, 90.0)
"""Seconds after which the walk starts; the other integration spends from second 0."""


@attrs.frozen
class Spent:
    """What the service received. Times are its seconds."""

    rows: int
    requests: int
    refused: Sequence[float]
    seconds: float

    @property
    def bound(self) -> float:
        """The minimum seconds in which a service can admit these requests, if nobody else spends."""
        return (self.requests - 1) // REQUESTS * PER

    @property
    def most_refused(self) -> int:
        """The maximum number of refusals within the length of one window."""
        return max((sum(at <= other < at + PER for other in self.refused) for at in self.refused), default=0)


def rules(window: Window, others: int = 0) -> Rules:
    """Return the documented quota, with a latency of 50 ms."""
    return Rules(requests=REQUESTS, per=PER, window=window, others_per_window=others, latency=0.05)


async def walks(
    window: Window, *, others: int = 0, start: float = 0.0, clients: int = 1, quota: Quota | None = _DEFAULT
) -> Spent:
    """Walk the store's 300 pages: with one client, or with several of one store that each walk a part.

    Another integration spends `others` requests per window from second 0; the walk starts at second `start`.
    """
    rows = 0

    # Each walk ends with an additional page.
    payments = PAYMENTS // clients - PAGE * (clients - 1)
    async with Sandbox(payments=payments, rules=rules(window, others)) as sandbox:

        async def walk() -> None:
            nonlocal rows
            async with PaymentsClient(sandbox.auth, base_url=sandbox.base_url, quota=quota) as client:
                rows += len([payment async for payment in client.payments.list(page_size=PAGE)])

        await anyio.sleep(start)
        begun = anyio.current_time()
        async with anyio.create_task_group() as group:
            for _ in range(clients):
                group.start_soon(walk)
        seen = list(sandbox.requests)
        refused = [request.at for request in seen if request.status == 429]
        return Spent(rows, len(seen), refused, seen[-1].at - begun)


async def pages_before_a_call(window: Window) -> int:
    """Get one payment while a walk waits for the quota, and count the pages sent before it."""
    waits = anyio.Event()
    sent: list[str] = []
    async with Sandbox(payments=PAYMENTS, rules=rules(window)) as sandbox:

        def listen(event: Event) -> None:
            if isinstance(event, QuotaWait) and event.reason == "window":
                waits.set()
            if isinstance(event, RequestStarted):
                sent.append(event.call)

        async with (
            PaymentsClient(sandbox.auth, base_url=sandbox.base_url, on_event=listen) as client,
            anyio.create_task_group() as group,
        ):
            group.start_soon(client.payments.list(page_size=PAGE).collect)
            await waits.wait()
            pages = len(sent)
            await client.payments.get(1)
            group.cancel_scope.cancel()
        return sent.index("payments.get") - pages


@attrs.frozen
class Row:
    """One measured figure and its bar."""

    what: str
    figure: str
    bar: str
    kept: bool


def rows() -> Iterator[Row]:
    """Measure everything, with each kind of window."""
    for window in WINDOWS:
        for clients, what in ((1, "a walk"), (2, "two clients of one store")):
            spent = run(walks(window, clients=clients))
            kept = not spent.refused and spent.seconds <= 1.05 * spent.bound
            figure = f"{spent.requests} requests, {len(spent.refused)} refused, {spent.seconds:.1f} s"
            yield Row(f"{what}, {window} window", figure, f"0 refused, ≤ 1.05 × {spent.bound:.0f} s", kept)
        for start in STARTS:
            spent = run(walks(window, others=OTHERS, start=start))
            yield Row(
                f"a walk, another spends {OTHERS} of {REQUESTS} since {start:.0f} s, {window} window",
                f"{spent.rows:,} payments, {spent.requests} requests, {len(spent.refused)} refused, "
                f"at most {spent.most_refused} in {PER:.0f} s, {spent.seconds:.0f} s",
                f"{PAYMENTS:,} payments, at most 1 refused a window",
                spent.rows == PAYMENTS and spent.most_refused <= 1,
            )
        ahead = run(pages_before_a_call(window))
        yield Row(f"a call while a walk waits, {window} window", f"{ahead} pages before it", "0", ahead == 0)


def main() -> int:
    """Measure everything and print the tables."""
    print("| what | measured | bar | kept |\n| --- | --- | --- | --- |")
    missed = 0
    for row in rows():
        missed += not row.kept
        print(f"| {row.what} | {row.figure} | {row.bar} | {'yes' if row.kept else 'NO'} |", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--processes", action="store_true", help="with real processes; its own options follow"
    )
    parser.add_argument("--kills", action="store_true", help="with killed processes; its own options follow")
    chosen, others = parser.parse_known_args()
    if chosen.processes:
        sys.exit(quota_processes.main(others))
    sys.exit(quota_kills.main(others) if chosen.kills else main())
