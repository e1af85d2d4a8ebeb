"""The feed of changes, on a real socket."""

from __future__ import annotations

import gc
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import anyio.lowlevel
import attrs
import msgspec
import pytest

from b2b_payments import Change, ConfigurationError, PaginationError, PaymentsClient, PermissionDeniedError
from b2b_payments.events import Event, FollowWait
from b2b_payments.sandbox import Fault, Rules, Sandbox
from tests.support.clients import NEVER, client_of

pytestmark = pytest.mark.virtual_time

RULES = Rules(quota=False, max_limit=20, equals="shuffled")


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Yield a store of 200 payments, 20 a page."""
    async with Sandbox(payments=200, rules=RULES) as sandbox:
        yield sandbox


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[PaymentsClient]:
    """Yield its client."""
    async with client_of(sandbox, retry=NEVER) as client:
        yield client


async def drain(client: PaymentsClient, since: Any = None, **settings: Any) -> tuple[list[Change], Any, int]:
    """Read a feed to its end. Returns the changes, the checkpoint, and the number of requests."""
    feed = client.payments.changes(since, **settings)
    changes = [change async for change in feed]
    return changes, json.loads(json.dumps(feed.checkpoint())), feed.report.requests


def ids(changes: list[Change]) -> list[int]:
    """Return the payments' ids."""
    return [change.payment.id for change in changes]


async def test_it_starts_now_amid_thousands_of_updates_of_one_second() -> None:
    """Even if more payments have the latest time than are held in memory, none of them is yielded."""
    async with Sandbox(payments=2_100, rules=Rules(quota=False)) as sandbox, client_of(sandbox) as client:
        store = sandbox.store
        moment = store.advance()
        for payment_id in store.ids():
            store.update(payment_id, updatedAt=moment)
        changes, checkpoint, _ = await drain(client)
        assert changes == []
        store.advance(3_600)
        store.update(7, payerName="new")
        assert ids((await drain(client, checkpoint))[0]) == [7]


async def test_it_starts_now_by_default(sandbox: Sandbox, client: PaymentsClient) -> None:
    """By default a feed yields nothing that existed before; its checkpoint leads to all that follows."""
    changes, checkpoint, requests = await drain(client)
    assert (changes, requests) == ([], 1)
    store = sandbox.store
    details = msgspec.Raw(b'{"a": 1.50,"b":"caf\\u00e9\\/"}')
    store.update(7, payerName="new", details=details)
    created = store.insert()
    store.update(3, payerName="new")
    changes, checkpoint, requests = await drain(client, checkpoint)
    assert (ids(changes), requests) == ([7, created, 3], 1)
    assert changes[0].payment == await client.payments.get(7)
    assert bytes(details) in changes[0].text
    changes, checkpoint, requests = await drain(client, checkpoint)
    assert (changes, requests) == ([], 1)


async def test_each_checkpoint_resumes_after_its_change(sandbox: Sandbox, client: PaymentsClient) -> None:
    """Whichever change was handled last, exactly those after it follow."""
    _, checkpoint, _ = await drain(client)
    for payment_id in range(1, 61):  # of three pages, and of one second
        sandbox.store.update(payment_id, payerName="new", updatedAt=sandbox.store.clock)
    changes, _, _ = await drain(client, checkpoint)
    assert sorted(ids(changes)) == list(range(1, 61))
    for handled in (0, 25, 58, 59):
        left, _, _ = await drain(client, changes[handled].checkpoint)
        assert sorted(ids(left)) == sorted(ids(changes[handled + 1 :]))


@pytest.mark.parametrize(
    ("equals", "latest"), [("stable", 20), *(("shuffled", count) for count in (1, 19, 20, 21, 45))]
)
async def test_long_runs_of_equal_times(
    sandbox: Sandbox, client: PaymentsClient, latest: int, equals: Any
) -> None:
    """Runs of one second that no page reaches across are read whole, even at the very end of the list."""
    sandbox.rules = attrs.evolve(RULES, equals=equals)
    _, checkpoint, _ = await drain(client)
    store = sandbox.store
    for first, count in ((1, 45), (101, latest)):
        moment = store.advance(10)
        for payment_id in range(first, first + count):
            store.update(payment_id, payerName="import", updatedAt=moment)
    store.advance(10)
    changes, checkpoint, _ = await drain(client, checkpoint)
    assert sorted(ids(changes)) == [*range(1, 46), *range(101, 101 + latest)]
    assert (await drain(client, checkpoint))[0] == []


@pytest.mark.parametrize("earlier", [1, 5])
@pytest.mark.parametrize("latest", [1, 3, 12])
async def test_a_run_that_fills_a_page(earlier: int, latest: int) -> None:
    """It is read whole in a short list, too, whose last page shows only the run's end."""
    rules = attrs.evolve(RULES, max_limit=10, equals="stable")
    async with Sandbox(payments=0, rules=rules) as sandbox, client_of(sandbox, retry=NEVER) as client:
        store, start = sandbox.store, datetime.fromtimestamp(sandbox.store.clock, UTC)
        for count, gap in ((earlier, 60), (10, 0), (latest, 60)):
            moment = store.advance(60)
            for row in range(count):
                store.insert(created_at=moment + row * gap)
        store.advance(60)
        changes, checkpoint, _ = await drain(client, start)
        assert sorted(ids(changes)) == store.ids()
        assert (await drain(client, checkpoint))[0] == []


@pytest.mark.parametrize("equals", ["stable", "shuffled"])
async def test_a_list_of_a_single_second(equals: Any) -> None:
    """Its payments are yielded whole, or the feed raises that the list cannot be read."""
    rules = attrs.evolve(RULES, max_limit=5, equals=equals)
    async with (
        Sandbox([1_700_000_000] * 60, rules=rules) as sandbox,
        client_of(sandbox, retry=NEVER) as client,
    ):
        start, results = datetime.fromtimestamp(1_600_000_000, UTC), list[list[int]]()
        for _ in range(4):
            with suppress(PaginationError):
                results.append(sorted(ids((await drain(client, start))[0])))
        assert all(one == sandbox.store.ids() for one in results)
        assert results or equals == "shuffled"


async def test_two_writes_in_one_second(sandbox: Sandbox, client: PaymentsClient) -> None:
    """The second write of a second is yielded too, though it has the same time as the first."""
    _, checkpoint, _ = await drain(client)
    sandbox.store.update(5, payerName="first")
    moment = sandbox.store.clock
    changes, checkpoint, _ = await drain(client, checkpoint)
    assert ids(changes) == [5]
    sandbox.store.update(5, payerName="second", updatedAt=moment)
    changes, checkpoint, _ = await drain(client, checkpoint)
    assert [change.payment.payer_name for change in changes] == ["second"]
    sandbox.store.update(5, payerName="second", updatedAt=moment, allowedOperations=[0])
    assert (await drain(client, checkpoint))[0] == []


@pytest.mark.parametrize("rules", [RULES, attrs.evolve(RULES, total_count="absent")], ids=["total", "none"])
async def test_a_long_catch_up(
    sandbox: Sandbox, client: PaymentsClient, rules: Rules, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More changes than can be held are yielded oldest first; any of their checkpoints leads to the rest."""
    monkeypatch.setattr("b2b_payments._changes.poll.MAX_HELD", 30)
    sandbox.rules = rules
    _, checkpoint, _ = await drain(client)
    for payment_id in range(1, 151):
        sandbox.store.update(
            payment_id, payerName="new", updatedAt=sandbox.store.advance(60 * (payment_id % 3))
        )
    changes, _, _ = await drain(client, checkpoint)
    assert sorted(ids(changes)) == list(range(1, 151))
    moments = [change.payment.updated_at for change in changes]
    assert moments == sorted(moments)
    left, _, requests = await drain(client, changes[99].checkpoint)
    assert sorted(ids(left)) == sorted(ids(changes[100:]))
    assert requests < 25


async def test_from_a_datetime(sandbox: Sandbox, client: PaymentsClient) -> None:
    """Starting at a datetime, each version written then or later is yielded, and none from before."""
    moment = datetime.fromtimestamp(sandbox.store.clock, UTC) - timedelta(days=100)
    changes, checkpoint, _ = await drain(client, moment.astimezone())
    expected = {int(row["id"]) for row in sandbox.store.all_wire() if row["updatedAt"] >= moment.timestamp()}
    assert len(expected) > 20
    assert set(ids(changes)) == expected
    assert len(changes) == len(expected)
    assert (await drain(client, checkpoint))[0] == []
    later = datetime.fromtimestamp(sandbox.store.clock + 5, UTC)
    assert (await drain(client, later))[::2] == ([], 1)


@pytest.mark.parametrize("payments", [0, 1, 12])
async def test_a_new_store(payments: int) -> None:
    """A store without payments, or with a few new ones, is followed like any other."""
    async with Sandbox(payments=payments, rules=RULES) as sandbox, client_of(sandbox) as client:
        _, checkpoint, _ = await drain(client)
        for _ in range(3):
            created = sandbox.store.insert()
            changes, checkpoint, _ = await drain(client, checkpoint)
            assert ids(changes) == [created]
        sandbox.store.delete(created)
        assert (await drain(client, checkpoint))[0] == []


async def test_a_time_in_the_future(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A payment that claims an update years from now is yielded once, and hides nothing."""
    _, checkpoint, _ = await drain(client)
    sandbox.store.update(5, updatedAt=4_102_444_800)
    changes, checkpoint, _ = await drain(client, checkpoint)
    assert ids(changes) == [5]
    sandbox.store.update(6, payerName="new")
    sandbox.store.advance(7_200)
    sandbox.store.update(7, payerName="new")
    changes, checkpoint, _ = await drain(client, checkpoint)
    assert sorted(ids(changes)) == [6, 7]
    assert (await drain(client, checkpoint))[0] == []


async def test_a_restored_service(sandbox: Sandbox, client: PaymentsClient) -> None:
    """After a restore from a backup nothing is repeated, and what is written then is yielded."""
    store = sandbox.store
    _, checkpoint, _ = await drain(client)
    backup = store.snapshot()
    store.update(5, payerName="lost")
    _, checkpoint, _ = await drain(client, checkpoint)
    store.advance(7_200)
    store.restore(backup)
    assert (await drain(client, checkpoint))[0] == []
    store.update(6, payerName="new")
    assert ids((await drain(client, checkpoint))[0]) == [6]


@pytest.mark.parametrize("lies", [{"paging_window": 20}, {"ignores": {"orderBy"}}], ids=str)
async def test_a_list_that_does_not_show_all(
    sandbox: Sandbox, client: PaymentsClient, lies: dict[str, Any]
) -> None:
    """A list that hides changes raises an error, and the checkpoint stays where it was."""
    moment = datetime.fromtimestamp(sandbox.store.clock, UTC) - timedelta(days=600)
    sandbox.rules = attrs.evolve(RULES, **lies)
    feed = client.payments.changes(moment)
    with pytest.raises(PaginationError):
        [change async for change in feed]


async def test_invalid_arguments(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A checkpoint of another store, a naive datetime and impossible seconds are refused at once."""
    _, checkpoint, _ = await drain(client)
    wrong: list[tuple[Any, dict[str, Any], str]] = [
        (checkpoint | {"store": "http://elsewhere"}, {}, "another store"),
        (client.payments.list().checkpoint(), {}, "not a checkpoint of changes"),
        (datetime(2026, 1, 1), {}, "time zone"),  # noqa: DTZ001
        (None, {"interval": 0}, "interval"),
        (None, {"overlap": -1}, "overlap"),
        (None, {"overlap": True}, "overlap"),
    ]
    for since, settings, message in wrong:
        with pytest.raises(ConfigurationError, match=message):
            client.payments.changes(since, **settings)
    assert sandbox.request_count == 1


async def test_following(sandbox: Sandbox) -> None:
    """A feed that follows yields what changes between polls, and reports that it waits for the interval."""
    waits: list[FollowWait] = []
    store = sandbox.store

    def note(event: Event) -> None:
        if isinstance(event, FollowWait):
            waits.append(event)
            store.update(len(waits), payerName="new")

    async with client_of(sandbox, on_event=note) as client:
        seen: list[int] = []
        async with aclosing(client.payments.changes(follow=True, interval=0.01)) as feed:
            async for change in feed:
                seen.append(change.payment.id)
                if len(seen) == 3:
                    break
    assert seen == [1, 2, 3]
    assert {wait.reason for wait in waits} == {"interval"}
    assert feed.report.requests == feed.report.polls


async def test_it_survives_an_outage(sandbox: Sandbox) -> None:
    """When the retry policy has given up, a feed that follows reports that, and continues later."""
    waits: list[FollowWait] = []

    def note(event: Event) -> None:
        if isinstance(event, FollowWait):
            waits.append(event)
            if len(waits) == 1:
                sandbox.store.update(9, payerName="new")
                sandbox.order(Fault.ERROR_500, times=2)

    async with (
        client_of(sandbox, retry=NEVER, on_event=note) as client,
        aclosing(client.payments.changes(follow=True, interval=0.01)) as feed,
    ):
        change = await anext(feed)
    assert change.payment.id == 9
    assert [wait.reason for wait in waits] == ["interval", "ServerError", "ServerError"]
    assert "500" in waits[1].why


async def test_a_refused_credential_ends_it(sandbox: Sandbox, client: PaymentsClient) -> None:
    """Waiting does not help against a refused credential: it ends a feed that follows."""
    sandbox.rules = attrs.evolve(RULES, missing_scope_status=403)
    with pytest.raises(PermissionDeniedError):
        await anext(client.payments.changes(follow=True, interval=0.01))


async def test_it_can_be_cancelled(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A waiting feed ends at once when its task is cancelled, and the client still works."""
    with anyio.move_on_after(0.2) as scope:
        async for _ in client.payments.changes(follow=True):
            pass
    assert scope.cancelled_caught
    assert (await drain(client))[0] == []


async def test_it_can_be_left_by_break(
    sandbox: Sandbox, client: PaymentsClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop that is left in the middle of a long catch-up sends no more requests."""
    monkeypatch.setattr("b2b_payments._changes.poll.MAX_HELD", 30)
    feed = client.payments.changes(datetime.fromtimestamp(0, UTC), follow=True)
    async for _ in feed:
        break
    await feed.aclose()
    del feed
    gc.collect()
    sent = sandbox.request_count
    await anyio.lowlevel.checkpoint()
    assert sandbox.request_count == sent


async def test_followers_are_independent(sandbox: Sandbox, client: PaymentsClient) -> None:
    """Two followers of one store with one client each get every change."""
    _, checkpoint, _ = await drain(client)
    seen: list[list[int]] = [[], []]

    async def follow(mine: list[int]) -> None:
        async with aclosing(client.payments.changes(checkpoint, follow=True, interval=0.01)) as feed:
            async for change in feed:
                mine.append(change.payment.id)
                if len(mine) == 5:
                    return

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            for mine in seen:
                group.start_soon(follow, mine)
            for payment_id in range(1, 6):
                sandbox.store.update(payment_id, payerName="new")
    assert seen[0] == seen[1] == [1, 2, 3, 4, 5]
