"""A service that leaves out channels if it does not understand the encoding of `channelIds`."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from b2b_payments import PaginationError
from b2b_payments.sandbox import Fault, Rules, Sandbox, SeenRequest, Store
from tests.support.clients import client_of

pytestmark = pytest.mark.virtual_time


async def test_an_empty_list_is_not_believed_if_another_encoding_shows_rows() -> None:
    """One encoding showed the channel's payments among others, so an empty page in another one is wrong."""
    async with Sandbox(60, rules=Rules(ignores={"channelIds"})) as sandbox, client_of(sandbox) as client:

        def empty_from_the_second_on(_store: Store, _seen: SeenRequest) -> None:
            sandbox.order(Fault.EMPTY_LIST, share=1)

        sandbox.before_list = empty_from_the_second_on
        walk = client.payments.list(channel_ids=[2])
        with pytest.raises(PaginationError, match="misreads channelIds"):
            await walk.collect()
        assert not walk.report.complete


async def test_an_empty_channel_is_empty() -> None:
    """If no encoding shows a payment of the channel, an encoding that returns none is believed."""
    rules = Rules(channel_encoding="brackets", hidden=lambda row: bool(row["channelId"] == "2"))
    async with Sandbox(60, rules=rules) as sandbox, client_of(sandbox) as client:
        walk = client.payments.list(channel_ids=[2])
        assert await walk.collect() == []
        assert walk.report.complete


@pytest.mark.parametrize("understood", ["repeat", "brackets-comma", "brackets", "comma"])
async def test_an_encoding_that_finds_nothing_is_not_believed(understood: Any) -> None:
    """If the first encodings find nothing, the others are tried, once: the channel is not empty."""
    rules = Rules(channel_encoding=understood, other_channel_encodings="nothing")
    async with Sandbox(60, rules=rules) as sandbox, client_of(sandbox) as client:
        wanted = [row["id"] for row in sandbox.store.all_wire() if row["channelId"] in {"2", "3"}]
        for _ in range(2):
            before = sandbox.request_count
            walk = client.payments.list(channel_ids=[2, 3])
            assert [payment.id async for payment in walk] == wanted
            assert walk.report.complete
        assert sandbox.request_count - before == 2


@pytest.mark.parametrize("understood", [(), "brackets"])
async def test_an_empty_channel_is_tried_in_each_encoding(understood: Any) -> None:
    """It costs a request for each other spelling of it until one is known to be applied, and then none."""
    rules = Rules(channel_encoding=understood, other_channel_encodings="nothing")
    async with Sandbox(60, (1, 2, 9), rules=rules) as sandbox, client_of(sandbox) as client:
        sandbox.rules = attrs.evolve(rules, hidden=lambda row: bool(row["channelId"] == "9"))
        walk = client.payments.list(channel_ids=[9])
        assert await walk.collect() == []
        assert walk.report.complete
        assert sandbox.request_count == 4 + 1
        if understood:
            for channel_id in (1, 2):
                await client.payments.list(channel_ids=[channel_id]).collect()
            before = sandbox.request_count
            assert await client.payments.list(channel_ids=[9]).collect() == []
            assert sandbox.request_count == before + 4


@pytest.mark.parametrize("understood", ["repeat", "brackets-comma", "brackets", "comma"])
@pytest.mark.parametrize(("default", "requested"), [(1, (1, 2)), (2, (1, 2, 3))])
async def test_an_ignored_encoding_with_a_default_channel_is_not_believed(
    understood: Any, default: int, requested: tuple[int, ...]
) -> None:
    """A list without `channelIds` may show one channel: an encoding that shows only this one is ignored."""
    rules = Rules(channel_encoding=understood, default_channels=[default])
    async with Sandbox(60, (1, 2, 3, 4), rules=rules) as sandbox, client_of(sandbox) as client:
        names = set(map(str, requested))
        wanted = [row["id"] for row in sandbox.store.all_wire() if row["channelId"] in names]
        # The second walk requests what the first one showed, and more.
        for channel_ids in ([default], requested):
            walk = client.payments.list(channel_ids=channel_ids)
            ids = [payment.id async for payment in walk]
            assert walk.report.complete
        assert ids == wanted
        assert await client.payments.list(channel_ids=requested).count() == len(wanted)


@pytest.mark.parametrize("understood", ["repeat", "brackets-comma", "brackets", "comma"])
@pytest.mark.parametrize("walked", [[(1, 2, 3)], [(1, 2), (1, 2, 3)], [(1,), (2,), (1, 3, 2)]])
async def test_an_ignored_encoding_with_several_default_channels_is_not_believed(
    understood: Any, walked: list[tuple[int, ...]]
) -> None:
    """Rows of several channels do not show that an encoding is applied: a list may show these by default."""
    rules = Rules(channel_encoding=understood, default_channels=[1, 2])
    async with Sandbox(60, (1, 2, 3, 4), rules=rules) as sandbox, client_of(sandbox) as client:
        for channel_ids in walked:
            walk = client.payments.list(channel_ids=channel_ids)
            names = set(map(str, channel_ids))
            wanted = [row["id"] for row in sandbox.store.all_wire() if row["channelId"] in names]
            assert [payment.id async for payment in walk] == wanted
            assert walk.report.complete


@pytest.mark.parametrize("refusal", ["nothing", 422])
async def test_a_missing_channel_of_several_costs_one_request_per_client(refusal: Any) -> None:
    """Other channels are requested once, to see that the encoding is applied."""
    rules = Rules(unknown_channels=refusal)
    async with Sandbox(60, (1, 2, 3), rules=rules) as sandbox, client_of(sandbox) as client:
        sandbox.rules = attrs.evolve(rules, hidden=lambda row: bool(row["channelId"] == "3"))
        await client.payments.list(channel_ids=[1, 2]).collect()
        for requests in (3, 2):
            walk = client.payments.list(channel_ids=[1, 2, 3])
            assert {payment.channel_id async for payment in walk} == {1, 2}
            assert walk.report.requests == requests


@pytest.mark.parametrize("understood", ["repeat", "brackets-comma", "brackets", "comma"])
async def test_rows_of_a_default_channel_do_not_confirm_an_encoding(understood: Any) -> None:
    """After rows of channel 1, which lists show by default, an empty list of channel 2 is still doubted."""
    rules = Rules(
        channel_encoding=understood,
        default_channels=[1],
        hidden=lambda row: row["channelId"] == "1" and row["processingStatus"] == 3,
    )
    async with Sandbox(60, (1, 2), rules=rules) as sandbox, client_of(sandbox) as client:
        rows = sandbox.store.all_wire()
        wanted = [row["id"] for row in rows if row["channelId"] == "2" and row["processingStatus"] == 3]
        assert wanted
        await client.payments.list(channel_ids=[1]).collect()
        walk = client.payments.list(channel_ids=[2], processing_status=3)
        assert [payment.id async for payment in walk] == wanted
        assert walk.report.complete


@pytest.mark.parametrize("understood", ["brackets-comma", "brackets"])
async def test_other_channels_under_another_filter_show_nothing(understood: Any) -> None:
    """Lists of channels 1 and 2 under two filters may be the default list: a third one's is still doubted."""
    only = {3: "1", 4: "2", 1: "3"}  # the channel of each status' payments, of which 1 and 2 are the default
    rules = Rules(
        channel_encoding=understood,
        default_channels=[1, 2],
        hidden=lambda row: only.get(row["processingStatus"], row["channelId"]) != row["channelId"],
    )
    async with Sandbox(200, (1, 2, 3), rules=rules) as sandbox, client_of(sandbox) as client:
        for status, channel in only.items():
            wanted = [
                row["id"]
                for row in sandbox.store.all_wire()
                if (row["processingStatus"], row["channelId"]) == (status, channel)
            ]
            assert wanted
            walk = client.payments.list(channel_ids=[int(channel)], processing_status=status)
            assert [payment.id async for payment in walk] == wanted
            assert walk.report.complete


@pytest.mark.parametrize("understood", ["repeat", "brackets-comma", "brackets", "comma"])
async def test_a_channel_in_the_middle_is_not_left_out_by_an_ignored_encoding(understood: Any) -> None:
    """Not even if the first and the last page are those of the channel that is listed by default."""
    rules = Rules(
        channel_encoding=understood,
        default_channels=[1],
        max_limit=50,
        hidden=lambda row: row["channelId"] == "2" and not 250 < row["id"] < 450,
    )
    async with Sandbox(700, (1, 2), rules=rules) as sandbox, client_of(sandbox) as client:
        for channel_id in (1, 2):  # one channel alone shows nothing about several
            await client.payments.list(channel_ids=[channel_id]).first()
        walk = client.payments.list(channel_ids=[1, 2], page_size=50)
        ids = [payment.id async for payment in walk]
        assert walk.report.complete
        shown = [row for row in sandbox.store.all_wire() if row["channelId"] == "1" or 250 < row["id"] < 450]
        assert ids == [row["id"] for row in shown]


async def test_channel_ids_may_have_a_fraction() -> None:
    """A channel is recognized in a row however its id is written."""
    async with (
        Sandbox(60, (1, 2, 3), rules=Rules(ids_as="fraction")) as sandbox,
        client_of(sandbox) as client,
    ):
        wanted = [row["id"] for row in sandbox.store.all_wire() if row["channelId"] in {1.0, 2.0}]
        assert len(wanted) > 1
        walk = client.payments.list(channel_ids=[1, 2])
        assert [payment.id async for payment in walk] == wanted
        assert walk.report.complete


LAST_ONLY = Rules(channel_encoding=("repeat-last", "brackets"), max_limit=50)


@pytest.mark.parametrize("order", ["ASC", "DESC"])
async def test_a_walk_that_starts_later_tries_its_encoding_first(order: Any) -> None:
    """Resumed in a new client, a walk over several channels loses none of them to a misread encoding."""
    async with Sandbox(700, rules=LAST_ONLY) as sandbox:
        wanted = {row["id"] for row in sandbox.store.all_wire() if row["channelId"] in {"1", "2"}}
        ids: list[int] = []
        async with client_of(sandbox) as client:
            pages = client.payments.list(channel_ids=[1, 2], order_by=order, page_size=50).pages()
            for _ in range(4):
                page = await anext(pages)
                ids += [payment.id for payment in page.items]
            await pages.aclose()
        async with client_of(sandbox) as client:
            walk = client.payments.list(
                channel_ids=[1, 2], order_by=order, page_size=50, checkpoint=page.checkpoint
            )
            ids += [payment.id async for payment in walk]
            assert walk.report.complete
        assert sorted(ids) == sorted(wanted)


async def test_a_first_payment_at_an_offset_is_of_all_channels() -> None:
    """A single row at an offset is that of the list of all channels, too."""
    async with Sandbox(200, rules=LAST_ONLY) as sandbox, client_of(sandbox) as client:
        wanted = [row["id"] for row in sandbox.store.all_wire() if row["channelId"] in {"1", "2"}]
        first = await client.payments.list(channel_ids=[1, 2], offset=60).first()
        assert first is not None
        assert first.id == wanted[60]


async def test_a_channel_in_the_middle_of_the_list_is_not_left_out() -> None:
    """If the first and the last page have one channel only, reversing the channels shows the others."""
    rules = attrs.evolve(LAST_ONLY, hidden=lambda row: row["channelId"] == "1" and not 250 < row["id"] < 450)
    async with Sandbox(700, rules=rules) as sandbox, client_of(sandbox) as client:
        wanted = [
            row["id"]
            for row in sandbox.store.all_wire()
            if row["channelId"] == "2" or (row["channelId"] == "1" and 250 < row["id"] < 450)
        ]
        walk = client.payments.list(channel_ids=[1, 2], page_size=50)
        assert [payment.id async for payment in walk] == wanted
        assert walk.report.complete
