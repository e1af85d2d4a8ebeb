"""Exports on the workers of a Dask cluster, several stores per task.

Exports are in a shared folder: if a worker dies, another one resumes them after their last commits.
Tasks name the environment variables that hold tokens; a token is never sent to a worker.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from secrets import token_hex
from typing import Any, Protocol

import anyio
import attrs
from anyio import to_thread

from b2b_payments._errors import ConfigurationError, ExportError, shown
from b2b_payments.export._stores.batch import TOPIC, Batch, run_batch
from b2b_payments.export._stores.report import StoreReport, StoreState
from b2b_payments.export._stores.run import manifest_hash
from b2b_payments.export._stores.store import Store
from b2b_payments.export._stores.work import STOP_TIMEOUT, Job, OnReport
from b2b_payments.export._worker import in_threads

LOCAL = "local"
_MAX_IN_BATCH = 8
_REPLACE_WORKERS_EVERY = 5.0
"""Seconds."""
_PRELOAD = """
import signal
import b2b_payments.export
signal.signal(signal.SIGINT, signal.SIG_IGN)
"""
"""Run by each local worker process at its start. Ctrl-C in a terminal reaches workers too: they ignore it,
and this process stops them."""

_QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.worker.memory.monitor-interval": "1s",
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
}
"""Dask's defaults are expensive: its own measurements take 3 % of a core for each worker, and 5 % for the
scheduler; with its malloc threshold, memory is mapped again for each page of a list, which costs a fifth of
an export."""


class DaskClient(Protocol):
    """The part of `distributed.Client` used here: its scheduler's address and its certificates."""

    @property
    def scheduler(self) -> Any:
        """The connection to the scheduler, with its `address`."""

    @property
    def security(self) -> Any:
        """The certificates, if there are any."""


async def export_on(
    dask: str | DaskClient, processes: int | None, jobs: Sequence[Job], at_once: int, on_report: OnReport
) -> None:
    """Export stores on Dask workers, up to `at_once` in each.

    `dask` is a scheduler's address, a client, or `LOCAL` for `processes` new worker processes. If this is
    cancelled, so are the tasks. Raises ConfigurationError if no scheduler answers.
    """
    tasks = _Tasks(jobs, at_once, on_report)
    stack = AsyncExitStack()
    target: Any = dask
    try:
        if dask == LOCAL:
            target = await stack.enter_async_context(local_cluster(processes or os.cpu_count() or 1))
        await tasks.run(await stack.enter_async_context(_connected(target)))
    finally:
        # Closing the client cancels its tasks: each stops by itself, and keeps what it has committed.
        with anyio.CancelScope(shield=True):
            await stack.aclose()
            await tasks.stop()


@asynccontextmanager
async def _connected(dask: Any) -> AsyncIterator[Any]:
    """Yield an asynchronous client of our own, since the caller's client may be a blocking one."""
    address, security = (dask, None) if isinstance(dask, str) else (dask.scheduler.address, dask.security)
    client = import_distributed().Client(address, security=security, asynchronous=True, set_as_default=False)
    try:
        await client
    except Exception as error:  # noqa: BLE001 - whatever else listens there may answer anything
        await client.close()
        raise ConfigurationError(
            f"No Dask scheduler answers at {shown(address)} ({type(error).__name__})."
        ) from None
    async with client:
        yield client


def import_distributed() -> Any:
    """Import `distributed`. Raises ConfigurationError if the extra is not installed."""
    try:
        import distributed  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigurationError(
            "Dask needs the extra dask: pip install 'b2b-payments[dask]', on the workers too."
        ) from None
    return distributed


@asynccontextmanager
async def local_cluster(processes: int) -> AsyncIterator[Any]:
    """Yield a cluster of worker processes on this machine. A worker that dies is replaced."""
    distributed = import_distributed()
    with import_module("dask").config.set(_QUIET):
        cluster = await distributed.LocalCluster(
            n_workers=processes,
            threads_per_worker=1,  # exports run in the event loop, not in threads
            memory_limit=1 / processes,  # by default it depends on the number of threads
            processes=True,
            dashboard_address="127.0.0.1:0",  # any free port, on this machine only
            preload=[_PRELOAD],
            # Everything: that a client closed while the scheduler sent it progress is logged as critical.
            silence_logs=logging.CRITICAL + 1,
            asynchronous=True,
        )

    def replace_workers() -> None:
        # Dask restarts a worker that dies, but not one that dies while it starts.
        if len(cluster.workers) < processes:
            cluster.scale(processes)

    check = import_module("tornado.ioloop").PeriodicCallback(replace_workers, 1_000 * _REPLACE_WORKERS_EVERY)
    check.start()
    try:
        async with cluster:
            yield cluster
    finally:
        check.stop()


def check_sendable(stores: Sequence[Store]) -> None:
    """Raise ConfigurationError if a store holds a secret, or cannot be sent to workers."""
    for store in stores:
        if isinstance(store.auth.token, str):
            raise ConfigurationError(
                f"store {store.name!r} holds its token, and tokens are not sent to workers: use "
                "TokenFromEnv, or an async callable that the workers can import."
            )
        if store.quota is not None and "@" in str(store.quota.shared or ""):
            raise ConfigurationError(
                f"store {store.name!r}: the quota's shared address holds a password, and passwords are not "
                "sent to workers: set B2B_PAYMENTS_QUOTA_SHARED on the workers instead."
            )
        try:
            pickle.dumps(store)
        except Exception:  # noqa: BLE001 - the caller's callable may raise anything
            raise ConfigurationError(
                f"store {store.name!r} cannot be sent to workers: its token must be TokenFromEnv, or an "
                "async function that the workers can import."
            ) from None


class _Tasks:
    """The Dask tasks of a run."""

    def __init__(self, jobs: Sequence[Job], at_once: int, on_report: OnReport) -> None:
        self._run = f"b2b-payments-{token_hex(4)}"
        self._at_once = at_once
        self._on_report = on_report
        self._unfinished = {job.store.name: job for job in jobs}
        self._latest: dict[str, StoreReport] = {}

    async def run(self, client: Any) -> None:
        """Submit the tasks, and wait until all stores are finished."""
        client.subscribe_topic(TOPIC, self._on_dask_event)
        jobs = list(self._unfinished.values())
        hashes = await in_threads(manifest_hash, [job.path for job in jobs])
        threads = sum((await client.nthreads()).values())
        batches = _batches(list(zip(jobs, hashes, strict=True)), threads)
        batch_of_key: dict[str, Batch] = {}

        def submit(batches: Sequence[Batch]) -> Any:
            keys = [f"{self._run}-{len(batch_of_key) + number}" for number, _ in enumerate(batches)]
            batch_of_key.update(zip(keys, batches, strict=True))
            # Pickled here, so that the scheduler does not unpickle them.
            pickled = list(map(pickle.dumps, batches))
            settings = {"run": self._run, "at_once": self._at_once}
            return client.map(run_batch, pickled, keys, key=keys, pure=False, **settings)

        # Futures are not kept here, so the scheduler forgets tasks that have ended.
        ended = import_distributed().as_completed(submit(batches), loop=client.loop)
        async for future in ended:
            batch = batch_of_key[future.key]
            left = [one for one in batch if one[0].store.name in self._unfinished]
            if not left:  # the usual case: all reports arrived earlier, as events
                continue
            try:
                self._record(await future)
            except Exception as error:  # noqa: BLE001 - Dask raises errors of many types
                if len(left) > 1:
                    # One store of the batch may be what kills workers: retry each in its own task.
                    for one in left:
                        ended.update(submit([[one]]))
                else:
                    await self._record_failure(left[0][0], error)

    async def stop(self) -> None:
        """Report the stores that were running as stopped."""
        running = [name for name in self._latest if name in self._unfinished]
        kept = [False] * len(running)
        with anyio.move_on_after(STOP_TIMEOUT):
            kept = await in_threads(Job.is_resumable, [self._unfinished[name] for name in running])
        for name, resumable in zip(running, kept, strict=True):
            self._on_report(attrs.evolve(self._latest[name], state=StoreState.STOPPED, resumable=resumable))

    async def _record_failure(self, job: Job, error: Exception) -> None:
        if isinstance(error, import_distributed().KilledWorker):
            why = "The workers that exported it kept dying: check their logs, then resume."
        else:
            cause: BaseException = error
            while cause.__cause__ is not None:  # Dask's own error only says that a task cannot be read
                cause = cause.__cause__
            why = f"Dask gave up on it: {type(cause).__name__}: {' '.join(str(cause).split()).rstrip('.')}."
        kept = await to_thread.run_sync(job.is_resumable)
        self._record([job.report(StoreState.FAILED, resumable=kept, error=ExportError(why))])

    def _on_dask_event(self, event: tuple[float, Mapping[str, Any]]) -> None:
        _, content = event
        if content["run"] == self._run:
            self._record(pickle.loads(content["reports"]))  # noqa: S301 - Dask unpickles results anyway

    def _record(self, reports: Sequence[StoreReport]) -> None:
        for report in reports:
            if report.name in self._unfinished:  # another worker may report a finished store again
                self._latest[report.name] = report
                if report.state is not StoreState.RUNNING:
                    del self._unfinished[report.name]
                self._on_report(report)


def _batches(jobs: Batch, threads: int) -> list[Batch]:
    """Divide jobs into batches that get smaller towards the end, so that all workers end at the same time.

    A worker of one thread has two batches besides those whose stores have all started.
    """
    batches: list[Batch] = []
    left = list(jobs)
    while left:
        size = min(_MAX_IN_BATCH, max(1, len(left) // (4 * max(1, threads))))
        batches.append(left[:size])
        del left[:size]
    return batches
