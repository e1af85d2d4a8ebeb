"""Fetching pages ahead: several in flight, never more than allowed, handed out in line."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

import anyio

from b2b_payments._errors import ConfigurationError
from b2b_payments._tasks import Tasks
from b2b_payments._walk.page import PageRequest, SortedPage

Read = Callable[[PageRequest, Callable[[], bool]], Awaitable[SortedPage]]
"""Reads a page; it may ask whether somebody waits for that one already."""


class ConcurrencyLimiter:
    """The bound on requests in flight, shared by the walks of one stream. Urgent ones go first."""

    def __init__(self, tasks: Tasks, limit: int) -> None:
        self._tasks = tasks
        self._limit = limit
        self._active: set[PageTask] = set()
        self._waiting: deque[PageTask] = deque()
        self._stopped = False

    def start(self, task: PageTask, *, urgent: bool) -> None:
        """Send a task off as soon as the bound allows."""
        if urgent:
            self._waiting.appendleft(task)
        else:
            self._waiting.append(task)
        self._start_next()

    def drop(self) -> None:
        """Cancel whatever is under way, for all walks at once. No request starts afterwards."""
        self._stopped = True
        for task in self._active:
            task.cancel()
        self._start_next()

    def _start_next(self) -> None:
        over = self._stopped or not self._tasks.running
        while self._waiting and (over or len(self._active) < self._limit):
            task = self._waiting.popleft()
            if over:
                task.cancel()  # where the client was closed, whoever awaits this page is told so
            if not task.cancelled:
                self._active.add(task)
                self._tasks.spawn(self._run, task)

    async def _run(self, task: PageTask) -> None:
        try:
            await task.run()
        finally:
            self._active.remove(task)
            self._start_next()


class PageTask:
    """One page on its way."""

    def __init__(self, read: Read, request: PageRequest) -> None:
        self.request = request
        self._read = read
        self._scope = anyio.CancelScope()
        self._done = anyio.Event()
        self._page: SortedPage | None = None
        self._error: Exception | None = None
        self._is_awaited = False

    async def run(self) -> None:
        """Read the page; an error is kept for the one who asked."""
        if self.cancelled:
            return  # a scope that is cancelled already would let the request out before its first wait
        try:
            with self._scope:
                self._page = await self._read(self.request, lambda: self._is_awaited)
        except Exception as error:  # noqa: BLE001 - raised again where the page is awaited
            self._error = error
        finally:
            self._done.set()

    async def page(self) -> SortedPage:
        """Return the page, or raise what reading it raised."""
        self._is_awaited = True
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


class Prefetcher:
    """The pages of one walk that are asked for and not yet taken, in line."""

    def __init__(self, limiter: ConcurrencyLimiter, read: Read, most: int) -> None:
        self._limiter = limiter
        self._read = read
        self._most = most
        self._line: deque[PageTask] = deque()
        self._urgent: PageTask | None = None

    @property
    def empty(self) -> bool:
        """Whether no page is in line."""
        return not self._line

    @property
    def full(self) -> bool:
        """Whether as many pages are in line as may be held."""
        return len(self._line) >= self._most

    def ask(self, request: PageRequest) -> None:
        """Put one more page in line."""
        task = PageTask(self._read, request)
        self._line.append(task)
        self._limiter.start(task, urgent=False)

    async def next(self) -> SortedPage:
        """Wait for the first page in line and take it out."""
        page = await self._line[0].page()
        self._line.popleft()
        return page

    async def now(self, request: PageRequest) -> SortedPage:
        """Read one page out of line, before all others."""
        self._urgent = PageTask(self._read, request)
        self._limiter.start(self._urgent, urgent=True)
        return await self._urgent.page()

    def drop(self) -> None:
        """Cancel whatever is under way. No request starts afterwards."""
        if self._urgent is not None:
            self._urgent.cancel()
        for task in self._line:
            task.cancel()
        self._line.clear()
