"""Two minutes in which the service is down, under the default policy: on real sockets and virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

from b2b_payments import (
    B2BPaymentsError,
    NotFoundError,
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
    """A time in which the service is down: from its list request of this number on (0: at once)."""

    sandbox: Sandbox
    trouble: str
    begins_at: int
    lasts: float
    failed: int = 0
    """Attempts that met it."""
    took: float = 0.0
    """Virtual seconds of the whole job."""
    _lists: int = 0
    _passing: asyncio.Task[None] | None = None

    def listen(self, event: Event) -> None:
        """Count the client's failed attempts."""
        self.failed += isinstance(event, RequestEnded) and event.error not in {None, "CancelledError"}

    def list_comes(self, _store: Store, _seen: SeenRequest) -> None:
        """Begin with the list request that it is to begin with."""
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
def test_a_walk_outlives_it(trouble: str) -> None:
    """A walk goes on where it was, exactly, within a minute of the service's return, and asks little."""
    outage = played(trouble, walked)
    assert LASTS - 1 <= outage.took < LASTS + 62
    assert 4 <= outage.failed <= MOST


@each_kind
def test_a_walk_may_begin_in_it(trouble: str) -> None:
    """A walk that begins while the service is down begins when it is back."""
    outage = played(trouble, walked, begins_at=0)
    assert LASTS - 1 <= outage.took < LASTS + 62
    assert 4 <= outage.failed <= 10  # the shortest waits, half of each delay, leave room for ten


@each_kind
def test_a_walk_that_keeps_a_quota_outlives_it(trouble: str) -> None:
    """The quota's gate neither adds to the requests of an outage nor keeps the walk from going on."""
    outage = played(trouble, walked, quota=Quota())
    assert LASTS - 1 <= outage.took < LASTS + 62
    assert 4 <= outage.failed <= MOST


@pytest.mark.parametrize("trouble", [REFUSED, "500"])
def test_a_stream_outlives_it(trouble: str) -> None:
    """The walks of a stream find out together, one request after another, when the service is back."""
    outage = played(trouble, streamed)
    assert LASTS - 1 <= outage.took < LASTS + 62
    assert 4 <= outage.failed <= MOST


@each_kind
def test_an_export_outlives_it(trouble: str, tmp_path: Path) -> None:
    """An export is complete, and verified, as if nothing had been."""
    path = tmp_path / "payments.jsonl"

    async def job(sandbox: Sandbox, client: PaymentsClient) -> None:
        await export(client.payments.list(page_size=25), JSONLSink(path))
        assert ids_in(path, "jsonl") == sandbox.store.ids()

    assert played(trouble, job).failed <= MOST
    assert verify(path).account.sums.whole.rows == PAYMENTS


@pytest.mark.slow
@each_kind
def test_a_sync_outlives_it(trouble: str, tmp_path: Path) -> None:
    """A copy is in step with the store, as if nothing had been."""
    copy = tmp_path / "copy.sqlite"

    async def job(sandbox: Sandbox, client: PaymentsClient) -> None:
        report = await sync(client, SQLiteStore(copy))
        assert report.complete
        assert held_in(copy) == versions_of(sandbox.store)

    assert played(trouble, job).failed <= MOST


@each_kind
def test_a_call_does_not_wait_for_its_end(trouble: str) -> None:
    """A call that somebody waits for is tried five times, with less than 15 seconds of waiting."""

    async def job(_: Sandbox, client: PaymentsClient) -> None:
        with pytest.raises((TransportError, ServerError, B2BPaymentsError)):
            await client.payments.get(1)

    outage = played(trouble, job, begins_at=0, timeout=2.0)
    assert outage.failed == 5
    assert outage.took < 15 + 5 * 2.0


@pytest.mark.parametrize("call", ["first", "count"])
def test_one_row_is_a_call(call: str) -> None:
    """`first()` and `count()` are waited for, too."""

    async def job(_: Sandbox, client: PaymentsClient) -> None:
        with pytest.raises(ServerError):
            await getattr(client.payments.list(), call)()

    outage = played("500", job, begins_at=0)
    assert outage.failed == 5
    assert outage.took < 15


def test_a_longer_outage_ends_a_walk() -> None:
    """Where the service stays away for five minutes, the walk ends with what it was answered last."""

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
def test_a_policy_may_end_pages_sooner(policy: RetryPolicy, failed: int) -> None:
    """One attempt means one, for pages too; without patience for an outage a page has its attempts."""

    async def job(_: Sandbox, client: PaymentsClient) -> None:
        with pytest.raises(ServerError):
            await client.payments.list(page_size=25).collect()

    outage = played("500", job, begins_at=0, retry=policy)
    assert outage.failed == failed
    assert outage.took < 15


def test_a_deadline_ends_those_that_wait_too() -> None:
    """A walk with a deadline does not wait longer for the service's return, in whichever page."""

    async def job(_: Sandbox, client: PaymentsClient) -> None:
        with pytest.raises(ServerError):
            await client.payments.list(page_size=25).collect()

    assert played("500", job, deadline=40.0).took <= 40


@pytest.mark.slow
def test_leaving_ends_the_waiting() -> None:
    """A walk that is left in an outage leaves nothing behind: the next one finds the service by itself."""

    async def job(sandbox: Sandbox, client: PaymentsClient) -> None:
        with pytest.raises(TimeoutError), anyio.fail_after(20):
            await client.payments.list(page_size=25).collect()
        await walked(sandbox, client)

    outage = played("500", job)
    assert LASTS - 1 <= outage.took < LASTS + 62
    assert outage.failed <= MOST + 7


def test_what_is_answered_is_no_outage() -> None:
    """A page that is refused for good ends its walk at once, an unreadable one after its attempts."""

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


def test_a_timeout_is_told_as_one() -> None:
    """Where the service hangs for good, the walk ends with the timeout of its last attempt."""

    async def job(_: Sandbox, client: PaymentsClient) -> None:
        with pytest.raises(RequestTimeoutError):
            await client.payments.list(page_size=25).collect()

    outage = played("hang", job, lasts=10_000.0)
    assert 329 <= outage.took <= 361
