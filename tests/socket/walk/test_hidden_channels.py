"""A service that gives nothing where `channelIds` is spelled in a way that it does not know."""

from __future__ import annotations

import pytest

from b2b_payments import PaginationError
from b2b_payments.sandbox import Fault, Rules, Sandbox, SeenRequest, Store
from tests.support.clients import client_of


async def test_an_empty_list_is_not_believed_where_another_spelling_showed_the_channel() -> None:
    """Payments of the channel came among others; a spelling in which none comes is no answer to that."""
    async with Sandbox(60, rules=Rules(ignores={"channelIds"})) as sandbox, client_of(sandbox) as client:

        def empty_from_the_second_on(_store: Store, _seen: SeenRequest) -> None:
            sandbox.order(Fault.EMPTY_LIST, share=1)

        sandbox.before_list = empty_from_the_second_on
        walk = client.payments.list(channel_ids=[2])
        with pytest.raises(PaginationError, match="misreads channelIds"):
            await walk.collect()
        assert not walk.report.complete


async def test_an_empty_channel_is_empty() -> None:
    """Where no spelling shows a payment of the channel, a spelling that gives none is believed."""
    rules = Rules(channel_encoding="brackets", hidden=lambda row: bool(row["channelId"] == "2"))
    async with Sandbox(60, rules=rules) as sandbox, client_of(sandbox) as client:
        walk = client.payments.list(channel_ids=[2])
        assert await walk.collect() == []
        assert walk.report.complete
