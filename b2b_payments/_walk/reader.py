"""Reading a list to its end: pages are prefetched, joined in order, and read again where they leave a gap."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from typing import Any

import anyio
import attrs
import msgspec

from b2b_payments._converter import structure_rows
from b2b_payments._models import Payment
from b2b_payments._printable import define, frozen
from b2b_payments._protocol.listing import Listing
from b2b_payments._walk.checkpoint import Checkpoint, Origin
from b2b_payments._walk.join import Step
from b2b_payments._walk.page import LookupResult, PageRequest, SortedPage
from b2b_payments._walk.prefetch import Prefetcher
from b2b_payments._walk.proof import OTHER_END, Ends
from b2b_payments._walk.report import WalkReport
from b2b_payments.events import Events, GapRepaired, PageJoined, WalkNotProven

LookUp = Callable[[int], Awaitable[LookupResult]]
"""Looks up a payment by id."""


@frozen
class JoinedPage:
    """One page of a walk: its listing, and the indexes of its new rows (`places`).

    `checkpoint` is the position of the walk after these rows.
    """

    listing: Listing = attrs.field(repr=False)
    places: Sequence[int] = attrs.field(repr=False)
    checkpoint: Checkpoint = attrs.field(repr=False)
    limit: int

    def raw(self) -> Sequence[msgspec.Raw]:
        """Return the new rows as the bytes that the service sent."""
        rows = self.listing.rows()
        return [rows[place] for place in self.places]

    def objects(self) -> list[dict[str, Any]]:
        """Return the new rows as the service's own JSON objects. Raises ResponseDecodeError."""
        rows = self.listing.objects()
        return [rows[place] for place in self.places]

    def payments(self) -> Iterator[Payment]:
        """Return the new rows as payments, one by one. Raises ResponseDecodeError."""
        return structure_rows(self.listing, self.places)


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


@define(eq=False)
class Reader:
    """Reads one list to its end: prefetches pages, offers them to the join in order, and closes gaps."""

    _prefetcher: Prefetcher
    _ends: Ends
    _planner: OffsetPlanner
    _report: WalkReport
    _events: Events
    _origin: Origin
    _look_up: LookUp
    _last_offset: int = attrs.field(default=0, init=False)
    _other_end_requested: bool = attrs.field(default=False, init=False)
    # There are no rows at or after this offset, whatever the total says.
    _readable_end: int | None = attrs.field(default=None, init=False)
    # A prefetched page that left a gap, until the gap is closed.
    _gap_page: SortedPage | None = attrs.field(default=None, init=False)
    _first_page: SortedPage | None = attrs.field(default=None, init=False)
    _is_from_queue: bool = attrs.field(default=True, init=False)

    async def pages(self, first: int = 0) -> AsyncGenerator[JoinedPage, None]:
        """Yield the new rows page by page, in the order of the list, until the walk is over.

        The first page is requested at the offset `first`, or at `resume_at` if that is higher.
        """
        ends = self._ends
        self._enqueue(max(first, ends.resume_at))
        step = Step(True)
        while True:
            page = await self._next(step)
            self._first_page = self._first_page or page
            more = self._gap_page is not None or not self._prefetcher.empty
            step = ends.offer(page, more=more)
            if step.look_up:
                step = ends.looked_up(page, await self._look_up_all(step.look_up), more=more)
            self._update_report(page, step)
            if step.drops_prefetched:
                self._prefetcher.drop()
                self._gap_page, self._other_end_requested = None, False
            if not (step.stuck or ends.over):
                # Before the rows are yielded, so that the next pages arrive while the caller works.
                self._prefetch(page, settled=step.read is None and self._gap_page is None)
            if step.rows:
                yield JoinedPage(page.listing, step.rows, self._origin.pack(*ends.cursors), page.limit)
            if ends.over:
                return

    def _update_report(self, page: SortedPage, step: Step) -> None:
        report, ending = self._report, self._ends.ending
        if page is self._first_page:
            report.total_first = page.total
        report.total_last = page.total
        report.ignored_filters |= {place.rpartition(".")[2] for place in page.listing.ignored}
        report.duplicates += step.duplicates
        report.from_other_end += page.from_other_end
        report.reread += not self._is_from_queue and not page.from_other_end
        if step.joined:
            report.pages += 1
            report.rows += len(step.rows)
            fields = page.offset, len(page.ids), len(step.rows), page.total, page.from_other_end
            self._events.emit(PageJoined(*fields))
        if page.from_other_end:
            pass
        elif not page.ids:
            end = self._readable_end
            self._readable_end = page.offset if end is None else min(page.offset, end)
        elif self._is_from_queue and step.joined:
            if self._readable_end is not None and page.end > self._readable_end:
                self._readable_end = None
            self._planner.learn(page, self._ends.resume_at, first=report.pages == 1)
        elif self._is_from_queue and step.read is not None:
            self._gap_page = page
            report.gaps += 1
            self._events.emit(GapRepaired(step.read.offset))
        if ending is not None:
            report.complete, report.ending = ending.complete, ending.reason
            if report.exact and not ending.complete:
                self._events.emit(WalkNotProven(report.rows, ending.reason))

    def _prefetch(self, page: SortedPage, *, settled: bool) -> None:
        """Request pages up to the total, the last of them from the list's other end."""
        prefetcher, planner = self._prefetcher, self._planner
        end = page.total or 0
        if self._readable_end is not None:
            end = min(end, self._readable_end)
        while not prefetcher.full and (settled or not prefetcher.empty):
            if self._ends.needs_other_end and self._other_end_requested:
                return
            requested = self._last_offset + planner.length if not prefetcher.empty else self._ends.end
            bounds = self._ends.bounds
            if bounds is not None and not prefetcher.empty and bounds.likely_end_before(requested):
                return
            overlap = planner.length - planner.distance
            proves_the_rest = self._ends.needs_other_end and requested >= end - planner.length + overlap
            if proves_the_rest and page.total is not None:
                self._other_end_requested = True
                prefetcher.enqueue(OTHER_END)
            elif prefetcher.empty or requested < end:
                # A page of full size may have led further than the prefetched ones.
                offset = self._last_offset + planner.distance if not prefetcher.empty else 0
                self._enqueue(max(offset, self._ends.resume_at))
            else:
                return

    def _enqueue(self, offset: int) -> None:
        self._last_offset = offset
        self._prefetcher.enqueue(PageRequest(offset))

    async def _next(self, step: Step) -> SortedPage:
        """Return the page to offer next: one to close a gap, the one that left it, or a prefetched one."""
        request = step.read
        self._is_from_queue = request is None
        if request is not None:
            if request.from_other_end:
                self._other_end_requested = True
            elif self._prefetcher.empty and self._ends.needs_other_end:
                self._other_end_requested = False  # it was empty, and has to be requested again
            await anyio.sleep(step.wait)
            return await self._prefetcher.read_now(request)
        if self._gap_page is not None:
            page, self._gap_page = self._gap_page, None
            return page
        return await self._prefetcher.next()

    async def _look_up_all(self, payment_ids: Sequence[int]) -> dict[int, LookupResult]:
        results: dict[int, LookupResult] = {}
        for payment_id in payment_ids:
            self._report.looked_up += 1
            results[payment_id] = await self._look_up(payment_id)
        return results
