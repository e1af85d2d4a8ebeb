"""Exports on the workers of a Dask cluster: a task has some stores.

Exports are in the shared folder, so that another worker goes on behind their last commits where one dies.
What goes to the workers names the variables that hold tokens, and never a token.
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
from b2b_payments.export._stores.work import ASKED_FOR, Job, Tell
from b2b_payments.export._worker import in_threads

LOCAL = "local"
_MOST_IN_BATCH = 8
_LOOK_FOR_WORKERS_EVERY = 5.0
"""Seconds."""
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


async def export_on(
    dask: str | DaskClient, processes: int | None, jobs: Sequence[Job], at_once: int, tell: Tell
) -> None:
    """Export stores on the workers of a scheduler, of a client's, or of `LOCAL`: so many at once in each.

    Cancelled, it cancels the tasks. Raises ConfigurationError where there is no scheduler.
    """
    tasks = _Tasks(jobs, at_once, tell)
    stack = AsyncExitStack()
    given: Any = dask
    try:
        if dask == LOCAL:
            given = await stack.enter_async_context(local_cluster(processes or os.cpu_count() or 1))
        await tasks.finish(await stack.enter_async_context(_connected(given)))
    finally:
        # A task that nobody wants any more ends by itself, and keeps what it has committed.
        with anyio.CancelScope(shield=True):
            await stack.aclose()
            await tasks.stop()


@asynccontextmanager
async def _connected(given: Any) -> AsyncIterator[Any]:
    """Yield a client of ours, whether the caller's waits in threads or in an event loop."""
    address, security = (given, None) if isinstance(given, str) else (given.scheduler.address, given.security)
    client = import_distributed().Client
    try:
        connected = await client(address, security=security, asynchronous=True, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"No Dask scheduler answers at {shown(address)} ({type(error).__name__})."
        ) from None
    async with connected:
        yield connected


def import_distributed() -> Any:
    """Return the library. Raises ConfigurationError where the extra is missing."""
    try:
        import distributed  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigurationError(
            "Dask needs the extra dask: pip install 'b2b-payments[dask]', on the workers too."
        ) from None
    return distributed


@asynccontextmanager
async def local_cluster(processes: int) -> AsyncIterator[Any]:
    """Yield a cluster of worker processes of ours, which are replaced where they die."""
    distributed = import_distributed()
    with import_module("dask").config.set(_QUIET):
        cluster = await distributed.LocalCluster(
            n_workers=processes,
            threads_per_worker=1,  # stores wait in an event loop, and need none
            memory_limit=1 / processes,  # by default it follows from the threads
            processes=True,
            dashboard_address="127.0.0.1:0",  # any free port, and not for other machines
            preload=[_PRELOAD],
            silence_logs=logging.CRITICAL,
            asynchronous=True,
        )

    def look() -> None:
        # A worker is started again when it dies; where it dies while it starts, that is given up.
        if len(cluster.workers) < processes:
            cluster.scale(processes)

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
        client.subscribe_topic(TOPIC, self._take)
        jobs = list(self._left.values())
        hashes = await in_threads(manifest_hash, [job.path for job in jobs])
        threads = sum((await client.nthreads()).values())
        batches = _batches(list(zip(jobs, hashes, strict=True)), threads, self._at_once)
        of_key: dict[str, Batch] = {}

        def submit(batches: Sequence[Batch]) -> Any:
            keys = [f"{self._run}-{len(of_key) + number}" for number, _ in enumerate(batches)]
            of_key.update(zip(keys, batches, strict=True))
            # Pickled here: a scheduler has no need to read them.
            pickled = list(map(pickle.dumps, batches))
            return client.map(run_batch, pickled, keys, key=keys, run=self._run, pure=False)

        # The scheduler forgets what has ended, since nothing here holds it.
        ended = import_distributed().as_completed(submit(batches), loop=client.loop)
        async for future in ended:
            batch = of_key[future.key]
            left = [one for one in batch.jobs if one[0].store.name in self._left]
            if not left:  # as it is usually: all reports came as events, in front of this
                continue
            try:
                self._hear(await future)
            except Exception as error:  # noqa: BLE001 - whatever Dask raises
                if len(left) > 1:
                    # One of them may be what workers die of: each for itself.
                    for one in left:
                        ended.update(submit([Batch((one,), self._at_once)]))
                else:
                    await self._failed(left[0][0], error)

    async def stop(self) -> None:
        """Tell of those that were under way as stopped."""
        under_way = [name for name in self._latest if name in self._left]
        kept = [False] * len(under_way)
        with anyio.move_on_after(ASKED_FOR):
            kept = await in_threads(Job.is_kept, [self._left[name] for name in under_way])
        for name, one in zip(under_way, kept, strict=True):
            self._tell(attrs.evolve(self._latest[name], state=StoreState.STOPPED, resumable=one))

    async def _failed(self, job: Job, error: Exception) -> None:
        if isinstance(error, import_distributed().KilledWorker):
            why = "The workers that exported it died again and again: look into their logs, then resume."
        else:
            cause: BaseException = error
            while cause.__cause__ is not None:  # Dask's own says that something could not be read
                cause = cause.__cause__
            why = f"Dask gave it up: {type(cause).__name__}: {' '.join(str(cause).split()).rstrip('.')}."
        kept = await to_thread.run_sync(job.is_kept)
        self._hear([job.report(StoreState.FAILED, resumable=kept, error=ExportError(why))])

    def _take(self, event: tuple[float, Mapping[str, Any]]) -> None:
        _, news = event
        if news["run"] == self._run:
            self._hear(pickle.loads(news["reports"]))  # noqa: S301 - as Dask does with results

    def _hear(self, reports: Sequence[StoreReport]) -> None:
        for report in reports:
            if report.name in self._left:  # another worker may tell again of what was over
                self._latest[report.name] = report
                if report.state is not StoreState.RUNNING:
                    del self._left[report.name]
                self._tell(report)


def _batches(jobs: Sequence[tuple[Job, str | None]], threads: int, at_once: int) -> list[Batch]:
    """Divide them: into smaller batches towards the end, so that all workers end at the same time.

    A worker of one thread has two batches besides what its last ones have begun.
    """
    batches, left = [], list(jobs)
    while left:
        size = min(_MOST_IN_BATCH, max(1, len(left) // (4 * max(1, threads))))
        batches.append(Batch(tuple(left[:size]), at_once))
        del left[:size]
    return batches
