"""Every fault of the sandbox, over a raw session: its effect, and whether the request is carried out."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import aiohttp
import pytest

from b2b_payments.sandbox import Fault, Rules, Sandbox

RULES = Rules(
    drip_interval=0, refusal_wait=7, refusal_headers=("retry-after",), redirect_to="https://x.invalid/y"
)


async def _delete(sandbox: Sandbox, timeout: float = 5) -> tuple[int, str, bytes, Any]:
    async with (
        aiohttp.ClientSession(
            headers=sandbox.headers, timeout=aiohttp.ClientTimeout(total=timeout)
        ) as session,
        session.delete(f"{sandbox.base_url}/ip/payments/1", allow_redirects=False) as response,
    ):
        return response.status, response.content_type, await response.read(), response.headers


async def _list(sandbox: Sandbox) -> bytes:
    async with (
        aiohttp.ClientSession(headers=sandbox.headers) as session,
        session.get(f"{sandbox.base_url}/ip/payments") as response,
    ):
        return await response.read()


@pytest.mark.parametrize("fault", [Fault.REFUSE, Fault.RESET_BEFORE, Fault.RESET_AFTER, Fault.RESET_DURING])
async def test_resets(fault: Fault) -> None:
    """The connection is reset, not closed."""
    async with Sandbox(payments=1) as sandbox:
        sandbox.order(fault, times=1)
        credentials = "".join(f"{name}: {value}\r\n" for name, value in sandbox.headers.items())
        text = f"DELETE /api/v3/io/ip/payments/1 HTTP/1.1\r\nHost: localhost\r\n{credentials}\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", sandbox.port)
        writer.write(text.encode())
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        assert (1 in sandbox.store) is not fault.carried_out
        assert [seen.status for seen in sandbox.requests] == [None]


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.HANG_BEFORE])
async def test_hangs(fault: Fault) -> None:
    """No answer ever comes."""
    async with Sandbox(payments=1) as sandbox:
        sandbox.order(fault, times=1)
        with pytest.raises(TimeoutError):
            await _delete(sandbox, timeout=0.1)
        assert (1 in sandbox.store) is not fault.carried_out


async def test_truncated() -> None:
    """The body is shorter than its stated length, and the connection is closed."""
    async with Sandbox(payments=1) as sandbox:
        sandbox.order(Fault.TRUNCATED, times=1)
        with pytest.raises(aiohttp.ClientPayloadError, match="Not enough data"):
            await _delete(sandbox)
        assert 1 not in sandbox.store


@pytest.mark.parametrize(
    ("fault", "status", "kind", "start"),
    [
        (Fault.HTML_404, 404, "text/html", b"<html>"),
        (Fault.HTML_502, 502, "text/html", b"<html>"),
        (Fault.HTML_502_AFTER, 502, "text/html", b"<html>"),
        (Fault.RATE_LIMITED, 429, "application/json", b'{"code":429'),
        (Fault.ERROR_500, 500, "application/json", b'{"code":500'),
        (Fault.ERROR_500_AFTER, 500, "application/json", b'{"code":500'),
        (Fault.ERROR_503, 503, "application/json", b'{"code":503'),
        (Fault.ERROR_408, 408, "application/json", b'{"code":408'),
        (Fault.ERROR_408_AFTER, 408, "application/json", b'{"code":408'),
        (Fault.ERROR_421, 421, "application/json", b'{"code":421'),
        (Fault.ERROR_425, 425, "application/json", b'{"code":425'),
        (Fault.OK_WITH_CODE_500, 200, "application/json", b'{"code":500'),
        (Fault.OK_WITH_CODE_500_AFTER, 200, "application/json", b'{"code":500'),
        (Fault.GARBAGE, 200, "application/json", b"\x00"),
        (Fault.EMPTY, 200, "application/json", b""),
        (Fault.WRONG_TYPE, 200, "text/html", b"<html>"),
        (Fault.DRIP, 200, "application/json", b'{"code":200'),
        (Fault.REDIRECT, 302, "application/json", b""),
        (Fault.DEEP, 200, "application/json", b'{"code":200,"data":[[[['),
    ],
)
async def test_answers(fault: Fault, status: int, kind: str, start: bytes) -> None:
    """The wrong answer is sent, and the request is carried out if the fault says so."""
    async with Sandbox(payments=1, rules=RULES) as sandbox:
        sandbox.order(fault, times=1)
        answered, content_type, body, headers = await _delete(sandbox)
        assert (answered, content_type) == (status, kind)
        assert body.startswith(start)
        assert (body == b"") is (start == b"")
        assert (1 in sandbox.store) is not fault.carried_out
        assert sandbox.requests[-1].status == status
        assert headers["X-Request-Id"]
        assert headers.get("Retry-After") == ("7" if fault is Fault.RATE_LIMITED else None)
        assert headers.get("Location") == ("https://x.invalid/y" if fault is Fault.REDIRECT else None)


@pytest.mark.parametrize("fault", [Fault.HUGE, Fault.GZIP_BOMB])
async def test_too_large(fault: Fault) -> None:
    """The body is larger than 64 MiB, even if it is compressed to few bytes."""
    async with (
        Sandbox(payments=1) as sandbox,
        aiohttp.ClientSession(headers=sandbox.headers) as session,
    ):
        sandbox.order(fault, times=1)
        async with session.get(f"{sandbox.base_url}/ip/payments/1") as response:
            size = 0
            async for chunk in response.content.iter_any():
                size += len(chunk)
        assert size > 64 * 2**20


async def test_invalid_utf8() -> None:
    """A string of the answer is not UTF-8."""
    async with Sandbox(payments=1) as sandbox:
        sandbox.order(Fault.INVALID_UTF8, times=1)
        with pytest.raises(UnicodeDecodeError):
            json.loads(await _list(sandbox))


async def test_nan() -> None:
    """An id is NaN, which is not JSON but is accepted by lax parsers."""
    async with Sandbox(payments=1) as sandbox:
        sandbox.order(Fault.NAN, times=1)
        assert math.isnan(json.loads(await _list(sandbox))["data"][0]["id"])


async def test_duplicate_ids() -> None:
    """Each row of a list appears twice; an answer that is not a list is unchanged."""
    async with Sandbox(payments=2) as sandbox:
        sandbox.order(Fault.DUPLICATE_IDS, times=2)
        assert [row["id"] for row in json.loads(await _list(sandbox))["data"]] == [2, 2, 1, 1]
        assert json.loads((await _delete(sandbox))[2])["data"] == {"id": 1}


@pytest.mark.parametrize("fault", [Fault.DUPLICATE_IDS, Fault.OTHER_STORE])
async def test_answers_without_rows_are_unchanged(fault: Fault) -> None:
    """A fault of rows leaves an answer without a body, a gateway's page, and a refusal's headers alone."""
    async with Sandbox(payments=2, rules=Rules(success_status=204)) as sandbox:
        sandbox.order(fault, share=1)
        assert (await _delete(sandbox))[:3:2] == (204, b"")
        sandbox.rules = Rules(requests=1, refusal_headers=("retry-after",))
        async with aiohttp.ClientSession(headers=sandbox.headers) as session:
            async with session.get(f"{sandbox.base_url}/nothing") as page:
                assert (page.status, page.content_type) == (404, "text/html")
            async with session.get(f"{sandbox.base_url}/ip/payments") as refused:
                assert (refused.status, refused.headers["Retry-After"]) == (429, "60")


async def test_empty_lists() -> None:
    """The next `times` lists are empty, in a normal envelope; other answers are unaffected."""
    async with Sandbox(payments=3) as sandbox:
        sandbox.order(Fault.EMPTY_LIST, times=2)
        assert (await _delete(sandbox))[0] == 200
        for total in (0, 0, 2):
            body = json.loads(await _list(sandbox))
            assert len(body["data"]) == total
            assert body["meta"] == {
                "message": "SUCCESS",
                "pagination": {"totalCount": total, "offset": 0, "limit": 10},
            }
        sandbox.rules = Rules(total_count="absent", echo=None)
        sandbox.order(Fault.EMPTY_LIST, times=1)
        body = json.loads(await _list(sandbox))
        assert (body["data"], body["meta"]["pagination"]) == ([], {"offset": 0})


async def test_share_of_requests() -> None:
    """A fault affects a share of the requests until the faults are cleared."""
    async with Sandbox(payments=1, rules=Rules(quota=False)) as sandbox:
        sandbox.order(Fault.GARBAGE, share=0.5, methods=("GET",), path=r"/ip/payments$")
        bodies = [await _list(sandbox) for _ in range(40)]
        assert 8 < sum(body.startswith(b"{") for body in bodies) < 32
        sandbox.clear_faults()
        assert (await _list(sandbox)).startswith(b"{")


async def test_fault_on_a_refused_request() -> None:
    """A request over the quota is not carried out, whatever fault affects it."""
    async with Sandbox(payments=1, rules=Rules(requests=1, per=3600)) as sandbox:
        await _list(sandbox)
        sandbox.order(Fault.ERROR_500_AFTER, times=1)
        assert (await _delete(sandbox))[0] == 500
        assert (await _delete(sandbox))[0] == 429
        assert 1 in sandbox.store


async def test_client_that_leaves() -> None:
    """A client that disconnects while its answer drips does no harm."""
    async with Sandbox(payments=1, rules=Rules(drip_interval=0.01)) as sandbox:
        sandbox.order(Fault.DRIP, times=1)
        with pytest.raises(TimeoutError):
            await _delete(sandbox, timeout=0.05)
        (unfinished,) = sandbox._handlers
        await asyncio.wait_for(unfinished, 5)
        assert (await _delete(sandbox))[0] == 404
