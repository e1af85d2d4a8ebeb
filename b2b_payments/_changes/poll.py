"""A poll: one reading of what changed since a ledger's watermark. Why it loses nothing:

- Let S be the time of the first answer (newest first by `updatedAt`), and *top* the latest time in it. All
  times are the service's own, but one later than the answer's `Date` (or our clock, if it has none) counts as
  that: otherwise a single such payment would hide every later change. So the top is not later than S.
- A version that lists did not show at S was written after S - lag, and so after top - lag. The watermark
  never exceeds the top, and the next poll reads back to the *bound*, the watermark minus the overlap. So it
  finds that version if the overlap is as long as the lag.
- A version that lists show from S to the end of the poll is read, since pages join by content
  (`_walk/join.py`). Newest first, a payment updated meanwhile moves to the front and shifts others back, into
  pages still to come. Oldest first, it moves to the end and shifts others forward, so that the next page does
  not join and is read again.

Usually the first page holds all changes: newest first, the poll is done at a row that is older than the bound
and than the first row, which also shows that the order was honoured. New versions are held until then, and
yielded oldest first. If there are too many to hold, or a page cannot be joined (a long run of equal times can
only be counted from its old end), the list is read oldest first, starting at the offset that a search finds
for the bound. Then each version is yielded as it arrives, until the top is passed. The watermark follows:
versions already yielded are older than the bound or remembered, all others are at or after the watermark. So
in both cases a checkpoint may be taken after any version.

If the list ends, newest first, without an older row, it is short or was cut. A short list is read by
`createdAt`, whose end can be proven; as long as it shows the same versions as at the last proof, nothing has
changed. An unproven end raises PaginationError, and loses nothing: the watermark stays.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from datetime import UTC, datetime

import attrs

from b2b_payments._call import Tally
from b2b_payments._changes.ledger import Ledger
from b2b_payments._changes.version import Stamp, Version
from b2b_payments._errors import PaginationError
from b2b_payments._models import OrderBy, SortBy
from b2b_payments._models.moment import microseconds_of, moment_of
from b2b_payments._printable import define
from b2b_payments._protocol.query import PaymentQuery
from b2b_payments._walk.period import Period
from b2b_payments._walk.reader import JoinedPage
from b2b_payments._walk.report import WalkReport
from b2b_payments._walk.walk import Walk, Walker

MAX_HELD = 2_000
"""New versions that are held in memory until all of them have been read."""

OnPage = Callable[[JoinedPage, WalkReport], object]


@define
class Poll:
    """Reads once what changed; if the ledger has no watermark, it records what exists at the start instead.

    `newest` is the latest `updatedAt` of the first answer, None if it had no rows. `whole` has all versions
    of a short list, as of the last time that its end was proven.
    """

    walker: Walker
    ledger: Ledger
    tally: Tally
    on_page: OnPage
    whole: frozenset[Stamp] | None = None
    newest: int | None = None
    _top: int = 0
    _is_done: bool = False
    _latest: dict[Stamp, Version] = attrs.field(factory=dict)
    """The versions with the time of the top or a later one, usually those of one second."""
    _has_passed_latest: bool = False
    """Whether the list was read, newest first, past all of those."""
    _front: set[int] = attrs.field(factory=set)
    """The ids of those that were read newest first."""
    _answered_at: datetime | None = None

    async def versions(self) -> AsyncGenerator[Version, None]:
        """Yield the versions that the ledger does not have yet, oldest first, and add each to it.

        One that lists show late may come after newer ones. Raises what walks raise, and PaginationError if
        the list does not show all that changed.
        """
        for max_held in (MAX_HELD, None):
            held = await self._newest_first(max_held)
            if held is not None:
                for version in sorted(held, key=lambda one: (one.updated, one.payment.id)):
                    if self._record(version):
                        yield version
                self._finish()
                return
            versions = self._oldest_first()
            try:
                async for version in versions:
                    yield version
            finally:
                await versions.aclose()
            if self._is_done:
                return
        raise PaginationError(
            "The list does not show all that changed: sorted by updatedAt, it does not reach from its latest "
            f"payment to {moment_of(self._bound).isoformat()} in either direction."
        )

    async def _newest_first(self, max_held: int | None) -> list[Version] | None:
        """Return the new versions, or None if there are more than `max_held` or some may be missing."""
        # One request at a time: prefetched pages would be wasted once the bound is reached.
        walk = self._walk(SortBy.UPDATED_AT, OrderBy.DESC, concurrency=1)
        held: list[Version] = []
        shown: list[Version] = []
        self._front = set()
        try:
            async with aclosing(walk.joined()) as pages:
                async for page in pages:
                    versions = self._versions(page, walk)
                    oldest = versions[-1].updated
                    if not shown:
                        self._set_top(versions[0].updated)
                    self._front |= self._note_latest(versions)
                    self._has_passed_latest = self._has_passed_latest or oldest < self._top
                    held += self._new(versions)
                    # Before anything is awaited, so that the next page is not requested.
                    if oldest < (self.newest or 0) and oldest < self._bound:
                        return held
                    shown += versions[: max(0, MAX_HELD + 1 - len(shown))]
                    if max_held is not None and len(held) > max_held:
                        return None
        except PaginationError:
            return None
        finally:
            self._add_to_tally(walk)
        if len(shown) > MAX_HELD or (walk.report.total_last or 0) > len(shown):
            return None
        if self.whole is not None and self.whole == frozenset(version.stamp for version in shown):
            return held
        return await self._by_creation()

    async def _by_creation(self) -> list[Version] | None:
        """Read a short list by `createdAt`. Returns its new versions, or None if it is long or unproven."""
        walk = self._walk(SortBy.CREATED_AT, OrderBy.ASC)
        shown: list[Version] = []
        try:
            async with aclosing(walk.joined()) as pages:
                async for page in pages:
                    shown += self._versions(page, walk)
                    if self.newest is None or len(shown) > MAX_HELD:
                        return None  # sorted by updatedAt it was empty, or it is not short after all
        finally:
            self._add_to_tally(walk)
        if not walk.report.complete:
            return None
        self.whole = frozenset(version.stamp for version in shown)
        return self._new(shown)

    async def _oldest_first(self) -> AsyncGenerator[Version, None]:
        """Yield the new versions as they arrive. Afterwards, `_is_done` says whether these are all."""
        if self.newest is None or self.newest < self._bound:
            return
        since = Period(start=moment_of(self._bound))
        walk = self._walk(SortBy.UPDATED_AT, OrderBy.ASC, period=since)
        pages, latest, limit, end = walk.joined(), 0, 0, set[int]()
        try:
            async for page in pages:
                versions = self._versions(page, walk)
                limit, end = max(limit, page.limit), end | self._note_latest(versions)
                for version in self._new(versions):
                    if self._record(version):
                        yield version
                latest = max(latest, versions[-1].updated)
                if latest > self._top:
                    break
        finally:
            await pages.aclose()
            self._add_to_tally(walk)
        # A long run of one second at the list's end can only be counted newest first, by reading past it. If
        # the list has nothing else, both directions have to show the same rows, and not just one full page.
        is_whole = self._has_passed_latest or (end == self._front and len(end) != limit)
        if latest > self._top or (latest == self._top and is_whole):
            for version in self._new(self._latest.values()):
                if self._record(version):
                    yield version
            self._finish()

    def _note_latest(self, versions: Iterable[Version]) -> set[int]:
        latest = {version.stamp: version for version in versions if version.updated >= self._top}
        self._latest |= latest
        return {stamp.id for stamp in latest}

    @property
    def _bound(self) -> int:
        """The earliest update time of versions that are new."""
        return self._top if self.ledger.watermark is None else self.ledger.bound

    def _set_top(self, newest: int) -> None:
        """Set the top from the latest time of the first answer."""
        self.newest = newest
        self._top = min(newest, microseconds_of(self._answered_at or datetime.now(UTC)))

    def _new(self, versions: Iterable[Version]) -> list[Version]:
        bound, ledger = self._bound, self.ledger
        return [one for one in versions if one.updated >= bound and one.stamp not in ledger]

    def _record(self, version: Version) -> bool:
        """Add a version to the ledger. Returns whether it is to be yielded."""
        self.ledger.add(version.stamp)
        if self.ledger.watermark is None:
            return False  # it existed before the feed started
        self.ledger.advance(min(version.updated, self._top))
        return True

    def _finish(self) -> None:
        """Record that all versions that lists show up to the top were read."""
        self._is_done = True
        if self.ledger.watermark is None:
            self.ledger.start_at(self._top)
        self.ledger.advance(self._top)

    def _versions(self, page: JoinedPage, walk: Walk) -> list[Version]:
        self._answered_at = self._answered_at or page.listing.date
        self.on_page(page, walk.report)
        # Copies of the rows: each would keep its whole page in memory.
        return list(map(Version.of, page.payments(), map(bytes, page.raw())))

    def _walk(
        self, sort_by: SortBy, order_by: OrderBy, *, concurrency: int = 8, period: Period | None = None
    ) -> Walk:
        query = PaymentQuery(sort_by=sort_by, order_by=order_by)
        return Walk(self.walker, query, concurrency=concurrency, period=period, moved=True)

    def _add_to_tally(self, walk: Walk) -> None:
        self.tally.requests += walk.report.requests
        self.tally.waited += walk.report.waited
