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
from typing import Any, Final, NamedTuple
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

Change = Callable[[Answer, Rules, int], Answer]
"""Makes the answer that is sent from the service's own, the rules, and the time in epoch seconds."""


def faulty(fault: Fault | None, own: Answer, rules: Rules, date: int) -> Answer:
    """Return the answer that a fault sends: another one, the service's `own` with a change, or `own`."""
    other = _ANSWERS.get(fault, own) if fault is not None else own
    return other if isinstance(other, Answer) else other(own, rules, date)


def _unavailable(_: Answer, rules: Rules, _date: int) -> Answer:
    wait = rules.unavailable_wait
    headers = {} if wait is None else {"Retry-After": str(math.ceil(wait))}
    return attrs.evolve(Answer.error(503, "Temporarily unavailable"), headers=headers)


def _redirect(status: int) -> Change:
    return lambda _, rules, _date: Answer(status, b"", headers={"Location": rules.redirect_to})


def _with_body(change: Callable[[bytes], bytes]) -> Change:
    return lambda own, *_: attrs.evolve(own, body=change(own.body))


def _with_json(change: Callable[[Any], None]) -> Change:
    def changed(body: bytes) -> bytes:
        if not body.startswith(b"{"):
            return body  # a gateway's page, or none
        payload = msgspec.json.decode(body)
        change(payload)
        return msgspec.json.encode(payload)

    return _with_body(changed)


def _twice(payload: Any) -> None:
    if isinstance(payload.get("data"), list):
        payload["data"] = [row for row in payload["data"] for _ in range(2)]


def _without_rows(payload: Any) -> None:
    if isinstance(payload.get("data"), list):
        payload["data"] = []
        if "totalCount" in (pagination := payload["meta"]["pagination"]):
            pagination["totalCount"] = 0


def _of_another_store(payload: Any) -> None:
    data = payload.get("data")
    for row in data if isinstance(data, list) else [data]:
        if isinstance(row, dict) and "storeHash" in row:
            row["storeHash"] = "another1"
            row["id"] = row["id"] if row is data else type(row["id"])(int(row["id"]) + 1_000_000)


@cache
def _gzip_bomb() -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    packed = [packer.compress(b'{"code":200,"data":"')]
    packed += [packer.compress(HUGE_CHUNK) for _ in range(HUGE_CHUNKS)]
    packed += [packer.compress(b'","meta":{}}'), packer.flush()]
    return b"".join(packed)


_ERROR_500 = Answer.error(500, "Something went wrong")
_ID_OR_COUNT = re.compile(rb'"(id|paymentId|totalCount)":[^,}]+')
_DEEP = b"[" * 20_000 + b"]" * 20_000

_ANSWERS: Final[Mapping[Fault, Answer | Change]] = {
    Fault.HTML_404: Answer.gateway(404),
    Fault.HTML_502: Answer.gateway(502),
    Fault.HTML_502_AFTER: Answer.gateway(502),
    Fault.RATE_LIMITED: lambda _, rules, date: too_many(rules, rules.refusal_wait, date),
    Fault.ERROR_500: _ERROR_500,
    Fault.ERROR_500_AFTER: _ERROR_500,
    Fault.ERROR_503: _unavailable,
    Fault.ERROR_405: Answer.gateway(405),
    Fault.ERROR_408: Answer.error(408, "Request timeout"),
    Fault.ERROR_408_AFTER: Answer.error(408, "Request timeout"),
    Fault.ERROR_421: Answer.error(421, "Misdirected request"),
    Fault.ERROR_425: Answer.error(425, "Too early"),
    Fault.OK_WITH_CODE_500: attrs.evolve(_ERROR_500, status=200),
    Fault.OK_WITH_CODE_500_AFTER: attrs.evolve(_ERROR_500, status=200),
    Fault.OK_WITH_ODD_CODE: Answer.json(200, {"code": "E_LOCKED", "data": {}, "meta": {"message": "Locked"}}),
    Fault.REFUSED_WITH_CODE_200_AFTER: lambda own, *_: attrs.evolve(own, status=400),
    Fault.REDIRECT: _redirect(302),
    Fault.REDIRECT_AFTER: _redirect(303),
    Fault.GARBAGE: Answer(200, b"\x00\x01{]not json\x7f"),
    Fault.EMPTY: Answer(200, b""),
    Fault.WRONG_TYPE: Answer(200, b"<html><body>We'll be right back.</body></html>", "text/html"),
    Fault.DEEP: Answer(200, b'{"code":200,"data":%b,"meta":{"message":"SUCCESS"}}' % _DEEP),
    Fault.FLOOD: lambda *_: Answer(
        200, b'{"code":200,"data":[%b],"meta":{}}' % b",".join([b"{}"] * 1_000_000)
    ),
    Fault.GZIP_BOMB: lambda *_: Answer(200, _gzip_bomb(), headers={"Content-Encoding": "gzip"}),
    Fault.INVALID_UTF8: _with_body(lambda body: body.replace(b'"message":"', b'"message":"\xff\xc0')),
    Fault.NAN: _with_body(lambda body: _ID_OR_COUNT.sub(rb'"\1":NaN', body)),
    Fault.BYTE_ORDER_MARK: _with_body(lambda body: b"\xef\xbb\xbf" + body),
    Fault.DUPLICATE_IDS: _with_json(_twice),
    Fault.EMPTY_LIST: _with_json(_without_rows),
    Fault.OTHER_STORE: _with_json(_of_another_store),
}
"""The answers of faults. Those of the other faults are the service's own, if anything is sent."""


MayMix = Callable[[SeenRequest, SeenRequest], bool]


class Answered(NamedTuple):
    """A request, and the service's own answer to it."""

    seen: SeenRequest
    answer: Answer


class Mixer:
    """Holds answers in transit, and misdirects them.

    `may_mix` decides whether a request may get the answer to another. `mixed` counts the misdirected answers.
    """

    def __init__(self, may_mix: MayMix) -> None:
        self._may_mix = may_mix
        self.mixed = 0
        self._before: Answered | None = None
        self._waiting: tuple[Answered, asyncio.Future[Answer]] | None = None
        self._held: WeakKeyDictionary[asyncio.BaseTransport, list[Answered]] = WeakKeyDictionary()

    async def exchange(self, own: Answered, fault: Fault | None, within: float) -> Answer:
        """Return the answer that a request gets: its own, or that of another request in flight."""
        waiting = self._waiting
        # It may have timed out at this very moment.
        if waiting is not None and not waiting[1].done() and self._may_mix(own.seen, waiting[0].seen):
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
            if self._may_mix(seen, extra.seen):
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

    def _send(self, connection: asyncio.WriteTransport, answer: Answer) -> None:
        if connection.is_closing():
            return
        self.mixed += 1
        head = (
            f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\n"
            f"Content-Type: {answer.content_type}\r\nContent-Length: {len(answer.body)}\r\n\r\n"
        )
        connection.write(head.encode() + answer.body)
