"""What a Dask worker does: the exports of a task's stores, in its own event loop."""

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
from b2b_payments._client import shared_by_env
from b2b_payments._errors import AlreadyRunningError, ConfigurationError
from b2b_payments._printable import frozen
from b2b_payments.export._stores.limits import fitting
from b2b_payments.export._stores.report import StoreReport, StoreState
from b2b_payments.export._stores.run import finished_since
from b2b_payments.export._stores.store import Store, TokenFromEnv
from b2b_payments.export._stores.work import Job, Tell

TOPIC = "b2b-payments"
"""Of the events of all runs: a scheduler never forgets a topic, only the oldest events in it."""
_NEWS_EVERY = 0.5
"""Seconds between two reports of a worker about its stores: thousands may be under way."""
_LOOK_EVERY = 0.5
"""Seconds between two looks whether a task is still wanted."""
_HELD_FOR = 30.0
"""Seconds in which the file of a store may still be locked by a worker that counts as dead."""


@frozen
class Batch:
    """Exports for one worker, each with the hash of the manifest that was there before; so many at once."""

    jobs: tuple[tuple[Job, str | None], ...]
    at_once: int

    @property
    def concurrency(self) -> int:
        """The requests that each has in flight."""
        job, _ = self.jobs[0]
        return job.selection.concurrency


class _Share:
    """What the batches of a run have in common in one worker: how many stores at once, and their news."""

    def __init__(self, at_once: int) -> None:
        self.slots = anyio.Semaphore(at_once)
        self._news: dict[str, StoreReport] = {}
        self._sent = -_NEWS_EVERY

    def tell(self, report: StoreReport) -> None:
        self._news[report.name] = report

    def send(self, worker: Any, run: str, *, now: bool) -> None:
        if self._news and (now or monotonic() - self._sent >= _NEWS_EVERY):
            reports = pickle.dumps(list(self._news.values()))
            worker.log_event(TOPIC, {"run": run, "reports": reports})
            self._news.clear()
            self._sent = monotonic()


@lru_cache(maxsize=16)
def _share(_worker: str, _run: str, at_once: int, concurrency: int) -> _Share:
    with suppress(ConfigurationError):
        return _Share(fitting(at_once, concurrency).stores)
    return _Share(1)


async def run_batch(pickled: bytes, key: str, run: str) -> Sequence[StoreReport]:
    """Export stores in a worker, for as long as the task is wanted."""
    batch: Batch = pickle.loads(pickled)  # noqa: S301 - as Dask does with all that it is sent
    worker = import_module("distributed").get_worker()
    share = _share(worker.address, run, batch.at_once, batch.concurrency)
    reports: list[StoreReport] = []
    waiting = len(batch.jobs)

    def tell(report: StoreReport) -> None:
        if report.state is StoreState.RUNNING:
            share.tell(report)
            share.send(worker, run, now=False)

    async def export(job: Job, before: str | None) -> None:
        nonlocal waiting
        async with share.slots:
            waiting -= 1
            if not waiting:
                _make_room(worker, key)
            try:
                report = await _export(job, before, tell)
            except Exception as error:  # noqa: BLE001 - whoever reads the report sees it
                report = job.report(StoreState.FAILED, error=error)
        reports.append(_travelling(report))
        share.tell(reports[-1])

    async def look() -> None:
        # Dask does not stop what runs already: once its task is not wanted, it has to be done here.
        while _is_wanted(worker.state, key):
            share.send(worker, run, now=False)
            await anyio.sleep(_LOOK_EVERY)
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(look)
        async with anyio.create_task_group() as exports:
            for job, before in batch.jobs:
                exports.start_soon(export, job, before)
        group.cancel_scope.cancel()
    share.send(worker, run, now=True)
    return reports


def _make_room(worker: Any, key: str) -> None:
    """Let the worker begin another batch, all stores of this one having begun: it uses no thread."""
    secede = import_module("distributed.worker_state_machine").SecedeEvent
    # Without a duration: how long batches take is learned when they end.
    worker.handle_stimulus(secede(key=key, compute_duration=None, stimulus_id=f"secede-{key}"))


def _is_wanted(state: Any, key: str) -> bool:
    return key in state.tasks and state.tasks[key].state in {"executing", "long-running"}


async def _export(job: Job, before: str | None, tell: Tell) -> StoreReport:
    job = attrs.evolve(job, store=_sharing(job.store), resume=True)
    # Another worker may have died after the file was there, and before it could say so.
    rows = await to_thread.run_sync(finished_since, job.path, before, job.query.manifest)
    if rows is not None:
        return job.report(StoreState.COMPLETE, rows=rows)
    give_up = anyio.current_time() + _HELD_FOR
    while True:
        report = await job.run(tell, lambda _name, _event: None)
        if not isinstance(report.error, AlreadyRunningError) or anyio.current_time() >= give_up:
            return report
        await anyio.sleep(_LOOK_EVERY)


def _sharing(store: Store) -> Store:
    """Let a store's quota be counted by all processes of this machine, unless it says otherwise.

    A worker that goes on where another one died has to know what that one has spent.
    """
    quota = None if store.quota is None else shared_by_env(store.quota)
    known = isinstance(store.auth, StoreAuth) or isinstance(store.auth.token, TokenFromEnv)
    if quota is not None and quota.shared is None and known and os.name == "posix":
        quota = attrs.evolve(quota, shared=True)
    return attrs.evolve(store, quota=quota)


def _travelling(report: StoreReport) -> StoreReport:
    """Return a report that can be sent: an error of somebody else's may not pickle."""
    try:
        pickle.dumps(report.error)
    except Exception:  # noqa: BLE001 - whatever the error is
        return attrs.evolve(report, error=RuntimeError(f"{type(report.error).__name__} in a worker"))
    return report
