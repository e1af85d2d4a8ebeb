"""Putting an answer on the wire: whole, broken, made wrong on purpose, or given to another request."""

from __future__ import annotations

import asyncio
import math
import re
import socket
import struct
import zlib
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from http import HTTPStatus
from typing import Final, NamedTuple
from weakref import WeakKeyDictionary

import attrs
import msgspec
from aiohttp import hdrs, web

from b2b_payments.sandbox._admission import too_many
from b2b_payments.sandbox._answer import Answer
from b2b_payments.sandbox._faults import Fault, SeenRequest
from b2b_payments.sandbox._rules import Rules

_LINGER_0 = struct.pack("ii", 1, 0)


class _Stream(web.StreamResponse):
    async def _prepare_headers(self) -> None:
        dated = hdrs.DATE in self.headers
        await super()._prepare_headers()
        if not dated:
            # aiohttp has put this machine's time there.
            del self.headers[hdrs.DATE]


class _Whole(_Stream, web.Response):
    pass


def reset(request: web.BaseRequest) -> web.Response:
    """Close the connection with RST. What it gives is for aiohttp, and is never sent."""
    transport = request.transport
    if transport is not None:
        # Without lingering the kernel throws away what is unsent and resets the peer.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
        transport.abort()
    unsent = web.Response()
    unsent.force_close()
    return unsent


async def deliver(
    request: web.BaseRequest,
    answer: Answer,
    headers: Mapping[str, str],
    fault: Fault | None,
    between_bytes: Callable[[], Awaitable[None]],
) -> web.StreamResponse:
    """Send an answer as a fault wants it sent; `between_bytes` is awaited after each byte of a drip."""
    headers = {"Content-Type": answer.content_type, **headers, **answer.headers}
    reason = HTTPStatus(answer.status).phrase
    if fault not in {Fault.RESET_DURING, Fault.TRUNCATED, Fault.DRIP, Fault.HUGE}:
        return _Whole(status=answer.status, reason=reason, body=answer.body, headers=headers)
    response = _Stream(status=answer.status, reason=reason, headers=headers)
    response.force_close()
    if fault is not Fault.HUGE:
        response.content_length = len(answer.body)
    await response.prepare(request)
    if fault is Fault.DRIP:
        for at in range(len(answer.body)):
            await response.write(answer.body[at : at + 1])
            await between_bytes()
    elif fault is Fault.HUGE:
        await response.write(b'{"code":200,"data":"')
        for _ in range(HUGE_CHUNKS):
            await response.write(HUGE_CHUNK)
        await response.write(b'","meta":{}}')
    else:
        await response.write(answer.body[: len(answer.body) // 2])
        if fault is Fault.RESET_DURING:
            return reset(request)
        if request.transport is not None:
            request.transport.close()
    return response


HUGE_CHUNK: Final = b"a" * 2**20
HUGE_CHUNKS: Final = 65
"""So many chunks of 1 MiB are more than 64 MiB."""

_ERROR_500 = Answer.error(500, "Something went wrong")
_DEEP = b"[" * 20_000 + b"]" * 20_000
_FIXED: Final = {
    Fault.HTML_404: Answer.gateway(404),
    Fault.HTML_502: Answer.gateway(502),
    Fault.HTML_502_AFTER: Answer.gateway(502),
    Fault.ERROR_500: _ERROR_500,
    Fault.ERROR_500_AFTER: _ERROR_500,
    Fault.ERROR_405: Answer.gateway(405),
    Fault.ERROR_408: Answer.error(408, "Request timeout"),
    Fault.ERROR_408_AFTER: Answer.error(408, "Request timeout"),
    Fault.ERROR_421: Answer.error(421, "Misdirected request"),
    Fault.ERROR_425: Answer.error(425, "Too early"),
    Fault.OK_WITH_CODE_500: attrs.evolve(_ERROR_500, status=200),
    Fault.OK_WITH_CODE_500_AFTER: attrs.evolve(_ERROR_500, status=200),
    Fault.OK_WITH_ODD_CODE: Answer.json(200, {"code": "E_LOCKED", "data": {}, "meta": {"message": "Locked"}}),
    Fault.GARBAGE: Answer(200, b"\x00\x01{]not json\x7f"),
    Fault.EMPTY: Answer(200, b""),
    Fault.WRONG_TYPE: Answer(200, b"<html><body>We'll be right back.</body></html>", "text/html"),
    Fault.DEEP: Answer(200, b'{"code":200,"data":%b,"meta":{"message":"SUCCESS"}}' % _DEEP),
}

_ID_OR_COUNT = re.compile(rb'"(id|paymentId|totalCount)":[^,}]+')


def instead(fault: Fault, rules: Rules, date: int) -> Answer | None:
    """Return the answer that a fault puts in the place of the service's, None if it only changes that one.

    `date` is that of the answer, in epoch seconds.
    """
    match fault:
        case Fault.RATE_LIMITED:
            return too_many(rules, rules.refusal_wait, date)
        case Fault.ERROR_503:
            wait = rules.unavailable_wait
            headers = {} if wait is None else {"Retry-After": str(math.ceil(wait))}
            return attrs.evolve(Answer.error(503, "Temporarily unavailable"), headers=headers)
        case Fault.REDIRECT | Fault.REDIRECT_AFTER:
            status = 302 if fault is Fault.REDIRECT else 303
            return Answer(status, b"", headers={"Location": rules.redirect_to})
        case Fault.GZIP_BOMB:
            return Answer(200, _gzip_bomb(), headers={"Content-Encoding": "gzip"})
        case Fault.FLOOD:
            return Answer(200, b'{"code":200,"data":[%b],"meta":{}}' % b",".join([b"{}"] * 1_000_000))
        case _:
            return _FIXED.get(fault)


def spoil(answer: Answer, fault: Fault | None) -> Answer:
    """Change the service's own answer as a fault does."""
    match fault:
        case Fault.INVALID_UTF8:
            return attrs.evolve(answer, body=answer.body.replace(b'"message":"', b'"message":"\xff\xc0'))
        case Fault.NAN:
            return attrs.evolve(answer, body=_ID_OR_COUNT.sub(rb'"\1":NaN', answer.body))
        case Fault.REFUSED_WITH_CODE_200_AFTER:
            return attrs.evolve(answer, status=400)
        case Fault.BYTE_ORDER_MARK:
            return attrs.evolve(answer, body=b"\xef\xbb\xbf" + answer.body)
        case Fault.DUPLICATE_IDS:
            return _doubled(answer)
        case Fault.EMPTY_LIST:
            return _emptied(answer)
        case Fault.OTHER_STORE:
            return _of_another_store(answer)
        case _:
            return answer


def _of_another_store(answer: Answer) -> Answer:
    payload = msgspec.json.decode(answer.body)
    data = payload.get("data")
    for row in data if isinstance(data, list) else [data]:
        if isinstance(row, dict) and "storeHash" in row:
            row["storeHash"] = "another1"
            row["id"] = row["id"] if row is data else type(row["id"])(int(row["id"]) + 1_000_000)
    return Answer.json(answer.status, payload)


def _doubled(answer: Answer) -> Answer:
    payload = msgspec.json.decode(answer.body)
    if isinstance(payload.get("data"), list):
        payload["data"] = [row for row in payload["data"] for _ in range(2)]
    return Answer.json(answer.status, payload)


def _emptied(answer: Answer) -> Answer:
    payload = msgspec.json.decode(answer.body)
    if isinstance(payload.get("data"), list):
        payload["data"] = []
        if "totalCount" in (pagination := payload["meta"]["pagination"]):
            pagination["totalCount"] = 0
    return Answer.json(answer.status, payload)


@cache
def _gzip_bomb() -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    packed = [packer.compress(b'{"code":200,"data":"')]
    packed += [packer.compress(HUGE_CHUNK) for _ in range(HUGE_CHUNKS)]
    packed += [packer.compress(b'","meta":{}}'), packer.flush()]
    return b"".join(packed)


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
        """Return what a request gets: its own answer, or another's that is on the way at the same time."""
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
        """Return what comes on the connection besides the answer; None where nothing does."""
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
