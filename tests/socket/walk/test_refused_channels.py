"""A service that refuses encodings of `channelIds` that it does not understand."""

from __future__ import annotations

from typing import Any

import attrs
import msgspec
import pytest
from aiohttp import web

from b2b_payments import APIError, BadRequestError, PaginationError, PaymentsClient, ValidationError
from b2b_payments._protocol.query import ChannelEncoding
from b2b_payments.sandbox import Rules, Sandbox, SeenRequest
from tests.support.clients import client_of

ENCODINGS = {
    "repeat": ChannelEncoding.REPEAT,
    "brackets-comma": ChannelEncoding.BRACKETS_COMMA,
    "brackets": ChannelEncoding.BRACKETS,
    "comma": ChannelEncoding.COMMA,
}
IN_ORDER = list(ChannelEncoding)
refusals = pytest.mark.parametrize("status", [400, 422])


def channel_pairs(seen: SeenRequest) -> list[tuple[str, str]]:
    """Return the query pairs with which a request wrote its channels."""
    return [pair for pair in seen.query if pair[0].startswith("channelIds")]


def refusal(status: int, data: dict[str, Any]) -> web.Response:
    """Return a refusal."""
    body = {"code": status, "data": data, "meta": {"message": "Parameter Error"}}
    return web.Response(status=status, body=msgspec.json.encode(body))


@refusals
@pytest.mark.parametrize("understood", ENCODINGS)
async def test_the_next_encoding_is_tried_and_remembered(understood: Any, status: Any) -> None:
    """Whichever encoding is the only one accepted, the client finds it once, and walks exactly."""
    rules = Rules(channel_encoding=understood, other_channel_encodings=status)
    async with Sandbox(60, rules=rules) as sandbox, client_of(sandbox) as client:
        wanted = {row["id"] for row in sandbox.store.all_wire() if row["channelId"] in {"1", "2"}}
        for _ in range(2):
            walk = client.payments.list(channel_ids=[1, 2])
            assert {payment.id async for payment in walk} == wanted
            assert walk.report.complete
            assert channel_pairs(sandbox.requests[-1]) == ENCODINGS[understood].pairs([1, 2])
        refused = [seen for seen in sandbox.requests if seen.status == status]
        assert len(refused) == IN_ORDER.index(ENCODINGS[understood])


@refusals
async def test_streams_counts_and_first_rows_find_it_too(status: Any) -> None:
    """A stream, a count and a first payment try the next encoding like a walk."""
    rules = Rules(channel_encoding="brackets", other_channel_encodings=status)
    async with Sandbox(60, rules=rules) as sandbox:
        of = {
            one: [row for row in sandbox.store.all_wire() if row["channelId"] == str(one)] for one in (1, 2)
        }

        async def streamed(client: PaymentsClient) -> None:
            ids = sorted([payment.id async for payment in client.payments.stream(channel_ids=[2, 1])])
            assert ids == sorted(row["id"] for rows in of.values() for row in rows)

        async def counted(client: PaymentsClient) -> None:
            assert await client.payments.list(channel_ids=[2]).count() == len(of[2])

        async def looked(client: PaymentsClient) -> None:
            first = await client.payments.list(channel_ids=[2]).first()
            assert first is not None
            assert first.id == of[2][0]["id"]

        for work in (streamed, counted, looked):
            async with client_of(sandbox) as client:
                await work(client)


@refusals
async def test_a_refused_encoding_does_not_doubt_an_empty_channel(status: Any) -> None:
    """If a channel is empty in the accepted encoding, the refusals of the others show nothing else."""
    rules = Rules(channel_encoding="repeat", other_channel_encodings=status)
    async with Sandbox(60, (1, 2, 9), rules=rules) as sandbox, client_of(sandbox) as client:
        sandbox.rules = attrs.evolve(rules, hidden=lambda row: bool(row["channelId"] == "9"))
        walk = client.payments.list(channel_ids=[9])
        assert await walk.collect() == []
        assert walk.report.complete
        assert status in {seen.status for seen in sandbox.requests}


@refusals
async def test_if_all_are_refused_the_first_refusal_is_raised(status: Any) -> None:
    """If no encoding is accepted, the first refusal is raised, and nothing is learned from it."""
    async with Sandbox(60) as sandbox, client_of(sandbox) as client:
        sandbox.answer_with(
            lambda _: refusal(status, {"errMsg": f"refused for the {sandbox.request_count}. time"})
        )
        with pytest.raises(APIError, match=r"refused for the 1\. time") as caught:
            await client.payments.list(channel_ids=[1, 2]).collect()
        assert type(caught.value) is (BadRequestError if status == 400 else ValidationError)
        assert [channel_pairs(seen) for seen in sandbox.requests] == [one.pairs([1, 2]) for one in IN_ORDER]
        sandbox.answer_with(None)
        assert await client.payments.list(channel_ids=[1, 2]).first() is not None
        assert channel_pairs(sandbox.requests[-1]) == IN_ORDER[0].pairs([1, 2])


@refusals
async def test_a_refusal_of_another_field_is_raised(status: Any) -> None:
    """A refusal that names only other fields is raised at once."""
    async with Sandbox(60) as sandbox, client_of(sandbox) as client:
        sandbox.answer_with(lambda _: refusal(status, {"invoice_id": ["No such invoice."]}))
        with pytest.raises(APIError, match=r"invoice_id: No such invoice\."):
            await client.payments.list(channel_ids=[1], invoice_id=7).collect()
        assert sandbox.request_count == 1


@pytest.mark.parametrize("data", [{"errMsg": "No"}, {"channel_ids": ["No such channel."]}])
@refusals
async def test_an_accepted_encoding_is_not_doubted(status: Any, data: dict[str, Any]) -> None:
    """Once an encoding was accepted, a refusal has another cause, and is raised at once."""
    async with Sandbox(120) as sandbox, client_of(sandbox) as client:
        sandbox.answer_with(
            lambda seen: refusal(status, data) if dict(seen.query).get("offset") != "0" else None
        )
        with pytest.raises(APIError, match=r"No"):
            await client.payments.list(channel_ids=[1, 2], page_size=20, concurrency=1).collect()
        assert [seen.status for seen in sandbox.requests] == [200, status]
        sandbox.answer_with(None)
        assert await client.payments.list(channel_ids=[1, 2]).first() is not None
        assert {str(channel_pairs(seen)) for seen in sandbox.requests} == {str(IN_ORDER[0].pairs([1, 2]))}


@refusals
async def test_one_channel_may_be_accepted_while_several_are_refused(status: Any) -> None:
    """That an encoding was accepted for one channel says nothing about several."""
    rules = Rules(channel_encoding="comma", other_channel_encodings=status)
    async with Sandbox(60, rules=rules) as sandbox, client_of(sandbox) as client:
        assert await client.payments.list(channel_ids=[2]).first() is not None
        assert sandbox.request_count == 1
        walk = client.payments.list(channel_ids=[1, 2])
        assert {payment.channel_id async for payment in walk} == {1, 2}


@pytest.mark.parametrize("refused", [0, 2, 3])
@refusals
async def test_one_encoding_is_refused_and_the_others_are_ignored(status: Any, refused: int) -> None:
    """Such a service is noticed, and no row of other channels is returned."""
    pairs = IN_ORDER[refused].pairs([1, 2])
    async with Sandbox(60, rules=Rules(channel_encoding=())) as sandbox, client_of(sandbox) as client:
        sandbox.answer_with(
            lambda seen: refusal(status, {"errMsg": "Bad."}) if channel_pairs(seen) == pairs else None
        )
        for _ in range(2):
            walk = client.payments.list(channel_ids=[1, 2])
            with pytest.raises(PaginationError, match="misreads channelIds however it is written"):
                await walk.collect()
            assert walk.report.rows == 0
        # An ignored encoding is requested twice, but only by the first walk.
        assert sandbox.request_count == 2 * len(IN_ORDER) - 1


async def test_a_refused_probe_shows_nothing() -> None:
    """If one of several channels has no rows, and is refused alone, the others' rows are returned."""
    async with Sandbox(60) as sandbox, client_of(sandbox) as client:
        sandbox.answer_with(
            lambda seen: (
                refusal(422, {"channel_ids": ["No such channel."]})
                if channel_pairs(seen) == [("channelIds", "77")]
                else None
            )
        )
        walk = client.payments.list(channel_ids=[1, 77])
        assert {payment.channel_id async for payment in walk} == {1}
        assert walk.report.complete


@pytest.mark.parametrize(
    "given", [{"order_by": "DESC"}, {"sort_by": "updatedAt"}, {"sort_by": "totalAmount"}, {}]
)
@pytest.mark.parametrize("channel_ids", [None, [1], [2, 1]])
async def test_counts_and_first_rows_need_no_order(
    channel_ids: list[int] | None, given: dict[str, Any]
) -> None:
    """If the service ignores the order, it still has a count, and a first payment of its own."""
    async with (
        Sandbox(300, rules=Rules(ignores=("sortBy", "orderBy"))) as sandbox,
        client_of(sandbox) as client,
    ):
        for payment_id in (7, 3, 200):
            sandbox.store.update(payment_id, payerName="Changed")
        rows = [
            row
            for row in sandbox.store.all_wire()
            if channel_ids is None or int(row["channelId"]) in channel_ids
        ]
        walk = client.payments.list(channel_ids=channel_ids, **given)
        assert await walk.count() == len(rows)
        first = await walk.first()
        assert first is not None
        assert first.id == rows[0]["id"]


@pytest.mark.parametrize("channel_ids", [None, [2]])
async def test_the_first_row_is_the_first_in_the_requested_order(channel_ids: list[int] | None) -> None:
    """If the service honours the order, `first()` is the first in it, from the offset on."""
    async with Sandbox(60) as sandbox, client_of(sandbox) as client:
        rows = [
            row["id"] for row in sandbox.store.all_wire() if channel_ids is None or row["channelId"] == "2"
        ]
        for order, expected in (("ASC", rows[4]), ("DESC", rows[-5])):
            first = await client.payments.list(channel_ids=channel_ids, order_by=order, offset=4).first()
            assert first is not None
            assert first.id == expected
