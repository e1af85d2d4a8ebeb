"""`export_stores`: many stores from Python."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from b2b_payments import AuthenticationError, ConfigurationError, LegacyAuth, PaymentsClient, Quota, StoreAuth
from b2b_payments.export import Store, StoreReport, StoreState, TokenFromEnv, export_stores, verify
from b2b_payments.export._bucket import bucket_and_name
from b2b_payments.export._verification import exports_in
from b2b_payments.sandbox import Fault, Rules, Sandbox
from tests.support.export_reading import ids_in

Served = dict[str, Sandbox]
FAST = Rules(quota=False)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """Yield three sandboxes, each on its own port."""
    async with AsyncExitStack() as stack:
        sandboxes = {name: Sandbox(size, seed=size, rules=FAST) for name, size in SIZES.items()}
        yield {name: await stack.enter_async_context(one) for name, one in sandboxes.items()}


SIZES = {"north": 300, "east": 700, "south": 500}


def stores_of(served: Served) -> list[Store]:
    """Return stores for the sandboxes."""
    return [Store(name, one.auth, base_url=one.base_url) for name, one in served.items()]


async def test_every_store(served: Served, tmp_path: Path) -> None:
    """Each store has its own file, and the report has each outcome, in the order of the arguments."""
    states_of: dict[str, list[StoreState]] = {name: [] for name in SIZES}
    called: list[str] = []
    report = await export_stores(
        stores_of(served),
        tmp_path / "out",
        format="csv",
        page_size=100,
        on_progress=lambda one: states_of[one.name].append(one.state),
        on_event=lambda name, _: called.append(name),
    )
    assert report.complete
    assert str(report) == "3 of 3 stores complete"
    assert [(one.name, one.state, one.rows) for one in report.stores] == [
        (name, StoreState.COMPLETE, size) for name, size in SIZES.items()
    ]
    for one in report.stores:
        assert one.path == str(tmp_path / f"out/{one.name}.csv")
        assert one.requests == served[one.name].request_count
        assert verify(one.path).account.complete
        assert ids_in(Path(one.path), "csv") == list(served[one.name].store.ids())
    for states in states_of.values():
        assert (states[0], states[-1]) == (StoreState.NOT_BEGUN, StoreState.COMPLETE)
        assert states.count(StoreState.RUNNING) > 3
    assert set(called) == set(SIZES)


async def test_one_store_fails(served: Served, tmp_path: Path) -> None:
    """A store's error is in its report, as it was raised; the others are complete."""
    stores = stores_of(served)
    stores[1] = Store("east", StoreAuth("abc123", "wrong"), base_url=served["east"].base_url)
    report = await export_stores(stores, tmp_path / "{name}.jsonl")
    assert not report.complete
    assert [one.state for one in report.stores] == ["complete", "failed", "complete"]
    assert isinstance(report.stores[1].error, AuthenticationError)
    assert report.to_dict()["stores"][1]["error"] == str(report.stores[1].error)


async def test_cancelled(served: Served, tmp_path: Path) -> None:
    """If cancelled, running stores are reported as stopped, and the run can be resumed."""
    served["east"].order(Fault.HANG_BEFORE, times=1)
    last: dict[str, StoreReport] = {}
    two_complete = asyncio.Event()

    def on_progress(report: StoreReport) -> None:
        last[report.name] = report
        if sum(one.complete for one in last.values()) == 2:
            two_complete.set()

    task = asyncio.create_task(
        export_stores(stores_of(served), tmp_path, format="jsonl", on_progress=on_progress)
    )
    await two_complete.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert {name: one.state for name, one in last.items()} == {
        "north": "complete",
        "east": "stopped",
        "south": "complete",
    }
    before = served["north"].request_count
    report = await export_stores(stores_of(served), tmp_path, format="jsonl", resume=True)
    assert report.complete
    assert report.stores[0].state == "complete already"
    assert served["north"].request_count == before


async def test_async_token_provider(served: Served, tmp_path: Path) -> None:
    """A token may come from an async callable, which is not called before its store is exported."""
    called: list[str] = []

    async def token() -> str:
        called.append("north")
        return str(served["north"].auth.access_token)

    store = Store(
        "north", StoreAuth(served["north"].auth.store_hash, token), base_url=served["north"].base_url
    )
    assert not called
    assert (await export_stores([store], tmp_path, format="jsonl")).complete
    assert called == ["north"]


async def test_invalid_arguments(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Invalid arguments are refused before a folder is made or anything is sent."""
    monkeypatch.setenv("ONE", "token")
    monkeypatch.setenv("TWO", "token")
    north = stores_of(served)[0]
    legacy = [Store(name, LegacyAuth(TokenFromEnv(name.upper()))) for name in ("one", "two")]
    for stores, output, message in (
        ([north, north], "{name}.csv", "two stores are called 'north' and 'north'"),
        ([north, Store("other", north.auth, base_url=north.base_url)], "{name}.csv", "the same store_hash"),
        (legacy, "{name}.csv", "the same token: name each store once"),
        ([Store("x", StoreAuth("abc", TokenFromEnv("NOT_SET")))], "{name}.csv", "NOT_SET is not set"),
        ([north], "out", "The format of '.*out' is unknown"),
        ([north], "{name}.xml", "The format of .* is unknown"),
        ([north, Store("line_items", legacy[0].auth)], "{name}{name}.txt", "format of .* is unknown"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            await export_stores(stores, tmp_path / output)
    with pytest.raises(ConfigurationError, match="'xml' is not a format: give jsonl, csv"):
        await export_stores([north], tmp_path / "out", format="xml")
    assert not list(tmp_path.iterdir())  # noqa: ASYNC240 - a test may block
    assert served["north"].request_count == 0


def test_store() -> None:
    """A store checks its name and its address, hides its token, and pickles."""
    store = Store("north", StoreAuth("abc", TokenFromEnv("NORTH")), quota=Quota(shared=True), channel_ids=[1])
    assert pickle.loads(pickle.dumps(store)) == store  # noqa: S301 - its own
    assert store.channel_ids == (1,)
    assert "secret" not in repr(Store("north", LegacyAuth("secret")))
    with pytest.raises(ConfigurationError, match="cannot be the name of a file"):
        Store("../north", store.auth)
    with pytest.raises(ConfigurationError, match="is not https"):
        Store("north", store.auth, base_url="http://shop.example")
    with pytest.raises(ConfigurationError, match="is not the name of an environment variable"):
        TokenFromEnv("a token")


async def test_token_from_the_environment_in_a_client(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client reads the token of a `TokenFromEnv` when it needs it."""
    north = served["north"]
    monkeypatch.setenv("LATER", str(north.auth.access_token))
    auth = StoreAuth(north.auth.store_hash, TokenFromEnv("LATER"))
    async with PaymentsClient(auth, base_url=north.base_url) as client:
        assert (await client.payments.get(1)).id == 1


def test_settings_that_cannot_work() -> None:
    """Settings that a client refuses are refused with the store's name."""
    wrong: Any = 3
    store = Store("north", StoreAuth("abc", "token"), retry=wrong)
    with pytest.raises(ConfigurationError, match=r"^store 'north': retry "):
        store.client()


def test_shards() -> None:
    """Each store is in exactly one shard, by its name alone, and shards are of similar size."""
    stores = [Store(f"store-{number}", LegacyAuth("token")) for number in range(400)]
    for of in (1, 2, 7):
        shards = [[one.name for one in stores if one.in_shard(number, of)] for number in range(1, of + 1)]
        assert sorted(name for shard in shards for name in shard) == sorted(one.name for one in stores)
        assert min(map(len, shards)) > 0.6 * len(stores) / of
    # Fixed values: every version of this library must divide stores the same way.
    names = ("north", "east", "south", "Zürich")
    assert [Store(name, LegacyAuth("x")).in_shard(1, 2) for name in names] == [False, True, False, False]
    with pytest.raises(ConfigurationError, match="Shard 3/2"):
        stores[0].in_shard(3, 2)


async def test_into_an_object_store(served: Served) -> None:
    """Each store has its own export there; what an interrupted run had finished is skipped."""
    folder = f"memory://{token_hex(4)}/out"
    served["east"].order(Fault.HANG_BEFORE, times=1)
    two_complete = asyncio.Event()
    complete: list[str] = []

    def on_progress(report: StoreReport) -> None:
        if report.complete:
            complete.append(report.name)
        if len(complete) == 2:
            two_complete.set()

    task = asyncio.create_task(
        export_stores(stores_of(served), folder, format="jsonl", on_progress=on_progress)
    )
    await two_complete.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    bucket, name = bucket_and_name(folder)
    assert ".stores.run" in bucket.sizes(name)
    served["east"].answer_with(None)
    report = await export_stores(stores_of(served), folder, format="jsonl", resume=True)
    assert [one.state for one in report.stores] == ["complete already", "complete", "complete already"]
    assert ".stores.run" not in bucket.sizes(name)
    paths = [f"{folder}/{one}.jsonl" for one in SIZES]
    assert [one.path for one in report.stores] == paths
    assert exports_in(folder) == sorted(paths)
    for path, size in zip(paths, SIZES.values(), strict=True):
        assert verify(path).account.sums.whole.rows == size


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("memory://bucket/all.csv", "is one file, and each store has its own"),
        ("memory://bucket/out", "format of .* is unknown"),
        ("memory://{name}/out.csv", "is a bucket for each store: put {name} after the bucket"),
        ("ftp://bucket/{name}.csv", "is not an object store"),
        ("ftp://bucket/of/{name}.csv", "is not an object store"),
    ],
)
async def test_wrong_urls(served: Served, output: str, message: str) -> None:
    """A URL that cannot hold many stores is refused before anything is sent."""
    with pytest.raises(ConfigurationError, match=message):
        await export_stores(stores_of(served), output)
    assert not any(one.request_count for one in served.values())
