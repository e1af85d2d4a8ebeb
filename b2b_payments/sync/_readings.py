"""The two ways to read a store into its copy: what changed, and the whole.

**What changed** comes from the feed of changes (`_changes/poll.py` says why it loses nothing). Each batch is
put down in one transaction with the checkpoint of its last change, so that a reading that was interrupted
goes on. Where the list does not show all that changed, or shows no payment as new as the last reading did, as
after a backup was restored, the whole is read.

**The whole** is read by `createdAt`, which loses no payment that lasts. Each batch is put down in one
transaction with the ids seen and with the walk's checkpoint, so that a reading that was interrupted goes on.
Where it is complete, the payments that it did not see become candidates. W is of an answer from before it
began, at S, and is put down in that last transaction. A payment that was written between W and S - overlap
shows that the answer was not sorted by `updatedAt`: then there is no W, and the next sync reads the whole.

Either way an older version never takes the place of a newer one, and no payment leaves the copy: where the
list contradicts it, `settle.py` asks by id.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs

from b2b_payments._changes.feed import Change
from b2b_payments._changes.ledger import Checkpoint, Ledger
from b2b_payments._converter import structure_payment, to_wire
from b2b_payments._errors import ConfigurationError, PaginationError
from b2b_payments._models import OrderBy, Payment, SortBy
from b2b_payments._printable import define
from b2b_payments._protocol.json import decode_part
from b2b_payments._resources.payments import Payments
from b2b_payments._walk.reader import JoinedPage
from b2b_payments._walk.report import WalkReport
from b2b_payments._walk.walk import Walk
from b2b_payments.export._export import OnProgress
from b2b_payments.export._pages import BATCH_ROWS, PageBatch
from b2b_payments.export._worker import Worker
from b2b_payments.sync._copy import Copy
from b2b_payments.sync._report import SyncReport
from b2b_payments.sync._state import Reading, State

OnChange = Callable[[Change], object]
"""What is called with each change before it is put down; what it gives is awaited, if it can be."""

_SHOWN = 5


@define
class Readings:
    """Reads a store into its copy; `state` is what the copy says of itself, `report` the account.

    Both ways raise what walks raise, and as `Copy` does.
    """

    payments: Payments
    copy: Copy
    worker: Worker
    overlap: timedelta
    on_progress: OnProgress | None
    on_change: OnChange | None
    state: State
    report: SyncReport = attrs.field(factory=SyncReport)
    _answered: datetime | None = None
    _latest: JoinedPage | None = None

    async def changes(self) -> bool:
        """Read what changed; tell whether all of it came.

        It did not where the list does not show all that changed, or no payment that is as new as before.
        """
        feed = self.payments.changes(self.state.changes, overlap=self.overlap.total_seconds())
        feed.on_page = self._heard
        held: list[Change] = []
        through = False
        try:
            async with aclosing(feed):
                async for change in feed:
                    held.append(change)
                    if len(held) >= BATCH_ROWS:
                        await self._keep_changes(held, change.checkpoint)
                        held = []
            through = not feed.is_behind
        except PaginationError:
            pass  # what came is kept
        finally:
            self.report.requests += feed.report.requests
            self.report.waited += feed.report.waited
        await self._keep_changes(held, feed.checkpoint())
        if through:
            self._complete()
        return through

    async def whole(self) -> bool:
        """Read every payment, from where a reading was interrupted; tell whether all of them came."""
        self.report.complete, self.report.swept = False, True
        self.report.unchanged = 0  # those that a reading of changes has seen come again
        reading = self.state.reading
        try:
            walk = self.payments.list(checkpoint=None if reading is None else reading.walk)
        except ConfigurationError:
            # Another version of this library made the checkpoint: that reading is of no use any more.
            reading, walk = None, self.payments.list()
        if reading is None:
            watermark = await self._newest()
            reading = Reading(watermark, None, self._answered)
            self.state = attrs.evolve(self.state, reading=reading)
            await self.worker.do(self.copy.begin_reading, self.state)
        held = PageBatch()
        try:
            async with aclosing(walk.joined()) as pages:
                async for page in pages:
                    self._look_at(page)
                    held.add(page)
                    self.state = attrs.evolve(self.state, reading=attrs.evolve(reading, walk=page.checkpoint))
                    if self.on_progress is not None:
                        self.on_progress(walk.report)
                    if held.is_full(BATCH_ROWS):
                        await self._keep(held, self.state, seen=True)
                        held = PageBatch()
        finally:
            self._count(walk)
        await self._keep(held, self.state, seen=True)
        complete = walk.report.complete
        # One that is not known to be complete proves nothing: the next sync starts it again.
        state = self.state.in_step_until(await self._checked(reading)) if complete else self.state
        self.state = attrs.evolve(state, reading=None)
        await self.worker.do(self.copy.end_reading, self.state, complete=complete)
        if complete:
            self._complete()
        else:
            self.report.caveat = f"the store was not read whole: {walk.report.ending}"
        return complete

    @property
    def shown(self) -> list[int]:
        """The ids of some payments that the list showed in this run, of its latest page."""
        rows = [] if self._latest is None else self._latest.raw()
        return [_payment(decode_part(row)).id for row in rows[:: max(1, len(rows) // _SHOWN)][:_SHOWN]]

    async def tell(
        self, rows: Sequence[Mapping[str, Any]], lagging: tuple[datetime, datetime] | None = None
    ) -> None:
        """Call `on_change` for each of these payments that the copy is about to take in another version."""
        if self.on_change is None:
            return
        place = Ledger.since(self.state.store, 0, self.state.changes).place
        taken = await self.worker.do(self.copy.would_take, rows, lagging)
        for payment in map(_payment, rows):
            if payment.id in taken:
                told = self.on_change(Change(payment, place))
                if inspect.isawaitable(told):
                    await told

    async def _newest(self) -> datetime | None:
        """Return the latest `updatedAt` that the list shows, None for a store without payments."""
        walk = self.payments.list(
            sort_by=SortBy.UPDATED_AT, order_by=OrderBy.DESC, page_size=1, concurrency=1
        )
        try:
            async with aclosing(walk.joined()) as pages:
                async for page in pages:
                    self._look_at(page)
                    return _no_later(_payment(decode_part(page.raw()[0])).updated_at, page.listing.date)
            return None
        finally:
            self._count(walk)

    async def _checked(self, reading: Reading) -> datetime | None:
        """Return the watermark of a reading that came whole, None where what it saw contradicts that."""
        if reading.watermark is None or reading.begun is None:
            return reading.watermark
        latest = await self.worker.do(self.copy.latest_seen, reading.begun - self.overlap)
        return None if latest is not None and latest > reading.watermark else reading.watermark

    async def _keep_changes(self, changes: Sequence[Change], checkpoint: Checkpoint) -> None:
        self.state = attrs.evolve(self.state, changes=checkpoint)
        await self._keep([to_wire(change.payment) for change in changes], self.state)

    async def _keep(self, rows: Sequence[Mapping[str, Any]], state: State, *, seen: bool = False) -> None:
        now = self._answered or datetime.now(UTC)
        lagging = now - self.overlap, now
        # Before they are put down: whom it concerns hears of each once more rather than not at all.
        await self.tell(rows, lagging)
        self.report.add(await self.worker.do(self.copy.keep, rows, lagging, state, seen=seen))

    def _heard(self, page: JoinedPage, report: WalkReport) -> None:
        self._look_at(page)
        if self.on_progress is not None:
            self.on_progress(report)

    def _look_at(self, page: JoinedPage) -> None:
        """Take a page in. Raises ConfigurationError where its first payment is not of the copy's store."""
        self._latest = page
        self._answered = self._answered or page.listing.date
        known, named = self.state.store_hash, page.listing.heads[page.places[0]].store_hash
        if not isinstance(named, str):
            return  # such a payment is refused where it is read
        if known is None:
            self.state = attrs.evolve(self.state, store_hash=named)
        elif known != named:
            store = self.copy.store
            raise ConfigurationError(
                f"{store.place} is a copy of the store {known!r}, and the payments that came are those "
                f"of {named!r}: give another {store.kept_in}."
            )

    def _count(self, walk: Walk) -> None:
        self.report.requests += walk.report.requests
        self.report.waited += walk.report.waited

    def _complete(self) -> None:
        self.report.complete = True
        self.report.watermark = self.state.watermark


def _no_later(moment: datetime, answered: datetime | None) -> datetime:
    """Return the moment, or that of the answer that showed it, where it claims to be later."""
    return min(moment, answered or datetime.now(UTC))


def _payment(row: Mapping[str, Any]) -> Payment:
    return structure_payment(row, f"payment {row.get('id')}: $")
