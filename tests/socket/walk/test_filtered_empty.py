"""Lists under a filter that are empty."""

from __future__ import annotations

from typing import Any

import pytest

from b2b_payments import ProcessingStatus
from b2b_payments.sandbox import Fault, Rules, Sandbox
from tests.support.clients import client_of

pytestmark = pytest.mark.virtual_time

RULES = Rules(quota=False)


@pytest.mark.parametrize(
    "filters",
    [
        {"processing_status": 3},
        {"customer_name": "a"},
        {"search_by": "id", "q": "7"},
        {"channel_ids": [1]},
    ],
    ids=lambda filters: next(iter(filters)),
)
async def test_a_filtered_list_is_not_empty_after_two_answers(filters: Any) -> None:
    """A list under a filter that is empty in both directions is read again, as one of a whole store is."""
    async with (
        Sandbox(200, rules=RULES) as sandbox,
        client_of(sandbox) as other,
        client_of(sandbox) as client,
    ):
        wanted = await other.payments.list(**filters).collect()
        if "channel_ids" in filters:
            await client.payments.list(channel_ids=[2]).collect()  # so that the encoding is known
        sandbox.order(Fault.EMPTY_LIST, times=3)
        walk = client.payments.list(**filters)
        assert wanted
        assert await walk.collect() == wanted
        assert walk.report.complete


@pytest.mark.parametrize("method", ["count", "first", "collect"])
async def test_an_empty_list_contradicts_payments_seen_under_the_filter(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Payments seen under a filter that still match it are not gone, however often the list is empty."""
    monkeypatch.setattr("b2b_payments._walk.proof._WAITS", (0.01,))
    async with Sandbox(60, rules=RULES) as sandbox, client_of(sandbox) as client:
        walk = client.payments.list(processing_status=3)
        assert await getattr(walk, method)()
        sandbox.order(Fault.EMPTY_LIST, share=1)
        assert await walk.collect() == []
        assert not walk.report.complete
        assert "no longer shows payments that are still there" in str(walk.report.ending)


async def test_a_filter_that_all_payments_have_left_is_empty() -> None:
    """A payment that now has another status has left the list, and contradicts nothing."""
    async with Sandbox(60, rules=RULES) as sandbox, client_of(sandbox) as client:
        walk = client.payments.list(processing_status=ProcessingStatus.COMPLETED)
        for payment in await walk.collect():
            sandbox.store.update(payment.id, processingStatus=int(ProcessingStatus.REFUNDED))
        assert await walk.collect() == []
        assert walk.report.complete
        assert walk.report.looked_up


async def test_a_filter_whose_payments_were_deleted_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Payments seen under a filter that answer 404, while others are found by id, contradict nothing."""
    monkeypatch.setattr("b2b_payments._walk.proof._EMPTY_WAITS", (0.01,))
    async with Sandbox(60, rules=RULES) as sandbox, client_of(sandbox) as client:
        walk = client.payments.list(processing_status=ProcessingStatus.COMPLETED)
        for payment in await walk.collect():
            sandbox.store.delete(payment.id)
        looked_up = []
        for _ in range(2):
            assert await walk.collect() == []
            assert walk.report.complete
            looked_up.append(walk.report.looked_up)
        assert looked_up == [3, 0]


async def test_a_filter_whose_payments_may_be_out_of_scope_is_not_empty() -> None:
    """If every payment answers 404, those seen under a filter may still exist."""
    async with Sandbox(60, rules=RULES) as sandbox, client_of(sandbox) as client:
        walk = client.payments.list(processing_status=ProcessingStatus.COMPLETED)
        assert await walk.collect()
        sandbox.rules = Rules(quota=False, hidden=lambda _: True)
        assert await walk.collect() == []
        assert not walk.report.complete
