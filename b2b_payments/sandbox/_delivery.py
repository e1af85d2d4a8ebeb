"""Putting an answer on the wire, whole or broken."""

from __future__ import annotations

import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

from aiohttp import hdrs, web

from b2b_payments.sandbox._answer import Answer
from b2b_payments.sandbox._faults import Fault
from b2b_payments.sandbox._spoil import HUGE_CHUNK, HUGE_CHUNKS

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
