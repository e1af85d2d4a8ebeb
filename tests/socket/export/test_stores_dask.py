"""`export_stores` on the workers of a Dask cluster."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import pickle
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from secrets import token_hex
from typing import Any

import attrs
import dask
import pytest
from distributed import Client, LocalCluster

from b2b_payments import ConfigurationError, LegacyAuth, Quota, StoreAuth
from b2b_payments.export import (
    Store,
    StoreReport,
    StoreState,
    TokenFromEnv,
    export_stores,
    sink_for,
    verify,
)
from b2b_payments.export._bucket import bucket_and_name
from b2b_payments.export._location import location_of
from b2b_payments.export._manifest import read_manifest
from b2b_payments.export._selection import Selection
from b2b_payments.export._stores import batch
from b2b_payments.export._stores.cluster import local_cluster
from b2b_payments.export._stores.work import Job
from b2b_payments.sandbox import Fault, Rules, Sandbox
from tests.support.export_reading import ids_in
from tests.support.exporting import ROWS, written

TOKEN = str(Sandbox(0).auth.access_token)
FAST = Rules(quota=False)
Served = dict[str, Sandbox]


@pytest.fixture
async def served(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    """Yield three sandboxes, and set their token in the environment."""
    monkeypatch.setenv("FLEET_TOKEN", TOKEN)
    async with AsyncExitStack() as stack:
        sandboxes = {name: Sandbox(size, seed=size, rules=FAST) for name, size in SIZES.items()}
        yield {name: await stack.enter_async_context(one) for name, one in sandboxes.items()}


SIZES = {"north": 300, "east": 700, "south": 500}


def stores_of(served: Served, **settings: Any) -> list[Store]:
    """Return stores for the sandboxes, with tokens that workers read themselves."""
    return [
        Store(
            name,
            StoreAuth(one.auth.store_hash, TokenFromEnv("FLEET_TOKEN")),
            base_url=one.base_url,
            **settings,
        )
        for name, one in served.items()
    ]


@pytest.fixture
async def threads() -> AsyncIterator[LocalCluster]:
    """Yield a cluster of two workers."""
    async with _cluster_of_threads(2, 2) as cluster:
        yield cluster


def _cluster_of_threads(workers: int, threads: int) -> Any:
    """Return a cluster whose workers are threads of this process, since it starts fast."""
    return LocalCluster(
        n_workers=workers,
        threads_per_worker=threads,
        processes=False,
        dashboard_address="127.0.0.1:0",
        asynchronous=True,
    )


async def test_no_token_is_sent(threads: Any, served: Served, tmp_path: Path) -> None:
    """Each store is exported, and no token is in the cluster's tasks, keys, events or logs."""
    seen: list[bytes] = []

    def collect_tasks(report: StoreReport) -> None:
        if report.state is StoreState.RUNNING:
            for key, task in threads.scheduler.tasks.items():
                seen.append(pickle.dumps((str(key), task.run_spec, task.annotations)))

    async with Client(threads, asynchronous=True, set_as_default=False) as client:
        report = await export_stores(
            stores_of(served), tmp_path, format="jsonl", dask=client, on_progress=collect_tasks
        )
        assert report.complete
        for one in report.stores:
            assert ids_in(Path(one.path), "jsonl") == list(served[one.name].store.ids())
            assert one.requests == served[one.name].request_count
        seen.append(repr(threads.scheduler.get_events()).encode())
        seen.append(repr(await client.get_scheduler_logs()).encode())
        seen.append(repr(await client.get_worker_logs()).encode())
    everything = b"\n".join(seen)
    # The search covers the tasks: they name the variable.
    assert b"FLEET_TOKEN" in everything
    assert b"b2b-payments" in everything
    assert TOKEN.encode() not in everything


async def test_one_store_fails(
    threads: Any, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store's error is returned by its worker as it was raised, and the store can be resumed."""
    stores = stores_of(served)
    monkeypatch.setenv("BAD_TOKEN", "another")
    wrong = StoreAuth(served["east"].auth.store_hash, TokenFromEnv("BAD_TOKEN"))
    stores[1] = attrs.evolve(stores[1], auth=wrong)
    address = threads.scheduler.address
    report = await export_stores(stores, tmp_path, format="csv", dask=address)
    assert [one.state for one in report.stores] == ["complete", "failed", "complete"]
    assert "401" in str(report.stores[1].error)
    monkeypatch.setenv("BAD_TOKEN", TOKEN)
    report = await export_stores(stores[1:2], tmp_path, format="csv", dask=address, resume=True)
    assert report.complete


def _module_missing() -> None:
    raise ModuleNotFoundError("No module named 'of_the_client'")


class _Unreadable:
    """A token provider that can be pickled, but not unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _module_missing, ()

    async def __call__(self) -> str:
        return TOKEN


async def test_task_that_cannot_start(served: Served, tmp_path: Path) -> None:
    """A store that no worker can unpickle fails with the cause; the other stores of its task are exported."""
    bad = [Store(f"bad{n}", StoreAuth(f"bad{n}", _Unreadable())) for n in range(12)]
    async with _cluster_of_threads(1, 1) as one:
        # The first task has four stores, of which one is bad.
        stores = [bad[0], *stores_of(served), *bad[1:]]
        report = await export_stores(stores, tmp_path, format="csv", dask=one.scheduler.address)
    assert [one.name for one in report.stores if one.complete] == list(served)
    for failed in (one for one in report.stores if not one.complete):
        assert failed.state is StoreState.FAILED
        assert str(failed.error) == (
            "Dask gave up on it: ModuleNotFoundError: No module named 'of_the_client'."
        )


async def test_cancelled(threads: Any, served: Served, tmp_path: Path) -> None:
    """If cancelled, tasks stop and keep what they committed; the next run resumes them."""
    served["east"].order(Fault.HANG_BEFORE, times=1)
    last: dict[str, StoreState] = {}
    hanging = asyncio.Event()

    def on_progress(report: StoreReport) -> None:
        last[report.name] = report.state
        if [*last.values()].count(StoreState.COMPLETE) == 2:
            hanging.set()

    settings = {"format": "jsonl", "dask": threads.scheduler.address}
    task = asyncio.create_task(
        export_stores(stores_of(served), tmp_path, **settings, on_progress=on_progress)
    )
    await hanging.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert last == {"north": "complete", "east": "stopped", "south": "complete"}
    report = await export_stores(stores_of(served), tmp_path, **settings, resume=True)
    assert [one.state for one in report.stores] == ["complete already", "complete", "complete already"]


async def test_worker_with_one_thread(served: Served, tmp_path: Path) -> None:
    """It exports `at_once` stores at the same time: while two hang, the third is exported."""
    for name in ("north", "east"):
        served[name].order(Fault.HANG_BEFORE, times=1)
    third = asyncio.Event()

    def on_progress(report: StoreReport) -> None:
        if report.complete:
            third.set()

    async with _cluster_of_threads(1, 1) as one:
        settings = {"format": "csv", "dask": one.scheduler.address, "at_once": 3}
        task = asyncio.create_task(
            export_stores(stores_of(served), tmp_path, **settings, on_progress=on_progress)
        )
        async with asyncio.timeout(20):
            await third.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert verify(tmp_path / "south.csv").account.complete


async def test_tasks_of_several_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker starts its next task when all stores of the first have started, and exports every store."""
    monkeypatch.setenv("FLEET_TOKEN", TOKEN)
    async with AsyncExitStack() as stack:
        many = {
            f"store{number}": await stack.enter_async_context(Sandbox(5, seed=number, rules=FAST))
            for number in range(12)
        }
        cluster = await stack.enter_async_context(_cluster_of_threads(1, 1))
        address = cluster.scheduler.address
        report = await export_stores(stores_of(many), tmp_path, format="jsonl", dask=address, at_once=2)
    assert [one.state for one in report.stores] == ["complete"] * 12
    for one in report.stores:
        assert ids_in(Path(one.path), "jsonl") == [1, 2, 3, 4, 5]


async def test_two_runs_on_one_cluster(threads: Any, served: Served, tmp_path: Path) -> None:
    """Two runs at the same time on one cluster report each their own stores."""
    stores, address = stores_of(served), threads.scheduler.address
    seen: list[set[str]] = [set(), set()]

    async def run(number: int, part: list[Store]) -> list[str]:
        report = await export_stores(
            part,
            tmp_path / str(number),
            format="jsonl",
            dask=address,
            on_progress=lambda one: seen[number].add(one.name),
        )
        assert report.complete
        return [one.name for one in report.stores]

    first, second = await asyncio.gather(run(0, stores[:1]), run(1, stores[1:]))
    assert (first, second) == (["north"], ["east", "south"])
    assert seen == [{"north"}, {"east", "south"}]


async def test_no_scheduler(served: Served, tmp_path: Path) -> None:
    """An address where no scheduler is, but maybe something else, is refused in one sentence."""
    for address in ("ftp://host:1", "tls://127.0.0.1:1", f"tcp://127.0.0.1:{served['north'].port}"):
        with pytest.raises(ConfigurationError, match=f"No Dask scheduler answers at '{address}'"):
            await export_stores(stores_of(served), tmp_path, format="jsonl", dask=address)


async def test_without_the_extra(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `distributed`, the error says how to install it."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigurationError, match=r"Dask needs the extra dask: pip install"):
        await export_stores(stores_of(served), tmp_path, format="jsonl", dask="tcp://host:1")


class _OddError(Exception):
    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("no pickle")


def test_error_that_cannot_be_sent() -> None:
    """An error that cannot be pickled is replaced by one that names its kind."""
    report = StoreReport("north", "north.csv", StoreState.FAILED, error=_OddError())
    sent = pickle.loads(pickle.dumps(batch._picklable(report)))  # noqa: S301
    assert str(sent.error) == "_OddError in a worker"


async def test_finished_export_is_not_repeated(threads: Any, served: Served, tmp_path: Path) -> None:
    """If a worker died after it finished the file, the next worker sends nothing."""
    (store, *_) = stores_of(served)
    report = await export_stores([store], tmp_path, format="jsonl")
    before = served["north"].request_count
    again = await batch._export(_job(store, tmp_path), None, lambda _: None)
    assert (again.state, again.rows) == (StoreState.COMPLETE, report.stores[0].rows)
    assert served["north"].request_count == before


def _job(store: Store, folder: Path) -> Job:
    return Job(store, str(folder / f"{store.name}.jsonl"), "jsonl", Selection(), False)


async def test_store_with_a_secret_is_refused(tmp_path: Path) -> None:
    """A store that holds its token, or whose quota's address holds a password, is not sent to a cluster."""
    shared = Quota(shared="redis://:geheim@127.0.0.1:1/0")
    for store, message in (
        (Store("a", LegacyAuth(TOKEN)), "store 'a' holds its token, and tokens are not sent"),
        (
            Store("a", LegacyAuth(TokenFromEnv("A")), quota=shared),
            "the quota's shared address holds a password",
        ),
    ):
        with pytest.raises(ConfigurationError, match=message) as caught:
            await export_stores([store], tmp_path, format="csv", dask="tcp://127.0.0.1:1")
        assert "geheim" not in str(caught.value)
    assert not os.listdir(tmp_path)


async def test_token_provider_that_cannot_be_sent(tmp_path: Path) -> None:
    """A callable that workers cannot import is refused."""

    async def token() -> str:
        return TOKEN

    store = Store("a", StoreAuth("abc", token))
    with pytest.raises(ConfigurationError, match="cannot be sent to workers"):
        await export_stores([store], tmp_path, format="csv", dask="tcp://127.0.0.1:1")


def test_quotas_are_shared_between_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless it says otherwise, a quota is shared by all processes of a worker's machine."""
    auth = StoreAuth("abc", TokenFromEnv("A"))
    for quota, shared in ((Quota(), True), (Quota(shared=False), False), (Quota(shared="/q"), "/q")):
        sharing = batch._with_shared_quota(Store("a", auth, quota=quota))
        assert sharing.quota is not None
        assert sharing.quota.shared == shared
    monkeypatch.setenv("B2B_PAYMENTS_QUOTA_SHARED", "/elsewhere")
    assert batch._with_shared_quota(Store("a", auth)).quota == Quota(shared="/elsewhere")
    assert batch._with_shared_quota(Store("a", auth, quota=None)).quota is None


async def test_into_an_object_store(threads: Any, served: Served) -> None:
    """Workers export into an object store that they share; a run starts again unless it is resumed."""
    folder, address = f"memory://{token_hex(4)}/out", threads.scheduler.address
    for number in (1, 2):
        report = await export_stores(stores_of(served), folder, format="csv", dask=address)
        assert report.complete
        assert [verify(one.path).number for one in report.stores] == [number] * 3
    written(sink_for(f"{folder}/east.csv"), ROWS)
    report = await export_stores(stores_of(served), folder, format="csv", dask=address)
    assert report.complete
    assert [verify(one.path).account.sums.whole.rows for one in report.stores] == [*SIZES.values()]


@pytest.mark.slow
async def test_killed_worker(served: Served, s3: str) -> None:
    """If a worker process is killed, another one resumes its stores, and each is complete."""
    killed: list[int] = []

    def kill(report: StoreReport) -> None:
        if report.state is StoreState.RUNNING and not killed:
            killed.append(_workers()[0])
            os.kill(killed[0], signal.SIGKILL)

    for sandbox in served.values():
        sandbox.rules = Rules(quota=False, latency=0.3)
    report = await export_stores(
        stores_of(served), s3, format="jsonl", dask="local", workers=2, at_once=4, on_progress=kill
    )
    assert killed
    assert report.complete
    for one in report.stores:
        account = verify(one.path).account
        assert account.complete
        assert account.sums.whole.rows == SIZES[one.name]
    names = [(read_manifest(one.path).files, f"{one.name}.jsonl.manifest.json") for one in report.stores]
    objects = sorted(name for files, manifest in names for name in (*files, manifest))
    bucket, _ = bucket_and_name(f"{s3}/x")
    # A kill during the check for conditional puts leaves the object that the check wrote.
    assert sorted(name for name in bucket.sizes("") if not name.endswith("/probe")) == objects
    for one in report.stores:
        location_of(one.path).clean()
    assert sorted(bucket.sizes("")) == objects


@pytest.mark.slow
async def test_workers_that_keep_dying(served: Served, tmp_path: Path) -> None:
    """A store whose workers keep dying fails with what to do, and is resumed by the next run."""

    def kill(report: StoreReport) -> None:
        if report.state is StoreState.RUNNING:
            for worker in _workers():
                os.kill(worker, signal.SIGKILL)

    served["east"].rules = Rules(quota=False, latency=0.3)
    (store,) = [one for one in stores_of(served) if one.name == "east"]
    settings: dict[str, Any] = {"format": "jsonl", "dask": "local", "workers": 1}
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
        report = await export_stores([store], tmp_path, **settings, on_progress=kill)
    (failed,) = report.stores
    assert (failed.state, str(failed.error)) == (
        *("failed", "The workers that exported it kept dying: check their logs, then resume."),
    )
    served["east"].rules = FAST
    assert (await export_stores([store], tmp_path, **settings, resume=True)).complete


def _workers() -> list[int]:
    """Return the ids of this process's worker processes."""
    of_threads = Path("/proc/self/task").glob("*/children")
    children = [child for found in of_threads for child in found.read_text(encoding="ascii").split()]
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.mark.slow
async def test_a_local_cluster_logs_nothing_when_its_client_leaves() -> None:
    """A stopped command closes its client while progress is sent to it, of which Dask prints no traceback."""
    logger, handler = logging.getLogger("distributed"), logging.StreamHandler(io.StringIO())
    logger.addHandler(handler)
    try:
        async with (
            local_cluster(1) as cluster,
            Client(cluster.scheduler_address, asynchronous=True, set_as_default=False) as client,
        ):
            cluster.scheduler.client_comms[client.id].abort()
            cluster.scheduler.send_all({client.id: [{"op": "event"}]}, {})
    finally:
        logger.removeHandler(handler)
    assert handler.stream.getvalue() == ""
