"""The work of the fault suite: what a client reported, compared with the store's contents."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator
from decimal import Decimal
from enum import Enum

import anyio
import attrs

from b2b_payments import (
    B2BPaymentsError,
    OfflineLineItem,
    OfflinePayment,
    OutcomeUnknownError,
    PaymentsClient,
    RetryPolicy,
)
from b2b_payments._resources.turns import LAG, TURNS
from b2b_payments.sandbox import Sandbox
from benchmarks.faults_service import Trouble, troubled

PAGE = 50
_AT_ONCE = 16
_TIMES_REPEATED = 3
_PATIENT = RetryPolicy(attempts=14)
"""For walks of dozens of requests: with 5 attempts, of which a third fail, 1 in 243 requests fails."""


@attrs.frozen
class Reads:
    """A walk over a store. `seconds` are the service's, including waits for its quota."""

    rows: int
    lost: int
    doubled: int
    requests: int
    seconds: float


class Report(Enum):
    """What the client reports about a write."""

    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"


@attrs.define
class Writes:
    """Writes by reported outcome, and how often the report was wrong."""

    done: int = 0
    failed: int = 0
    unknown: int = 0
    twice: int = 0
    false_success: int = 0
    false_failure: int = 0

    @property
    def wrong(self) -> int:
        """The number that were carried out twice or reported wrongly."""
        return self.twice + self.false_success + self.false_failure

    def judge(self, report: Report, times: int) -> None:
        """Count one write, which was carried out `times` times according to the store."""
        self.twice += times > 1
        match report:
            case Report.DONE:
                self.done += 1
                self.false_success += times == 0
            case Report.FAILED:
                self.failed += 1
                self.false_failure += times > 0
            case Report.UNKNOWN:
                self.unknown += 1


async def reads(trouble: Trouble, payments: int) -> Reads:
    """Walk a whole store: a row that is not the store's own, field by field, counts as lost."""
    async with troubled(trouble, payments, _PATIENT) as (sandbox, client):
        begun = anyio.current_time()
        walk = client.payments.list(page_size=PAGE)
        rows = [row async for page in walk.raw_pages() for row in page.items]
        seconds = anyio.current_time() - begun
        by_id = {row["id"]: row for row in rows}
        lost = sum(by_id.get(row["id"]) != row for row in sandbox.store.all_wire())
        return Reads(len(rows), lost, len(rows) - len(by_id), walk.report.requests, seconds)


async def creates(trouble: Trouble, count: int) -> Writes:
    """Create payments, each with an externalId, and look up each of them in the store."""
    reports: dict[str, tuple[Report, object]] = {}

    async with troubled(trouble, 100, RetryPolicy()) as (sandbox, client):

        async def create(number: int) -> None:
            payment = offline_payment(f"fault-{number}")
            reports[f"fault-{number}"] = await reported(client.payments.create_offline(payment))

        await _all(create, range(count))
        made = _made(sandbox)
    writes = Writes()
    for external_id, (report, payment_id) in reports.items():
        ids = made[external_id]
        # The id of another payment is as wrong as the id of none.
        reported_wrongly = report is Report.DONE and payment_id not in ids
        writes.judge(report, 0 if reported_wrongly else len(ids))
    return writes


async def repeated_creates(trouble: Trouble, count: int) -> Writes:
    """Create payments with `unless_exists`, each twice concurrently and again until it is done.

    Lists lag unevenly, by up to 20 minutes. Once they must show everything, every third payment is created
    again by a client that remembers nothing, as in another process. A payment is done if a call returned its
    id; if a call returned another id, that is a false success.
    """
    draw = random.Random(trouble.name)
    rules = attrs.evolve(trouble.rules, list_lag=lambda: draw.choice([0.0, 0.0, 1.0, 1_190 * draw.random()]))
    returned: defaultdict[str, set[object]] = defaultdict(set)
    unknown: set[str] = set()
    async with troubled(attrs.evolve(trouble, rules=rules), 100, RetryPolicy()) as (sandbox, client):

        async def create(number: int) -> None:
            external_id = f"fault-{number}"
            payment = offline_payment(external_id)
            report, payment_id = await reported(client.payments.create_offline(payment, unless_exists=True))
            if report is Report.DONE:
                returned[external_id].add(payment_id)
            elif report is Report.UNKNOWN:
                unknown.add(external_id)

        await _all(create, [number for number in range(count) for _ in range(2)])
        for _ in range(_TIMES_REPEATED):
            await _all(create, [number for number in range(count) if not returned[f"fault-{number}"]])
        await anyio.sleep(LAG)
        TURNS.forget()
        await _all(create, range(0, count, 3))
        made = _made(sandbox)
    writes = Writes()
    for external_id in (f"fault-{number}" for number in range(count)):
        ids = made[external_id]
        report = Report.UNKNOWN if external_id in unknown else Report.FAILED
        writes.judge(Report.DONE if returned[external_id] else report, len(ids))
        writes.false_success += not returned[external_id] <= {*ids}
    return writes


def _made(sandbox: Sandbox) -> defaultdict[str, list[object]]:
    """Return the ids of the payments by externalId."""
    made: defaultdict[str, list[object]] = defaultdict(list)
    for row in sandbox.store.all_wire():
        made[row.get("externalId", "")].append(row["id"])
    return made


async def other_writes(trouble: Trouble, each: int) -> Writes:
    """Run `each` deletes, status updates, operations and updates, and check the payments."""
    reports: dict[int, Report] = {}
    async with troubled(trouble, 8 * each, RetryPolicy()) as (sandbox, client):
        changes = list(_changes(sandbox, client, each))

        async def write(number: int) -> None:
            reports[number], _ = await reported(changes[number].send())

        await _all(write, range(len(changes)))
        writes = Writes()
        for number, report in reports.items():
            writes.judge(report, int(changes[number].shows()))
    return writes


@attrs.frozen
class _Change:
    """A write to a payment, and a check whether the store shows it."""

    send: Callable[[], Awaitable[object]]
    shows: Callable[[], bool]


def _changes(sandbox: Sandbox, client: PaymentsClient, each: int) -> Iterator[_Change]:
    """Choose payments that allow each kind of write, each payment for only one."""
    kinds = (_operation, _update, _status, _delete)
    left = dict.fromkeys(kinds, each)
    for payment_id in sandbox.store.ids():
        for kind in kinds:
            if left[kind] and (change := kind(sandbox, client, payment_id)) is not None:
                left[kind] -= 1
                yield change
                break
    if any(left.values()):
        raise AssertionError("the store is too small for this number of writes")


def _delete(sandbox: Sandbox, client: PaymentsClient, payment_id: int) -> _Change:
    return _Change(lambda: client.payments.delete(payment_id), lambda: payment_id not in sandbox.store)


def _status(sandbox: Sandbox, client: PaymentsClient, payment_id: int) -> _Change | None:
    row = sandbox.store.wire(payment_id)
    others = [int(status) for status in row["allowedStatuses"] if int(status) != row["processingStatus"]]
    if not others:
        return None
    return _Change(
        lambda: client.payments.update_processing_status(payment_id, others[0]),
        lambda: bool(sandbox.store.wire(payment_id)["processingStatus"] == others[0]),
    )


def _operation(sandbox: Sandbox, client: PaymentsClient, payment_id: int) -> _Change | None:
    allowed = sandbox.store.wire(payment_id)["allowedOperations"]
    code = next((int(code) for code in allowed if int(code) in {0, 1}), None)
    if code is None:
        return None
    return _Change(
        lambda: client.payments.perform_operation(payment_id, code),
        lambda: bool(sandbox.store.wire(payment_id)["appliedStatus"] == 1 - code),
    )


def _update(sandbox: Sandbox, client: PaymentsClient, payment_id: int) -> _Change | None:
    if sandbox.store.wire(payment_id)["moduleName"] != "payments_offline":
        return None
    payment = offline_payment(f"update-{payment_id}")
    return _Change(
        lambda: client.payments.update_offline(payment_id, payment),
        lambda: bool(sandbox.store.wire(payment_id).get("externalId") == payment.external_id),
    )


def offline_payment(external_id: str) -> OfflinePayment:
    """Return a new payment with this externalId."""
    return OfflinePayment(
        customer_id="95075",
        currency="USD",
        line_items=[OfflineLineItem(13, Decimal("12.50")), OfflineLineItem(14, Decimal("7.50"))],
        details={"memo": "Paid in cash"},
        external_id=external_id,
    )


async def reported(write: Awaitable[object]) -> tuple[Report, object]:
    """Await a write. Returns what is reported about it, and its result."""
    try:
        return Report.DONE, await write
    except OutcomeUnknownError:
        return Report.UNKNOWN, None
    except B2BPaymentsError:
        return Report.FAILED, None


async def _all(do: Callable[[int], Awaitable[None]], numbers: Iterable[int]) -> None:
    """Run `do` for all numbers, some concurrently."""
    left = iter(numbers)

    async def work() -> None:
        for number in left:
            await do(number)

    async with anyio.create_task_group() as group:
        for _ in range(_AT_ONCE):
            group.start_soon(work)
