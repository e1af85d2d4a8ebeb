"""Two minutes of outage under the default policy, on real sockets and virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

from b2b_payments import (
    B2BPaymentsError,
    NotFoundError,
    OfflineLineItem,
    OfflinePayment,
    PaymentsClient,
    Quota,
    RequestTimeoutError,
    RetryPolicy,
    ServerError,
    TransportError,
)
from b2b_payments.events import Event, RequestEnded
from b2b_payments.export import JSONLSink, export, verify
from b2b_payments.sandbox import Fault, Rules, Sandbox, SeenRequest, Store
from b2b_payments.sync import SQLiteStore, sync
from tests.support.export_reading import ids_in
from tests.support.synced import held_in, versions_of
from tests.support.virtual_time import run

PAYMENTS = 500
RULES = Rules(quota=False, max_limit=25)
LASTS = 120.0
IN_FLIGHT = 8
MOST = IN_FLIGHT + 16
"""Failed attempts: those in flight when it began, a few that hope for an accident, then one by one. Each page
by itself would make about ten."""

REFUSED = "connect refused"
TROUBLES: dict[str, Fault | None] = {
    REFUSED: None,
    "500": Fault.ERROR_500,
    "503": Fault.ERROR_503,
    "405 of what is allowed": Fault.ERROR_405,
    "502 in HTML": Fault.HTML_502,
    "200 with code 500": Fault.OK_WITH_CODE_500,
    "reset": Fault.RESET_BEFORE,
    "reset in mid-answer": Fault.RESET_DURING,
    "hang": Fault.HANG,
}
each_trouble = pytest.mark.parametrize("trouble", TROUBLES)
each_kind = pytest.mark.parametrize("trouble", [REFUSED, "500", "reset", "hang"])

Job = Callable[[Sandbox, PaymentsClient], Awaitable[object]]


@attrs.define
class Outage:
    """An outage that begins with list request number `begins_at` (0: at once)."""

    sandbox: Sandbox
    trouble: str
    begins_at: int
    lasts: float
    failed: int = 0
    """Attempts that failed because of it."""
    took: float = 0.0
    """Virtual seconds of the whole job."""
    _lists: int = 0
    _passing: asyncio.Task[None] | None = None

    def listen(self, event: Event) -> None:
        """Count the client's failed attempts."""
        self.failed += isinstance(event, RequestEnded) and event.error not in {None, "CancelledError"}

    def list_comes(self, _store: Store, _seen: SeenRequest) -> None:
        """Begin at list request number `begins_at`."""
        self._lists += 1
        if self._lists == self.begins_at:
            self.begin()

    def begin(self) -> None:
        """Bring the service down, for a while."""
        if (fault := TROUBLES[self.trouble]) is not None:
            self.sandbox.order(fault, share=1)
        self._passing = asyncio.create_task(self._pass())

    async def _pass(self) -> None:
        if self.trouble == REFUSED:
            await self.sandbox.pause_listening()
        await asyncio.sleep(self.lasts)
        if self.trouble == REFUSED:
            await self.sandbox.resume_listening()
        self.sandbox.clear_faults()


def played(trouble: str, job: Job, *, begins_at: int = 6, lasts: float = LASTS, **settings: Any) -> Outage:
    """Do a job through an outage."""

    async def main() -> Outage:
        async with Sandbox(PAYMENTS, rules=RULES) as sandbox:
            outage = Outage(sandbox, trouble, begins_at, lasts)
            sandbox.before_list = outage.list_comes
            given = {"quota": None, "on_event": outage.listen} | settings
            async with PaymentsClient(sandbox.auth, base_url=sandbox.base_url, **given) as client:
                if begins_at == 0:
                    outage.begin()
                    await asyncio.sleep(0.1)
                begun = anyio.current_time()
                await job(sandbox, client)
                outage.took = anyio.current_time() - begun
                return outage

    return run(main())


async def walked(sandbox: Sandbox, client: PaymentsClient) -> None:
    """Walk the whole store."""
    walk = client.payments.list(page_size=25, concurrency=IN_FLIGHT)
    assert [payment.id async for payment in walk] == sandbox.store.ids()
    assert walk.report.complete


async def streamed(sandbox: Sandbox, client: PaymentsClient) -> None:
    """Walk three channels at once."""
    stream = client.payments.stream(channel_ids=[1, 2, 3], page_size=25, concurrency=IN_FLIGHT)
    assert sorted([payment.id async for payment in stream]) == sandbox.store.ids()
    assert stream.report.complete


@each_trouble
def test_walk_survives(trouble: str) -> None:
    """A walk continues exactly within a minute of the service's return, with few requests."""
    outage = played(trouble, walked)
    assert LASTS - 1 <= outage.took < LASTS + 62
    assert 4 <= outage.failed <= MOST


@each_kind
def test_walk_may_begin_in_it(trouble: str) -> None:
    """A walk that begins during the outage starts when the service is back."""
    outage = played(trouble, walked, begins_at=0)
    assert LASTS - 1 <= outage.took < LASTS + 62
    assert 4 <= outage.failed <= 10  # the shortest waits, half of each delay, leave room for ten


@each_kind
def test_walk_with_a_quota_survives(trouble: str) -> None:
    """The quota's gate neither adds requests in the outage nor keeps the walk from continuing."""
    outage = played(trouble, walked, quota=Quota())
    assert LASTS - 1 <= outage.took < LASTS + 62
    assert 4 <= outage.failed <= MOST


@pytest.mark.parametrize("trouble", [REFUSED, "500"])
def test_stream_survives(trouble: str) -> None:
    """The walks of a stream detect the service's return together, with one request at a time."""
    outage = played(trouble, streamed)
    assert LASTS - 1 <= outage.took < LASTS + 62
    assert 4 <= outage.failed <= MOST


@each_kind
def test_export_survives(trouble: str, tmp_path: Path) -> None:
    """An export is complete, and verified, as without an outage."""
    path = tmp_path / "payments.jsonl"

    async def job(sandbox: Sandbox, client: PaymentsClient) -> None:
        await export(client.payments.list(page_size=25), JSONLSink(path))
        assert ids_in(path, "jsonl") == sandbox.store.ids()

    assert played(trouble, job).failed <= MOST
    assert verify(path).account.sums.whole.rows == PAYMENTS


@pytest.mark.slow
@each_kind
def test_sync_survives(trouble: str, tmp_path: Path) -> None:
    """A copy equals the store, as without an outage."""
    copy = tmp_path / "copy.sqlite"

    async def job(sandbox: Sandbox, client: PaymentsClient) -> None:
        report = await sync(client, SQLiteStore(copy))
        assert report.complete
        assert held_in(copy) == versions_of(sandbox.store)

    assert played(trouble, job).failed <= MOST


@each_kind
def test_call_does_not_wait_for_its_end(trouble: str) -> None:
    """A call is sent five times, with less than 15 seconds of waiting."""

    async def job(_: Sandbox, client: PaymentsClient) -> None:
        with pytest.raises((TransportError, ServerError, B2BPaymentsError)):
            await client.payments.get(1)

    outage = played(trouble, job, begins_at=0, timeout=2.0)
    assert outage.failed == 5
    assert outage.took < 15 + 5 * 2.0


READS: dict[str, Callable[[PaymentsClient], Awaitable[object]]] = {
    "first": lambda client: client.payments.list().first(),
    "count": lambda client: client.payments.list().count(),
    "get": lambda client: client.payments.get(1),
    "operations": lambda client: client.payments.operations(1),
    "transactions": lambda client: client.payments.transactions(1),
    "channels": lambda client: client.channels.list(),
    "request": lambda client: client.request("GET", "/ip/payments"),
}


@pytest.mark.parametrize("read", READS)
def test_single_reads_are_calls(read: str) -> None:
    """What reads one thing, `first()` and `count()` too, does not wait for the end of the outage."""

    async def job(_: Sandbox, client: PaymentsClient) -> None:
        with pytest.raises(ServerError):
            await READS[read](client)

    outage = played("500", job, begins_at=0)
    assert outage.failed == 5
    assert outage.took < 15


def test_the_search_of_a_create_is_a_call() -> None:
    """A create that first has to search does not wait for the end of the outage, either."""

    async def job(_: Sandbox, client: PaymentsClient) -> None:
        item = OfflineLineItem(invoice_id=13, amount=Decimal(20))
        payment = OfflinePayment(customer_id="7", currency="USD", line_items=[item], external_id="INV-7")
        with pytest.raises(ServerError):
            await client.payments.create_offline(payment, unless_exists=True)

    outage = played("500", job, begins_at=0)
    assert outage.failed == 5
    assert outage.took < 15


def test_longer_outage_ends_a_walk() -> None:
    """If the service is down for five minutes, the walk ends with its last answer's error."""

    async def job(_: Sandbox, client: PaymentsClient) -> None:
        with pytest.raises(ServerError, match="500 Something went wrong"):
            await client.payments.list(page_size=25).collect()

    outage = played("500", job, lasts=1_000.0)
    assert 299 <= outage.took <= 301
    assert outage.failed <= MOST + 4


@pytest.mark.parametrize(
    ("policy", "failed"),
    [
        (RetryPolicy(attempts=1), 1),
        (RetryPolicy(outage=0), 5),
        (RetryPolicy(attempts=2, outage=0), 2),
        (RetryPolicy(outage=1.0), 5),
    ],
)
def test_policy_may_end_pages_sooner(policy: RetryPolicy, failed: int) -> None:
    """`attempts=1` also means one attempt for pages; with `outage=0` a page has a call's attempts."""

    async def job(_: Sandbox, client: PaymentsClient) -> None:
        with pytest.raises(ServerError):
            await client.payments.list(page_size=25).collect()

    outage = played("500", job, begins_at=0, retry=policy)
    assert outage.failed == failed
    assert outage.took < 15


def test_deadline_ends_waiting_pages() -> None:
    """With a deadline, no page of a walk waits longer for the service's return."""

    async def job(_: Sandbox, client: PaymentsClient) -> None:
        with pytest.raises(ServerError):
            await client.payments.list(page_size=25).collect()

    assert played("500", job, deadline=40.0).took <= 40


@pytest.mark.slow
def test_leaving_a_walk_ends_its_wait() -> None:
    """A walk left during an outage leaves nothing behind: the next one detects the return by itself."""

    async def job(sandbox: Sandbox, client: PaymentsClient) -> None:
        with pytest.raises(TimeoutError), anyio.fail_after(20):
            await client.payments.list(page_size=25).collect()
        await walked(sandbox, client)

    outage = played("500", job)
    assert LASTS - 1 <= outage.took < LASTS + 62
    assert outage.failed <= MOST + 7


def test_answers_are_no_outage() -> None:
    """A finally refused page ends its walk at once, an unreadable one after its attempts."""

    async def job(sandbox: Sandbox, client: PaymentsClient) -> None:
        sandbox.order(Fault.GARBAGE, times=1_000)
        with pytest.raises(B2BPaymentsError, match="not JSON"):
            await client.payments.list().collect()
        assert sandbox.request_count == 5
        sandbox.clear_faults()
        sandbox.order(Fault.HTML_404, times=1_000)
        with pytest.raises(NotFoundError):
            await client.payments.list().collect()
        assert sandbox.request_count == 6

    assert played("500", job, begins_at=1_000).took < 15


def test_timeout_is_raised_as_timeout() -> None:
    """If the service hangs for good, the walk ends with the timeout of its last attempt."""

    async def job(_: Sandbox, client: PaymentsClient) -> None:
        with pytest.raises(RequestTimeoutError):
            await client.payments.list(page_size=25).collect()

    outage = played("hang", job, lasts=10_000.0)
    assert 329 <= outage.took <= 361
