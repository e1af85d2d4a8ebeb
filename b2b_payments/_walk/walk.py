"""A walk over the payments of a list: `client.payments.list()`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import attrs

from b2b_payments._arguments import whole
from b2b_payments._call import Caller
from b2b_payments._converter import structure_rows
from b2b_payments._errors import ConfigurationError, PaginationError
from b2b_payments._models import OrderBy, Payment, SortBy
from b2b_payments._printable import define, frozen
from b2b_payments._protocol.listing import DecodeRows, leave_undecoded
from b2b_payments._protocol.query import PaymentQuery
from b2b_payments._quota import Priority
from b2b_payments._tasks import Tasks
from b2b_payments._walk.checkpoint import Checkpoint, Cursor, Origin
from b2b_payments._walk.page import Order, PageRequest
from b2b_payments._walk.pager import Iteration, Pager
from b2b_payments._walk.period import Period
from b2b_payments._walk.prefetch import ConcurrencyLimiter, Prefetcher
from b2b_payments._walk.proof import Ends
from b2b_payments._walk.reader import JoinedPage, Reader
from b2b_payments._walk.report import WalkReport
from b2b_payments._walk.search import MAX_READS, Search, Start
from b2b_payments._walk.service_limits import ServiceLimits
from b2b_payments._walk.source import MAX_ROWS, Source

DEFAULT_CONCURRENCY = 8


@frozen
class Walker:
    """What the walks of one client share: the caller, what was learned about the service, tasks and store.

    The calls of `caller` have the priority of pages, unless someone waits for the walk as a whole.
    """

    caller: Caller
    learned: ServiceLimits
    tasks: Tasks
    store: str


@define
class WalkState:
    """The state of one iteration of a walk."""

    report: WalkReport
    checkpoint: Checkpoint


class Walk(Pager):
    """The payments of a list, each exactly once: pages are prefetched, and joined by the exact rule.

    ::

        async for payment in walk: ...
        async for page in walk.pages(): ...
        await walk.first(), await walk.count(), await walk.collect()

    Every iteration is a separate walk. `report` and `checkpoint()` are those of the latest one; an iteration
    such as ``pages = walk.pages()`` has its own. Only if `report.complete` is True is a walk known to have
    returned everything. Leaving a loop early cancels the requests in progress.

    Iterating raises APIError or TransportError if a page cannot be fetched, PaginationError if the pages
    cannot be joined, ResponseDecodeError if one cannot be read. The payments yielded before remain valid, and
    `checkpoint()` is the position to resume from.
    """

    def __init__(
        self,
        walker: Walker,
        query: PaymentQuery,
        *,
        offset: int = 0,
        page_size: int = MAX_ROWS,
        concurrency: int = DEFAULT_CONCURRENCY,
        checkpoint: Mapping[str, Any] | None = None,
        period: Period | None = None,
        moved: bool = False,
    ) -> None:
        self._walker = walker
        self._query = query
        self._period = period or Period()
        self._moved = moved
        self._origin = Origin.of(walker.store, query, self._period.parameters)
        if checkpoint is not None and query.sort_by is not SortBy.CREATED_AT:
            raise ConfigurationError("A checkpoint can only resume a walk by createdAt; leave out sort_by.")
        self._cursors = (None, None) if checkpoint is None else self._origin.unpack(checkpoint)
        self._order = Order.of(query.sort_by, query.order_by)
        if self._period and not (moved or self._order.exact):
            raise ConfigurationError(
                "created_from and created_to require a walk by createdAt; leave out sort_by."
            )
        self._offset = whole("offset", offset, least=0)
        if self._period and offset:
            raise ConfigurationError("Use created_from and created_to, or an offset, not both.")
        self._page_size = whole("page_size", page_size, least=1)
        self._concurrency = whole("concurrency", concurrency, least=1)
        self._latest = self._new_state()

    def _new_state(self) -> WalkState:
        return WalkState(WalkReport(exact=self._order.exact), self._origin.pack(*self._cursors))

    def joined(
        self, limiter: ConcurrencyLimiter | None = None, *, decoded: DecodeRows = leave_undecoded
    ) -> Iteration[JoinedPage]:
        """Return the new rows page by page, as the service sent them.

        `limiter` limits the requests in flight of several walks together.
        """
        state = self._latest = self._new_state()
        limiter = limiter or ConcurrencyLimiter(self._walker.tasks, self._concurrency)
        return Iteration(self._join(state, decoded, limiter), state)

    async def _join(
        self, state: WalkState, decoded: DecodeRows, limiter: ConcurrencyLimiter
    ) -> AsyncGenerator[JoinedPage, None]:
        walker, report = self._walker, state.report
        walker.tasks.require_running()
        caller = attrs.evolve(walker.caller.timed(), tally=report)
        source = Source(caller, walker.learned, self._query, self._page_size, decoded=decoded)
        near, far = self._cursors
        bounds = self._period.within(self._order) if self._period else None
        search, start = Search(source.read, source.order.descending), Start()
        if near is None and bounds is not None and bounds.start is not None:
            start = await search.start_of(bounds.start, after=bounds.starts_after)
            if start.first:
                # Newest first, rows created exactly at `created_to` are not part of the period.
                near = Cursor(bounds.start, closed=bounds.starts_after, resume_at=start.offset, ids=())
        ends = Ends(
            source.order,
            walker.learned.totals_of(self._query),
            start=self._offset,
            near=near,
            far=far,
            filtered=self._query.filtered,
            shown=walker.learned.shown(self._query),
            bounds=bounds,
            moved=self._moved,
        )
        # Nearly twice as many pages as requests in flight, so that one late page does not stop the others.
        # With a concurrency of 1, no page is requested until the previous one was joined.
        ahead = 2 * self._concurrency - 1
        if bounds is not None and bounds.stop is not None:
            # Pages beyond the period's end are wasted. The less the search has cost, the more may be wasted.
            ahead = min(ahead, max(2, MAX_READS - search.reads))
        prefetcher = Prefetcher(limiter, source.read, ends, max_pages=ahead, page_size=self._page_size)
        events = walker.caller.events
        reader = Reader(prefetcher, ends, report, events, self._origin, source.exists, start.first)
        try:
            while (page := await reader.next()) is not None:
                yield page
                state.checkpoint = page.checkpoint
                walker.tasks.require_home()
        except PaginationError as error:
            error.checkpoint = state.checkpoint
            raise
        finally:
            walker.tasks.run_at_home(prefetcher.drop)
        if (refusal := source.refusal) is not None and not report.complete:
            if report.exact:
                raise refusal
            raise PaginationError(f"The list cannot be read to its end. {refusal}") from refusal

    async def first(self) -> Payment | None:
        """Return the first payment in the requested order, or None if there is none. Sends one request.

        It is the first that the service lists, even if the service ignores the order. `channel_ids` may take
        a few more requests, until the encoding that the service understands is known; `created_from` and
        `created_to` do, too. With a checkpoint, it is the first payment of the rest.
        """
        if not self._period and self._cursors == (None, None):
            page = await self._single_pages(self._query).read(PageRequest(self._offset))
            return next(structure_rows(page.listing, [0])) if page.ids else None
        async with aclosing(self.joined(ConcurrencyLimiter(self._walker.tasks, 1))) as pages:
            async for joined in pages:
                return next(joined.payments())
        return None

    async def count(self) -> int:
        """Return the service's count of the payments, in one request. It may change at any time.

        As with `first()`, the order does not matter, and `channel_ids` may take a few more requests. With
        `created_from` or `created_to`, the offset of each in the list is searched, with a few requests each.

        Whether the service counts under every filter is not documented [open]: its count for `channel_ids`
        may be higher than what a walk returns. Raises PaginationError if the service states no count.
        """
        # For a period oldest first, whatever the walk's order: `rows_before` counts the rows before a time.
        query = attrs.evolve(self._query, order_by=OrderBy.ASC) if self._period else self._query
        source = self._single_pages(query)
        bounds, search = self._period.within(source.order), Search(source.read, descending=False)
        before = 0 if bounds.start is None else await search.rows_before(bounds.start)
        if bounds.stop is not None:
            return max(0, await search.rows_before(bounds.stop) - before)
        page = await source.read(PageRequest(self._offset))
        if page.total is None:
            raise PaginationError("The service states no total count for this list; walk it and count.")
        return max(0, page.total - before)

    def _single_pages(self, query: PaymentQuery) -> Source:
        """Return a source of single pages that someone waits for."""
        # With channels, a whole page: it shows better than one row whether the service applies channelIds.
        limit = 1 if query.channel_ids is None and not self._period else self._page_size
        # On a new connection: no further page would reveal that the answer belongs to another request.
        caller = attrs.evolve(self._walker.caller.timed(), priority=Priority.CALL)
        return Source(caller, self._walker.learned, query, limit, reuse=False)
