"""Hostile answers over the socket: a documented error within the limits, and a client that still works."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from b2b_payments import (
    APIError,
    B2BPaymentsError,
    PaginationError,
    RequestTimeoutError,
    ResponseDecodeError,
)
from b2b_payments._transport import MAX_BODY
from b2b_payments.export import JSONLSink, export, verify
from b2b_payments.sandbox import Fault, Rules, Sandbox, SeenRequest
from b2b_payments.sandbox._answer import Answer
from b2b_payments.sandbox._delivery import faulty
from tests.support.clients import NEVER, client_of
from tests.support.examples import LISTED_PAYMENT

ENDINGS: dict[Fault, tuple[type[B2BPaymentsError], str]] = {
    Fault.HUGE: (ResponseDecodeError, "larger than 33554432 bytes"),
    Fault.GZIP_BOMB: (ResponseDecodeError, "larger than 33554432 bytes"),
    Fault.DRIP: (RequestTimeoutError, r"no complete answer within 0\.2 s"),
    Fault.WRONG_TYPE: (ResponseDecodeError, "not JSON"),
    Fault.GARBAGE: (ResponseDecodeError, "not JSON"),
    Fault.EMPTY: (ResponseDecodeError, "is empty"),
    Fault.DEEP: (ResponseDecodeError, "nested too deeply"),
    Fault.NAN: (ResponseDecodeError, "not JSON"),
    Fault.INVALID_UTF8: (ResponseDecodeError, "not JSON"),
    Fault.REDIRECT: (APIError, "redirects are not followed"),
}


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Yield a sandbox that sends dripping answers slowly."""
    async with Sandbox(60, rules=Rules(quota=False, drip_interval=0.01)) as one:
        yield one


@pytest.mark.slow
@pytest.mark.parametrize(
    ("read", "fault"),
    [
        (read, fault)
        for read in ("get", "list", "stream", "channels")
        for fault in ENDINGS
        if (read, fault) != ("channels", Fault.NAN)  # it contains no payment id to spoil
        # A stream reads a large answer as a list does, once for each channel.
        if read != "stream" or fault not in {Fault.HUGE, Fault.GZIP_BOMB}
    ],
)
async def test_each_hostile_answer_is_a_documented_error(sandbox: Sandbox, fault: Fault, read: str) -> None:
    """Whatever is read, the error says what was wrong with the answer, and the next call succeeds."""
    kind, says = ENDINGS[fault]
    timeout = 0.2 if fault is Fault.DRIP else 30.0
    async with client_of(sandbox, retry=NEVER, timeout=timeout) as client:
        sandbox.order(fault, share=1)
        reads: dict[str, Callable[[], Any]] = {
            "get": lambda: client.payments.get(1),
            "list": lambda: client.payments.list().collect(),
            "stream": lambda: client.payments.stream(channel_ids=[1, 2]).collect(),
            "channels": client.channels.list,
        }
        with pytest.raises(kind, match=says):
            await reads[read]()
        sandbox.clear_faults()
        assert (await client.payments.get(1)).id == 1


@pytest.mark.parametrize("fault", [Fault.GZIP_BOMB, Fault.HUGE], ids=lambda fault: fault.name)
async def test_a_huge_body_is_not_held(sandbox: Sandbox, fault: Fault) -> None:
    """A body of more than 64 MiB, compressed or not, never takes much more memory than the limit."""
    faulty(fault, Answer(200, b""), sandbox.rules, 0)  # compresses the bomb, once
    async with client_of(sandbox, retry=NEVER) as client:
        await client.payments.get(1)
        sandbox.order(fault, times=1)
        tracemalloc.start()
        try:
            with pytest.raises(ResponseDecodeError):
                await client.payments.get(1)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < MAX_BODY + 8 * 2**20


async def test_duplicate_ids_come_out_once(sandbox: Sandbox) -> None:
    """A list with each row twice, whose pages exceed their total, yields each payment once, and ends."""
    sandbox.order(Fault.DUPLICATE_IDS, share=1)
    async with client_of(sandbox) as client:
        payments = await client.payments.list(page_size=10).collect()
    assert [payment.id for payment in payments] == sandbox.store.ids()


def page(rows: list[dict[str, Any]], **pagination: Any) -> web.Response:
    """Return an answer of the list."""
    body = {"code": 200, "data": rows, "meta": {"message": "SUCCESS", "pagination": pagination}}
    return web.Response(body=msgspec.json.encode(body), content_type="application/json")


@pytest.mark.parametrize("echo", ["asked", "another place", "none"])
@pytest.mark.parametrize("total", [10**9, 10**30, 0, -1, None])
async def test_endlessly_repeated_page_ends_the_walk(sandbox: Sandbox, echo: str, total: int | None) -> None:
    """If every offset has the same page, a walk yields each payment once and soon ends, at any total."""
    rows = list(sandbox.store.all_wire())[:10]

    def repeat(seen: SeenRequest) -> web.Response:
        offset = int(dict(seen.query)["offset"])
        said = {"asked": {"offset": offset}, "another place": {"offset": 500 + offset}, "none": {}}[echo]
        return page(rows, totalCount=total, **said)

    sandbox.answer_with(repeat)
    ids: list[int] = []
    async with client_of(sandbox) as client:
        walk = client.payments.list(page_size=10)
        try:
            async for one in walk.pages():
                ids += [payment.id for payment in one.items]
        except PaginationError as error:
            ending = error.message
        else:
            ending = walk.report.ending or ""
    assert ids == [row["id"] for row in rows]
    assert ending
    assert sandbox.request_count < 1_000


async def test_a_billion_rows_promised_and_none_given(sandbox: Sandbox) -> None:
    """A list that claims a billion rows and returns none ends at once, with a report that says why."""
    sandbox.answer_with(lambda seen: page([], totalCount=10**9, offset=int(dict(seen.query)["offset"])))
    async with client_of(sandbox) as client:
        walk = client.payments.list()
        assert await walk.collect() == []
    assert walk.report.ending
    assert "a total of 1,000,000,000" in walk.report.ending
    assert sandbox.request_count < 10


@pytest.mark.parametrize("moment", ['"1E+999990"', "1e999990", "-1e-999999", '"NaN"', "9" * 4_000])
async def test_absurd_time_is_an_error_at_once(sandbox: Sandbox, moment: str) -> None:
    """A time outside every calendar is refused quickly, even with a megabyte of digits."""
    row = sandbox.store.wire(1)
    body = msgspec.json.encode({"code": 200, "data": row | {"createdAt": "when"}, "meta": {}})
    hostile = body.replace(b'"when"', moment.encode())
    sandbox.answer_with(lambda _: web.Response(body=hostile, content_type="application/json"))
    begun = time.perf_counter()
    async with client_of(sandbox, retry=NEVER) as client:
        if moment == "-1e-999999":
            assert (await client.payments.get(1)).created_at.timestamp() == 0
        else:
            with pytest.raises(ResponseDecodeError, match="createdAt"):
                await client.payments.get(1)
    assert time.perf_counter() - begun < 2


@pytest.mark.parametrize("code", [100, 0, 302, 1_000, -1])
async def test_unknown_code_is_no_refusal(sandbox: Sandbox, code: int) -> None:
    """HTTP 200 with a code of no known meaning leaves a write's outcome unknown: it is settled by reading."""
    body = msgspec.json.encode({"code": code, "data": {"id": 1}, "meta": {}})

    def lie(seen: SeenRequest) -> web.Response | None:
        if seen.method != "DELETE" or sandbox.request_count > 1:
            return None
        sandbox.store.delete(1)
        return web.Response(body=body, content_type="application/json")

    sandbox.answer_with(lie)
    async with client_of(sandbox) as client:
        await client.payments.delete(1)
    assert [seen.method for seen in sandbox.requests][:2] == ["DELETE", "DELETE"]


async def test_404_for_a_missing_scope_is_no_deletion(sandbox: Sandbox) -> None:
    """If the credential may see nothing, a 404 after a lost answer leaves a delete's outcome unknown."""
    sandbox.rules = Rules(quota=False, missing_scope_status=404)
    sandbox.order(Fault.RESET_BEFORE, times=1)
    async with client_of(sandbox) as client:
        with pytest.raises(B2BPaymentsError, match="whether it was carried out is not known"):
            await client.payments.delete(1)
    assert 1 in sandbox.store


@pytest.mark.virtual_time
async def test_half_a_surrogate_pair_is_read(sandbox: Sandbox, tmp_path: Path) -> None:
    """A name that the service cut within an emoji is read with U+FFFD: typed, raw and exported."""
    pagination = {"totalCount": 1, "offset": 0, "limit": 250}
    row = {**LISTED_PAYMENT, "payerName": "~"}
    body = json.dumps({"code": 200, "data": [row], "meta": {"pagination": pagination}})
    sandbox.answer_with(lambda _: web.Response(body=body.replace("~", r"a\ud83d").encode()))
    async with client_of(sandbox, retry=NEVER) as client:
        assert [payment.payer_name async for payment in client.payments.list()] == ["a\ufffd"]
        assert [row["payerName"] async for row in client.payments.list().raw()] == ["a\ufffd"]
        path = tmp_path / "payments.jsonl"
        await export(client.payments.list(), JSONLSink(path))
    assert json.loads(path.read_text(encoding="utf-8"))["payerName"] == "a\ufffd"
    assert verify(path).account.sums.whole.rows == 1
