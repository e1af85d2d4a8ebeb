"""The service: a sandbox in its own process, which can change while it is read."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, Literal

from b2b_payments.sandbox import Rules, Sandbox, SeenRequest, Store
from benchmarks.compare import rows

Order = Literal["stop", "seen", "ids"]


class Service:
    """The other end of the pipe to a sandbox."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self.base_url: str
        self.headers: Mapping[str, str]
        self.base_url, self.headers = pipe.recv()

    def seen(self) -> tuple[int, int, float]:
        """Return the number of requests and of refused ones, and the seconds from the first to the last."""
        requests, refused, seconds = self._ask("seen")
        return requests, refused, seconds

    def ids(self) -> list[int]:
        """Return the ids of the current payments."""
        ids: list[int] = self._ask("ids")
        return ids

    def _ask(self, order: Order) -> Any:
        self._pipe.send(order)
        return self._pipe.recv()


@contextmanager
def service(
    payments: int, rules: Rules, *, deleting: bool = False, others: bool = False
) -> Iterator[Service]:
    """Yield a sandbox. `deleting` deletes the oldest payment before each list request but a walk's first.

    With `others`, its payments are those of `rows`.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, payments, rules, deleting, others))
    process.start()
    try:
        yield Service(here)
    finally:
        here.send("stop")
        process.join(10)
        process.kill()


def _serve(pipe: Connection, payments: int, rules: Rules, deleting: bool, others: bool) -> None:
    asyncio.run(_served(pipe, payments, rules, deleting, others))


async def _served(pipe: Connection, payments: int, rules: Rules, deleting: bool, others: bool) -> None:
    loop = asyncio.get_running_loop()
    drawn = 0 if others else payments
    async with Sandbox(payments=drawn, channels=(1, 2, 3), seed=7, rules=rules) as sandbox:
        if others:
            rows.fill(sandbox.store, payments)
        if deleting:
            sandbox.before_list = _delete_oldest
        pipe.send((sandbox.base_url, sandbox.headers))
        while (order := await loop.run_in_executor(None, pipe.recv)) != "stop":
            if order == "seen":
                seen = list(sandbox.requests)
                refused = sum(request.status == 429 for request in seen)
                pipe.send((len(seen), refused, seen[-1].at - seen[0].at if seen else 0.0))
            else:
                pipe.send(sandbox.store.ids())


def _delete_oldest(store: Store, seen: SeenRequest) -> None:
    if int(dict(seen.query).get("offset", 0)) > 0 and len(store):
        store.delete(store.ids()[0])
