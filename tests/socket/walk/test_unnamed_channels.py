"""Lists of channels whose rows do not name their channel."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import attrs
import pytest

from b2b_payments import PaginationError
from b2b_payments.sandbox import Rules, Sandbox, SeenRequest, Store
from tests.support.clients import client_of

pytestmark = pytest.mark.virtual_time

UNNAMED = Rules(payment_channels="absent")
understood_encodings = pytest.mark.parametrize(
    "understood", ["repeat", "brackets-comma", "brackets", "comma"]
)


def ids_of(sandbox: Sandbox, channels: Collection[int]) -> list[int]:
    """Return the payments of these channels, oldest first."""
    return [one for one in sandbox.store.ids() if sandbox.store.channel(one) in channels]


@understood_encodings
@pytest.mark.parametrize("written", ["null", "empty", "absent"])
@pytest.mark.parametrize("other", ["ignore", "nothing", 400, 422])
@pytest.mark.parametrize("channel_ids", [[1], [2, 1]])
async def test_only_rows_of_the_channels_are_returned(
    understood: Any, written: Any, other: Any, channel_ids: list[int]
) -> None:
    """The encoding that the service understands is found once, though no row shows that it does."""
    rules = Rules(channel_encoding=understood, other_channel_encodings=other, payment_channels=written)
    async with Sandbox(90, rules=rules) as sandbox, client_of(sandbox) as client:
        for order in ("ASC", "DESC"):
            before = sandbox.request_count
            walk = client.payments.list(channel_ids=channel_ids, order_by=order)
            ids = [payment.id async for payment in walk]
            assert sorted(ids) == ids_of(sandbox, channel_ids)
            assert walk.report.complete
            assert not walk.report.ignored_filters
        assert sandbox.request_count - before == 2


@pytest.mark.parametrize("default", [None, [1], [1, 2]])
@pytest.mark.parametrize("channel_ids", [[1], [1, 2]])
@pytest.mark.parametrize("order", ["ASC", "DESC"])
async def test_if_every_encoding_is_ignored_the_report_says_so(
    default: Any, channel_ids: list[int], order: Any
) -> None:
    """The rows are returned, since some may be of these channels, and later walks cost nothing more."""
    rules = attrs.evolve(UNNAMED, channel_encoding=(), default_channels=default)
    async with Sandbox(60, rules=rules) as sandbox, client_of(sandbox) as client:
        for _ in range(2):
            before = sandbox.request_count
            walk = client.payments.list(channel_ids=channel_ids, order_by=order)
            ids = [payment.id async for payment in walk]
            assert sorted(ids) == ids_of(sandbox, default or (1, 2, 3))
            assert walk.report.complete
            assert walk.report.ignored_filters == {"channelIds"}
            assert str(walk.report).endswith(
                "; the service may ignore a filter: some payments may not match channelIds"
            )
        assert sandbox.request_count - before == 2
        stream = client.payments.stream(channel_ids=[1, 2])
        assert len(await stream.collect()) == len(ids)
        assert stream.report.ignored_filters == {"channelIds"}


@pytest.mark.parametrize(("channel_ids", "extra"), [([3], 1), ([1], 2), ([3, 2], 2), ([1, 2], 3)])
async def test_what_it_costs(channel_ids: list[int], extra: int) -> None:
    """Once per client: one request of channels after these, one more if these exist, and one in reverse."""
    async with Sandbox(190, rules=UNNAMED) as sandbox, client_of(sandbox) as client:
        for requests in (2 + extra, 2):
            walk = client.payments.list(channel_ids=channel_ids)
            assert [payment.id async for payment in walk] == ids_of(sandbox, channel_ids)
            assert walk.report.requests == requests
            assert not walk.report.ignored_filters


async def test_rows_that_name_their_channel_cost_nothing_more() -> None:
    """If only some rows of a page name their channel, these show whether the encoding is applied."""
    async with Sandbox(60, rules=Rules(max_limit=50)) as sandbox, client_of(sandbox) as client:
        for payment_id in ids_of(sandbox, [1])[1:]:
            sandbox.store.update(payment_id, channelId=None)
        sandbox.store.update(ids_of(sandbox, [2])[0], channelId=None)
        walk = client.payments.list(channel_ids=[2])
        assert [payment.id async for payment in walk] == ids_of(sandbox, [2])
        assert walk.report.requests == 2
        assert not walk.report.ignored_filters


@pytest.mark.parametrize("refusal", ["nothing", 400, 404, 422])
@pytest.mark.parametrize("channels", [(1,), (1, 2), (1, 2, 3)])
@pytest.mark.parametrize("payments", [1, 2, 60])
async def test_an_unknown_channel_may_be_empty_or_refused(
    refusal: Any, channels: tuple[int, ...], payments: int
) -> None:
    """Either shows that the encoding is applied, also in a store of one channel or one payment."""
    rules = attrs.evolve(UNNAMED, unknown_channels=refusal)
    async with Sandbox(payments, channels, rules=rules) as sandbox, client_of(sandbox) as client:
        walk = client.payments.list(channel_ids=channels)
        assert [payment.id async for payment in walk] == sandbox.store.ids()
        assert walk.report.complete
        assert not walk.report.ignored_filters


@understood_encodings
@pytest.mark.parametrize("channel_ids", [[9], [8, 9]])
async def test_an_empty_channel_is_empty(understood: Any, channel_ids: list[int]) -> None:
    """Rows that come in ignored encodings only do not show that the channel has some."""
    rules = attrs.evolve(UNNAMED, channel_encoding=understood)
    async with Sandbox(60, rules=rules) as sandbox, client_of(sandbox) as client:
        for _ in range(2):
            walk = client.payments.list(channel_ids=channel_ids)
            assert await walk.collect() == []
            assert walk.report.complete
            assert not walk.report.ignored_filters


async def test_an_empty_store_is_empty() -> None:
    """Without any payment there is nothing to compare, and nothing to say."""
    rules = attrs.evolve(UNNAMED, channel_encoding=())
    async with Sandbox(0, rules=rules) as sandbox, client_of(sandbox) as client:
        walk = client.payments.list(channel_ids=[1])
        assert await walk.collect() == []
        assert walk.report.complete
        assert not walk.report.ignored_filters


@pytest.mark.parametrize("hidden", [None, 1, 2])
@pytest.mark.parametrize("order", ["ASC", "DESC"])
async def test_a_channel_is_not_left_out_by_an_encoding(hidden: int | None, order: Any) -> None:
    """Even if the service reads only the last channel, and one of the two is empty."""
    rules = attrs.evolve(UNNAMED, channel_encoding=("repeat-last", "brackets"), max_limit=50)
    async with Sandbox(300, rules=rules) as sandbox, client_of(sandbox) as client:
        sandbox.rules = attrs.evolve(rules, hidden=ids_of(sandbox, [hidden]) if hidden else ())
        walk = client.payments.list(channel_ids=[1, 2], page_size=50, order_by=order)
        ids = [payment.id async for payment in walk]
        assert sorted(ids) == ids_of(sandbox, {1, 2} - {hidden})
        assert walk.report.complete
        assert not walk.report.ignored_filters


async def test_if_all_encodings_leave_out_a_channel_the_walk_fails() -> None:
    """Then some of the requested payments would be missing."""
    rules = attrs.evolve(UNNAMED, channel_encoding="repeat-last", other_channel_encodings=422)
    async with Sandbox(60, rules=rules) as sandbox, client_of(sandbox) as client:
        with pytest.raises(PaginationError, match="or leaves out some"):
            await client.payments.list(channel_ids=[1, 2]).collect()


@pytest.mark.parametrize("written", ["digits", "null"])
@pytest.mark.parametrize("channel_ids", [[1, 2], [2, 1], [2, 3, 1]])
async def test_if_only_one_of_several_channels_is_read_empty_lists_are_not_believed(
    written: Any, channel_ids: list[int]
) -> None:
    """Some encoding shows that one of the channels has payments, so lists without any are wrong."""
    rules = Rules(channel_encoding="repeat-last", other_channel_encodings="nothing", payment_channels=written)
    async with Sandbox(20, (1,), rules=rules) as sandbox, client_of(sandbox) as client:
        walk = client.payments.list(channel_ids=channel_ids)
        with pytest.raises(PaginationError, match="or leaves out some"):
            await walk.collect()
        assert not walk.report.complete


async def test_an_empty_list_is_not_believed_if_rows_cannot_be_compared() -> None:
    """If any of the payments of one second may be the first, another first one is no evidence."""
    rules = attrs.evolve(
        UNNAMED, channel_encoding="brackets", other_channel_encodings="nothing", equals="one way", max_limit=5
    )
    async with Sandbox([1_700_000_000] * 60, rules=rules) as sandbox, client_of(sandbox) as client:
        for channel_ids in ([2, 1], [2], [1]):
            walk = client.payments.list(channel_ids=channel_ids, order_by="DESC")
            ids = {payment.id async for payment in walk}
            assert ids
            assert ids <= {*ids_of(sandbox, channel_ids)}
            assert not walk.report.complete or ids == {*ids_of(sandbox, channel_ids)}


@pytest.mark.parametrize("order", ["ASC", "DESC"])
@pytest.mark.parametrize("understood", [(), "brackets"])
async def test_a_list_that_changes_does_not_hide_that_an_encoding_is_ignored(
    understood: Any, order: Any
) -> None:
    """Not if a payment is created before each request, or if the first one is deleted."""
    rules = attrs.evolve(UNNAMED, channel_encoding=understood)
    async with Sandbox(60, rules=rules) as sandbox, client_of(sandbox) as client:

        def change(store: Store, _seen: SeenRequest) -> None:
            if sandbox.request_count < 20:
                store.delete(store.ids()[0])
                store.insert()

        there = {*ids_of(sandbox, [1])}
        sandbox.before_list = change
        walk = client.payments.list(channel_ids=[1], order_by=order)
        ids = {payment.id async for payment in walk}
        assert ids >= there & {*sandbox.store.ids()}
        assert walk.report.ignored_filters == (set() if understood else {"channelIds"})
        if understood:
            assert not ids & {*ids_of(sandbox, [2, 3])}


@pytest.mark.parametrize("understood", [(), "brackets"])
async def test_a_payment_that_leaves_the_list_shows_nothing(understood: Any) -> None:
    """A list of one payment is empty a moment later: that is no answer about another channel."""
    rules = attrs.evolve(UNNAMED, channel_encoding=understood)
    async with Sandbox(60, (1, 2), rules=rules) as sandbox, client_of(sandbox) as client:
        store = sandbox.store
        first, second = ids_of(sandbox, [1])[:2]
        for payment_id in store.ids():
            store.update(payment_id, processingStatus=2 if payment_id == first else 3)

        def leave(store: Store, _seen: SeenRequest) -> None:
            if sandbox.request_count == 2:
                store.update(first, processingStatus=3)
                store.update(second, processingStatus=3)

        sandbox.before_list = leave
        await client.payments.list(channel_ids=[1], processing_status=2).collect()
        sandbox.before_list = None
        walk = client.payments.list(channel_ids=[1])
        ids = {payment.id async for payment in walk}
        assert walk.report.ignored_filters == (set() if understood else {"channelIds"})
        assert ids == {*(ids_of(sandbox, [1]) if understood else store.ids())}


@pytest.mark.parametrize("equals", ["shuffled", "one way"])
async def test_payments_of_one_second_in_any_order_are_no_other_channels(equals: Any) -> None:
    """If equals come in another order each time, another first payment may be of the same list."""
    rules = attrs.evolve(UNNAMED, channel_encoding=(), equals=equals)
    async with Sandbox([1_700_000_000] * 60, rules=rules) as sandbox, client_of(sandbox) as client:
        walk = client.payments.list(channel_ids=[1], page_size=10)
        ids = {payment.id async for payment in walk}
        assert ids == {*sandbox.store.ids()}
        assert walk.report.ignored_filters == {"channelIds"}


@pytest.mark.parametrize("understood", [(), "brackets"])
@pytest.mark.parametrize("channel_ids", [[1], [1, 2]])
async def test_a_resumed_walk_compares_first_pages(understood: Any, channel_ids: list[int]) -> None:
    """A walk that starts in the middle of the list finds out by first pages, too."""
    rules = attrs.evolve(UNNAMED, channel_encoding=understood, max_limit=20)
    async with Sandbox(190, rules=rules) as sandbox:
        async with client_of(sandbox) as client:
            pages = client.payments.list(channel_ids=channel_ids, page_size=20).pages()
            page = await anext(pages)
            await pages.aclose()
        ids = [payment.id for payment in page.items]
        async with client_of(sandbox) as client:
            walk = client.payments.list(channel_ids=channel_ids, page_size=20, checkpoint=page.checkpoint)
            ids += [payment.id async for payment in walk]
        assert ids == (ids_of(sandbox, channel_ids) if understood else sandbox.store.ids())
        assert walk.report.complete
        assert walk.report.ignored_filters == (set() if understood else {"channelIds"})


@pytest.mark.parametrize("understood", [(), "comma"])
async def test_answers_mixed_up_before_do_not_change_the_result(understood: Any) -> None:
    """After a mix-up, the comparison has to give the same result twice."""
    rules = attrs.evolve(UNNAMED, channel_encoding=understood)
    async with Sandbox(60, rules=rules) as sandbox, client_of(sandbox) as client:
        client._caller.mixups.record()
        walk = client.payments.list(channel_ids=[1])
        assert len(await walk.collect()) == (len(ids_of(sandbox, [1])) if understood else 60)
        assert walk.report.ignored_filters == (set() if understood else {"channelIds"})
