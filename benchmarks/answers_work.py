"""The work of the answers suite: concurrent reads and writes, compared with the store's contents."""

from __future__ import annotations

import random
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio
import attrs

from b2b_payments import APIError, B2BPaymentsError, NotFoundError, PaymentsClient
from b2b_payments.sandbox import Sandbox
from b2b_payments.sync import SQLiteStore, sync
from benchmarks.faults_account import Report, Writes, offline_payment, reported

T = TypeVar("T")

PAYMENTS = 60
_LASTING = 20
"""Payments that are only read, each with unique operations and transactions."""
_AT_ONCE = 6
_PAGE = 7


@attrs.define
class Reads:
    """Reads by outcome: the requested data, something else, or an error."""

    right: int = 0
    wrong: int = 0
    failed: int = 0

    def judge(self, *, right: bool) -> None:
        """Count a read that returned something."""
        self.right += right
        self.wrong += not right


@attrs.define
class Account:
    """The outcomes of one schedule, or of several."""

    reads: Reads = attrs.field(factory=Reads)
    writes: Writes = attrs.field(factory=Writes)
    requests: int = 0
    mixed_up: int = 0

    @property
    def wrong(self) -> int:
        """Results of another request, and writes that were carried out twice or reported wrongly."""
        return self.reads.wrong + self.writes.wrong

    def add(self, other: Account) -> None:
        """Add the counts of another account."""
        for mine, others in ((self.reads, other.reads), (self.writes, other.writes)):
            for field in attrs.fields(type(mine)):
                setattr(mine, field.name, getattr(mine, field.name) + getattr(others, field.name))
        self.requests += other.requests
        self.mixed_up += other.mixed_up


_CONCURRENT_LISTS: tuple[tuple[dict[str, Any], ...], ...] = (
    ({"processing_status": 1}, {"processing_status": 3}),
    ({}, {"processing_status": 3}),
    ({"processing_status": 3}, {"processing_status": 3, "invoice_id": 12}, {"invoice_id": 12}),
)
"""Filters of lists that are walked concurrently."""

Action = Callable[[], Awaitable[None]]


async def work(sandbox: Sandbox, client: PaymentsClient, seed: int) -> Account:
    """Do a schedule's work concurrently, and check the results."""
    plan = _Plan(sandbox, client, random.Random(f"work {seed}"))
    actions = list(plan.actions())
    plan.draw.shuffle(actions)
    left = iter(actions)

    async def some() -> None:
        for action in left:
            await action()

    async with anyio.create_task_group() as group:
        for _ in range(_AT_ONCE):
            group.start_soon(some)
    plan.settle()
    plan.account.requests, plan.account.mixed_up = sandbox.request_count, sandbox.mixed_up
    return plan.account


class _Plan:
    """The actions: at most one write per payment, and none to those that are read."""

    def __init__(self, sandbox: Sandbox, client: PaymentsClient, draw: random.Random) -> None:
        self.draw = draw
        self.account = Account()
        self._store = sandbox.store
        self._client = client
        self._payments = client.payments
        self._judgements: list[Callable[[], None]] = []
        ids = sandbox.store.ids()
        draw.shuffle(ids)
        self._lasting, self._others = ids[:_LASTING], ids[_LASTING:]
        for one in self._lasting:
            own = {"transactions": [{"type": "OfflineTransaction", "memo": f"memo {one}"}]}
            sandbox.store.update(one, allowedOperations=[1000 + one], moduleData=own)

    def actions(self) -> Iterator[Action]:
        """Yield all actions, in no particular order."""
        yield from (partial(self._get, one) for one in self.draw.sample(self._lasting, 10))
        for one in self.draw.sample(self._lasting, 4):
            yield partial(self._operations, one)
            yield partial(self._transactions, one)
        yield from (self._missing, self._walk, self._walk, self._sweep)
        yield from (partial(self._walks, *lists) for lists in _CONCURRENT_LISTS)
        yield from (partial(self._create, f"answers-{number}") for number in range(8))
        yield partial(self._create, "refused", refused=True)
        others = iter(self._others)
        for _ in range(4):
            yield self._status(next(others), 2, allowed=True)
            yield self._status(next(others), 2, allowed=False)
            yield self._operation(next(others), allowed=True)
            yield self._operation(next(others), allowed=False)
            yield self._update(next(others))
            yield self._delete(next(others))

    def settle(self) -> None:
        """Check the writes, once everything is done."""
        for judge in self._judgements:
            judge()

    async def _read(self, reading: Awaitable[T], is_right: Callable[[T], bool]) -> None:
        try:
            result = await reading
        except B2BPaymentsError as error:
            self._failed(error)
        else:
            self.account.reads.judge(right=is_right(result))

    def _failed(self, error: B2BPaymentsError) -> None:
        # No read here is refused by the service: a refusal is the answer to another request.
        refused = isinstance(error, APIError) and error.status < 500
        self.account.reads.wrong += refused
        self.account.reads.failed += not refused

    async def _get(self, one: int) -> None:
        await self._read(
            self._payments.get(one), lambda it: (it.id, it.allowed_operations) == (one, (1000 + one,))
        )

    async def _operations(self, one: int) -> None:
        await self._read(self._payments.operations(one), lambda it: it.allowed_operations == (1000 + one,))

    async def _transactions(self, one: int) -> None:
        await self._read(
            self._payments.transactions(one), lambda it: [row.memo for row in it] == [f"memo {one}"]
        )

    async def _missing(self) -> None:
        try:
            await self._payments.get(10**6)
        except NotFoundError:
            self.account.reads.right += 1
        except B2BPaymentsError:
            self.account.reads.failed += 1
        else:
            self.account.reads.wrong += 1

    async def _walks(self, *lists: Mapping[str, Any]) -> None:
        async with anyio.create_task_group() as group:
            for filters in lists:
                group.start_soon(partial(self._walk, **filters))

    async def _walk(self, **filters: Any) -> None:
        walk = self._payments.list(page_size=_PAGE, concurrency=3, **filters)
        rows = []
        try:
            async for page in walk.raw_pages():
                rows += page.items
        except B2BPaymentsError:
            self.account.reads.failed += 1
            return
        by_id = {int(row["id"]): row for row in rows}
        expected = {one: self._store.wire(one) for one in self._lasting if self._fits(one, **filters)}
        # Payments that are written to meanwhile may be included or not.
        read = {one: row for one, row in by_id.items() if one in self._lasting}
        whole = read == expected if walk.report.complete else read.items() <= expected.items()
        self.account.reads.judge(right=len(by_id) == len(rows) and whole)

    def _fits(self, one: int, *, processing_status: int | None = None, invoice_id: int | None = None) -> bool:
        row = self._store.wire(one)
        invoices = [int(item["invoiceId"]) for item in row["lineItems"]]
        return processing_status in {None, row["processingStatus"]} and invoice_id in {None, *invoices}

    async def _sweep(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            copy = SQLiteStore(Path(folder) / "copy.sqlite")
            try:
                await sync(self._client, copy)
                held = _ids_in(copy.path)
                report = await sync(self._client, copy, sweep=True)
            except B2BPaymentsError:
                self.account.reads.failed += 1
                return
            left = _ids_in(copy.path)
        deleted = [one for one in held - left if one in self._store]
        kept = set(self._lasting) <= left
        self.account.reads.judge(right=not deleted and (kept or not report.complete))

    async def _create(self, external_id: str, *, refused: bool = False) -> None:
        payment = offline_payment(external_id)
        if refused:
            payment = attrs.evolve(payment, channel_id=99)
        report, payment_id = await reported(self._payments.create_offline(payment))

        def judge() -> None:
            made = [int(row["id"]) for row in self._store.all_wire() if row.get("externalId") == external_id]
            reported_wrongly = report is Report.DONE and payment_id not in made
            self.account.writes.judge(report, 0 if reported_wrongly else len(made))

        self._judgements.append(judge)

    def _change(self, send: Callable[[], Awaitable[object]], shows: Callable[[], bool]) -> Action:
        async def change() -> None:
            report, _ = await reported(send())
            self._judgements.append(lambda: self.account.writes.judge(report, int(shows())))

        return change

    def _status(self, one: int, status: int, *, allowed: bool) -> Action:
        self._store.update(one, processingStatus=1, allowedStatuses=[str(status)] if allowed else ["4"])
        return self._change(
            lambda: self._payments.update_processing_status(one, status),
            lambda: bool(self._store.wire(one)["processingStatus"] == status),
        )

    def _operation(self, one: int, *, allowed: bool) -> Action:
        self._store.update(
            one,
            moduleName="payments_offline",
            processingStatus=3,
            appliedStatus=0,
            allowedOperations=[0] if allowed else [2],
        )
        return self._change(
            lambda: self._payments.perform_operation(one, 0),
            lambda: bool(self._store.wire(one)["appliedStatus"] == 1),
        )

    def _update(self, one: int) -> Action:
        self._store.update(one, moduleName="payments_offline")
        return self._change(
            lambda: self._payments.update_offline(one, offline_payment(f"update-{one}")),
            lambda: bool(self._store.wire(one).get("externalId") == f"update-{one}"),
        )

    def _delete(self, one: int) -> Action:
        return self._change(lambda: self._payments.delete(one), lambda: one not in self._store)


def _ids_in(path: Path) -> set[int]:
    with closing(sqlite3.connect(path)) as database:
        return {one for (one,) in database.execute("SELECT id FROM payments")}
