"""Prefetching pages: several requests in flight, up to a limit, and the pages returned in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

import anyio

from b2b_payments._errors import ConfigurationError
from b2b_payments._tasks import Tasks
from b2b_payments._walk.page import PageRequest, SortedPage

Read = Callable[[PageRequest, Callable[[], bool]], Awaitable[SortedPage]]
"""Reads a page. The second argument tells whether someone is already waiting for it."""


class ConcurrencyLimiter:
    """Limits the requests in flight of one walk, or of all walks of a stream. Urgent ones go first."""

    def __init__(self, tasks: Tasks, limit: int) -> None:
        self._tasks = tasks
        self._limit = limit
        self._active: set[PageTask] = set()
        self._waiting: deque[PageTask] = deque()
        self._stopped = False

    def start(self, task: PageTask, *, urgent: bool) -> None:
        """Start a task as soon as the limit allows."""
        if urgent:
            self._waiting.appendleft(task)
        else:
            self._waiting.append(task)
        self._start_next()

    def drop(self) -> None:
        """Cancel the requests of all walks. None starts afterwards."""
        self._stopped = True
        for task in self._active:
            task.cancel()
        self._start_next()

    def _start_next(self) -> None:
        over = self._stopped or not self._tasks.running
        while self._waiting and (over or len(self._active) < self._limit):
            task = self._waiting.popleft()
            if over:
                task.cancel()  # so that awaiting this page raises if the client was closed
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
    """The task that reads one page."""

    def __init__(self, read: Read, request: PageRequest) -> None:
        self.request = request
        self._read = read
        self._scope = anyio.CancelScope()
        self._done = anyio.Event()
        self._page: SortedPage | None = None
        self._error: Exception | None = None
        self._is_awaited = False

    async def run(self) -> None:
        """Read the page. An error is kept, and raised by `page`."""
        if self.cancelled:
            return  # a cancelled scope takes effect at its first await: the request might be sent before
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
        """Whether the page is no longer wanted."""
        return self._scope.cancel_called

    def cancel(self) -> None:
        """Stop reading the page, or never start."""
        self._scope.cancel()
        self._done.set()


class Prefetcher:
    """The queue of pages that one walk has requested and not yet joined."""

    def __init__(self, limiter: ConcurrencyLimiter, read: Read, max_pages: int) -> None:
        self._limiter = limiter
        self._read = read
        self._max_pages = max_pages
        self._queue: deque[PageTask] = deque()
        self._urgent: PageTask | None = None

    @property
    def empty(self) -> bool:
        """Whether the queue is empty."""
        return not self._queue

    @property
    def full(self) -> bool:
        """Whether the queue is full."""
        return len(self._queue) >= self._max_pages

    def enqueue(self, request: PageRequest) -> None:
        """Request one more page, at the end of the queue."""
        task = PageTask(self._read, request)
        self._queue.append(task)
        self._limiter.start(task, urgent=False)

    async def next(self) -> SortedPage:
        """Wait for the first page of the queue, and remove it."""
        page = await self._queue[0].page()
        self._queue.popleft()
        return page

    async def read_now(self, request: PageRequest) -> SortedPage:
        """Read one page outside the queue, before all others."""
        self._urgent = PageTask(self._read, request)
        self._limiter.start(self._urgent, urgent=True)
        return await self._urgent.page()

    def drop(self) -> None:
        """Cancel the pages that were requested, also those whose request has not started."""
        if self._urgent is not None:
            self._urgent.cancel()
        for task in self._queue:
            task.cancel()
        self._queue.clear()
