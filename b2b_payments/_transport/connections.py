"""Chooses the connection for a request: never one that has unread, unrequested data.

aiohttp reuses a pooled connection even if data arrived on it while it was idle, and reads that data as the
next answer. So each request checks its connection just before it is sent, and takes another if data waits.
Data may still arrive after the check, or a proxy may mix up answers behind any connection. So a connection is
reused only for requests whose answers name what they are about, which is then checked. A page names its
offset, but not its list's filters, so a reused connection serves a single list, and each offset of it once.

This is an aiohttp middleware of each request, so that it works on a caller's session too. There, a connection
that only the caller's own requests have used counts as new.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from contextlib import suppress
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
    """A dropped connection, in a class that aiohttp's own retry does not catch."""


class SpeaksFirstError(Exception):
    """Data arrived on a new connection before any request was sent."""


class _AnotherConnection(Exception):  # noqa: N818 - not an error: it rejects a connection
    pass


async def no_resend(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Stop aiohttp from resending a GET, PUT or DELETE by itself when a reused connection drops.

    The quota would not count the second request, and a DELETE that had succeeded would return 404. aiohttp
    retries only its own exceptions, so this middleware raises another one. It is the outermost: the
    middlewares of a caller's session see what aiohttp raised.
    """
    try:
        return await handler(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise DroppedError(type(error).__name__) from None


def _unread_data_check(protocol: ResponseHandler) -> Callable[[int], object]:
    """Return a function whose result is true if a connection has, or may have, data that was not read yet."""
    socket = None if protocol.transport is None else protocol.transport.get_extra_info("socket")
    if socket is None or _poll is None:
        return lambda _: True
    poller = _poll()
    poller.register(socket, select.POLLIN)
    return poller.poll  # type: ignore[no-any-return]


@define(eq=False)
class _UsedConnection:
    """A connection that was used: its check for unread data, and the list and offsets requested on it."""

    has_data: Callable[[int], object]
    _listed: tuple[object, ...] | None = None
    _offsets: set[str | None] = attrs.field(factory=set)

    def may_be_mistaken(self, listed: tuple[object, ...], offset: str | None) -> bool:
        """Whether a duplicate of an earlier answer could be mistaken for this page."""
        return self._listed is not None and (self._listed != listed or offset in self._offsets)

    def add_page(self, listed: tuple[object, ...], offset: str | None) -> None:
        """Record that a page of this list is requested."""
        self._listed = listed
        self._offsets.add(offset)


_used_connections: WeakKeyDictionary[ResponseHandler, _UsedConnection] = WeakKeyDictionary()
"""The connections that clients of this process have used."""


@define(eq=False)
class Exchange:
    """One request in progress.

    `reused` says whether it was sent on a reused connection. `sent` is False while it waits for a free or a
    new connection, True as soon as it may have been sent, and None if that is unknown.
    """

    request: Request
    mixups: MixUps
    on_send: Callable[[], object] | None = None
    sent: bool | None = None
    reused: bool = False
    _connection: ResponseHandler | None = None

    async def choose(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Send the request on a connection that is safe for it: the innermost of the middlewares."""
        send = request.send
        self.sent = self.sent or False

        async def send_if_safe(connection: Connection) -> aiohttp.ClientResponse:
            await self._look_at(connection)
            self.sent = True
            if self.on_send is not None:
                self.on_send()
            return await send(connection)

        # The only hook where aiohttp passes the connection before anything is written.
        request.send = send_if_safe  # type: ignore[method-assign, assignment]
        try:
            while True:
                with suppress(_AnotherConnection):  # aiohttp has closed the rejected connection
                    return await handler(request)
        finally:
            del request.send

    async def _look_at(self, connection: Connection) -> None:
        """Raise if the request must not be sent on this connection."""
        protocol = connection.protocol
        assert protocol is not None  # noqa: S101 - aiohttp has just acquired it
        used, listed = _used_connections.get(protocol), self.request.listed
        self.reused = used is not None
        if listed is not None:
            # Clients that share a session may be for different stores.
            listed = self.mixups, *listed
        if used is not None:
            if not self.request.reuse or self.mixups.recent:
                raise _AnotherConnection
            if listed is not None and used.may_be_mistaken(listed, self.request.offset):
                raise _AnotherConnection
            if protocol.is_connected() and used.has_data(0):
                # An answer, a close, or a TLS record: the event loop reads it in its next iteration.
                await checkpoint()
                await checkpoint()
            if not protocol.is_connected():
                raise _AnotherConnection
            if protocol.should_close:
                self.mixups.record()
                raise _AnotherConnection
        elif protocol.should_close:
            raise SpeaksFirstError
        else:
            used = _used_connections[protocol] = _UsedConnection(_unread_data_check(protocol))
        if listed is not None:
            used.add_page(listed, self.request.offset)
        self._connection = protocol

    def hang_up(self) -> None:
        """Close the connection that the request was sent on, even if another request uses it by now."""
        if self._connection is not None:
            self._connection.close()
