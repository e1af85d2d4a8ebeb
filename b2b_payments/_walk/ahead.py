"""Fetching pages ahead: several in flight, never more than allowed, handed out in line."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

import anyio

from b2b_payments._errors import ConfigurationError
from b2b_payments._tasks import Tasks
from b2b_payments._walk.page import KeyedPage, PageRequest

Read = Callable[[PageRequest], Awaitable[KeyedPage]]


class Flights:
    """The bound on requests in flight, shared by the walks of one stream. Urgent ones go first."""

    def __init__(self, tasks: Tasks, limit: int) -> None:
        self._tasks = tasks
        self._limit = limit
        self._active: set[Fetch] = set()
        self._waiting: deque[Fetch] = deque()
        self._grounded = False

    def start(self, fetch: Fetch, *, urgent: bool) -> None:
        """Send a fetch off as soon as the bound allows."""
        if urgent:
            self._waiting.appendleft(fetch)
        else:
            self._waiting.append(fetch)
        self._send_off()

    def drop(self) -> None:
        """Cancel whatever is under way, for all walks at once. No request starts afterwards."""
        self._grounded = True
        for fetch in self._active:
            fetch.cancel()
        self._send_off()

    def _send_off(self) -> None:
        over = self._grounded or not self._tasks.running
        while self._waiting and (over or len(self._active) < self._limit):
            fetch = self._waiting.popleft()
            if over:
                fetch.cancel()  # where the client was closed, whoever awaits this page is told so
            if not fetch.cancelled:
                self._active.add(fetch)
                self._tasks.spawn(self._fly, fetch)

    async def _fly(self, fetch: Fetch) -> None:
        try:
            await fetch.run()
        finally:
            self._active.remove(fetch)
            self._send_off()


class Fetch:
    """One page on its way."""

    def __init__(self, read: Read, request: PageRequest) -> None:
        self.request = request
        self._read = read
        self._scope = anyio.CancelScope()
        self._done = anyio.Event()
        self._page: KeyedPage | None = None
        self._error: Exception | None = None

    async def run(self) -> None:
        """Read the page; an error is kept for the one who asked."""
        if self.cancelled:
            return  # a scope that is cancelled already would let the request out before its first wait
        try:
            with self._scope:
                self._page = await self._read(self.request)
        except Exception as error:  # noqa: BLE001 - raised again where the page is awaited
            self._error = error
        finally:
            self._done.set()

    async def page(self) -> KeyedPage:
        """Give the page, or raise what reading it raised."""
        await self._done.wait()
        if self._error is not None:
            raise self._error
        if self._page is None:
            raise ConfigurationError("The client was closed while a walk was under way.")
        return self._page

    @property
    def cancelled(self) -> bool:
        """Whether nobody wants this page any more."""
        return self._scope.cancel_called

    def cancel(self) -> None:
        """Stop reading, or never begin."""
        self._scope.cancel()
        self._done.set()


class Ahead:
    """The pages of one walk that are asked for and not yet taken, in line."""

    def __init__(self, flights: Flights, read: Read, window: int) -> None:
        self._flights = flights
        self._read = read
        self._window = window
        self._line: deque[Fetch] = deque()
        self._urgent: Fetch | None = None

    @property
    def empty(self) -> bool:
        """Whether no page is in line."""
        return not self._line

    @property
    def full(self) -> bool:
        """Whether as many pages are in line as may be held."""
        return len(self._line) >= self._window

    def ask(self, request: PageRequest) -> None:
        """Put one more page in line."""
        fetch = Fetch(self._read, request)
        self._line.append(fetch)
        self._flights.start(fetch, urgent=False)

    async def next(self) -> KeyedPage:
        """Wait for the first page in line and take it out."""
        page = await self._line[0].page()
        self._line.popleft()
        return page

    async def now(self, request: PageRequest) -> KeyedPage:
        """Read one page out of line, before all others."""
        self._urgent = Fetch(self._read, request)
        self._flights.start(self._urgent, urgent=True)
        return await self._urgent.page()

    def drop(self) -> None:
        """Cancel whatever is under way. No request starts afterwards."""
        if self._urgent is not None:
            self._urgent.cancel()
        for fetch in self._line:
            fetch.cancel()
        self._line.clear()
