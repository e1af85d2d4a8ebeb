"""Exports on the workers of a Dask cluster: one store is one task.

A task's export is in the shared folder, so that another worker goes on behind its last commit where one dies.
What goes to the workers names the variables that hold tokens, and never a token.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import cache
from importlib import import_module
from secrets import token_hex
from time import monotonic
from typing import Any, Protocol

import anyio
import attrs
from anyio import to_thread

from b2b_payments._auth import StoreAuth
from b2b_payments._client import shared_by_env
from b2b_payments._errors import AlreadyRunningError, ConfigurationError, ExportError, shown
from b2b_payments._printable import frozen
from b2b_payments.export._pace import PaceReading
from b2b_payments.export._stores.job import Job
from b2b_payments.export._stores.limits import fitting
from b2b_payments.export._stores.report import StoreReport, StoreState
from b2b_payments.export._stores.run import finished_since, manifest_hash
from b2b_payments.export._stores.store import Store, TokenFromEnv
from b2b_payments.export._stores.work import ASKED_FOR, Tell
from b2b_payments.export._worker import in_threads

LOCAL = "local"
_NEWS_EVERY = 2.0
"""Seconds between two reports of a store that is under way: thousands may be at once."""
_LOOK_EVERY = 0.5
"""Seconds between two looks whether a task is still wanted."""
_LOOK_FOR_WORKERS_EVERY, _WORKER_IS_LOST_AFTER = 5.0, 30.0
"""Seconds: a worker that is started again is back sooner."""
_HELD_FOR = 30.0
"""Seconds in which the file of a store may still be locked by a worker that counts as dead."""
_PRELOAD = """
import signal
import b2b_payments.export
signal.signal(signal.SIGINT, signal.SIG_IGN)
"""
"""What a worker process of ours begins with: Ctrl-C in a terminal reaches it too, and is for us to handle."""

_QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.worker.memory.monitor-interval": "1s",
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
}
"""What Dask measures of itself takes 3 % of a core for each worker, and 5 % for the scheduler. With its own
threshold each page of a list is memory that is mapped anew, which costs a fifth of an export."""


class DaskClient(Protocol):
    """What is asked of a `distributed.Client`: where its scheduler is, and how to reach that."""

    @property
    def scheduler(self) -> Any:
        """The scheduler's end of its connection."""

    @property
    def security(self) -> Any:
        """Its certificates, where it has some."""


@frozen
class Workers:
    """Where exports run: a scheduler's address, a connected client, or `LOCAL` for `processes` of ours."""

    dask: str | DaskClient
    processes: int | None = None

    @property
    def are_local(self) -> bool:
        """Whether they are processes of ours, with our environment."""
        return self.dask == LOCAL

    async def export(self, jobs: Sequence[Job], at_once: int, tell: Tell) -> None:
        """Export stores, so many at once in each worker. Cancelled, it cancels the tasks."""
        tasks = _Tasks(jobs, at_once, tell)
        stack = AsyncExitStack()
        try:
            await tasks.finish(await self._connected(stack, at_once))
        finally:
            # A task that nobody wants any more ends by itself, and keeps what it has committed.
            with anyio.CancelScope(shield=True):
                await stack.aclose()
                await tasks.stop()

    async def _connected(self, stack: AsyncExitStack, at_once: int) -> Any:
        distributed = import_distributed()
        given: Any = self.dask
        if self.are_local:
            processes = self.processes or os.cpu_count() or 1
            given = await stack.enter_async_context(local_cluster(processes, at_once))
        # A client of ours, whether the caller's waits in threads or in an event loop.
        address = given if isinstance(given, str) else given.scheduler.address
        security = None if isinstance(given, str) else given.security
        try:
            return await stack.enter_async_context(
                distributed.Client(address, security=security, asynchronous=True, set_as_default=False)
            )
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"No Dask scheduler answers at {shown(address)} ({type(error).__name__})."
            ) from None


def import_distributed() -> Any:
    """Give the library. Raises ConfigurationError where the extra is missing."""
    try:
        import distributed  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigurationError(
            "Dask needs the extra dask: pip install 'b2b-payments[dask]', on the workers too."
        ) from None
    return distributed


@asynccontextmanager
async def local_cluster(processes: int, at_once: int) -> AsyncIterator[Any]:
    """Give a cluster of worker processes of ours, which are replaced where they die."""
    distributed = import_distributed()
    with import_module("dask").config.set(_QUIET):
        cluster = await distributed.LocalCluster(
            n_workers=processes,
            threads_per_worker=at_once,  # so many tasks: they wait in an event loop, and start no threads
            processes=True,
            dashboard_address="127.0.0.1:0",  # any free port, and not for other machines
            preload=[_PRELOAD],
            silence_logs=logging.CRITICAL,
            asynchronous=True,
        )
    lost = 0

    def look() -> None:
        # Each worker is started again after its first death, and (seen with 2026.8) not after its second.
        nonlocal lost
        missing = processes - len(cluster.scheduler.workers)
        lost = lost + 1 if missing > 0 else 0
        if lost * _LOOK_FOR_WORKERS_EVERY >= _WORKER_IS_LOST_AFTER:
            lost = 0
            cluster.scale(len(cluster.worker_spec) + missing)

    looking = import_module("tornado.ioloop").PeriodicCallback(look, 1_000 * _LOOK_FOR_WORKERS_EVERY)
    looking.start()
    try:
        async with cluster:
            yield cluster
    finally:
        looking.stop()


def check_travelling(stores: Sequence[Store]) -> None:
    """Raise ConfigurationError for a secret that would travel to workers, or cannot."""
    for store in stores:
        if isinstance(store.auth.token, str):
            raise ConfigurationError(
                f"store {store.name!r} holds its token, and no token is sent to workers: give "
                "TokenFromEnv, or an async callable that the workers can import."
            )
        if store.quota is not None and "@" in str(store.quota.shared or ""):
            raise ConfigurationError(
                f"store {store.name!r}: its quota is shared by an address with a password, which is not sent "
                "to workers: set B2B_PAYMENTS_QUOTA_SHARED there, and leave it out of the quota."
            )
        try:
            pickle.dumps(store)
        except Exception:  # noqa: BLE001 - whatever the caller's callable is
            raise ConfigurationError(
                f"store {store.name!r} cannot be sent to workers: its token has to be TokenFromEnv, or an "
                "async function of a module."
            ) from None


@frozen
class _Task:
    """A store's export, one of so many at once, and the hash of the manifest that was there before."""

    job: Job
    before: str | None
    at_once: int


class _Tasks:
    """The tasks of a run, as the client sees them."""

    def __init__(self, jobs: Sequence[Job], at_once: int, tell: Tell) -> None:
        self._run = f"b2b-payments-{token_hex(4)}"
        self._at_once = at_once
        self._tell = tell
        self._left = {job.store.name: job for job in jobs}
        self._latest: dict[str, StoreReport] = {}

    async def finish(self, client: Any) -> None:
        """Have them done."""
        client.subscribe_topic(self._run, self._hear)
        jobs = list(self._left.values())
        hashes = await in_threads(manifest_hash, [job.path for job in jobs])
        tasks = [_Task(job, before, self._at_once) for job, before in zip(jobs, hashes, strict=True)]
        keys = [f"{self._run}-{job.store.name}" for job in jobs]
        futures = client.map(_run_task, tasks, keys, key=keys, topic=self._run, pure=False)
        ended = import_distributed().as_completed(
            futures, loop=client.loop, with_results=True, raise_errors=False
        )
        del futures  # the scheduler forgets what has ended
        of_key = dict(zip(keys, jobs, strict=True))
        async for future, result in ended:
            await self._end(of_key[future.key], result)

    async def stop(self) -> None:
        """Tell of those that were under way as stopped."""
        under_way = [name for name in self._latest if name in self._left]
        kept = [False] * len(under_way)
        with anyio.move_on_after(ASKED_FOR):
            kept = await in_threads(Job.is_kept, [self._left[name] for name in under_way])
        for name, one in zip(under_way, kept, strict=True):
            self._tell(attrs.evolve(self._latest[name], state=StoreState.STOPPED, resumable=one))

    async def _end(self, job: Job, result: object) -> None:
        if not isinstance(result, StoreReport):
            why = "The workers that exported it died again and again: look into their logs, then resume."
            kept = await to_thread.run_sync(job.is_kept)
            result = job.report(StoreState.FAILED, resumable=kept, error=ExportError(why))
        del self._left[job.store.name]
        self._tell(result)

    def _hear(self, event: tuple[float, dict[str, Any]]) -> None:
        _, news = event
        job = self._left.get(news["name"])
        if job is not None:  # a last word may come late
            report = job.report(StoreState.RUNNING, **news["numbers"], pace=PaceReading(**news["pace"]))
            self._latest[report.name] = report
            self._tell(report)


async def _run_task(task: _Task, key: str, topic: str) -> StoreReport:
    """Export a store in a worker, for as long as the task is wanted."""
    worker = import_distributed().get_worker()
    _make_room(worker, key, _fitting(task.at_once, task.job.selection.concurrency))
    told_at = -_NEWS_EVERY

    def tell(report: StoreReport) -> None:
        nonlocal told_at
        if report.state is StoreState.RUNNING and monotonic() - told_at >= _NEWS_EVERY:
            told_at = monotonic()
            numbers = {"rows": report.rows, "requests": report.requests, "seconds": report.seconds}
            news = {"name": report.name, "numbers": numbers, "pace": attrs.asdict(report.pace)}
            worker.log_event(topic, news)

    report = task.job.report(StoreState.STOPPED)
    async with anyio.create_task_group() as group:
        group.start_soon(_stop_unwanted, worker.state, key, group.cancel_scope)
        try:
            report = await _export(task, tell)
        except Exception as error:  # noqa: BLE001 - whoever reads the report sees it
            report = task.job.report(StoreState.FAILED, error=error)
        group.cancel_scope.cancel()
    return _travelling(report)


@cache
def _fitting(at_once: int, concurrency: int) -> int:
    with suppress(ConfigurationError):
        return fitting(at_once, concurrency).stores
    return 1


def _make_room(worker: Any, key: str, at_once: int) -> None:
    """Let a worker of few threads begin another store: this one uses none, and waits most of the time."""
    if len(worker.state.long_running) + worker.state.nthreads < at_once:
        secede = import_module("distributed.worker_state_machine").SecedeEvent
        # Without a duration: how long stores take is learned when they end.
        worker.handle_stimulus(secede(key=key, compute_duration=None, stimulus_id=f"secede-{key}"))


async def _stop_unwanted(state: Any, key: str, scope: anyio.CancelScope) -> None:
    """Dask does not stop what runs already: once its task is not wanted, it has to be done here."""
    while _is_wanted(state, key):  # noqa: ASYNC110 - the worker tells nobody
        await anyio.sleep(_LOOK_EVERY)
    scope.cancel()


def _is_wanted(state: Any, key: str) -> bool:
    return key in state.tasks and state.tasks[key].state in {"executing", "long-running"}


async def _export(task: _Task, tell: Tell) -> StoreReport:
    job = attrs.evolve(task.job, store=_sharing(task.job.store), resume=True)
    # Another worker may have died after the file was there, and before it could say so.
    rows = await to_thread.run_sync(finished_since, job.path, task.before, job.query.manifest)
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
    """Give a report that can be sent: an error of somebody else's may not pickle."""
    try:
        pickle.dumps(report.error)
    except Exception:  # noqa: BLE001 - whatever the error is
        return attrs.evolve(report, error=RuntimeError(f"{type(report.error).__name__} in a worker"))
    return report
