"""A walk over the payments of a list: what `client.payments.list()` gives."""

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
from b2b_payments._protocol.listing import DecodeRows, not_decoded
from b2b_payments._protocol.query import PaymentQuery
from b2b_payments._quota import Priority
from b2b_payments._tasks import Tasks
from b2b_payments._walk.checkpoint import Checkpoint, Cursor, Origin
from b2b_payments._walk.page import Order, PageRequest
from b2b_payments._walk.pager import Iteration, Pager
from b2b_payments._walk.period import Period
from b2b_payments._walk.prefetch import ConcurrencyLimiter, Prefetcher
from b2b_payments._walk.proof import Ends
from b2b_payments._walk.reader import JoinedPage, OffsetPlanner, Reader
from b2b_payments._walk.report import WalkReport
from b2b_payments._walk.search import MOST_READS, Search, Start
from b2b_payments._walk.service_limits import ServiceLimits
from b2b_payments._walk.source import MOST_ROWS, Source

DEFAULT_CONCURRENCY = 8


@frozen
class Walker:
    """What walks of one client share: how to call, what was learned, who owns tasks, which store it is.

    A walk has `priority`, and is over at the moment `until`; None is its own deadline.
    """

    caller: Caller
    learned: ServiceLimits
    tasks: Tasks
    store: str
    priority: Priority = Priority.PAGE
    until: float | None = None

    def source(self, query: PaymentQuery, page_size: int, **settings: Any) -> Source:
        """Return what reads pages of a list; `settings` are others of the source's."""
        settings = {"priority": self.priority, **settings}
        until = self.caller.until() if self.until is None else self.until
        return Source(self.caller, self.learned, query, page_size, until, **settings)


@define
class WalkStanding:
    """Where one iteration of a walk stands."""

    report: WalkReport
    checkpoint: Checkpoint


class Walk(Pager):
    """The payments of a list, each exactly once, fetched ahead and joined by the exact rule.

    ::

        async for payment in walk: ...
        async for page in walk.pages(): ...
        await walk.first(), await walk.count(), await walk.collect()

    Every iteration is a walk of its own; `report` and `checkpoint()` speak of the latest, and those of
    ``pages = walk.pages()`` of that one. Only a walk whose
    `report.complete` is True is known to have given everything. Leaving a loop early cancels whatever is
    under way.

    Iterating raises an APIError or TransportError when a page cannot be had, PaginationError when the pages
    cannot be joined, ResponseDecodeError when one cannot be read; what was given until then stands, and
    `checkpoint()` is where to go on.
    """

    def __init__(
        self,
        walker: Walker,
        query: PaymentQuery,
        *,
        offset: int = 0,
        page_size: int = MOST_ROWS,
        concurrency: int = DEFAULT_CONCURRENCY,
        checkpoint: Mapping[str, Any] | None = None,
        period: Period | None = None,
        moved: bool = False,
    ) -> None:
        self._walker = walker
        self._query = query
        self._period = period or Period()
        self._moved = moved
        self._origin = Origin.of(walker.store, query, self._period.words)
        if checkpoint is not None and query.sort_by is not SortBy.CREATED_AT:
            raise ConfigurationError("A walk goes on from a checkpoint only by createdAt; leave out sort_by.")
        self._places = (None, None) if checkpoint is None else self._origin.unpack(checkpoint)
        self._order = Order.of(query.sort_by, query.order_by)
        if self._period and not (moved or self._order.exact):
            raise ConfigurationError(
                "created_from and created_to hold for a walk by createdAt; leave out sort_by."
            )
        self._offset = whole("offset", offset, least=0)
        if self._period and offset:
            raise ConfigurationError("Give created_from and created_to, or an offset, not both.")
        self._page_size = whole("page_size", page_size, least=1)
        self._concurrency = whole("concurrency", concurrency, least=1)
        self._latest = self._begin()

    def _begin(self) -> WalkStanding:
        return WalkStanding(WalkReport(exact=self._order.exact), self._origin.pack(*self._places))

    def joined(
        self, limiter: ConcurrencyLimiter | None = None, *, decoded: DecodeRows = not_decoded
    ) -> Iteration[JoinedPage]:
        """Return the new rows page by page, as the service sent them.

        `limiter` bounds the requests in flight of several walks together.
        """
        standing = self._latest = self._begin()
        limiter = limiter or ConcurrencyLimiter(self._walker.tasks, self._concurrency)
        return Iteration(self._join(standing, decoded, limiter), standing)

    async def _join(
        self, standing: WalkStanding, decoded: DecodeRows, limiter: ConcurrencyLimiter
    ) -> AsyncGenerator[JoinedPage, None]:
        walker, report = self._walker, standing.report
        walker.tasks.require_running()
        source = walker.source(self._query, self._page_size, tally=report, decoded=decoded)
        place, other = self._places
        bounds = self._period.within(self._order) if self._period else None
        search, start = Search(source.read, source.order.descending), Start()
        if place is None and bounds is not None and bounds.start is not None:
            start = await search.start_of(bounds.start, after=bounds.starts_after)
            if start.first:
                # Newest first, the rows of the period's end itself are not asked for.
                place = Cursor(bounds.start, closed=bounds.starts_after, resume_at=start.offset, ids=())
        ends = Ends(
            source.order,
            walker.learned.totals_of(self._query),
            start=self._offset,
            place=place,
            other=other,
            filtered=self._query.filtered,
            shown=walker.learned.shown(self._query),
            bounds=bounds,
            moved=self._moved,
        )
        # Nearly twice as many pages as are in flight: one late page does not stop the others. But one by one,
        # none is sent for before the page in front of it was taken.
        ahead = 2 * self._concurrency - 1
        if bounds is not None and bounds.stop is not None:
            # Those behind the period's end are for nothing: the less the search has cost, the more may be.
            ahead = min(ahead, max(2, MOST_READS - search.reads))
        prefetcher = Prefetcher(limiter, source.read, ahead)
        planner = OffsetPlanner(self._page_size)
        events = walker.caller.events
        pages = Reader(prefetcher, ends, planner, report, events, self._origin, source.is_there).pages(
            start.first
        )
        try:
            async for page in pages:
                yield page
                standing.checkpoint = page.checkpoint
                walker.tasks.require_home()
        except PaginationError as error:
            error.checkpoint = standing.checkpoint
            raise
        finally:
            walker.tasks.at_home(prefetcher.drop)
            await pages.aclose()
        if (refusal := source.refusal) is not None and not report.complete:
            if report.exact:
                raise refusal
            raise PaginationError(f"The list cannot be read to its end. {refusal}") from refusal

    async def first(self) -> Payment | None:
        """Return the first payment in the order asked for, None where there is none. One request.

        It is the first as the service lists them: should it ignore the order, by that order. `channel_ids`
        may take a few requests more, until the service's way to write them is known, and so do
        `created_from` and `created_to`.
        """
        if not self._period:
            page = await self._single().read(PageRequest(self._offset))
            return next(structure_rows(page.listing, [0])) if page.ids else None
        async with aclosing(self.joined(ConcurrencyLimiter(self._walker.tasks, 1))) as pages:
            async for joined in pages:
                return next(joined.payments())
        return None

    async def count(self) -> int:
        """Return how many payments the service says there are, in one request. It may change at once.

        As with `first()`, the order does not matter, and `channel_ids` may take a few requests more. With
        `created_from` or `created_to`, the places of both in the list are looked up, a few requests each.

        Whether the service counts under every filter is not documented [open]: what it counts for
        `channel_ids` may be more than a walk gives. Raises PaginationError where the service does not say.
        """
        source, query = self._single(), self._query
        if self._period:
            # Oldest first, whichever way the walk goes: what is at or after a bound stands behind it there.
            source = self._single(attrs.evolve(query, order_by=OrderBy.ASC))
            bounds = self._period.within(source.order)
            search = Search(source.read, descending=False)
            before = [
                0 if key is None else await search.rows_before(key) for key in (bounds.start, bounds.stop)
            ]
            if bounds.stop is not None:
                return max(0, before[1] - before[0])
        page = await source.read(PageRequest(self._offset))
        if page.total is None:
            raise PaginationError("The service gives no total count for this list; walk it and count.")
        return page.total if not self._period else max(0, page.total - before[0])

    def _single(self, query: PaymentQuery | None = None) -> Source:
        """Return what reads single pages that somebody waits for."""
        query = query or self._query
        # A page of one channel says more about whether the service reads channelIds than one row does.
        limit = 1 if query.channel_ids is None and not self._period else self._page_size
        # No other page would contradict another list's answer.
        return self._walker.source(query, limit, priority=Priority.CALL, reuse=False)
