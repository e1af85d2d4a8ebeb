"""Resuming from a checkpoint, on a real socket."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from aiohttp import web

from b2b_payments import ConfigurationError, PaginationError, PaymentsClient
from b2b_payments.sandbox import Drift, Rules, Sandbox, SeenRequest

RULES = Rules(quota=False, equals="shuffled")


def carried(checkpoint: Any) -> Any:
    """Return a checkpoint as it is after a round trip through JSON."""
    return json.loads(json.dumps(checkpoint))


@pytest.mark.parametrize("seed", range(12))
async def test_a_walk_resumes_where_another_client_stopped(seed: int) -> None:
    """Each page is read by a new client, from the checkpoint of the page before, while payments change."""
    async with Sandbox(payments=200, channels=(1, 2), seed=seed, rules=RULES) as sandbox:
        before = set(sandbox.store.ids())
        drift = sandbox.before_list = Drift(seed, rate=0.5)
        ids: list[int] = []
        checkpoint, through = None, False
        while not through:
            async with PaymentsClient(sandbox.auth, base_url=sandbox.base_url, quota=None) as client:
                through = True
                async for page in client.payments.list(page_size=25, checkpoint=checkpoint).pages():
                    ids += [payment.id for payment in page.items]
                    checkpoint, through = carried(page.checkpoint), False
                    break
        assert len(ids) == len(set(ids))
        assert drift.lasting(before) <= set(ids)


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_stream_resumes_all_its_channels(ordered: bool) -> None:
    """Stopped after any page, a stream of three channels resumes each of them at its own position."""
    draw = random.Random(7)
    async with Sandbox(payments=300, channels=(1, 2, 3), seed=5, rules=RULES) as sandbox:
        before = set(sandbox.store.ids())
        drift = sandbox.before_list = Drift(5, rate=0.3)
        async with PaymentsClient(sandbox.auth, base_url=sandbox.base_url, quota=None) as client:
            ids: list[int] = []
            checkpoint, through = None, False
            while not through:
                stream = client.payments.stream(
                    channel_ids=[1, 2, 3], page_size=20, ordered=ordered, checkpoint=checkpoint
                )
                pages, through, left = stream.raw_pages(), True, draw.randint(1, 4)
                async for page in pages:
                    ids += [int(row["id"]) for row in page.items]
                    checkpoint = carried(page.checkpoint)
                    left -= 1
                    if not left:
                        through = False
                        break
                await pages.aclose()
        assert len(ids) == len(set(ids))
        assert drift.lasting(before) <= set(ids)


@pytest.mark.parametrize("order_by", ["ASC", "DESC"])
async def test_first_of_a_resumed_walk_is_what_it_yields_first(order_by: str) -> None:
    """`first()` continues at the checkpoint; at that of the last page, there is none."""
    async with (
        Sandbox(payments=60, rules=RULES) as sandbox,
        PaymentsClient(sandbox.auth, base_url=sandbox.base_url, quota=None) as client,
    ):
        pages = [page async for page in client.payments.list(page_size=25, order_by=order_by).pages()]
        first = [
            await client.payments.list(checkpoint=carried(page.checkpoint), order_by=order_by).first()
            for page in pages
        ]
        assert first == [*(page.items[0] for page in pages[1:]), None]


async def test_an_id_reused_after_a_restore_is_another_payment() -> None:
    """A payment is not delivered twice after a restore, but one that was created since with a used id is."""
    async with (
        Sandbox(payments=60, rules=RULES) as sandbox,
        PaymentsClient(sandbox.auth, base_url=sandbox.base_url, quota=None) as client,
    ):
        store = sandbox.store
        backup = store.snapshot()
        again = store.insert()
        given = [page async for page in client.payments.list().raw_pages()]
        for payment_id in (1, 30, 60):
            store.delete(payment_id)
        store.restore(backup)
        assert store.insert() == again
        rest = client.payments.list(checkpoint=carried(given[-1].checkpoint))
        (before,) = (row for page in given for row in page.items if int(row["id"]) == again)
        assert [(one.id, one.created_at.timestamp() > before["createdAt"]) async for one in rest] == [
            (again, True)
        ]
        assert rest.report.complete


async def test_a_running_walk_has_a_checkpoint() -> None:
    """`walk.checkpoint()` is the position before the current page: resuming from it loses nothing."""
    async with Sandbox(payments=100, channels=(1,), seed=5, rules=RULES) as sandbox:
        async with PaymentsClient(sandbox.auth, base_url=sandbox.base_url, quota=None) as client:
            walk = client.payments.list(page_size=20)
            assert walk.checkpoint()["place"] is None
            first = []
            async for payment in walk:
                first.append(payment.id)
                if len(first) == 30:
                    break
            rest = await client.payments.list(page_size=20, checkpoint=carried(walk.checkpoint())).collect()
        ids = first[:20] + [payment.id for payment in rest]
        assert sorted(ids) == sorted(sandbox.store.ids())
        assert first[20:] == [payment.id for payment in rest][:10]


async def test_a_checkpoint_of_another_list_is_refused() -> None:
    """Another filter, store, version or shape is refused before any request is sent."""
    async with (
        Sandbox(payments=50, channels=(1, 2), seed=5, rules=RULES) as sandbox,
        PaymentsClient(sandbox.auth, base_url=sandbox.base_url, quota=None) as client,
    ):
        first, *_ = [page async for page in client.payments.list(page_size=20).pages()]
        checkpoint = first.checkpoint
        sent = sandbox.request_count
        for changed, message in (
            ({"store": "https://elsewhere other"}, "for another store"),
            ({"store": "x" * 5_000}, r"for another store .{,100} not 'http"),
            ({"version": 99}, "not of version 2"),
            ({"version": "2"}, "not of version 2"),
            ({"version": 2.0}, "not of version 2"),
            ({"version": True}, "not of version 2"),
            ({"place": {"key": "x"}}, "damaged"),
            ({"place": {**checkpoint["place"], "resume_at": -1}}, "damaged"),
            ({"place": {**checkpoint["place"], "key": "NaN"}}, "damaged"),
        ):
            with pytest.raises(ConfigurationError, match=message):
                client.payments.list(checkpoint={**checkpoint, **changed})
        with pytest.raises(ConfigurationError, match="for another query"):
            client.payments.list(checkpoint=checkpoint, processing_status=3)
        with pytest.raises(ConfigurationError, match="only resume a walk by createdAt"):
            client.payments.list(checkpoint=checkpoint, sort_by="updatedAt")
        with pytest.raises(ConfigurationError, match="has no channel 1"):
            client.payments.stream(channel_ids=[1, 2], checkpoint=checkpoint)
        assert sandbox.request_count == sent


def unsorted(_seen: SeenRequest) -> web.Response:
    """Answer with two payments, newest first, whatever order was requested."""
    rows = [{"id": 2, "createdAt": 20}, {"id": 1, "createdAt": 10}]
    return web.json_response({"code": 200, "data": rows, "meta": {"message": "SUCCESS"}})


async def test_a_failed_walk_has_a_checkpoint() -> None:
    """A new walk can resume from the checkpoint of the PaginationError."""
    async with Sandbox(payments=200, channels=(1,), seed=5, rules=RULES) as sandbox:
        async with PaymentsClient(sandbox.auth, base_url=sandbox.base_url, quota=None) as client:
            ids: list[int] = []

            async def walk() -> None:
                async for payment in client.payments.list(page_size=20, concurrency=1):
                    ids.append(payment.id)
                    if len(ids) == 40:
                        sandbox.answer_with(unsorted)

            with pytest.raises(PaginationError) as caught:
                await walk()
            sandbox.answer_with(None)
            checkpoint = carried(caught.value.checkpoint)
            rest = await client.payments.list(page_size=20, checkpoint=checkpoint).collect()
        assert 40 <= len(ids) < 200
        assert sorted(ids + [payment.id for payment in rest]) == sorted(sandbox.store.ids())
