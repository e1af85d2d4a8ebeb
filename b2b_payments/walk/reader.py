"""Reading a list to its end: pages asked ahead, joined in line, gaps read again."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Any

import attrs
import msgspec

from b2b_payments.converter import structure_rows
from b2b_payments.events import Events, GapRepaired, PageJoined
from b2b_payments.models import Payment
from b2b_payments.protocol.listing import Listing
from b2b_payments.walk.ahead import Ahead
from b2b_payments.walk.checkpoint import Checkpoint, Origin
from b2b_payments.walk.join import Join, Step
from b2b_payments.walk.page import KeyedPage
from b2b_payments.walk.report import WalkReport


@attrs.frozen
class JoinedPage:
    """One page of a walk: its listing, and the places of the new rows in it.

    `checkpoint` is where the walk stands once these rows are kept.
    """

    listing: Listing = attrs.field(repr=False)
    places: Sequence[int] = attrs.field(repr=False)
    checkpoint: Checkpoint = attrs.field(repr=False)
    limit: int

    def raw(self) -> Sequence[msgspec.Raw]:
        """Give the new rows, each as the bytes that the service sent."""
        rows = self.listing.rows()
        return [rows[place] for place in self.places]

    def objects(self) -> list[dict[str, Any]]:
        """Give the new rows as the service's own JSON objects. Raises ResponseDecodeError."""
        rows = self.listing.objects()
        return [rows[place] for place in self.places]

    def payments(self) -> Iterator[Payment]:
        """Give the new rows as payments, one by one. Raises ResponseDecodeError."""
        return structure_rows(self.listing, self.places)


class Stride:
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

    def learn(self, page: KeyedPage, resume_at: int, *, first: bool) -> None:
        """Take in how a joined page turned out."""
        if not page.reaches_total:
            if first:
                self._lengths.clear()
            self._lengths.append(len(page.ids))
        self._tails.append(page.end - resume_at)


class Reader:
    """Reads one list to its end: asks ahead, offers pages to the join in line, reads again where they gap."""

    def __init__(
        self,
        ahead: Ahead,
        join: Join,
        stride: Stride,
        report: WalkReport,
        events: Events,
        origin: Origin,
    ) -> None:
        self._ahead = ahead
        self._origin = origin
        self._join = join
        self._stride = stride
        self._report = report
        self._events = events
        self._last_asked = 0
        self._readable_end: int | None = None  # no row stands here or further on, whatever the total says
        self._held: KeyedPage | None = None  # a page in line that left a gap, until the gap is closed
        self._in_line = True

    async def pages(self) -> AsyncGenerator[JoinedPage, None]:
        """Give the new rows, page by page, in the order of the list; ends where the join knows the end."""
        page = await self._ahead.now(self._join.resume_at, wide=False)
        self._report.total_first = page.total
        while True:
            step = self._offer(page)
            if self._join.end is None:
                # Before the rows are handed out: the next pages come while the caller works.
                self._ask_ahead(page, settled=step.read_at is None and self._held is None)
            if step.rows:
                yield JoinedPage(page.listing, step.rows, self._origin.pack(self._join.place), page.limit)
            if self._join.end is not None:
                return
            page = await self._next(step)

    def _offer(self, page: KeyedPage) -> Step:
        step, report = self._join.offer(page), self._report
        report.total_last = page.total
        report.duplicates += step.duplicates
        if step.joined:
            report.pages += 1
            report.rows += len(step.rows)
            self._events.emit(PageJoined(page.offset, len(page.ids), len(step.rows), page.total))
        if not page.ids:
            self._readable_end = min(page.offset, self._readable_end or page.offset)
        elif self._in_line and step.joined:
            self._stride.learn(page, self._join.resume_at, first=report.pages == 1)
        elif self._in_line:
            self._held = page
            report.gaps += 1
            self._events.emit(GapRepaired(step.read_at or 0))
        if self._join.end is not None:
            report.complete = self._join.complete
            report.ending = "; but ".join(filter(None, (self._join.end.value, self._join.doubt)))
        return step

    def _ask_ahead(self, page: KeyedPage, *, settled: bool) -> None:
        ahead, stride = self._ahead, self._stride
        end = page.total or 0
        if self._readable_end is not None:
            end = min(end, self._readable_end)
        if ahead.empty and settled:
            self._ask(self._join.resume_at)
        while not ahead.empty and not ahead.full and self._last_asked + stride.length < end:
            # A wide page may have led further than what was asked ahead.
            self._ask(max(self._last_asked + stride.rows, self._join.resume_at))

    def _ask(self, offset: int) -> None:
        self._last_asked = offset
        self._ahead.ask(offset)

    async def _next(self, step: Step) -> KeyedPage:
        """Give the page to offer next: one to close a gap, the one that had left it, or the next in line."""
        self._in_line = step.read_at is None
        if step.read_at is not None:
            return await self._ahead.now(step.read_at, wide=step.wide)
        if self._held is not None:
            page, self._held = self._held, None
            return page
        return await self._ahead.next()
