"""Cancellation at every step of a call, of a walk and of the client's own enter and exit, on a real socket.

Afterwards nothing is left behind, and the same client keeps working.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import warnings
from collections import Counter
from collections.abc import Callable, Coroutine
from decimal import Decimal
from typing import Any

import anyio
import attrs
import pytest

from b2b_payments import OfflineLineItem, OfflinePayment, Operation, PaymentsClient, Quota, StoreAuth
from b2b_payments.events import (
    CallEnded,
    CallStarted,
    Event,
    QuotaWait,
    QuotaWaitEnded,
    RequestEnded,
    RequestStarted,
)
from b2b_payments.sandbox import Drift, Fault, Rules, Sandbox
from tests.support.cancelling import Moment, Trial, Way, cancel_at
from tests.support.clients import client_of
from tests.support.virtual_time import run

PAYMENTS = 40
QUOTA = Quota(4, 20)
RULES = Rules(requests=4, per=20)
OFFLINE = OfflinePayment(
    customer_id="95075",
    currency="USD",
    line_items=[OfflineLineItem(13, Decimal("20.00"))],
    details={},
    external_id="CANCELLED-1",
)
EVERY = list(itertools.product(Way, Moment))
EVERY_WAY = pytest.mark.parametrize(("way", "moment"), EVERY, ids=lambda one: one.name.lower())

Work = Callable[[PaymentsClient], Coroutine[Any, Any, Any]]
Check = Callable[[Sandbox, Trial[Any]], bool]


def untouched(sandbox: Sandbox, _trial: Trial[Any]) -> bool:
    """Whether all payments still exist."""
    return sandbox.store.ids() == list(range(1, PAYMENTS + 1))


def created_once(sandbox: Sandbox, trial: Trial[Any]) -> bool:
    """Whether the payment was created once, or maybe not if that was cancelled."""
    ids = [one["id"] for one in sandbox.store.all_wire() if one.get("externalId") == OFFLINE.external_id]
    others = sandbox.store.payments - len(ids)
    return others == PAYMENTS and (len(ids) <= 1 if trial.cancelled else ids == [trial.result])


def deleted(sandbox: Sandbox, trial: Trial[Any]) -> bool:
    """Whether payment 7 is gone, or maybe not if that was cancelled, and all others exist."""
    return {*sandbox.store.ids(), 7} == set(range(1, PAYMENTS + 1)) and (
        trial.cancelled or 7 not in sandbox.store
    )


def reverted(sandbox: Sandbox, trial: Trial[Any]) -> bool:
    """Whether payment 7's operation was carried out, or maybe not if that was cancelled."""
    return trial.cancelled or sandbox.store.wire(7)["appliedStatus"] == 1


@attrs.frozen
class Case:
    """A job, the faults that it meets in this order, and the expected state of the store."""

    name: str
    work: Work
    faults: tuple[Fault, ...] = ()
    check: Check = untouched
    drifts: bool = False
    token: str = ""
    stride: int = 1
    """Every how many steps it is cancelled: a walk has hundreds of them, much alike.

    Each way and moment begins at a step of its own, so that together they hit most steps.
    """


async def _fetch(client: PaymentsClient) -> int:
    return (await client.payments.get(7)).id


async def _first_rows(client: PaymentsClient) -> int:
    rows = 0
    async for _ in client.payments.list(page_size=10, concurrency=4):
        rows += 1
        if rows == 25:
            break
    return rows


async def _walk(client: PaymentsClient) -> int:
    return len(await client.payments.list(page_size=10, concurrency=4).collect())


def _stream(*, ordered: bool) -> Work:
    async def stream(client: PaymentsClient) -> int:
        walks = client.payments.stream(channel_ids=[1, 2, 3], page_size=10, concurrency=4, ordered=ordered)
        return len(await walks.collect())

    return stream


TROUBLES = (Fault.ERROR_503, Fault.RATE_LIMITED, Fault.RESET_BEFORE)
LOST = (Fault.RESET_AFTER,)
CASES = [
    Case("get", _fetch),
    Case("get through troubles", _fetch, TROUBLES, token="stale"),
    Case("count", lambda client: client.payments.list().count()),
    Case("create", lambda client: client.payments.create_offline(OFFLINE), check=created_once),
    Case(
        "create, looked for", lambda client: client.payments.create_offline(OFFLINE), LOST, check=created_once
    ),
    Case("delete", lambda client: client.payments.delete(7), check=deleted),
    Case("delete, repeated", lambda client: client.payments.delete(7), LOST, check=deleted),
    Case(
        "operation, judged",
        lambda client: client.payments.perform_operation(7, Operation.APPLY_TO_INVOICES),
        LOST,
        check=reverted,
    ),
    Case("list", _walk, stride=13),
    Case("list through troubles", _walk, TROUBLES, token="stale", stride=13),
    Case("list left early", _first_rows, stride=13),
    Case("list of a store that changes", _walk, drifts=True, check=lambda *_: True, stride=13),
    Case("stream", _stream(ordered=False), stride=13),
    Case("stream, channel by channel", _stream(ordered=True), stride=13),
]


@attrs.define
class Provider:
    """Returns the tokens of a sandbox; the first one may have expired."""

    sandbox: Sandbox
    first: str

    async def __call__(self) -> str:
        """Return a token."""
        await asyncio.sleep(0.01)
        given, self.first = self.first, ""
        return given or str(self.sandbox.auth.token)


async def ended(trial: Trial[Any]) -> None:
    """Wait until every task of the job has ended."""
    _, left = await asyncio.wait(trial.tasks, timeout=60)
    assert not left


def assert_nothing_is_held(client: PaymentsClient, sandbox: Sandbox) -> None:
    """Assert that no connection is in use, and the gate knows of no request in flight or waiting."""
    connector: Any = client._transport.require_open().connector
    assert not connector._acquired
    gate = client._caller.quota.gate
    assert gate is not None
    assert not gate.in_flight
    assert not any(gate._lines.values())


def assert_all_ended(events: list[Event]) -> None:
    """Assert that every call, attempt and wait that was reported to start was reported to end."""
    kinds = Counter(type(event) for event in events)
    waiting = {event.call_id for event in events if isinstance(event, QuotaWait)}
    assert kinds[CallStarted] == kinds[CallEnded]
    assert kinds[RequestStarted] == kinds[RequestEnded]
    assert waiting == {event.call_id for event in events if isinstance(event, QuotaWaitEnded)}


def assert_the_quota_was_kept(sandbox: Sandbox) -> None:
    """Assert that the service refused no request except on demand."""
    times = [seen.at for seen in sandbox.requests]
    assert all(later - earlier >= 20 for earlier, later in zip(times, times[QUOTA.limit :], strict=False))


async def trial_of(case: Case, step: int, way: Way, moment: Moment) -> Trial[Any]:
    """Cancel a case at one step, and check what it leaves behind."""
    async with Sandbox(PAYMENTS, rules=RULES) as sandbox:
        for fault in case.faults:
            sandbox.order(fault, times=1)
        if case.drifts:
            sandbox.before_list = Drift(3, rate=1.0, insert=0, delete=1, update=0)
        auth = sandbox.auth
        if case.token:
            auth = StoreAuth(auth.store_hash, Provider(sandbox, case.token))
        events: list[Event] = []
        async with client_of(sandbox, auth=auth, quota=QUOTA, on_event=events.append) as client:
            trial = await cancel_at(step, moment, way, lambda: case.work(client))
            begun = sum(isinstance(event, RequestStarted) for event in events)
            await ended(trial)
            assert sum(isinstance(event, RequestStarted) for event in events) == begun
            assert_all_ended(events)
            assert_nothing_is_held(client, sandbox)
            sandbox.clear_faults()
            assert await client.channels.list()
            assert_nothing_is_held(client, sandbox)
        assert_all_ended(events)
        assert_the_quota_was_kept(sandbox)
        assert case.check(sandbox, trial)
    return trial


@pytest.mark.slow
@EVERY_WAY
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_cancelled_call_or_walk_leaves_nothing_behind(case: Case, way: Way, moment: Moment) -> None:
    """At each step: connections and permits are returned, no task is left, the client keeps working."""
    begin = 1 + 3 * EVERY.index((way, moment)) % case.stride
    steps = steps_of(lambda step: trial_of(case, step, way, moment), way, case.stride, begin)
    assert run(steps) >= 3


async def steps_of(
    trial_at: Callable[[int], Coroutine[Any, Any, Trial[Any]]], way: Way, stride: int = 1, begin: int = 1
) -> int:
    """Cancel at each step, or every `stride` steps, until the job ends first. Returns the number of steps."""
    untold: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, about: untold.append(about))
    for step in itertools.count(begin, stride):
        trial = await trial_at(step)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        if way is Way.TASK:
            assert trial.cancelled == trial.in_time, "the cancellation was swallowed"
        if not trial.reached:
            break
    gc.collect()
    assert not untold
    return step - 1


async def enter_and_exit(step: int, way: Way, moment: Moment) -> Trial[Any]:
    """Cancel a client's whole life at one step."""
    async with Sandbox(PAYMENTS, rules=RULES) as sandbox:

        async def work() -> int:
            async with client_of(sandbox, quota=QUOTA) as client:
                walk = client.payments.list(page_size=10, concurrency=4)
                await walk.first()
                # Left while its pages are under way: the exit has something to stop.
                pages = walk.pages()
                await anext(pages)
                opened.append(client)
            return walk.report.rows

        opened: list[PaymentsClient] = []
        trial = await cancel_at(step, moment, way, work)
        assert all(task.done() for task in trial.tasks), "the exit did not wait for its tasks"
        for client in opened:
            assert not client._tasks.running
            assert client._transport._session is None
        async with client_of(sandbox, quota=QUOTA) as another:
            assert (await another.payments.get(1)).id == 1
            assert_nothing_is_held(another, sandbox)
        assert_the_quota_was_kept(sandbox)
    return trial


@pytest.mark.slow
@EVERY_WAY
def test_client_cancelled_in_open_or_close_is_closed(way: Way, moment: Moment) -> None:
    """At each step of `async with`: the session is closed, no task is left, nothing warns."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert run(steps_of(lambda step: enter_and_exit(step, way, moment), way)) >= 10
        gc.collect()
    assert not [str(one.message) for one in warned]


def test_cancelled_wait_for_a_similar_request_releases_its_permit() -> None:
    """A cancelled request that waits for one whose answer could be mistaken for its own is not in flight."""

    async def main() -> None:
        async with Sandbox(PAYMENTS) as sandbox, client_of(sandbox, quota=Quota()) as client:
            gate = client._caller.quota.gate
            assert gate is not None
            await client.payments.get(1)
            sandbox.order(Fault.HANG, share=1)
            async with asyncio.TaskGroup() as group:
                first = group.create_task(client.payments.list().count())
                second = group.create_task(client.payments.list(processing_status=3).count())
                await anyio.wait_all_tasks_blocked()
                assert gate.in_flight == 2
                second.cancel()
                await asyncio.wait([second])
                assert gate.in_flight == 1
                first.cancel()
            assert_nothing_is_held(client, sandbox)

    run(main())
