"""Many stores: in one process, on the workers of a Dask cluster, and with workers that are killed.

Run with ``uv run --extra dask python -m benchmarks.fleets one-process``, ``dask`` or ``kills``; ``--help``
lists the sizes. The service runs in its own process, with a path and a quota for each store. Exit code 1 if a
bar is missed.

``one-process``: different numbers of concurrent stores, under a limit of file handles; CPU time of the
exporting process alone.

``dask``: real worker processes, each with several concurrent stores. The bound is computed from what a store
takes alone, one after the other, in a process without Dask. It is the largest of three times:

- waiting: the time in which the service handles requests of a store, × stores / concurrent stores of all
  workers; with 8 per worker, waiting and CPU alternate, and a process without Dask takes 1.16 to 1.27 × the
  bound
- CPU of workers: the process's CPU time per store, × stores / workers, or cores if there are fewer
- all CPU: that plus the service's CPU time per store, × stores / cores, as everything runs on this machine

CPU time that other programs take meanwhile is subtracted from the cores. No bound includes Dask's own CPU.

``kills``: in each run a worker process is killed (SIGKILL) during, or just after, a random request of a
random store; the service identifies the process by the connection. Each store's file must have each payment
once, and the service must not have refused a request. A store's requests in excess of a run without a kill
were sent again because of the kill: at most one window of them.
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
    """Export in one process, with each number of concurrent stores. Returns the missed bars."""
    print("| at once | complete | µs CPU per payment | × the first | peak memory, MiB | handles |")
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
    """Records when the first store started."""

    began: float | None = None

    def record(self, report: StoreReport) -> None:
        if self.began is None and report.state is StoreState.RUNNING:
            self.began = time.monotonic()


@attrs.frozen
class _Alone:
    """Seconds for a single store: of its requests, of the exporting process's CPU, of the service's CPU."""

    busy: float
    cpu: float
    served: float

    def bounds(self, stores: int, workers: int, at_once: int, cores: float) -> Sequence[float]:
        """Return the minimum seconds for `stores`: by waiting, by the workers' CPU, by all CPU."""
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
    """CPU seconds used until the time `at`: by the workers, by this process with the scheduler, by the
    service, and by the machine.
    """

    at: float
    workers: float
    scheduler: float
    service: float
    machine: float

    @classmethod
    async def read(cls, client: Client, served: Served) -> _CPU:
        """Return the values until now."""
        of_workers = sum((await client.run(time.process_time)).values())
        machine = psutil.cpu_times()
        idle = machine.idle + machine.iowait
        all_of_it = sum(machine[:8]) - idle
        return cls(time.monotonic(), of_workers, time.process_time(), served.cpu, all_of_it)

    def since(self, before: _CPU) -> _CPU:
        """Return the differences from earlier values."""
        return _CPU(
            *(now - then for now, then in zip(attrs.astuple(self), attrs.astuple(before), strict=True))
        )

    @property
    def others(self) -> float:
        """Cores used by other programs (of a difference)."""
        return max(0.0, self.machine - self.workers - self.scheduler - self.service) / self.at


async def on_dask(options: argparse.Namespace) -> Sequence[str]:
    """Export with each number of workers. Returns the missed bars."""
    missed = []
    async with serving(payments=options.payments, latency=options.latency) as served:
        alone = await _alone(served, options)
        print(
            f"A store alone: {1e3 * alone.busy:.0f} ms of requests, {1e3 * alone.cpu:.1f} ms of CPU, "
            f"{1e3 * alone.served:.1f} ms of the service's CPU.\n"
        )
        print(
            "| workers | seconds | waiting | CPU of workers | all CPU | × bound | ms CPU per store: workers "
            "| Dask | service | others, of the cores | refused |"
        )
        print("| --- " * 11 + "|")
        stores = stores_at(served.url, options.stores)
        for workers in options.workers:
            async with (
                local_cluster(workers) as cluster,
                Client(cluster, asynchronous=True) as client,
            ):
                # Warm up: every worker loads the library and exports.
                for _ in range(2):
                    with _folder() as folder:
                        some = stores[: workers * options.at_once]
                        await export_stores(some, folder, format="jsonl", dask=client)
                await served.record()
                watch, before = _Watch(), await _CPU.read(client, served)
                with _folder() as folder:
                    settings = {"format": "jsonl", "at_once": options.at_once, "dask": client}
                    report = await export_stores(stores, folder, **settings, on_progress=watch.record)
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
    """Kill a worker in each run. Returns what went wrong."""
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
            await asyncio.sleep(options.seconds)  # a late kill must not hit the next run
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
            # Wait until the window is empty again.
            await asyncio.sleep(options.per + quota.margin)
    print(
        f"{killed} kills, {within} within a store; {resumed} stores had requests sent again, "
        f"at most {most_twice} for one store; {len(missed)} wrong."
    )
    return missed


async def _pids(client: Client) -> Sequence[int]:
    # A worker that was just killed may still be listed.
    return list((await client.run(os.getpid, on_error="ignore")).values())


def _wrong(report: StoresReport, payments: int) -> Iterator[str]:
    for one in report.stores:
        if not one.complete:
            yield f"{one.name}: {one.state}: {one.error}"
        elif (rows := verify(one.path).account.sums.whole.rows) != payments:
            yield f"{one.name}: {rows} payments"


def main() -> int:
    """Run the command and print the missed bars."""
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
    one.add_argument("--payments", type=int, default=1_000, help="in each store [1000]")
    one.add_argument("--at-once", type=int, nargs="+", default=[8, 50], help="[8 50]")
    one.add_argument("--handles", type=int, default=256, help="limit of file handles [256]")
    one.add_argument("--format", default="sqlite", help="[sqlite]")
    one = command("dask", on_dask)
    one.add_argument("--stores", type=int, default=200, help="[200]")
    one.add_argument("--payments", type=int, default=1_000, help="in each store [1000]")
    one.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4], help="[1 2 4]")
    one.add_argument("--at-once", type=int, default=16, help="stores per worker [16]")
    one.add_argument("--alone", type=int, default=40, help="stores that are exported alone [40]")
    one.set_defaults(format="jsonl", handles=0)
    one = command("kills", kills)
    one.add_argument("--runs", type=int, default=50, help="[50]")
    one.add_argument("--stores", type=int, default=8, help="[8]")
    one.add_argument("--payments", type=int, default=6_000, help="in each store [6000]")
    one.add_argument("--workers", type=int, default=2, help="[2]")
    one.add_argument("--at-once", type=int, default=4, help="stores per worker [4]")
    one.add_argument("--requests", type=int, default=20, help="per store in one window [20]")
    one.add_argument("--per", type=float, default=2.0, help="length of the window in seconds [2]")
    one.add_argument(
        "--seconds", type=float, default=0.2, help="longest time from a request to its kill [0.2]"
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
