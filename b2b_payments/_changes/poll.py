"""One reading of what changed since a ledger's watermark. Why it loses nothing:

- S is the moment of the first answer, newest first by `updatedAt`, and the *top* the latest time in it. All
  times are the service's own; but a time later than the answer's `Date` (our clock, where it has none) counts
  as that, since a single such payment would hide every later change. So the top is not later than S.
- A version that lists did not show at S was written after S - lag, and so after top - lag. The watermark
  never goes beyond the top, and the next reading goes down to the watermark less the overlap: it finds that
  version where the overlap is as wide as the lag.
- A version that lists show from S to the end of the reading is read, since pages join by content
  (`_walk/join.py`): newest first, a payment that is updated meanwhile goes to the front, and moves others
  back into pages still to come; oldest first, it goes to the end, and moves others forward, so that the next
  page does not join and is read again.

Usually the first page holds all of it: newest first, it is through at a row that is older than what is looked
for and than the first row, which also shows that the order was honoured. New versions wait until then, and
are given oldest first. Where they are too many to wait, or a page cannot be joined (many rows of one second
are counted from their old end alone), the list is read oldest first, from where the search for the oldest of
them leads to, and each is given as it comes, until the top is passed. The watermark goes with them: what was
given is older, or remembered; what was not stands at the watermark or behind it. So either way a checkpoint
may be taken after any version.

A list that ends newest first without an older row is short, or it is cut. A short one is read by `createdAt`,
whose end is proven; while it shows the same versions as when it was, nothing happened. An end that is not
proven raises PaginationError, and nothing is lost: the watermark stays.
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

MOST_HELD = 2_000
"""New versions that are held until all of them have come."""

OnPage = Callable[[JoinedPage, WalkReport], object]


@define
class Poll:
    """Reads what changed, once; or, where the ledger has no watermark, what is there to begin with.

    `newest` is the latest `updatedAt` of the first answer, None without rows; `whole` all versions of a short
    list, when it was last proven that these are all.
    """

    walker: Walker
    ledger: Ledger
    tally: Tally
    on_page: OnPage
    whole: frozenset[Stamp] | None = None
    newest: int | None = None
    _top: int = 0
    _is_reached: bool = False
    _latest: dict[Stamp, Version] = attrs.field(factory=dict)
    """What was shown of the top and of later times: of a second, as a rule."""
    _is_behind_latest: bool = False
    """Whether the list was read, newest first, until behind all of those."""
    _front: set[int] = attrs.field(factory=set)
    """The ids of those that were shown newest first."""
    _answered: datetime | None = None

    async def versions(self) -> AsyncGenerator[Version, None]:
        """Yield what was not given yet, oldest first; the ledger follows each.

        A late one may come behind younger ones. Raises as walks do, and PaginationError where the list does
        not show all of it.
        """
        for most in (MOST_HELD, None):
            held = await self._newest_first(most)
            if held is not None:
                for version in sorted(held, key=lambda one: (one.updated, one.payment.id)):
                    if self._take(version):
                        yield version
                self._end()
                return
            versions = self._oldest_first()
            try:
                async for version in versions:
                    yield version
            finally:
                await versions.aclose()
            if self._is_reached:
                return
        raise PaginationError(
            "The list does not show all that changed: sorted by updatedAt, it does not reach from its latest "
            f"payment to {moment_of(self._bound).isoformat()}, in neither direction."
        )

    async def _newest_first(self, most: int | None) -> list[Version] | None:
        """Return what was not given yet; None where that is more than `most`, or not known to be all."""
        # One request at a time: what was asked ahead is for nothing once the watermark is reached.
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
                        self._begin(versions[0].updated)
                    self._front |= self._note_latest(versions)
                    self._is_behind_latest = self._is_behind_latest or oldest < self._top
                    held += self._new(versions)
                    # Before anything is awaited, so that the next page is not sent for.
                    if oldest < (self.newest or 0) and oldest < self._bound:
                        return held
                    shown += versions[: max(0, MOST_HELD + 1 - len(shown))]
                    if most is not None and len(held) > most:
                        return None
        except PaginationError:
            return None
        finally:
            self._count(walk)
        if len(shown) > MOST_HELD or (walk.report.total_last or 0) > len(shown):
            return None
        if self.whole is not None and self.whole == frozenset(version.stamp for version in shown):
            return held
        return await self._by_creation()

    async def _by_creation(self) -> list[Version] | None:
        """Do the same on a list that is short, to its proven end."""
        walk = self._walk(SortBy.CREATED_AT, OrderBy.ASC)
        shown: list[Version] = []
        try:
            async with aclosing(walk.joined()) as pages:
                async for page in pages:
                    shown += self._versions(page, walk)
                    if self.newest is None or len(shown) > MOST_HELD:
                        return None  # by updatedAt it came empty, or it is not short at all
        finally:
            self._count(walk)
        if not walk.report.complete:
            return None
        self.whole = frozenset(version.stamp for version in shown)
        return self._new(shown)

    async def _oldest_first(self) -> AsyncGenerator[Version, None]:
        """Yield what was not given yet as it comes; `_is_reached` says whether all of it came."""
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
                    if self._take(version):
                        yield version
                latest = max(latest, versions[-1].updated)
                if latest > self._top:
                    break
        finally:
            await pages.aclose()
            self._count(walk)
        # Where the list ends with many of one second, they can be counted from its front alone. Where it has
        # no others, both directions have to show the same, and not just one full page of them.
        is_whole = self._is_behind_latest or (end == self._front and len(end) != limit)
        if latest > self._top or (latest == self._top and is_whole):
            for version in self._new(self._latest.values()):
                if self._take(version):
                    yield version
            self._end()

    def _note_latest(self, versions: Iterable[Version]) -> set[int]:
        latest = {version.stamp: version for version in versions if version.updated >= self._top}
        self._latest |= latest
        return {stamp.id for stamp in latest}

    @property
    def _bound(self) -> int:
        """The moment from which on versions are looked for."""
        return self._top if self.ledger.watermark is None else self.ledger.bound

    def _begin(self, newest: int) -> None:
        """Take in the first answer's latest time."""
        self.newest = newest
        self._top = min(newest, microseconds_of(self._answered or datetime.now(UTC)))

    def _new(self, versions: Iterable[Version]) -> list[Version]:
        bound, ledger = self._bound, self.ledger
        return [one for one in versions if one.updated >= bound and one.stamp not in ledger]

    def _take(self, version: Version) -> bool:
        """Put a version into the ledger; tell whether it is to be given."""
        self.ledger.give(version.stamp)
        if self.ledger.watermark is None:
            return False  # it was there before the feed began
        self.ledger.reach(min(version.updated, self._top))
        return True

    def _end(self) -> None:
        """Note that all came which lists showed up to the top."""
        self._is_reached = True
        if self.ledger.watermark is None:
            self.ledger.begin(self._top)
        self.ledger.reach(self._top)

    def _versions(self, page: JoinedPage, walk: Walk) -> list[Version]:
        self._answered = self._answered or page.listing.date
        self.on_page(page, walk.report)
        return [Version.of(payment) for payment in page.payments()]

    def _walk(
        self, sort_by: SortBy, order_by: OrderBy, *, concurrency: int = 8, period: Period | None = None
    ) -> Walk:
        query = PaymentQuery(sort_by=sort_by, order_by=order_by)
        return Walk(self.walker, query, concurrency=concurrency, period=period, moved=True)

    def _count(self, walk: Walk) -> None:
        self.tally.requests += walk.report.requests
        self.tally.waited += walk.report.waited
