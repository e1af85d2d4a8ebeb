"""The events of a client, in order, and its log records; neither contains anything private."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import attrs
import pytest

from b2b_payments import B2BPaymentsError, PaymentsClient, Quota, ServerError
from b2b_payments.events import (
    CallEnded,
    CallStarted,
    Event,
    FollowWait,
    GapRepaired,
    PageJoined,
    QuotaWait,
    QuotaWaitEnded,
    RequestEnded,
    RequestStarted,
    RetryScheduled,
    WalkNotProven,
    WriteInterrupted,
)
from b2b_payments.sandbox import Fault, Rules, Sandbox, SeenRequest, Store
from tests.support.clients import NEVER, client_of
from tests.support.virtual_time import run

PATH = "/ip/payments/1"


def plain(events: list[Event]) -> list[Event]:
    """Remove from events what differs between runs: measured seconds, and the call's number."""
    for event in events:
        seconds = getattr(event, "elapsed", getattr(event, "delay", 0.0))
        assert 0 <= seconds < 5
    names = ("elapsed", "delay", "call_id")
    evolve: Any = attrs.evolve
    return [evolve(event, **{name: 0 for name in names if hasattr(event, name)}) for event in events]


async def test_call_starts_and_ends(sandbox: Sandbox) -> None:
    """A call starts and ends, and so does its attempt in between, with a status."""
    events: list[Event] = []
    async with client_of(sandbox, on_event=events.append) as client:
        await client.payments.get(1)
    assert plain(events) == [
        CallStarted("payments.get"),
        RequestStarted("payments.get", "GET", PATH, 1),
        RequestEnded("payments.get", "GET", PATH, 1, 0.0, 200, None),
        CallEnded("payments.get", 0.0, None),
    ]


async def test_retry_comes_between_two_attempts(sandbox: Sandbox) -> None:
    """A failed attempt ends with its status or error, and the retry is reported before the next one."""
    events: list[Event] = []
    sandbox.order(Fault.ERROR_500, times=1)
    sandbox.order(Fault.RESET_BEFORE, times=1)
    async with client_of(sandbox, on_event=events.append) as client:
        await client.payments.get(1)
    assert plain(events) == [
        CallStarted("payments.get"),
        RequestStarted("payments.get", "GET", PATH, 1),
        RequestEnded("payments.get", "GET", PATH, 1, 0.0, 500, "ServerError"),
        RetryScheduled(
            *("payments.get", 1, 0.0, "failed"),
            why="500 Internal Server Error; no request has succeeded yet, and a wrong store hash causes "
            "this error, too: check store_hash (B2B_PAYMENTS_STORE_HASH)",
        ),
        RequestStarted("payments.get", "GET", PATH, 2),
        RequestEnded("payments.get", "GET", PATH, 2, 0.0, None, "TransportError"),
        RetryScheduled(
            *("payments.get", 2, 0.0, "ambiguous"),
            why="the connection to 127.0.0.1 broke before the whole answer was received (ClientOSError)",
        ),
        RequestStarted("payments.get", "GET", PATH, 3),
        RequestEnded("payments.get", "GET", PATH, 3, 0.0, 200, None),
        CallEnded("payments.get", 0.0, None),
    ]


@pytest.mark.parametrize(
    ("method", "payment_id", "error"), [("get", 999, "NotFoundError"), ("delete", 1, "TransportError")]
)
async def test_failed_call_names_its_error(
    sandbox: Sandbox, method: str, payment_id: int, error: str
) -> None:
    """A failed call ends with the name of its last attempt's error."""
    events: list[Event] = []
    sandbox.order(Fault.RESET_BEFORE, share=1, methods=["DELETE"])
    async with client_of(sandbox, on_event=events.append, retry=NEVER) as client:
        with pytest.raises(B2BPaymentsError):
            await getattr(client.payments, method)(payment_id)
    ended = next(event for event in events if isinstance(event, CallEnded))
    assert (ended.call, ended.error) == (f"payments.{method}", error)


async def test_call_id_identifies_the_call(sandbox: Sandbox) -> None:
    """Concurrent calls have different ids, and each call's events come in order."""
    events: list[Event] = []
    async with client_of(sandbox, on_event=events.append) as client, anyio.create_task_group() as group:
        for payment_id in range(1, 9):
            group.start_soon(client.payments.get, payment_id)
    calls: dict[int, list[type[Event]]] = {}
    for event in events:
        assert not isinstance(event, PageJoined | GapRepaired | WalkNotProven | WriteInterrupted | FollowWait)
        calls.setdefault(event.call_id, []).append(type(event))
    assert len(calls) == 8
    assert all(kinds == [CallStarted, RequestStarted, RequestEnded, CallEnded] for kinds in calls.values())


def test_quota_wait_is_reported_before_the_request() -> None:
    """A call that has to wait reports the minimum seconds and the reason, and the end of the wait."""
    events: list[Event] = []

    async def main() -> None:
        async with Sandbox(3, rules=Rules(quota=False)) as sandbox:
            quota = Quota(1, 20, margin=0)
            async with client_of(sandbox, quota=quota, on_event=events.append) as client:
                await client.payments.get(1)
                await client.payments.get(1)

    run(main())
    attempt = [RequestStarted, RequestEnded, CallEnded]
    kinds = [type(event) for event in events]
    assert kinds == [CallStarted, *attempt, CallStarted, QuotaWait, QuotaWaitEnded, *attempt]
    wait, ended = events[5:7]
    assert isinstance(wait, QuotaWait)
    assert isinstance(ended, QuotaWaitEnded)
    assert wait.seconds == pytest.approx(20, abs=1)
    assert wait.reason == "window"
    assert ended.seconds == pytest.approx(20, abs=1)


async def test_walk_reports_its_pages(sandbox: Sandbox) -> None:
    """Each joined page is reported, in order, and their new rows add up to the payments."""
    events: list[Event] = []
    async with client_of(sandbox, on_event=events.append) as client:
        await client.payments.list(page_size=25).collect()
    pages = [event for event in events if isinstance(event, PageJoined)]
    assert pages[0] == PageJoined(offset=0, rows=25, new=25, total=60)
    assert [page.offset for page in pages[:-1]] == sorted(page.offset for page in pages[:-1])
    assert pages[-1].from_other_end
    assert sum(page.new for page in pages) == 60


async def test_repaired_gap_is_reported(sandbox: Sandbox) -> None:
    """Rows deleted before a walk's position leave a gap, whose repair is reported."""
    events: list[Event] = []
    lists = 0

    def delete_in_front(store: Store, _: SeenRequest) -> None:
        nonlocal lists
        lists += 1
        if lists == 2:
            for payment_id in store.ids()[:15]:
                store.delete(payment_id)

    sandbox.before_list = delete_in_front
    async with client_of(sandbox, on_event=events.append) as client:
        await client.payments.list(page_size=25, concurrency=1).collect()
    assert len([event for event in events if isinstance(event, GapRepaired)]) == 1


async def test_failing_listener_is_disabled(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """A listener's error is logged once, the call succeeds, and the listener gets no further events."""
    heard: list[Event] = []

    def listen(event: Event) -> None:
        heard.append(event)
        raise ZeroDivisionError("the listener's own")

    async with client_of(sandbox, on_event=listen) as client:
        assert len(await client.payments.list().collect()) == 60
        assert (await client.payments.get(1)).id == 1
    assert len(heard) == 1
    assert [record.getMessage() for record in caplog.records if record.exc_info] == [
        "The event listener raised; it gets no further events."
    ]


async def test_log_records_have_the_events_fields(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """Each event is a log record under `b2b_payments`, with its name and fields as extras."""
    caplog.set_level(logging.DEBUG, "b2b_payments")
    events: list[Event] = []
    sandbox.order(Fault.ERROR_503, times=1)
    async with client_of(sandbox, on_event=events.append) as client:
        await client.payments.list(page_size=25).collect()
    records: list[Any] = [record for record in caplog.records if record.name == "b2b_payments"]
    assert [record.event for record in records] == [type(event).__name__ for event in events]
    for record, event in zip(records, events, strict=True):
        for name, value in attrs.asdict(event).items():
            assert getattr(record, f"b2b_{name}") == value
        assert record.levelname == ("WARNING" if isinstance(event, RetryScheduled) else "DEBUG")


@pytest.mark.slow
async def test_events_contain_nothing_private(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """No record and no event contains a query string, a filter's value, a body or a credential."""
    caplog.set_level(logging.DEBUG)
    events: list[Event] = []
    sandbox.order(Fault.ERROR_500, share=0.5)
    private = ["planted-name", "planted-search", str(sandbox.auth.access_token), "?", "customerName"]

    async def use(client: PaymentsClient) -> None:
        await client.payments.list(customer_name="planted-name", q="planted-search").collect()

    async with client_of(sandbox, on_event=events.append) as client:
        for _ in range(5):
            await use(client)
    sandbox.order(Fault.ERROR_500, share=1)
    async with client_of(sandbox, on_event=events.append, retry=NEVER) as client:
        with pytest.raises(ServerError) as caught:
            await use(client)
    told = [f"{record.getMessage()} {vars(record)}" for record in caplog.records if "b2b" in record.name]
    told += [repr(event) for event in events] + [f"{caught.value} {vars(caught.value)}"]
    assert len(told) > 20
    assert not [(text, word) for text in told for word in private if word in text]


async def test_nothing_is_printed_without_logging(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without logging set up, nothing is printed, not even for a retry."""
    sandbox.order(Fault.ERROR_500, times=1)
    logger = logging.getLogger("b2b_payments")
    logger.propagate = False
    try:
        async with client_of(sandbox) as client:
            await client.payments.get(1)
    finally:
        logger.propagate = True
    assert capsys.readouterr() == ("", "")
