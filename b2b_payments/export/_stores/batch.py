"""The Dask task: exports a batch of stores in the worker's event loop."""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from time import monotonic
from typing import Any

import anyio
import attrs
from anyio import to_thread

from b2b_payments._auth import StoreAuth
from b2b_payments._client import with_shared_from_env
from b2b_payments._errors import AlreadyRunningError, ConfigurationError
from b2b_payments.export._stores.limits import fitting
from b2b_payments.export._stores.report import StoreReport, StoreState
from b2b_payments.export._stores.run import finished_since
from b2b_payments.export._stores.store import Store, TokenFromEnv
from b2b_payments.export._stores.work import Job, OnReport

TOPIC = "b2b-payments"
"""One topic for the events of all runs: a scheduler drops old events of a topic, but never a topic."""
_REPORT_EVERY = 0.5
"""Seconds between a worker's progress events: thousands of stores may be running."""
_POLL_EVERY = 0.5
"""Seconds between checks whether a task was cancelled, and between attempts to lock a file."""
_LOCK_TIMEOUT = 30.0
"""Seconds a store's file may stay locked by a worker that Dask considers dead."""


Batch = Sequence[tuple[Job, str | None]]
"""Exports for one worker, each with the hash of its previous manifest, if any."""


class _WorkerShare:
    """State shared by all batches of a run in one worker: slots for stores, and reports not sent yet."""

    def __init__(self, at_once: int) -> None:
        self.slots = anyio.Semaphore(at_once)
        self._reports: dict[str, StoreReport] = {}
        self._sent = -_REPORT_EVERY

    def add(self, report: StoreReport) -> None:
        self._reports[report.name] = report

    def send(self, worker: Any, run: str, *, now: bool) -> None:
        if self._reports and (now or monotonic() - self._sent >= _REPORT_EVERY):
            reports = pickle.dumps(list(self._reports.values()))
            worker.log_event(TOPIC, {"run": run, "reports": reports})
            self._reports.clear()
            self._sent = monotonic()


@lru_cache(maxsize=16)
def _worker_share(_worker: str, _run: str, at_once: int, concurrency: int) -> _WorkerShare:
    with suppress(ConfigurationError):
        return _WorkerShare(fitting(at_once, concurrency).stores)
    return _WorkerShare(1)


async def run_batch(pickled: bytes, key: str, run: str, at_once: int) -> Sequence[StoreReport]:
    """Export stores in a worker, `at_once` at a time, until they are done or the task is cancelled."""
    batch: Batch = pickle.loads(pickled)  # noqa: S301 - Dask unpickles tasks anyway
    worker = import_module("distributed").get_worker()
    share = _worker_share(worker.address, run, at_once, batch[0][0].selection.concurrency)
    reports: list[StoreReport] = []
    waiting = len(batch)

    def on_report(report: StoreReport) -> None:
        if report.state is StoreState.RUNNING:
            share.add(report)
            share.send(worker, run, now=False)

    async def export(job: Job, old_manifest: str | None) -> None:
        nonlocal waiting
        async with share.slots:
            waiting -= 1
            if not waiting:
                _secede(worker, key)
            try:
                report = await _export(job, old_manifest, on_report)
            except Exception as error:  # noqa: BLE001 - recorded in the report
                report = job.report(StoreState.FAILED, error=error)
        reports.append(_picklable(report))
        share.add(reports[-1])

    async def watch_task() -> None:
        # Dask does not stop a running task when it is cancelled, so the task stops itself.
        tasks = worker.state.tasks
        while key in tasks and tasks[key].state in {"executing", "long-running"}:
            share.send(worker, run, now=False)
            await anyio.sleep(_POLL_EVERY)
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(watch_task)
        async with anyio.create_task_group() as exports:
            for job, old_manifest in batch:
                exports.start_soon(export, job, old_manifest)
        group.cancel_scope.cancel()
    share.send(worker, run, now=True)
    return reports


def _secede(worker: Any, key: str) -> None:
    """Let the worker start another batch: all stores of this one have started, and it uses no thread."""
    secede = import_module("distributed.worker_state_machine").SecedeEvent
    # No duration: Dask learns how long a batch takes when the batch ends.
    worker.handle_stimulus(secede(key=key, compute_duration=None, stimulus_id=f"secede-{key}"))


async def _export(job: Job, old_manifest: str | None, on_report: OnReport) -> StoreReport:
    job = attrs.evolve(job, store=_with_shared_quota(job.store), resume=True)
    # Another worker may have died after it finished the file, but before it reported that.
    rows = await to_thread.run_sync(finished_since, job.path, old_manifest, job.store_selection.manifest)
    if rows is not None:
        return job.report(StoreState.COMPLETE, rows=rows)
    deadline = anyio.current_time() + _LOCK_TIMEOUT
    while True:
        report = await job.run(on_report, lambda _name, _event: None)
        if not isinstance(report.error, AlreadyRunningError) or anyio.current_time() >= deadline:
            return report
        await anyio.sleep(_POLL_EVERY)


def _with_shared_quota(store: Store) -> Store:
    """Share a store's quota between all processes of this machine, unless the quota says otherwise.

    A worker that takes over from a dead worker must know what that worker spent.
    """
    quota = None if store.quota is None else with_shared_from_env(store.quota)
    has_name = isinstance(store.auth, StoreAuth) or isinstance(store.auth.token, TokenFromEnv)
    if quota is not None and quota.shared is None and has_name and os.name == "posix":
        quota = attrs.evolve(quota, shared=True)
    return attrs.evolve(store, quota=quota)


def _picklable(report: StoreReport) -> StoreReport:
    """Return a report that can be pickled: an error of another library may not pickle."""
    try:
        pickle.dumps(report.error)
    except Exception:  # noqa: BLE001 - pickling may raise anything
        return attrs.evolve(report, error=RuntimeError(f"{type(report.error).__name__} in a worker"))
    return report
