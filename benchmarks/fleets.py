"""Many stores: in one process, on the workers of a Dask cluster, and with workers that are killed.

Run with ``uv run --extra dask python -m benchmarks.fleets one-process``, ``dask`` or ``kills``; ``--help``
says what sizes can be given. The service is a process of its own, with a path and a quota for each store.
Exit code 1 says that a bar is missed.

``one-process``: so many stores at once, under a limit of file handles; CPU of the exporting process alone.

``dask``: real worker processes, each with so many stores at once. The bound is made of what a store takes
alone, in a process without Dask, one after the other; it is the largest of three times:

- waiting: the service has a request of a store under way, × stores / stores at once in all workers; with 8
  at once in a worker, waiting and CPU take turns, and a process without Dask needs 1.16 to 1.27 × the bound
- CPU of workers: what the process takes for a store, × stores / workers, or cores where these are fewer
- all CPU: that and what the service takes for a store, × stores / cores, since all run on this machine

Of the cores, what other programs take meanwhile is left out. Dask's own CPU is in no bound.

``kills``: in each run a worker process is killed (SIGKILL) while, or just after, the service has any one
request of any one store: which is drawn, and whose it is the service sees by the connection. Each store's
file has to hold each payment once, and the service must not have refused a request. Spent twice by the kill
is what a store's requests are more than those of a run without a kill: one window of them at most.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import psutil
from distributed import Client

from b2b_payments import Quota
from b2b_payments.export import StoreReport, StoresReport, StoreState, export_stores, verify
from b2b_payments.export._stores.cluster import local_cluster
from benchmarks.fleets_job import stores_at
from benchmarks.fleets_service import TOKEN, VARIABLE, Kill, Served, serving

CPU_BAR, MEMORY_BAR, TIME_BAR = 1.2, 400, 1.15


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="fleets-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


async def one_process(options: argparse.Namespace) -> Sequence[str]:
    """Export in one process, with each number of stores at once; give the bars that are missed."""
    print("| at once | complete | µs CPU a payment | × the first | peak memory, MiB | handles |")
    print("| --- " * 6 + "|")
    missed, first = [], 0.0
    async with serving(payments=options.payments, latency=options.latency) as served:
        for at_once in options.at_once:
            outcome = await _job(served, options, at_once)
            cost = 1e6 * outcome["cpu"] / max(1, outcome["rows"])
            first = first or cost
            complete, memory = outcome["complete"], outcome["memory"]
            print(
                f"| {at_once} | {complete} | {cost:.1f} | {cost / first:.2f} | {memory:.0f} "
                f"| {outcome['handles']} |",
                flush=True,
            )
            if not complete:
                missed.append(f"{at_once} at once: not complete: {outcome['errors']}")
            if memory >= MEMORY_BAR:
                missed.append(f"{at_once} at once: {memory:.0f} MiB, bar {MEMORY_BAR}")
            if cost > CPU_BAR * first:
                missed.append(f"{at_once} at once: {cost / first:.2f} × the CPU, bar {CPU_BAR}")
    return missed


async def _job(served: Served, options: argparse.Namespace, at_once: int, **more: Any) -> dict[str, Any]:
    with _folder() as folder:
        settings = {
            "url": served.url,
            "stores": options.stores,
            "folder": str(folder),
            "format": options.format,
            "at_once": at_once,
            "handles": options.handles,
            **more,
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.fleets_job", json.dumps(settings)),
            stdout=asyncio.subprocess.PIPE,
        )
        printed, _ = await process.communicate()
        outcome: dict[str, Any] = json.loads(printed)
        return outcome


@attrs.define
class _Watch:
    """When the first store began."""

    began: float | None = None

    def tell(self, report: StoreReport) -> None:
        if self.began is None and report.state is StoreState.RUNNING:
            self.began = time.monotonic()


@attrs.frozen
class _Alone:
    """Seconds that a store takes alone: of requests, of CPU of who exports it, of CPU of the service."""

    busy: float
    cpu: float
    served: float

    def bounds(self, stores: int, workers: int, at_once: int, cores: float) -> Sequence[float]:
        """Return the least seconds for so many: by waiting, by the workers' CPU, by all CPU."""
        each = (
            self.busy / (workers * at_once),
            self.cpu / min(workers, cores),
            (self.cpu + self.served) / cores,
        )
        return [stores * one for one in each]


async def _alone(served: Served, options: argparse.Namespace) -> _Alone:
    before = served.cpu
    outcome = await _job(served, options, 1, stores=options.alone, shared=True)
    used, record = served.cpu - before, await served.record()
    busy = sum(one["busy"] for one in record.values())
    return _Alone(*(one / options.alone for one in (busy, outcome["cpu"], used)))


@attrs.frozen
class _CPU:
    """CPU seconds used so far: by the workers, by us with the scheduler, by the service, by the machine.

    `at` is when that was.
    """

    at: float
    workers: float
    scheduler: float
    service: float
    machine: float

    @classmethod
    async def read(cls, client: Client, served: Served) -> _CPU:
        """Return those until now."""
        of_workers = sum((await client.run(time.process_time)).values())
        machine = psutil.cpu_times()
        idle = machine.idle + machine.iowait
        all_of_it = sum(machine[:8]) - idle
        return cls(time.monotonic(), of_workers, time.process_time(), served.cpu, all_of_it)

    def since(self, before: _CPU) -> _CPU:
        """Return those between."""
        return _CPU(
            *(now - then for now, then in zip(attrs.astuple(self), attrs.astuple(before), strict=True))
        )

    @property
    def others(self) -> float:
        """Cores that other programs have had, as differences are."""
        return max(0.0, self.machine - self.workers - self.scheduler - self.service) / self.at


async def on_dask(options: argparse.Namespace) -> Sequence[str]:
    """Export with each number of workers; give the bars that are missed."""
    missed = []
    async with serving(payments=options.payments, latency=options.latency) as served:
        alone = await _alone(served, options)
        print(
            f"A store alone: {1e3 * alone.busy:.0f} ms of requests, {1e3 * alone.cpu:.1f} ms of CPU, and "
            f"{1e3 * alone.served:.1f} ms of the service's.\n"
        )
        print(
            "| workers | seconds | waiting | CPU of workers | all CPU | × bound | ms CPU a store: workers "
            "| Dask | service | others, of the cores | refused |"
        )
        print("| --- " * 11 + "|")
        stores = stores_at(served.url, options.stores)
        for workers in options.workers:
            async with (
                local_cluster(workers) as cluster,
                Client(cluster, asynchronous=True) as client,
            ):
                # The library is loaded, and each worker has exported.
                for _ in range(2):
                    with _folder() as folder:
                        some = stores[: workers * options.at_once]
                        await export_stores(some, folder, format="jsonl", dask=client)
                await served.record()
                watch, before = _Watch(), await _CPU.read(client, served)
                with _folder() as folder:
                    settings = {"format": "jsonl", "at_once": options.at_once, "dask": client}
                    report = await export_stores(stores, folder, **settings, on_progress=watch.tell)
                    seconds = time.monotonic() - (watch.began or 0.0)
                used = (await _CPU.read(client, served)).since(before)
                record = await served.record()
            cores = (os.cpu_count() or 1) - used.others
            bounds = alone.bounds(options.stores, workers, options.at_once, cores)
            over = seconds / max(bounds)
            refused = sum(one["refused"] for one in record.values())
            each = [1e3 * one / options.stores for one in (used.workers, used.scheduler, used.service)]
            print(
                f"| {workers} | {seconds:.2f} | {' | '.join(f'{one:.2f}' for one in bounds)} | {over:.2f} "
                f"| {' | '.join(f'{one:.1f}' for one in each)} | {used.others:.2f} | {refused:.0f} |",
                flush=True,
            )
            if not report.complete or refused:
                missed.append(f"{workers} workers: {report}, {refused:.0f} refused")
            if over > TIME_BAR:
                missed.append(f"{workers} workers: {over:.2f} × the bound, bar {TIME_BAR}")
    return missed


async def kills(options: argparse.Namespace) -> Sequence[str]:
    """Kill a worker in each run; give what went wrong."""
    draw = random.Random(options.seed)
    quota = Quota(options.requests, options.per, shared=True)
    missed: list[str] = []
    killed = within = resumed = most_twice = 0
    async with (
        serving(
            payments=options.payments, latency=options.latency, requests=options.requests, per=options.per
        ) as served,
        local_cluster(options.workers) as cluster,
        Client(cluster, asynchronous=True) as client,
    ):
        stores = stores_at(served.url, options.stores, quota)
        with _folder() as folder:
            await export_stores(stores[:4], folder, format="jsonl", dask=client)
        usual = max(one["requests"] for one in (await served.record()).values())
        for run in range(options.runs):
            pids = await _pids(client)
            request, after = draw.randint(1, int(usual)), draw.uniform(0.0, options.seconds)
            await served.kill(Kill(draw.choice(stores).name, request, after, pids))
            with _folder() as folder:
                report = await export_stores(
                    stores, folder, format="jsonl", at_once=options.at_once, dask=client
                )
                wrong = list(_wrong(report, options.payments))
            await asyncio.sleep(options.seconds)  # a kill after the end of a run is not the next one's
            await client.wait_for_workers(options.workers)
            killed += len({*pids} - {*await _pids(client)})
            record = await served.record()
            more = [one["requests"] - usual for one in record.values()]
            twice = max(more)
            refused = sum(one["refused"] for one in record.values())
            most_twice = max(most_twice, int(twice))
            resumed += sum(one > 0 for one in more)
            within += twice > 0
            if refused or twice > options.requests:
                wrong.append(f"{refused:.0f} refused, {twice:.0f} sent again")
            print(f"run {run}: {report}, {twice:.0f} sent again, {wrong}", file=sys.stderr, flush=True)
            missed += [f"run {run}: {one}" for one in wrong]
            # The next run begins with a full window.
            await asyncio.sleep(options.per + quota.margin)
    print(
        f"{killed} kills, {within} within a store; {resumed} stores had requests sent again, "
        f"at most {most_twice} of one; {len(missed)} wrong."
    )
    return missed


async def _pids(client: Client) -> Sequence[int]:
    # One that was just killed may still be listed.
    return list((await client.run(os.getpid, on_error="ignore")).values())


def _wrong(report: StoresReport, payments: int) -> Iterator[str]:
    for one in report.stores:
        if not one.complete:
            yield f"{one.name}: {one.state}: {one.error}"
        elif (rows := verify(one.path).account.sums.whole.rows) != payments:
            yield f"{one.name}: {rows} payments"


def main() -> int:
    """Measure, and print what came of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)

    def command(name: str, function: Callable[[argparse.Namespace], Awaitable[Sequence[str]]]) -> Any:
        one = commands.add_parser(name)
        one.set_defaults(function=function)
        one.add_argument("--latency", type=float, default=0.05, help="of the service, in seconds [0.05]")
        return one

    one = command("one-process", one_process)
    one.add_argument("--stores", type=int, default=1_000, help="[1000]")
    one.add_argument("--payments", type=int, default=1_000, help="of each store [1000]")
    one.add_argument("--at-once", type=int, nargs="+", default=[8, 50], help="[8 50]")
    one.add_argument("--handles", type=int, default=256, help="the limit of file handles [256]")
    one.add_argument("--format", default="sqlite", help="[sqlite]")
    one = command("dask", on_dask)
    one.add_argument("--stores", type=int, default=200, help="[200]")
    one.add_argument("--payments", type=int, default=1_000, help="of each store [1000]")
    one.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4], help="[1 2 4]")
    one.add_argument("--at-once", type=int, default=16, help="of each worker [16]")
    one.add_argument("--alone", type=int, default=40, help="stores that are exported alone [40]")
    one.set_defaults(format="jsonl", handles=0)
    one = command("kills", kills)
    one.add_argument("--runs", type=int, default=50, help="[50]")
    one.add_argument("--stores", type=int, default=8, help="[8]")
    one.add_argument("--payments", type=int, default=6_000, help="of each store [6000]")
    one.add_argument("--workers", type=int, default=2, help="[2]")
    one.add_argument("--at-once", type=int, default=4, help="of each worker [4]")
    one.add_argument("--requests", type=int, default=20, help="of a store in one window [20]")
    one.add_argument("--per", type=float, default=2.0, help="the window in seconds [2]")
    one.add_argument(
        "--seconds", type=float, default=0.2, help="a kill is at most so late after its request [0.2]"
    )
    one.add_argument("--seed", type=int, default=1, help="[1]")
    options = parser.parse_args()
    os.environ[VARIABLE] = TOKEN
    missed = asyncio.run(options.function(options))
    for line in missed:
        print(f"missed: {line}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
