"""The two ways to read a store into its copy: what changed, and the whole.

**What changed** is read by `updatedAt`, newest first, down to the watermark less an overlap. Nothing is lost:

- The watermark W is the latest `updatedAt` in the first answer of a reading, and so not later than the moment
  S of that answer. All times are the service's own; but a time later than the answer's `Date` (our clock,
  where it has none) counts as that, since a single such payment would hide every later change. (A smaller W
  is always safe: it reads more.)
  A write that the list did not show at S was made
  after S - lag, and so after W - lag. The next reading goes beyond W - overlap, so it finds that write where
  the overlap is as wide as the list's lag.
- A payment that the list shows unchanged from S to the reading's end comes, if its time is later than that of
  the last row taken. For a page joins on only if its *first* row is later than that row: what stands in front
  of such a page came already, and what is in it comes now. A payment that is updated meanwhile goes to
  the front, and moves others back into pages still to come. One that is deleted moves others forward;
  then the next page does not join, and is read again from further forward. A payment that the list shows
  updated only after S was written after S - lag: see above.
- Only a row older than W - overlap, and than the first one, shows that all of it came, since that also shows
  that the order was honoured. A list that ends before such a row is not believed, whatever total it states;
  nor is one whose first row is older than W, as after a backup was restored. The whole is read then.
- W is put down with the last rows, in one transaction. A reading that was interrupted is done again.

**The whole** is read by `createdAt`, which loses no payment that lasts. Each batch is put down in one
transaction with the ids seen and with the walk's checkpoint, so that a reading that was interrupted goes on.
Where it is complete, the payments that it did not see become candidates. W is of an answer from before it
began, at S, and is put down in that last transaction. A payment that was written between W and S - overlap
shows that the answer was not sorted by `updatedAt`: then there is no W, and the next sync reads the whole.

Either way an older version never takes the place of a newer one, and no payment leaves the copy: where the
list contradicts it, `settle.py` asks by id.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from b2b_payments._converter import structure_payment
from b2b_payments._errors import ConfigurationError, PaginationError
from b2b_payments._models import OrderBy, Payment, SortBy
from b2b_payments._printable import define
from b2b_payments._resources.payments import Payments
from b2b_payments._walk.reader import JoinedPage
from b2b_payments._walk.report import WalkReport
from b2b_payments._walk.walk import Walk
from b2b_payments.export._worker import Worker
from b2b_payments.sync._copy import Copy
from b2b_payments.sync._report import SyncReport
from b2b_payments.sync._state import Reading, State

Listener = Callable[[WalkReport], object]
Row = dict[str, Any]
"""A payment as the service sent it."""

BATCH_ROWS = 2_000
"""Payments that are put down at once, and what a kill can cost."""

_SHOWN = 5


@define
class Readings:
    """Reads a store into its copy; `state` is what the copy says of itself, `report` the account.

    Both ways raise what walks raise, and as `Copy` does.
    """

    payments: Payments
    copy: Copy
    worker: Worker
    path: Path
    overlap: timedelta
    on_progress: Listener | None
    state: State
    report: SyncReport = attrs.field(factory=SyncReport)
    _answered: datetime | None = None
    _shown: Sequence[Row] = ()

    async def changes(self, since: datetime) -> bool:
        """Read what changed; tell whether all of it came.

        It did not where a list that changes cannot be joined by `updatedAt`, shows no row that is older than
        the last reading, or none that is as new.
        """
        # One request at a time: what was asked ahead is for nothing once the watermark is reached.
        walk = self.payments.list(sort_by=SortBy.UPDATED_AT, order_by=OrderBy.DESC, concurrency=1)
        watermark: datetime | None = None
        newest: datetime | None = None
        held: list[Row] = []
        through = False
        try:
            async with aclosing(walk.joined()) as pages:
                async for page in pages:
                    rows = self._rows_of(page)
                    held += rows
                    self._advance(walk)
                    oldest = _payment(rows[-1]).updated_at
                    if newest is None:
                        newest = _payment(rows[0]).updated_at
                        watermark = _no_later(newest, page.listing.date)
                        if newest < since:
                            break
                    # Before anything is awaited, so that the next page is not sent for.
                    through = oldest < newest and oldest < since - self.overlap
                    if through:
                        break
                    if len(held) >= BATCH_ROWS:
                        await self._keep(held)
                        held = []
        except PaginationError:
            return False
        finally:
            self._count(walk)
        if not through:
            return False
        self.state = attrs.evolve(self.state, watermark=watermark)
        await self._keep(held, self.state)
        self._complete()
        return True

    async def whole(self) -> bool:
        """Read every payment, from where a reading was interrupted; tell whether all of them came."""
        self.report.complete, self.report.swept = False, True
        reading = self.state.reading
        try:
            walk = self.payments.list(checkpoint=None if reading is None else reading.walk)
        except ConfigurationError:
            # Another version of this library made the checkpoint: that reading is of no use any more.
            reading, walk = None, self.payments.list()
        if reading is None:
            watermark = await self._newest()
            reading = Reading(watermark, begun=self._answered)
            self.state = attrs.evolve(self.state, reading=reading)
            await self.worker.do(partial(self.copy.begin_reading, self.state))
        held: list[Row] = []
        try:
            async with aclosing(walk.joined()) as pages:
                async for page in pages:
                    held += self._rows_of(page)
                    self.state = attrs.evolve(self.state, reading=attrs.evolve(reading, walk=page.checkpoint))
                    self._advance(walk)
                    if len(held) >= BATCH_ROWS:
                        await self._keep(held, self.state, seen=True)
                        held = []
        finally:
            self._count(walk)
        await self._keep(held, self.state, seen=True)
        complete = walk.report.complete
        # One that is not known to be complete proves nothing: the next sync starts it again.
        watermark = await self._checked(reading) if complete else self.state.watermark
        self.state = attrs.evolve(self.state, watermark=watermark, reading=None)
        await self.worker.do(partial(self.copy.end_reading, self.state, complete=complete))
        if complete:
            self._complete()
        else:
            self.report.caveat = f"the store was not read whole: {walk.report.ending}"
        return complete

    @property
    def shown(self) -> list[int]:
        """The ids of some payments that the list showed in this run, of its latest page."""
        step = max(1, len(self._shown) // _SHOWN)
        return [_payment(row).id for row in self._shown[::step][:_SHOWN]]

    async def _newest(self) -> datetime | None:
        """Give the latest `updatedAt` that the list shows, None for a store without payments."""
        walk = self.payments.list(
            sort_by=SortBy.UPDATED_AT, order_by=OrderBy.DESC, page_size=1, concurrency=1
        )
        try:
            async with aclosing(walk.joined()) as pages:
                async for page in pages:
                    newest = _payment(self._rows_of(page)[0]).updated_at
                    return _no_later(newest, page.listing.date)
            return None
        finally:
            self._count(walk)

    async def _checked(self, reading: Reading) -> datetime | None:
        """Give the watermark of a reading that came whole, None where what it saw contradicts that."""
        if reading.watermark is None or reading.begun is None:
            return reading.watermark
        latest = await self.worker.do(partial(self.copy.latest_seen, reading.begun - self.overlap))
        return None if latest is not None and latest > reading.watermark else reading.watermark

    async def _keep(self, rows: Sequence[Row], state: State | None = None, *, seen: bool = False) -> None:
        now = self._answered or datetime.now(UTC)
        lagging = now - self.overlap, now
        changes = await self.worker.do(partial(self.copy.keep, rows, lagging, state, seen=seen))
        if changes is not None:
            self.report.add(changes)

    def _rows_of(self, page: JoinedPage) -> list[Row]:
        """Give a page's new rows; raise ConfigurationError where they are not of the copy's store."""
        rows = page.objects()
        payment = _payment(rows[0])
        known = self.state.store_hash
        if known is None:
            self.state = attrs.evolve(self.state, store_hash=payment.store_hash)
        elif known != payment.store_hash:
            raise ConfigurationError(
                f"{self.path} is a copy of the store {known!r}, and the payments that came are those of "
                f"{payment.store_hash!r}: give another file."
            )
        self._shown = rows
        self._answered = self._answered or page.listing.date
        return rows

    def _count(self, walk: Walk) -> None:
        self.report.requests += walk.report.requests
        self.report.waited += walk.report.waited

    def _advance(self, walk: Walk) -> None:
        if self.on_progress is not None:
            self.on_progress(walk.report)

    def _complete(self) -> None:
        self.report.complete = True
        self.report.watermark = self.state.watermark


def _no_later(moment: datetime, answered: datetime | None) -> datetime:
    """Give the moment, or that of the answer that showed it, where it claims to be later."""
    return min(moment, answered or datetime.now(UTC))


def _payment(row: Row) -> Payment:
    return structure_payment(row, f"payment {row.get('id')}: $")
