"""Reading a list to its end: pages asked ahead, joined in line, gaps read again."""

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
from b2b_payments._walk.page import Found, PageRequest, SortedPage
from b2b_payments._walk.prefetch import Prefetcher
from b2b_payments._walk.proof import OTHER_END, Ends
from b2b_payments._walk.report import WalkReport
from b2b_payments.events import Events, GapRepaired, PageJoined, WalkNotProven

LookUp = Callable[[int], Awaitable[Found]]
"""Looks a payment up by its id."""


@frozen
class JoinedPage:
    """One page of a walk: its listing, and the places of the new rows in it.

    `checkpoint` is where the walk stands once these rows are kept.
    """

    listing: Listing = attrs.field(repr=False)
    places: Sequence[int] = attrs.field(repr=False)
    checkpoint: Checkpoint = attrs.field(repr=False)
    limit: int

    def raw(self) -> Sequence[msgspec.Raw]:
        """Return the new rows, each as the bytes that the service sent."""
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
    """How far apart the pages ahead are asked for: what a page really holds, less an overlap.

    The overlap is one row plus the run of equals that usually stands at a page's end, plus a little for
    rows deleted between two requests. One long run is an outlier, two in eight pages are a habit.
    """

    def __init__(self, page_size: int) -> None:
        self._lengths: deque[int] = deque([page_size], maxlen=3)
        self._tails: deque[int] = deque([0, 0], maxlen=8)

    @property
    def length(self) -> int:
        """The rows that a page is expected to hold."""
        return max(self._lengths)

    @property
    def rows(self) -> int:
        """The distance between two pages ahead."""
        spare = min(4, 2 + self.length // 100)
        usual = sorted(self._tails)[-2]
        return max(1, self.length - max(2, min(max(spare, usual), self.length // 2)))

    def learn(self, page: SortedPage, resume_at: int, *, first: bool) -> None:
        """Take in how a joined page turned out."""
        if not page.reaches_total:
            if first:
                self._lengths.clear()
            self._lengths.append(len(page.ids))
        self._tails.append(page.end - resume_at)


@define(eq=False)
class Reader:
    """Reads one list to its end: asks ahead, offers pages to the join in line, reads again where they gap."""

    _prefetcher: Prefetcher
    _ends: Ends
    _planner: OffsetPlanner
    _report: WalkReport
    _events: Events
    _origin: Origin
    _look_up: LookUp
    _last_asked: int = attrs.field(default=0, init=False)
    _other_end_asked: bool = attrs.field(default=False, init=False)
    # No row stands here or further on, whatever the total says.
    _readable_end: int | None = attrs.field(default=None, init=False)
    # A page in line that left a gap, until the gap is closed.
    _held: SortedPage | None = attrs.field(default=None, init=False)
    _first_page: SortedPage | None = attrs.field(default=None, init=False)
    _in_line: bool = attrs.field(default=True, init=False)

    async def pages(self, first: int = 0) -> AsyncGenerator[JoinedPage, None]:
        """Yield the new rows, page by page, in the order of the list; ends with the walk.

        The first page is asked for at `first`, if that is not in front of where the ends go on.
        """
        ends = self._ends
        self._ask_near(max(first, ends.resume_at))
        step = Step(True)
        while True:
            page = await self._next(step)
            self._first_page = self._first_page or page
            more = self._held is not None or not self._prefetcher.empty
            step = ends.offer(page, more=more)
            if step.look_up:
                step = ends.looked_up(page, await self._found(step.look_up), more=more)
            self._account(page, step)
            if step.drops_prefetched:
                self._prefetcher.drop()
                self._held, self._other_end_asked = None, False
            if not (step.stuck or ends.over):
                # Before the rows are handed out: the next pages come while the caller works.
                self._ask_ahead(page, settled=step.read is None and self._held is None)
            if step.rows:
                yield JoinedPage(page.listing, step.rows, self._origin.pack(*ends.places), page.limit)
            if ends.over:
                return

    def _account(self, page: SortedPage, step: Step) -> None:
        report, ending = self._report, self._ends.ending
        if page is self._first_page:
            report.total_first = page.total
        report.total_last = page.total
        report.ignored_filters |= {place.rpartition(".")[2] for place in page.listing.ignored}
        report.duplicates += step.duplicates
        report.from_other_end += page.from_other_end
        report.reread += not self._in_line and not page.from_other_end
        if step.joined:
            report.pages += 1
            report.rows += len(step.rows)
            told = page.offset, len(page.ids), len(step.rows), page.total, page.from_other_end
            self._events.emit(PageJoined(*told))
        if page.from_other_end:
            pass
        elif not page.ids:
            end = self._readable_end
            self._readable_end = page.offset if end is None else min(page.offset, end)
        elif self._in_line and step.joined:
            if self._readable_end is not None and page.end > self._readable_end:
                self._readable_end = None
            self._planner.learn(page, self._ends.resume_at, first=report.pages == 1)
        elif self._in_line and step.read is not None:
            self._held = page
            report.gaps += 1
            self._events.emit(GapRepaired(step.read.offset))
        if ending is not None:
            report.complete, report.ending = ending.complete, ending.reason
            if report.exact and not ending.complete:
                self._events.emit(WalkNotProven(report.rows, ending.reason))

    def _ask_ahead(self, page: SortedPage, *, settled: bool) -> None:
        """Ask for pages up to the total, the last of them from the list's other end."""
        prefetcher, planner = self._prefetcher, self._planner
        end = page.total or 0
        if self._readable_end is not None:
            end = min(end, self._readable_end)
        while not prefetcher.full and (settled or not prefetcher.empty):
            if self._ends.wants_other_end and self._other_end_asked:
                return
            asked = self._last_asked + planner.length if not prefetcher.empty else self._ends.cursor
            bounds = self._ends.bounds
            if bounds is not None and not prefetcher.empty and bounds.likely_end_before(asked):
                return
            overlap = planner.length - planner.rows
            proves_the_rest = self._ends.wants_other_end and asked >= end - planner.length + overlap
            if proves_the_rest and page.total is not None:
                self._other_end_asked = True
                prefetcher.ask(OTHER_END)
            elif prefetcher.empty or asked < end:
                # A page of full size may have led further than what was asked ahead.
                offset = self._last_asked + planner.rows if not prefetcher.empty else 0
                self._ask_near(max(offset, self._ends.resume_at))
            else:
                return

    def _ask_near(self, offset: int) -> None:
        self._last_asked = offset
        self._prefetcher.ask(PageRequest(offset))

    async def _next(self, step: Step) -> SortedPage:
        """Return the page to offer next: one that closes a gap, the one that left it, or the next in line."""
        wanted = step.read
        if wanted == OTHER_END and self._other_end_asked and not self._prefetcher.empty:
            wanted = None  # it is in line already
        self._in_line = wanted is None
        if wanted is not None:
            if wanted.from_other_end:
                self._other_end_asked = True
            elif self._prefetcher.empty and self._ends.wants_other_end:
                self._other_end_asked = False  # it came empty, and is to be asked for again
            await anyio.sleep(step.wait)
            return await self._prefetcher.now(wanted)
        if self._held is not None:
            page, self._held = self._held, None
            return page
        return await self._prefetcher.next()

    async def _found(self, payment_ids: Sequence[int]) -> dict[int, Found]:
        found: dict[int, Found] = {}
        for payment_id in payment_ids:
            self._report.looked_up += 1
            found[payment_id] = await self._look_up(payment_id)
        return found
