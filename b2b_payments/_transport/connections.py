"""Which connection a request goes out on: one on which nothing waits that nobody asked for.

aiohttp hands out a kept connection whatever has come on it meanwhile, and takes that for the next answer. So
each request looks at its connection at the last moment, and takes another where something is there. Bytes
may still come in between, or a proxy may mix answers up behind any connection: so a kept connection is only
for requests whose answers say what they are about, and what they say is checked. A page says its offset, but
not its list's filter: so a kept connection serves one list only, and no offset of it twice.

This works through aiohttp's middlewares, request by request, so that it holds on a session that was lent,
too. There, connections that only the lender's own requests have used count as new.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from weakref import WeakKeyDictionary

import aiohttp
import attrs
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from anyio.lowlevel import checkpoint

from b2b_payments._mixups import MixUps
from b2b_payments._printable import define
from b2b_payments._protocol.request import Request

_poll = getattr(select, "poll", None)  # not on Windows


class DroppedError(Exception):
    """A drop, on its way past aiohttp's own retry."""


class SpeaksFirstError(Exception):
    """Bytes came on a new connection before anything was asked."""


class _AnotherConnection(Exception):  # noqa: N818 - no error: it is how a connection is turned down
    pass


async def one_try(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending GET, PUT and DELETE again by itself when a kept connection drops.

    Such a request would go uncounted against the quota, and a DELETE that succeeded would come back 404.
    aiohttp looks for its own exceptions only, so the drop passes under another name. The outermost of the
    middlewares: a lent session's own see what aiohttp raised.
    """
    try:
        return await handler(request)
    except aiohttp.ClientConnectionError as error:
        if (drop := _as_drop(error)) is None:
            raise
        raise drop from None


def _as_drop(error: aiohttp.ClientConnectionError) -> DroppedError | None:
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return None
    is_drop = isinstance(error, aiohttp.ClientOSError | aiohttp.ServerDisconnectedError)
    return DroppedError(type(error).__name__) if is_drop else None


def _watching(protocol: ResponseHandler) -> Callable[[int], object]:
    """Return what tells whether something has come that the event loop has not read yet, or may have."""
    endpoint = None if protocol.transport is None else protocol.transport.get_extra_info("socket")
    if endpoint is None or _poll is None:
        return lambda _: True
    poller = _poll()
    poller.register(endpoint, select.POLLIN)
    return poller.poll  # type: ignore[no-any-return]


@define(eq=False)
class _Used:
    """What is known of a connection on which something was sent: what tells of waiting bytes, its list."""

    waiting: Callable[[int], object]
    _listed: tuple[object, ...] | None = None
    _offsets: set[str | None] = attrs.field(factory=set)

    def may_mistake(self, listed: tuple[object, ...], offset: str | None) -> bool:
        """Whether an answer to what was sent before, come again, would pass for this page."""
        return self._listed is not None and (self._listed != listed or offset in self._offsets)

    def note(self, listed: tuple[object, ...], offset: str | None) -> None:
        """Note that a page of this list is asked for."""
        self._listed = listed
        self._offsets.add(offset)


_used: WeakKeyDictionary[ResponseHandler, _Used] = WeakKeyDictionary()
"""The connections on which a client of this process has sent something."""


@define(eq=False)
class Exchange:
    """One request on its way.

    `reused` says whether it went out on a kept connection. `sent` is False as long as nothing of it has left:
    it waits for a free connection, or for a new one. It is None where that is not known. `alone` says that
    there is no other middleware: it does what `one_try` does, too.
    """

    request: Request
    mixups: MixUps
    alone: bool = False
    on_leaving: Callable[[], object] | None = None
    sent: bool | None = None
    reused: bool = False
    _connection: ResponseHandler | None = None

    async def choose(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Send a request on a connection that it may take: the innermost of the middlewares."""
        send = request.send
        self.sent = self.sent or False

        async def send_if_it_may(connection: Connection) -> aiohttp.ClientResponse:
            await self._look_at(connection)
            self.sent = True
            if self.on_leaving is not None:
                self.on_leaving()
            return await send(connection)

        # The one place where aiohttp shows a request its connection before anything is written.
        request.send = send_if_it_may  # type: ignore[method-assign, assignment]
        try:
            while True:
                try:
                    return await handler(request)
                except _AnotherConnection:
                    continue  # aiohttp has closed that one
                except aiohttp.ClientConnectionError as error:
                    if not self.alone or (drop := _as_drop(error)) is None:
                        raise
                    raise drop from None
        finally:
            del request.send

    async def _look_at(self, connection: Connection) -> None:
        """Raise where the request must not go out on this connection."""
        protocol = connection.protocol
        assert protocol is not None  # noqa: S101 - aiohttp has just taken it out of the pool
        used, listed = _used.get(protocol), self.request.listed
        self.reused = used is not None
        if listed is not None:
            # Two clients of a lent session may be of two stores.
            listed = self.mixups, *listed
        if used is not None:
            if not self.request.reuse or self.mixups.lately:
                raise _AnotherConnection
            if listed is not None and used.may_mistake(listed, self.request.offset):
                raise _AnotherConnection
            if protocol.is_connected() and used.waiting(0):
                # An answer, the end, or something of TLS's own: read by the event loop in its next turn.
                await checkpoint()
                await checkpoint()
            if not protocol.is_connected():
                raise _AnotherConnection
            if protocol.should_close:
                self.mixups.noticed()
                raise _AnotherConnection
        elif protocol.should_close:
            raise SpeaksFirstError
        else:
            used = _used[protocol] = _Used(_watching(protocol))
        if listed is not None:
            used.note(listed, self.request.offset)
        self._connection = protocol

    def hang_up(self) -> None:
        """Close the connection that the request went out on, whatever has become of it since."""
        if self._connection is not None:
            self._connection.close()
