"""A proxy that mixes up answers on request: which answer arrives on which connection."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import aiohttp
import pytest

from b2b_payments.sandbox import Fault, Rules, Sandbox, SeenRequest
from b2b_payments.sandbox._answer import Answer
from b2b_payments.sandbox._delivery import Answered, Mixer


class _Line:
    """One connection to a sandbox."""

    def __init__(self, sandbox: Sandbox, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._sandbox = sandbox
        self._reader = reader
        self._writer = writer

    def ask(self, payment_id: int, method: str = "GET") -> None:
        """Send a request for a payment."""
        headers = "".join(f"{name}: {value}\r\n" for name, value in self._sandbox.headers.items())
        path = f"/api/v3/io/ip/payments/{payment_id}"
        self._writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())

    async def answer(self) -> tuple[int, Any]:
        """Return the next answer: its status, and the id in it (or its whole body)."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().partition("content-length: ")[2].partition("\r")[0])
        body = await self._reader.readexactly(length)
        status = int(head.split(" ")[1])
        return status, json.loads(body)["data"].get("id") if body[:1] == b"{" else body

    async def is_quiet(self) -> bool:
        """Whether nothing more arrives."""
        try:
            await asyncio.wait_for(self._reader.read(1), 0.02)
        except TimeoutError:
            return True
        return False


@asynccontextmanager
async def line_to(sandbox: Sandbox) -> AsyncIterator[_Line]:
    """Yield a connection to a sandbox."""
    reader, writer = await asyncio.open_connection("127.0.0.1", sandbox.port)
    try:
        yield _Line(sandbox, reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("after", [0, 0.01])
async def test_stray_answer(after: float) -> None:
    """The answer is followed by that of the previous request, at once or later."""
    async with (
        Sandbox(3, rules=Rules(stray_after=after)) as sandbox,
        line_to(sandbox) as line,
        line_to(sandbox) as other,
    ):
        other.ask(1)
        assert await other.answer() == (200, 1)
        sandbox.order(Fault.STRAY, times=1)
        line.ask(2)
        assert [await line.answer(), await line.answer()] == [(200, 2), (200, 1)]
        assert await line.is_quiet()


async def test_held_back_stray_answer() -> None:
    """An unrequested answer can be held back until the next request, and is then sent first."""
    async with Sandbox(3, rules=Rules(stray_after=None)) as sandbox, line_to(sandbox) as line:
        line.ask(1)
        assert await line.answer() == (200, 1)
        sandbox.order(Fault.STRAY, times=1)
        line.ask(2)
        assert await line.answer() == (200, 2)
        line.ask(3)
        assert [await line.answer(), await line.answer()] == [(200, 1), (200, 3)]


async def test_doubled_answer() -> None:
    """The same answer is sent twice on one connection."""
    async with Sandbox(3) as sandbox, line_to(sandbox) as line:
        sandbox.order(Fault.DOUBLED, times=1)
        line.ask(2)
        assert [await line.answer(), await line.answer()] == [(200, 2), (200, 2)]


async def test_late_answer_follows_a_gateways() -> None:
    """A gateway gives up; the request is carried out, and its answer follows unrequested."""
    async with Sandbox(3) as sandbox, line_to(sandbox) as line:
        sandbox.order(Fault.LATE, times=1)
        line.ask(2, "DELETE")
        status, page = await line.answer()
        assert (status, page[:6]) == (504, b"<html>")
        assert await line.answer() == (200, 2)
        assert 2 not in sandbox.store


async def test_swapped_answers() -> None:
    """Two concurrent requests get each other's answers."""
    async with (
        Sandbox(3, rules=Rules(swap_within=5)) as sandbox,
        line_to(sandbox) as line,
        line_to(sandbox) as other,
    ):
        sandbox.order(Fault.SWAPPED, times=1)
        line.ask(1)
        other.ask(2)
        assert [await line.answer(), await other.answer()] == [(200, 2), (200, 1)]


async def test_cancelled_request_is_not_swapped() -> None:
    """If a request that waits for a swap was just cancelled, the next one gets its own answer."""
    mixer = Mixer(lambda _asked, _other: True)
    one, other = (Answered(cast("SeenRequest", None), Answer.json(200, {"id": number})) for number in (1, 2))
    cancelled = asyncio.create_task(mixer.exchange(one, Fault.SWAPPED, 5))
    await asyncio.sleep(0)
    assert mixer._waiting is not None
    mixer._waiting[1].cancel()
    assert await mixer.exchange(other, None, 5) is other.answer
    with pytest.raises(asyncio.CancelledError):
        await cancelled


async def test_answers_that_may_not_be_mixed() -> None:
    """`may_mix` decides which requests may get each other's answers, swapped or held back."""
    async with (
        Sandbox(3, rules=Rules(swap_within=0.05, stray_after=None)) as sandbox,
        line_to(sandbox) as line,
        line_to(sandbox) as other,
    ):
        sandbox.may_mix = lambda asked, mixed: asked.method == mixed.method
        sandbox.order(Fault.SWAPPED, times=1)
        line.ask(1)
        other.ask(2, "DELETE")
        assert [await line.answer(), await other.answer()] == [(200, 1), (200, 2)]
        sandbox.order(Fault.DOUBLED, times=1)
        line.ask(1)
        assert await line.answer() == (200, 1)
        line.ask(3, "DELETE")
        assert (await line.answer(), sandbox.mixed_up) == ((200, 3), 0)


async def test_swap_without_another_request() -> None:
    """A swap that finds no other answer in time changes nothing."""
    async with Sandbox(3, rules=Rules(swap_within=0.01)) as sandbox, line_to(sandbox) as line:
        sandbox.order(Fault.SWAPPED, times=1)
        line.ask(1)
        assert await line.answer() == (200, 1)
        line.ask(2)
        assert await line.answer() == (200, 2)


async def _data(sandbox: Sandbox, method: str, path: str, **options: Any) -> Any:
    async with (
        aiohttp.ClientSession(headers=sandbox.headers) as session,
        session.request(method, f"{sandbox.base_url}/ip/payments{path}", **options) as response,
    ):
        return await response.json()


@pytest.mark.parametrize(
    ("echo", "offset"),
    [("asked", {"offset": 9}), ("zero", {"offset": 0}), ("clamped", {"offset": 3}), (None, {})],
)
async def test_echoed_offset(echo: Any, offset: dict[str, int]) -> None:
    """A list's answer states the requested offset, a different one, or none."""
    async with Sandbox(3, rules=Rules(echo_offset=echo)) as sandbox:
        pagination = (await _data(sandbox, "GET", "?offset=9"))["meta"]["pagination"]
        assert pagination == {"totalCount": 3, "limit": 10} | offset


@pytest.mark.parametrize(("written", "data"), [("right", {"id": 2}), ("wrong", {"id": 3}), ("absent", {})])
async def test_id_in_the_answer_to_a_write(written: Any, data: dict[str, int]) -> None:
    """The answer to a write has its payment's id, a different one, or none."""
    async with Sandbox(3, rules=Rules(written_ids=written)) as sandbox:
        assert (await _data(sandbox, "DELETE", "/2"))["data"] == data
        assert 2 not in sandbox.store
