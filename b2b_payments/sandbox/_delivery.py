"""Sends an answer: intact, broken, falsified, or to another request."""

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
            # aiohttp added this machine's time.
            del self.headers[hdrs.DATE]


class _Whole(_Stream, web.Response):
    pass


def reset(request: web.BaseRequest) -> web.Response:
    """Close the connection with RST. Returns a response for aiohttp, which is never sent."""
    transport = request.transport
    if transport is not None:
        # With SO_LINGER at 0, the kernel discards unsent data and sends a RST.
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
    """Send an answer the way the fault requires. `between_bytes` is awaited after each byte of a drip."""
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
"""Chunks of 1 MiB: together more than 64 MiB."""

_ERROR_500 = Answer.error(500, "Something went wrong")
_DEEP = b"[" * 20_000 + b"]" * 20_000
_FIXED_ANSWERS: Final = {
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
    """Return the answer with which a fault replaces the service's, or None if it does not replace it.

    `date` is the answer's, in epoch seconds.
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
            return _FIXED_ANSWERS.get(fault)


def spoil(answer: Answer, fault: Fault | None) -> Answer:
    """Apply a fault to the service's own answer."""
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
            return _with_duplicates(answer)
        case Fault.EMPTY_LIST:
            return _without_rows(answer)
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


def _with_duplicates(answer: Answer) -> Answer:
    payload = msgspec.json.decode(answer.body)
    if isinstance(payload.get("data"), list):
        payload["data"] = [row for row in payload["data"] for _ in range(2)]
    return Answer.json(answer.status, payload)


def _without_rows(answer: Answer) -> Answer:
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
    """Holds answers in transit, and misdirects them.

    `may_mix` decides whether a request may get the answer to another; None allows any. `mixed` counts the
    misdirected answers.
    """

    def __init__(self) -> None:
        self.may_mix: MayMix | None = None
        self.mixed = 0
        self._before: Answered | None = None
        self._waiting: tuple[Answered, asyncio.Future[Answer]] | None = None
        self._held: WeakKeyDictionary[asyncio.BaseTransport, list[Answered]] = WeakKeyDictionary()

    async def exchange(self, own: Answered, fault: Fault | None, within: float) -> Answer:
        """Return the answer that a request gets: its own, or that of another request in flight."""
        waiting = self._waiting
        # It may have timed out at this very moment.
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

    def extra_answer(self, own: Answered, fault: Fault | None) -> Answered | None:
        """Return the additional answer that a fault sends on the connection, or None."""
        before, self._before = self._before or own, own
        return {Fault.STRAY: before, Fault.DOUBLED: own, Fault.LATE: own}.get(fault) if fault else None

    def send_held(self, request: web.BaseRequest, seen: SeenRequest) -> None:
        """Send the answers held back on this connection, before the answer to this request."""
        if not self._held or request.transport is None:
            return
        for extra in self._held.pop(request.transport, ()):
            if self._may(seen, extra.seen):
                self._send(request.transport, extra.answer)

    async def send_followed_by(
        self, request: web.BaseRequest, response: web.StreamResponse, extra: Answered, after: float | None
    ) -> None:
        """Send a whole response, and `extra` `after` seconds later; None holds it for `send_held`."""
        await response.prepare(request)
        await response.write_eof()
        connection = request.transport
        if connection is None:
            return
        if after is None:
            self._held.setdefault(connection, []).append(extra)
        elif after == 0:
            self._send(connection, extra.answer)
        else:
            asyncio.get_running_loop().call_later(after, self._send, connection, extra.answer)

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
