"""The service of `benchmarks.kills`: a changing sandbox in its own process that keeps every version."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import attrs

from b2b_payments.sandbox import Drift, Rules, Sandbox, SeenRequest, Store

SEED = 7
CHANNELS = (1, 2, 3)
_CHANGES = 0.5  # mean number per list request
_FIRST, _LAST = 0, 1

Wire = dict[str, Any]


@attrs.frozen
class Size:
    """The size of the store, and the minimum seconds per answer."""

    payments: int = 12_000
    latency: float = 0.05


class _Remembering(Store):
    """A store that keeps every version that a changed payment has had."""

    def __init__(self, payments: int) -> None:
        super().__init__(payments, CHANNELS, SEED, Rules(quota=False, equals="shuffled"))
        self.versions: dict[int, list[Wire]] = {}
        self.deleted: set[int] = set()

    def insert(self, *, created_at: int | None = None, **fields: Any) -> int:
        payment_id = super().insert(created_at=created_at, **fields)
        self.versions[payment_id] = [self.wire(payment_id)]
        return payment_id

    def update(self, payment_id: int, **fields: Any) -> None:
        if payment_id not in self.versions:
            self.versions[payment_id] = [self.wire(payment_id)]
        super().update(payment_id, **fields)
        self.versions[payment_id].append(self.wire(payment_id))

    def delete(self, payment_id: int) -> None:
        super().delete(payment_id)
        self.deleted.add(payment_id)


class Service:
    """The other end of the pipe to the sandbox."""

    def __init__(self, pipe: Connection, moments: Any) -> None:
        self._pipe = pipe
        self._moments = moments
        self.variables: Mapping[str, str] = pipe.recv()

    def ids(self) -> set[int]:
        """Return the ids of the current payments."""
        ids: set[int] = self._ask("ids")
        return ids

    def changes(self) -> tuple[dict[int, list[Wire]], set[int]]:
        """Return the versions of all payments that were changed or created, and the ids of deleted ones."""
        changes: tuple[dict[int, list[Wire]], set[int]] = self._ask("changes")
        return changes

    def expect(self) -> None:
        """Reset `first` and `last`."""
        self._moments[_FIRST] = self._moments[_LAST] = 0.0

    @property
    def first(self) -> float:
        """When the first list request since `expect` arrived, by `time.monotonic`; 0 if none did."""
        return float(self._moments[_FIRST])

    @property
    def last(self) -> float:
        """When the end of the list was first requested since `expect`."""
        return float(self._moments[_LAST])

    def _ask(self, order: str) -> Any:
        self._pipe.send(order)
        return self._pipe.recv()


@contextmanager
def changing_service(size: Size, seed: int) -> Iterator[Service]:
    """Yield a sandbox that changes at each list request; the same `seed` makes the same changes."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    moments = context.Array("d", 2, lock=False)
    process = context.Process(target=_serve, args=(there, moments, size, seed))
    process.start()
    try:
        yield Service(here, moments)
    finally:
        here.send("stop")
        process.join(10)
        process.kill()


def _serve(pipe: Connection, moments: Any, size: Size, seed: int) -> None:
    asyncio.run(_served(pipe, moments, size, seed))


async def _served(pipe: Connection, moments: Any, size: Size, seed: int) -> None:
    loop = asyncio.get_running_loop()
    drift = Drift(seed, rate=_CHANGES)

    def change(store: Store, seen: SeenRequest) -> None:
        asked = dict(seen.query)
        moments[_FIRST] = moments[_FIRST] or time.monotonic()
        if int(asked["offset"]) + int(asked["limit"]) >= len(store):
            moments[_LAST] = moments[_LAST] or time.monotonic()
        drift(store, seen)

    rules = Rules(quota=False, latency=size.latency, equals="shuffled")
    async with Sandbox(0, CHANNELS, SEED, rules) as sandbox:
        store = sandbox.store = _Remembering(size.payments)
        sandbox.before_list = change
        pipe.send({
            "B2B_PAYMENTS_BASE_URL": sandbox.base_url,
            "B2B_PAYMENTS_STORE_HASH": sandbox.headers["X-Store-Hash"],
            "B2B_PAYMENTS_ACCESS_TOKEN": sandbox.headers["X-Auth-Token"],
        })  # fmt: skip
        while (order := await loop.run_in_executor(None, pipe.recv)) != "stop":
            pipe.send(set(store.ids()) if order == "ids" else (store.versions, store.deleted))
