"""Reading a list to its end: pages are joined in order, and read again where they leave a gap."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
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
from b2b_payments._walk.page import LookupResult, SortedPage
from b2b_payments._walk.prefetch import Prefetcher
from b2b_payments._walk.proof import Ends
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


@define(eq=False)
class Reader:
    """Reads one list to its end: offers pages to the join in order, and closes gaps.

    The first page is requested at the offset `first`, or at `resume_at` if that is higher.
    """

    _prefetcher: Prefetcher
    _ends: Ends
    _report: WalkReport
    _events: Events
    _origin: Origin
    _look_up: LookUp
    _first: int = 0
    _step: Step | None = attrs.field(default=None, init=False)
    # A prefetched page that left a gap, until the gap is closed.
    _gap_page: SortedPage | None = attrs.field(default=None, init=False)

    async def next(self) -> JoinedPage | None:
        """Return the next page with new rows, in the order of the list; None when the walk is over."""
        ends, prefetcher = self._ends, self._prefetcher
        while not ends.over:
            is_prefetched = self._step is None or self._step.read is None
            page = await self._next_page()
            more = self._gap_page is not None or not prefetcher.empty
            step = ends.offer(page, more=more)
            if step.look_up:
                step = ends.looked_up(page, await self._look_up_all(step.look_up), more=more)
            self._update_report(page, step, is_prefetched=is_prefetched)
            self._step = step
            prefetcher.learn(page, joined=is_prefetched and step.joined, first=self._report.pages == 1)
            if step.drops_prefetched:
                prefetcher.drop()
                self._gap_page = None
            if not (step.stuck or ends.over):
                # Before the rows are returned, so that the next pages arrive while the caller works.
                prefetcher.fill(page.total, settled=step.read is None and self._gap_page is None)
            if step.rows:
                return JoinedPage(page.listing, step.rows, self._origin.pack(*ends.cursors), page.limit)
        return None

    async def _next_page(self) -> SortedPage:
        """Return the page to offer next: one to close a gap, the one that left it, or a prefetched one."""
        step = self._step
        if step is None:
            self._prefetcher.enqueue(max(self._first, self._ends.resume_at))
        elif step.read is not None:
            await anyio.sleep(step.wait)
            return await self._prefetcher.read_now(step.read)
        if self._gap_page is not None:
            page, self._gap_page = self._gap_page, None
            return page
        return await self._prefetcher.next()

    def _update_report(self, page: SortedPage, step: Step, *, is_prefetched: bool) -> None:
        report, ending = self._report, self._ends.ending
        if self._step is None:
            report.total_first = page.total
        report.total_last = page.total
        report.ignored_filters |= {place.rpartition(".")[2] for place in page.listing.ignored}
        report.duplicates += step.duplicates
        report.from_other_end += page.from_other_end
        report.reread += not is_prefetched and not page.from_other_end
        if step.joined:
            report.pages += 1
            report.rows += len(step.rows)
            fields = page.offset, len(page.ids), len(step.rows), page.total, page.from_other_end
            self._events.emit(PageJoined(*fields))
        elif is_prefetched and step.read is not None and page.ids and not page.from_other_end:
            self._gap_page = page
            report.gaps += 1
            self._events.emit(GapRepaired(step.read.offset))
        if ending is not None:
            report.complete, report.ending = ending.complete, ending.reason
            if report.exact and not ending.complete:
                self._events.emit(WalkNotProven(report.rows, ending.reason))

    async def _look_up_all(self, payment_ids: Sequence[int]) -> dict[int, LookupResult]:
        results: dict[int, LookupResult] = {}
        for payment_id in payment_ids:
            self._report.looked_up += 1
            results[payment_id] = await self._look_up(payment_id)
        return results
