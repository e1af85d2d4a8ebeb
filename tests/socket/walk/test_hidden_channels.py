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
    """It costs one more request per other encoding until one is confirmed, and then none."""
    rules = Rules(channel_encoding=understood, other_channel_encodings="nothing")
    async with Sandbox(60, (1, 2, 9), rules=rules) as sandbox, client_of(sandbox) as client:
        sandbox.rules = attrs.evolve(rules, hidden=lambda row: bool(row["channelId"] == "9"))
        walk = client.payments.list(channel_ids=[9])
        assert await walk.collect() == []
        assert walk.report.complete
        assert sandbox.request_count == 4 + 3
        if understood:
            await client.payments.list(channel_ids=[1]).collect()
            before = sandbox.request_count
            assert await client.payments.list(channel_ids=[9]).collect() == []
            assert sandbox.request_count == before + 4


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
