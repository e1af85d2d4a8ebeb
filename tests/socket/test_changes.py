"""The feed of changes over a real socket."""

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


async def given(client: PaymentsClient, since: Any = None, **settings: Any) -> tuple[list[Change], Any, int]:
    """Read a feed to its end: the changes, where to go on, and the requests it took."""
    feed = client.payments.changes(since, **settings)
    changes = [change async for change in feed]
    return changes, json.loads(json.dumps(feed.checkpoint())), feed.report.requests


def ids(changes: list[Change]) -> list[int]:
    """Return the payments' ids."""
    return [change.payment.id for change in changes]


async def test_now_is_where_it_begins(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A feed without a beginning gives nothing that was there, and its checkpoint all that comes."""
    changes, kept, requests = await given(client)
    assert (changes, requests) == ([], 1)
    store = sandbox.store
    store.update(7, payerName="new")
    created = store.insert()
    store.update(3, payerName="new")
    changes, kept, requests = await given(client, kept)
    assert (ids(changes), requests) == ([7, created, 3], 1)
    assert changes[0].payment == await client.payments.get(7)
    changes, kept, requests = await given(client, kept)
    assert (changes, requests) == ([], 1)


async def test_each_checkpoint_goes_on_behind_its_change(sandbox: Sandbox, client: PaymentsClient) -> None:
    """Whichever change was the last that was handled, those behind it come, and no other."""
    _, kept, _ = await given(client)
    for payment_id in range(1, 61):  # of three pages, and of one second
        sandbox.store.update(payment_id, payerName="new", updatedAt=sandbox.store.clock)
    changes, _, _ = await given(client, kept)
    assert sorted(ids(changes)) == list(range(1, 61))
    for handled in (0, 25, 58, 59):
        left, _, _ = await given(client, changes[handled].checkpoint)
        assert sorted(ids(left)) == sorted(ids(changes[handled + 1 :]))


@pytest.mark.parametrize(
    ("equals", "latest"), [("stable", 20), *(("shuffled", count) for count in (1, 19, 20, 21, 45))]
)
async def test_many_of_one_second_behind_many_of_another(
    sandbox: Sandbox, client: PaymentsClient, latest: int, equals: Any
) -> None:
    """Runs of one second that no page can reach across come whole, the one at the very end too."""
    sandbox.rules = attrs.evolve(RULES, equals=equals)
    _, kept, _ = await given(client)
    store = sandbox.store
    for first, count in ((1, 45), (101, latest)):
        moment = store.advance(10)
        for payment_id in range(first, first + count):
            store.update(payment_id, payerName="import", updatedAt=moment)
    store.advance(10)
    changes, kept, _ = await given(client, kept)
    assert sorted(ids(changes)) == [*range(1, 46), *range(101, 101 + latest)]
    assert (await given(client, kept))[0] == []


@pytest.mark.parametrize("earlier", [1, 5])
@pytest.mark.parametrize("latest", [1, 3, 12])
async def test_as_many_of_one_second_as_a_page_holds(earlier: int, latest: int) -> None:
    """A run that fills a page comes whole in a short list too, whose last page shows the run's end alone."""
    rules = attrs.evolve(RULES, max_limit=10, equals="stable")
    async with Sandbox(payments=0, rules=rules) as sandbox, client_of(sandbox, retry=NEVER) as client:
        store, start = sandbox.store, datetime.fromtimestamp(sandbox.store.clock, UTC)
        for count, gap in ((earlier, 60), (10, 0), (latest, 60)):
            moment = store.advance(60)
            for row in range(count):
                store.insert(created_at=moment + row * gap)
        store.advance(60)
        changes, kept, _ = await given(client, start)
        assert sorted(ids(changes)) == store.ids()
        assert (await given(client, kept))[0] == []


@pytest.mark.parametrize("equals", ["stable", "shuffled"])
async def test_nothing_but_one_second(equals: Any) -> None:
    """A list of a single second is given whole, or the feed says that it cannot be read."""
    rules = attrs.evolve(RULES, max_limit=5, equals=equals)
    async with (
        Sandbox([1_700_000_000] * 60, rules=rules) as sandbox,
        client_of(sandbox, retry=NEVER) as client,
    ):
        start, came = datetime.fromtimestamp(1_600_000_000, UTC), list[list[int]]()
        for _ in range(4):
            with suppress(PaginationError):
                came.append(sorted(ids((await given(client, start))[0])))
        assert all(one == sandbox.store.ids() for one in came)
        assert came or equals == "shuffled"


async def test_two_writes_in_one_second(sandbox: Sandbox, client: PaymentsClient) -> None:
    """The second write of a second comes too, though it has the first one's time."""
    _, kept, _ = await given(client)
    sandbox.store.update(5, payerName="first")
    moment = sandbox.store.clock
    changes, kept, _ = await given(client, kept)
    assert ids(changes) == [5]
    sandbox.store.update(5, payerName="second", updatedAt=moment)
    changes, kept, _ = await given(client, kept)
    assert [change.payment.payer_name for change in changes] == ["second"]
    sandbox.store.update(5, payerName="second", updatedAt=moment, allowedOperations=[0])
    assert (await given(client, kept))[0] == []


@pytest.mark.parametrize("rules", [RULES, attrs.evolve(RULES, total_count="absent")], ids=["total", "none"])
async def test_a_long_catch_up(
    sandbox: Sandbox, client: PaymentsClient, rules: Rules, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More changes than are held come oldest first, and any of their checkpoints leads to the rest."""
    monkeypatch.setattr("b2b_payments._changes.poll.MAX_HELD", 30)
    sandbox.rules = rules
    _, kept, _ = await given(client)
    for payment_id in range(1, 151):
        sandbox.store.update(
            payment_id, payerName="new", updatedAt=sandbox.store.advance(60 * (payment_id % 3))
        )
    changes, _, _ = await given(client, kept)
    assert sorted(ids(changes)) == list(range(1, 151))
    moments = [change.payment.updated_at for change in changes]
    assert moments == sorted(moments)
    left, _, requests = await given(client, changes[99].checkpoint)
    assert sorted(ids(left)) == sorted(ids(changes[100:]))
    assert requests < 25


async def test_from_a_moment(sandbox: Sandbox, client: PaymentsClient) -> None:
    """From a moment on, each version that was written then or later comes, and none before."""
    moment = datetime.fromtimestamp(sandbox.store.clock, UTC) - timedelta(days=100)
    changes, kept, _ = await given(client, moment.astimezone())
    expected = {int(row["id"]) for row in sandbox.store.all_wire() if row["updatedAt"] >= moment.timestamp()}
    assert len(expected) > 20
    assert set(ids(changes)) == expected
    assert len(changes) == len(expected)
    assert (await given(client, kept))[0] == []
    later = datetime.fromtimestamp(sandbox.store.clock + 5, UTC)
    assert (await given(client, later))[::2] == ([], 1)


@pytest.mark.parametrize("payments", [0, 1, 12])
async def test_a_store_that_begins(payments: int) -> None:
    """A store without a payment, or with a few, all of them new, is followed like any other."""
    async with Sandbox(payments=payments, rules=RULES) as sandbox, client_of(sandbox) as client:
        _, kept, _ = await given(client)
        for _ in range(3):
            created = sandbox.store.insert()
            changes, kept, _ = await given(client, kept)
            assert ids(changes) == [created]
        sandbox.store.delete(created)
        assert (await given(client, kept))[0] == []


async def test_a_time_in_the_future(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A payment that claims to be updated years from now comes once, and hides nothing."""
    _, kept, _ = await given(client)
    sandbox.store.update(5, updatedAt=4_102_444_800)
    changes, kept, _ = await given(client, kept)
    assert ids(changes) == [5]
    sandbox.store.update(6, payerName="new")
    sandbox.store.advance(7_200)
    sandbox.store.update(7, payerName="new")
    changes, kept, _ = await given(client, kept)
    assert sorted(ids(changes)) == [6, 7]
    assert (await given(client, kept))[0] == []


async def test_a_restored_service(sandbox: Sandbox, client: PaymentsClient) -> None:
    """After a restore nothing comes twice, and what is written then comes."""
    store = sandbox.store
    _, kept, _ = await given(client)
    backup = store.snapshot()
    store.update(5, payerName="lost")
    _, kept, _ = await given(client, kept)
    store.advance(7_200)
    store.restore(backup)
    assert (await given(client, kept))[0] == []
    store.update(6, payerName="new")
    assert ids((await given(client, kept))[0]) == [6]


@pytest.mark.parametrize("lies", [{"paging_window": 20}, {"ignores": {"orderBy"}}], ids=str)
async def test_a_list_that_does_not_show_all(
    sandbox: Sandbox, client: PaymentsClient, lies: dict[str, Any]
) -> None:
    """A list that hides what changed is an error, and the checkpoint stays where it was."""
    moment = datetime.fromtimestamp(sandbox.store.clock, UTC) - timedelta(days=600)
    sandbox.rules = attrs.evolve(RULES, **lies)
    feed = client.payments.changes(moment)
    with pytest.raises(PaginationError):
        [change async for change in feed]


async def test_what_is_refused(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A checkpoint of another store, a naive moment and impossible seconds are refused at once."""
    _, kept, _ = await given(client)
    wrong: list[tuple[Any, dict[str, Any], str]] = [
        (kept | {"store": "http://elsewhere"}, {}, "another store"),
        (client.payments.list().checkpoint(), {}, "not a checkpoint of changes"),
        (datetime(2026, 1, 1), {}, "time zone"),  # noqa: DTZ001
        (None, {"interval": 0}, "interval"),
        (None, {"overlap": -1}, "overlap"),
        (None, {"overlap": True}, "overlap"),
    ]
    for since, settings, words in wrong:
        with pytest.raises(ConfigurationError, match=words):
            client.payments.changes(since, **settings)
    assert sandbox.request_count == 1


async def test_following(sandbox: Sandbox) -> None:
    """A feed that follows gives what changes between its polls, and says that it waits for the interval."""
    waits: list[FollowWait] = []
    store = sandbox.store

    def note(event: Event) -> None:
        if isinstance(event, FollowWait):
            waits.append(event)
            store.update(len(waits), payerName="new")

    async with client_of(sandbox, on_event=note) as client:
        came: list[int] = []
        async with aclosing(client.payments.changes(follow=True, interval=0.01)) as feed:
            async for change in feed:
                came.append(change.payment.id)
                if len(came) == 3:
                    break
    assert came == [1, 2, 3]
    assert {wait.reason for wait in waits} == {"interval"}
    assert feed.report.requests == feed.report.polls


async def test_an_outage_is_outlived(sandbox: Sandbox) -> None:
    """Where the retry policy has given up, a feed that follows says so, and goes on later."""
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


async def test_what_waiting_does_not_help(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A refused credential ends a feed that follows."""
    sandbox.rules = attrs.evolve(RULES, missing_scope_status=403)
    with pytest.raises(PermissionDeniedError):
        await anext(client.payments.changes(follow=True, interval=0.01))


async def test_it_ends_by_cancellation(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A feed that waits ends at once when its task is cancelled, and leaves nothing behind."""
    with anyio.move_on_after(0.2) as scope:
        async for _ in client.payments.changes(follow=True):
            pass
    assert scope.cancelled_caught
    assert (await given(client))[0] == []


async def test_it_ends_by_break(
    sandbox: Sandbox, client: PaymentsClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop that is left in the middle of a long catch-up asks for nothing more."""
    monkeypatch.setattr("b2b_payments._changes.poll.MAX_HELD", 30)
    feed = client.payments.changes(datetime.fromtimestamp(0, UTC), follow=True)
    async for _ in feed:
        break
    await feed.aclose()
    del feed
    gc.collect()
    asked = sandbox.request_count
    await anyio.lowlevel.checkpoint()
    assert sandbox.request_count == asked


async def test_followers_are_independent(sandbox: Sandbox, client: PaymentsClient) -> None:
    """Two followers of one store and one client are each given every change."""
    _, kept, _ = await given(client)
    came: list[list[int]] = [[], []]

    async def follow(mine: list[int]) -> None:
        async with aclosing(client.payments.changes(kept, follow=True, interval=0.01)) as feed:
            async for change in feed:
                mine.append(change.payment.id)
                if len(mine) == 5:
                    return

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            for mine in came:
                group.start_soon(follow, mine)
            for payment_id in range(1, 6):
                sandbox.store.update(payment_id, payerName="new")
    assert came[0] == came[1] == [1, 2, 3, 4, 5]
