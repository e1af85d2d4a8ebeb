"""A proxy that mixes answers up: which request gets which answer, and what else comes on its connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple
from weakref import WeakKeyDictionary

from aiohttp import web

from b2b_payments.sandbox._answer import Answer
from b2b_payments.sandbox._faults import Fault
from b2b_payments.sandbox._seen import SeenRequest

MayMix = Callable[[SeenRequest, SeenRequest], bool]


class Answered(NamedTuple):
    """A request, and the service's own answer to it."""

    seen: SeenRequest
    answer: Answer


class Mixer:
    """Holds the answers that are on the way, and gives them to others.

    `may_mix` says whether a request may get the answer to another; without it any may. `mixed` counts those
    that went astray.
    """

    def __init__(self) -> None:
        self.may_mix: MayMix | None = None
        self.mixed = 0
        self._before: Answered | None = None
        self._waiting: tuple[Answered, asyncio.Future[Answer]] | None = None
        self._held: WeakKeyDictionary[asyncio.BaseTransport, list[Answered]] = WeakKeyDictionary()

    async def exchanged(self, own: Answered, fault: Fault | None, within: float) -> Answer:
        """Give what a request gets: its own answer, or another's that is on the way at the same time."""
        waiting = self._waiting
        # Given up at this very moment, it waits no more.
        if waiting is not None and not waiting[1].done() and self._may(own.seen, waiting[0].seen):
            (others, turn), self._waiting = waiting, None
            turn.set_result(own.answer)
            self.mixed += 2
            return others.answer
        if fault is not Fault.SWAPPED or self._waiting is not None:
            return own.answer
        turn = asyncio.get_running_loop().create_future()
        waiting = self._waiting = own, turn
        try:
            return await asyncio.wait_for(turn, within)
        except TimeoutError:
            return own.answer
        finally:
            if self._waiting is waiting:
                self._waiting = None

    def unasked(self, own: Answered, fault: Fault | None) -> Answered | None:
        """Give what comes on the connection besides the answer; None where nothing does."""
        before, self._before = self._before or own, own
        return {Fault.STRAY: before, Fault.DOUBLED: own, Fault.LATE: own}.get(fault) if fault else None

    def let_go(self, request: web.BaseRequest, seen: SeenRequest) -> None:
        """Send what was held back on this connection, in front of the answer to this request."""
        if not self._held or request.transport is None:
            return
        for unasked in self._held.pop(request.transport, ()):
            if self._may(seen, unasked.seen):
                self._send(request.transport, unasked.answer)

    async def follow(
        self, request: web.BaseRequest, response: web.StreamResponse, unasked: Answered, after: float | None
    ) -> None:
        """Send a response whole, and behind it an answer that nobody asked for."""
        await response.prepare(request)
        await response.write_eof()
        connection = request.transport
        if connection is None:
            return
        if after is None:
            self._held.setdefault(connection, []).append(unasked)
        elif after == 0:
            self._send(connection, unasked.answer)
        else:
            asyncio.get_running_loop().call_later(after, self._send, connection, unasked.answer)

    def _may(self, asked: SeenRequest, other: SeenRequest) -> bool:
        return self.may_mix is None or self.may_mix(asked, other)

    def _send(self, connection: asyncio.WriteTransport, answer: Answer) -> None:
        if connection.is_closing():
            return
        self.mixed += 1
        head = (
            f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\n"
            f"Content-Type: {answer.content_type}\r\nContent-Length: {len(answer.body)}\r\n\r\n"
        )
        connection.write(head.encode() + answer.body)
