"""Prefetching pages: several requests in flight, up to a limit, and the pages returned in order."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable

import anyio

from b2b_payments._errors import ConfigurationError
from b2b_payments._tasks import Tasks
from b2b_payments._walk.page import PageRequest, SortedPage
from b2b_payments._walk.proof import OTHER_END, Ends

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


class OffsetPlanner:
    """Plans how far apart prefetched pages start: by the rows that a page really holds, less an overlap.

    The overlap is one row, plus the usual run of equals at a page's end, plus a margin for rows deleted
    between two requests. One long run is an outlier, two in eight pages are normal.
    """

    def __init__(self, page_size: int) -> None:
        self._lengths: deque[int] = deque([page_size], maxlen=3)
        self._tails: deque[int] = deque([0, 0], maxlen=8)

    @property
    def length(self) -> int:
        """The rows that a page is expected to hold."""
        return max(self._lengths)

    @property
    def distance(self) -> int:
        """The rows between the offsets of two prefetched pages."""
        margin = min(4, 2 + self.length // 100)
        usual = sorted(self._tails)[-2]
        return max(1, self.length - max(2, min(max(margin, usual), self.length // 2)))

    def learn(self, page: SortedPage, resume_at: int, *, first: bool) -> None:
        """Adjust to the length of a joined page and the overlap that the next page needs."""
        if not page.reaches_total:
            if first:
                self._lengths.clear()
            self._lengths.append(len(page.ids))
        self._tails.append(page.end - resume_at)


class Prefetcher:
    """The pages that one walk has requested and not yet joined, and which to request next.

    Pages are requested up to the list's total, the last of them from its other end.
    """

    def __init__(
        self, limiter: ConcurrencyLimiter, read: Read, ends: Ends, *, max_pages: int, page_size: int
    ) -> None:
        self._limiter = limiter
        self._read = read
        self._ends = ends
        self._max_pages = max_pages
        self._planner = OffsetPlanner(page_size)
        self._queue: deque[PageTask] = deque()
        self._urgent: PageTask | None = None
        self._last_offset = 0
        self._other_end_requested = False
        self._readable_end = math.inf  # no rows were at or after this offset, whatever the total says

    @property
    def empty(self) -> bool:
        """Whether the queue is empty."""
        return not self._queue

    def enqueue(self, offset: int) -> None:
        """Request the page at this offset, at the end of the queue."""
        self._last_offset = offset
        self._queue.append(self._start(PageRequest(offset)))

    def _start(self, request: PageRequest, *, urgent: bool = False) -> PageTask:
        task = PageTask(self._read, request)
        self._limiter.start(task, urgent=urgent)
        return task

    async def next(self) -> SortedPage:
        """Wait for the first page of the queue, and remove it."""
        page = await self._queue[0].page()
        self._queue.popleft()
        return page

    async def read_now(self, request: PageRequest) -> SortedPage:
        """Read one page outside the queue, before all others."""
        if request.from_other_end:
            self._other_end_requested = True
        elif self.empty and self._ends.needs_other_end:
            self._other_end_requested = False  # it was empty, and has to be requested again
        self._urgent = self._start(request, urgent=True)
        return await self._urgent.page()

    def learn(self, page: SortedPage, *, joined: bool, first: bool) -> None:
        """Learn from a page that was offered: where the list ends and, if it `joined`, how long pages are."""
        if page.from_other_end:
            return
        if not page.ids:
            self._readable_end = min(page.offset, self._readable_end)
        elif joined:
            if page.end > self._readable_end:
                self._readable_end = math.inf
            self._planner.learn(page, self._ends.resume_at, first=first)

    def fill(self, total: int | None, *, settled: bool) -> None:
        """Request the next pages of a list with this total. Unless `settled`, none if the queue is empty."""
        ends, planner, bounds = self._ends, self._planner, self._ends.bounds
        end = min(total or 0, self._readable_end)
        while len(self._queue) < self._max_pages and (settled or self._queue):
            if ends.needs_other_end and self._other_end_requested:
                return
            requested = self._last_offset + planner.length if self._queue else ends.end
            if bounds is not None and self._queue and bounds.likely_end_before(requested):
                return
            proves_the_rest = ends.needs_other_end and requested >= end - planner.distance
            if proves_the_rest and total is not None:
                self._other_end_requested = True
                self._queue.append(self._start(OTHER_END))
            elif not self._queue or requested < end:
                # A page of full size may have led further than the prefetched ones.
                offset = self._last_offset + planner.distance if self._queue else 0
                self.enqueue(max(offset, ends.resume_at))
            else:
                return

    def drop(self) -> None:
        """Cancel the pages that were requested, also those whose request has not started."""
        if self._urgent is not None:
            self._urgent.cancel()
        for task in self._queue:
            task.cancel()
        self._queue.clear()
        self._other_end_requested = False
