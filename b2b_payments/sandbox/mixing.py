"""A proxy that mixes answers up: which request gets which answer, and what else comes on its connection."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from weakref import WeakKeyDictionary

from aiohttp import web

from b2b_payments.sandbox.answer import Answer
from b2b_payments.sandbox.faults import Fault

_NOTHING = Answer.error(404, "Payment not found")


class Mixer:
    """Holds the answers that are on the way, and gives them to others."""

    def __init__(self) -> None:
        self._before = _NOTHING
        self._waiting: tuple[Answer, asyncio.Future[Answer]] | None = None
        self._held: WeakKeyDictionary[asyncio.BaseTransport, bytes] = WeakKeyDictionary()

    async def exchanged(self, answer: Answer, fault: Fault | None, within: float) -> Answer:
        """Give what the request gets: its own answer, or another's that is on the way at the same time."""
        if self._waiting is not None:
            (others, turn), self._waiting = self._waiting, None
            turn.set_result(answer)
            return others
        if fault is not Fault.SWAPPED:
            return answer
        turn = asyncio.get_running_loop().create_future()
        waiting = self._waiting = answer, turn
        try:
            return await asyncio.wait_for(turn, within)
        except TimeoutError:
            return answer
        finally:
            if self._waiting is waiting:
                self._waiting = None

    def unasked(self, answer: Answer, fault: Fault | None) -> Answer | None:
        """Give what comes on the connection besides the answer; None where nothing does."""
        before, self._before = self._before, answer
        return {Fault.STRAY: before, Fault.DOUBLED: answer, Fault.LATE: answer}.get(fault) if fault else None

    def let_go(self, request: web.BaseRequest) -> None:
        """Send what was held back on this connection, in front of the answer to this request."""
        if self._held and request.transport is not None:
            request.transport.write(self._held.pop(request.transport, b""))

    async def follow(
        self, request: web.BaseRequest, response: web.StreamResponse, unasked: Answer, after: float | None
    ) -> None:
        """Send a response whole, and behind it an answer that nobody asked for."""
        await response.prepare(request)
        await response.write_eof()
        connection = request.transport
        if connection is None:
            return
        if after is None:
            self._held[connection] = self._held.get(connection, b"") + _written(unasked)
        elif after == 0:
            connection.write(_written(unasked))
        else:
            asyncio.get_running_loop().call_later(after, _write, connection, _written(unasked))


def _write(connection: asyncio.WriteTransport, data: bytes) -> None:
    if not connection.is_closing():
        connection.write(data)


def _written(answer: Answer) -> bytes:
    head = (
        f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\n"
        f"Content-Type: {answer.content_type}\r\nContent-Length: {len(answer.body)}\r\n\r\n"
    )
    return head.encode() + answer.body
