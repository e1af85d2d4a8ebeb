"""Walks, streams, exports and sweeps over services that lie, and the faults of each result."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing, closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import attrs

from b2b_payments import B2BPaymentsError, PaymentsClient
from b2b_payments.export import JSONLSink, export, verify
from b2b_payments.sandbox import ListQuery, Sandbox
from b2b_payments.sync import SQLiteStore, sync
from tests.support.clients import client_of
from tests.support.lying import Service
from tests.support.synced import LAG, Version, held_in, versions_of
from tests.support.truth import Truth

_FILTERS: Final[tuple[tuple[dict[str, Any], dict[str, Any]], ...]] = (
    ({"processing_status": 3}, {"processing_status": 3}),
    ({"processing_status": 1}, {"processing_status": 1}),
    ({"customer_name": "a"}, {"customer_name": "a"}),
    ({"channel_ids": [2]}, {"channel_ids": frozenset({2})}),
    ({"channel_ids": [1, 3]}, {"channel_ids": frozenset({1, 3})}),
    ({"q": "9", "search_by": "customerId"}, {"q": "9", "search_by": "customerId"}),
    ({"invoice_id": 12}, {"invoice_id": 12}),
)
"""Filters as arguments of the client, and as parameters of the service."""


_Row = dict[str, Any]


@attrs.define(kw_only=True)
class Outcome:
    """The result of one try and its faults, as numbers of payments unless stated otherwise."""

    kinds: tuple[str, ...]
    action: str
    honest: bool = False
    complete: bool = False
    lost: int = 0
    """Lasting, but missing from a result that claims to be complete."""
    doubled: int = 0
    deleted: int = 0
    """Deleted by a sweep although the service has them, or without a 404 for their own id."""
    stale: int = 0
    """In a copy, different from the service after a sync and sweep without lies."""
    error: str = ""
    """The error raised if it is not one of this library, or else the name of a library error."""
    foreign: bool = False
    requests: int = 0
    allowed: int = 0
    """Number of requests that is enough."""

    @property
    def faults(self) -> list[str]:
        """The faults, in words."""
        found = [
            f"{count} {name}"
            for name in ("lost", "doubled", "deleted", "stale")
            if (count := getattr(self, name))
        ]
        if self.honest and not self.complete:
            found.append(f"not complete, though nothing lied {self.error}".rstrip())
        if self.foreign:
            found.append(f"raised {self.error}")
        if self.requests > self.allowed:
            found.append(f"{self.requests} requests where {self.allowed} are enough")
        return found


async def lied_to(service: Service, action: str) -> Outcome:
    """Do something with a service that lies, and judge the result."""
    outcome = Outcome(kinds=tuple(service.kinds), action=action, honest=service.honest)
    try:
        async with service.sandbox() as sandbox, client_of(sandbox) as client:
            await (ACTIONS | WINDOWS)[action](
                _Try(service, sandbox, client, outcome, random.Random(service.seed))
            )
    except Exception as error:  # noqa: BLE001 - any unexpected error is a finding
        outcome.error, outcome.foreign = repr(error), True
    return outcome


@attrs.frozen
class _Try:
    service: Service
    sandbox: Sandbox
    client: PaymentsClient
    outcome: Outcome
    draw: random.Random

    @property
    def truth(self) -> Truth:
        """What is true of the service."""
        return Truth(self.service, self.sandbox)

    def _account(self) -> None:
        self.outcome.requests = len(self.sandbox.requests)
        self.outcome.allowed = self.truth.enough_requests()

    async def walk(
        self, *, descending: bool = False, filtered: bool = False, parts: bool = False, window: bool = False
    ) -> None:
        """Walk the list."""
        asked, read = self.draw.choice(_FILTERS) if filtered else ({}, {})
        # If a run of equal times must be counted, a filter that payments may enter leaves the end unproven.
        self.outcome.honest = self.outcome.honest and not filtered
        order = "DESC" if descending else "ASC"
        bounds = self._bounds() if window else None
        if bounds is not None:
            start, stop = (datetime.fromtimestamp(one, UTC) for one in bounds)
            asked = asked | {"created_from": start, "created_to": stop}
            # A list that shows nothing before the window, and nothing in it, does not show its order either.
            self.outcome.honest = False

        def begin(checkpoint: Any = None) -> Any:
            return self.client.payments.list(
                **asked,
                order_by=order,
                page_size=self.service.page_size,
                concurrency=self.service.concurrency,
                checkpoint=checkpoint,
            )

        async def read_into(rows: list[_Row]) -> None:
            walk, through = begin(), False
            while not through:
                pages_left = self.draw.randint(1, 4) if parts else -1
                async with aclosing(walk.raw_pages()) as pages:
                    async for page in pages:
                        rows += page.items
                        pages_left -= 1
                        if not pages_left:
                            break
                if through := pages_left != 0:
                    self.outcome.complete = walk.report.complete
                else:
                    walk = begin(json.loads(json.dumps(page.checkpoint)))

        await self._judge(read_into, ListQuery(**read), descending=descending, bounds=bounds)

    def _bounds(self) -> tuple[int, int]:
        """Draw two times, from before the first payment to after the last."""
        store = self.sandbox.store
        times = [store.created(one) for one in store.ids()] or [store.clock]
        one, other = (self.draw.choice(times) + self.draw.choice((-9, 0, 1, 9)) for _ in range(2))
        return min(one, other), max(one, other) + 1

    async def stream(self) -> None:
        """Read the channels concurrently."""
        stream = self._stream()

        async def read_into(rows: list[_Row]) -> None:
            async with aclosing(stream.raw_pages()) as pages:
                async for page in pages:
                    rows += page.items
            self.outcome.complete = stream.report.complete

        await self._judge(read_into, ListQuery())

    def _stream(self) -> Any:
        return self.client.payments.stream(
            channel_ids=self.sandbox.store.channels,
            page_size=self.service.page_size,
            concurrency=self.service.concurrency,
            ordered=self.draw.random() < 0.5,
        )

    async def export(self) -> None:
        """Export a walk or a stream."""
        source: Any = self.client.payments.list(page_size=self.service.page_size)
        if self.draw.random() < 0.3:
            source = self._stream()

        async def read_into(rows: list[_Row]) -> None:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "payments.jsonl"
                await export(source, JSONLSink(path))
                self.outcome.complete = (await asyncio.to_thread(verify, path)).account.complete
                rows += map(json.loads, path.read_bytes().splitlines())

        await self._judge(read_into, ListQuery())

    async def _judge(
        self,
        read_into: Callable[[list[_Row]], Awaitable[None]],
        query: ListQuery,
        *,
        descending: bool = False,
        bounds: tuple[int, int] | None = None,
    ) -> None:
        service, sandbox = self.service, self.sandbox
        service.begin_to_lie(sandbox)
        if self.draw.random() < 0.3:
            await self._learn()
        listed = self.truth.listed(query)
        rows: list[_Row] = []
        try:
            await read_into(rows)
        except B2BPaymentsError as error:
            self.outcome.error = type(error).__name__
            self.outcome.complete = False
        ids = {int(row["id"]) for row in rows}
        if self.outcome.complete:
            lost = self.truth.lasting(listed, query, ids, descending=descending) - ids
            if bounds is not None:
                lost = {one for one in lost if bounds[0] <= sandbox.store.created(one) < bounds[1]}
                # Only rows after the window may show that a list is sorted by something else.
                lost = set() if "sortBy" in sandbox.rules.ignores else lost
            self.outcome.lost = len(lost)
        # A restored store reuses ids for other payments, created later.
        named = {(row["id"], service.restored_later and row["createdAt"]) for row in rows}
        self.outcome.doubled = len(rows) - len(named)
        if bounds is not None:
            self.outcome.doubled += sum(not bounds[0] <= row["createdAt"] < bounds[1] for row in rows)
        self._account()

    async def by_another_key(self) -> None:
        """Walk the list in an order in which a walk cannot be complete."""
        walk = self.client.payments.list(
            sort_by=self.draw.choice(("updatedAt", "customerId", "totalAmount")),
            page_size=self.service.page_size,
            concurrency=self.service.concurrency,
        )

        async def read_into(rows: list[_Row]) -> None:
            async with aclosing(walk.raw_pages()) as pages:
                async for page in pages:
                    rows += page.items
            self.outcome.complete = walk.report.complete

        await self._judge(read_into, ListQuery())
        self.outcome.honest = False

    async def _learn(self) -> None:
        """Let the client learn of the service, true or not, by other walks."""
        for asked in ({}, *(asked for asked, _ in self.draw.sample(_FILTERS, 2))):
            with suppress(B2BPaymentsError):
                await self.client.payments.list(**asked, page_size=self.service.page_size).collect()
        self.sandbox.requests.clear()

    async def sync(self) -> None:
        """Sync a copy that was made when the service told the truth."""
        service, store = self.service, self.sandbox.store
        with tempfile.TemporaryDirectory() as folder:
            copy = SQLiteStore(Path(folder) / "copy.sqlite")
            await sync(self.client, copy)
            held = _ids_in(copy.path)
            self.sandbox.requests.clear()
            service.writes = service.writes or self.draw.choice((0, 10, 60))
            # A sync does not delete a large part of a copy without permission.
            self.outcome.honest = self.outcome.honest and service.writes <= 10
            service.begin_to_lie(self.sandbox)
            listed = self.truth.listed(ListQuery())
            try:
                self.outcome.complete = (await sync(self.client, copy)).complete
            except B2BPaymentsError as error:
                self.outcome.error = type(error).__name__
            now, then = versions_of(store), held_in(copy.path)
            self.outcome.deleted = sum(not self.truth.is_gone(one) for one in held - then.keys())
            if self.outcome.complete and not _NOT_BY_CHANGES & set(service.kinds):
                lasting = self.truth.lasting(listed, ListQuery(), ())
                lasting -= service.changes.updated if service.changes is not None else set()
                # Only a sweep finds older versions of a restored service.
                self.outcome.lost = sum(_is_older(then.get(one), now[one]) for one in lasting)
            self._account()

    async def sweep(self) -> None:
        """Sweep a copy that was made when the service told the truth."""
        service, sandbox, outcome = self.service, self.sandbox, self.outcome
        store = sandbox.store
        with tempfile.TemporaryDirectory() as folder:
            copy = SQLiteStore(Path(folder) / "copy.sqlite")
            backup = store.snapshot()
            if service.restored:
                service.write(store)
            await sync(self.client, copy)
            if service.restored:
                store.restore(backup)
                # The copy's rows were written longer ago than lists lag.
                store.advance(3600)
            held = _ids_in(copy.path)
            sandbox.requests.clear()
            service.begin_to_lie(sandbox)
            listed = self.truth.listed(ListQuery())
            try:
                report = await sync(self.client, copy, sweep=True)
            except B2BPaymentsError as error:
                outcome.error = type(error).__name__
            else:
                outcome.complete = report.complete
            left = _ids_in(copy.path)
            outcome.deleted = sum(not self.truth.is_gone(one) for one in held - left)
            if outcome.complete:
                outcome.lost = len(self.truth.lasting(listed, ListQuery(), ()) - left)
            self._account()
            service.stop_lying(sandbox)
            store.advance(3600)
            await asyncio.sleep(2 * LAG)
            await self._put_right(copy)

    async def _put_right(self, copy: SQLiteStore) -> None:
        """Sync and sweep without lies: a copy that then reports in sync must be equal."""
        try:
            await sync(self.client, copy)
            report = await sync(self.client, copy, sweep=True)
        except B2BPaymentsError:
            return
        if report.complete:
            now, then = versions_of(self.sandbox.store), held_in(copy.path)
            self.outcome.stale = sum(now.get(one) != then.get(one) for one in now.keys() | then.keys())


_NOT_BY_CHANGES = {"lag", "lag before a long second", "replicas", "ignored sortBy"}
"""Lies that hide changes: only a sweep, or a later sync, finds them."""


def _is_older(held: Version | None, now: Version) -> bool:
    return held is None or (held != now and held[1] <= now[1])


def _ids_in(path: Path) -> set[int]:
    with closing(sqlite3.connect(path)) as database:
        return {one for (one,) in database.execute("SELECT id FROM payments")}


_Action = Callable[[_Try], Coroutine[Any, Any, None]]
ACTIONS: Final[dict[str, _Action]] = {
    "walk": _Try.walk,
    "walk, newest first": lambda one: one.walk(descending=True),
    "walk, filtered": lambda one: one.walk(filtered=True),
    "walk, filtered, newest first": lambda one: one.walk(filtered=True, descending=True),
    "walk in parts": lambda one: one.walk(parts=True),
    "stream": _Try.stream,
    "walk by another key": _Try.by_another_key,
    "export": _Try.export,
    "sync": _Try.sync,
    "sweep": _Try.sweep,
}
"""What can be done with a service."""
WINDOWS: Final[dict[str, _Action]] = {
    "walk between two moments": lambda one: one.walk(window=True),
    "walk between two moments, newest first": lambda one: one.walk(window=True, descending=True),
    "walk between two moments, in parts": lambda one: one.walk(window=True, parts=True),
}


def action_of(seed: int) -> str:
    """Draw what to do with the service of this seed."""
    return random.Random(f"action {seed}").choice([*ACTIONS, "sweep"])
