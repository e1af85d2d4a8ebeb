"""The two ways to read a store into its copy: only the changes, or everything.

**Changes** come from the feed of changes (`_changes/poll.py` says why it loses nothing). Each batch is
written in one transaction with the checkpoint of its last change, so that an interrupted read can be resumed.
If the list does not show all changes, or shows no payment as new as the last sync saw (for example, after a
backup was restored), a full read follows.

**A full read** walks the list by `createdAt`, which misses no payment that exists throughout. Each batch is
written in one transaction with the ids seen and the walk's checkpoint, so that an interrupted read can be
resumed. If it is complete, the payments that it did not see become candidates. The watermark W is the latest
`updatedAt` of an answer from before the read began, at time S; it is stored in the last transaction. If the
read sees a payment updated after W but before S - overlap, that answer was not sorted by `updatedAt`: then
there is no watermark, and the next sync does a full read.

Either way an older version never replaces a newer one, and no payment leaves the copy: if the list
contradicts it, `_settle.py` looks the payment up by id.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import attrs
from msgspec import Raw

from b2b_payments._changes.feed import Change
from b2b_payments._changes.ledger import Checkpoint, Ledger
from b2b_payments._converter import structure_payment
from b2b_payments._errors import ConfigurationError, PaginationError, shown, without_data
from b2b_payments._models import OrderBy, Payment, SortBy
from b2b_payments._printable import define
from b2b_payments._protocol.json import decode_row
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
"""Called with each change before it is written; an awaitable result is awaited."""

_SAMPLE = 5


@define
class StoreReader:
    """Reads a store into its copy, and updates `state` and `report`.

    `read_changes` and `read_all` raise what walks and `Copy` raise.
    """

    payments: Payments
    copy: Copy
    worker: Worker
    overlap: timedelta
    on_progress: OnProgress | None
    on_change: OnChange | None
    state: State
    report: SyncReport = attrs.field(factory=SyncReport)
    _first_answer_at: datetime | None = None
    _latest_page: JoinedPage | None = None

    async def read_changes(self) -> bool:
        """Read what changed. Returns whether all changes were received.

        They were not if the list does not show all of them, or shows no payment as new as the last sync saw.
        """
        feed = self.payments.changes(self.state.changes, overlap=self.overlap.total_seconds())
        feed.on_page = self._on_page
        batch: list[Change] = []
        caught_up = False
        try:
            async with aclosing(feed):
                async for change in feed:
                    batch.append(change)
                    if len(batch) >= BATCH_ROWS:
                        await self._keep_changes(batch, change.checkpoint)
                        batch = []
            caught_up = not feed.is_behind
        except PaginationError:
            pass  # what was received is kept
        finally:
            self.report.requests += feed.report.requests
            self.report.waited += feed.report.waited
        await self._keep_changes(batch, feed.checkpoint())
        if caught_up:
            self._mark_complete()
        return caught_up

    async def read_all(self) -> bool:
        """Read every payment, or resume an interrupted full read. Returns whether it was complete."""
        self.report.complete, self.report.swept = False, True
        self.report.unchanged = 0  # payments that a read of changes has counted are received again
        reading = self.state.reading
        try:
            walk = self.payments.list(checkpoint=None if reading is None else reading.walk)
        except ConfigurationError:
            # The checkpoint is from another version of this library: start the full read again.
            reading, walk = None, self.payments.list()
        if reading is None:
            watermark = await self._latest_update()
            reading = Reading(watermark, None, self._first_answer_at)
            self.state = attrs.evolve(self.state, reading=reading)
            await self.worker.do(self.copy.begin_reading, self.state)
        batch = PageBatch()
        try:
            async with aclosing(walk.joined()) as pages:
                async for page in pages:
                    self._record_page(page)
                    batch.add(page)
                    self.state = attrs.evolve(self.state, reading=attrs.evolve(reading, walk=page.checkpoint))
                    if self.on_progress is not None:
                        self.on_progress(walk.report)
                    if batch.is_full(BATCH_ROWS):
                        await self._keep(batch, self.state, seen=True)
                        batch = PageBatch()
        finally:
            self._add_requests(walk)
        await self._keep(batch, self.state, seen=True)
        complete = walk.report.complete
        # A read that may be incomplete proves nothing: the next sync starts it again.
        state = self.state.in_sync_until(await self._proven_watermark(reading)) if complete else self.state
        self.state = attrs.evolve(state, reading=None)
        await self.worker.do(self.copy.end_reading, self.state, complete=complete)
        if complete:
            self._mark_complete()
        else:
            self.report.caveat = f"the store was not read completely: {walk.report.ending}"
        return complete

    @property
    def listed_ids(self) -> list[int]:
        """The ids of some payments on the latest page of this run."""
        rows = [] if self._latest_page is None else self._latest_page.raw()
        return [_payment(row).id for row in rows[:: max(1, len(rows) // _SAMPLE)][:_SAMPLE]]

    async def notify(
        self, rows: PageBatch | Sequence[bytes], lagging: tuple[datetime, datetime] | None = None
    ) -> None:
        """Call `on_change` for each of these payments that is about to be inserted or updated."""
        if self.on_change is None:
            return
        place = Ledger.since(self.state.store, 0, self.state.changes).place
        ids = await self.worker.do(self.copy.ids_to_write, rows, lagging)
        for text in rows.texts() if isinstance(rows, PageBatch) else rows:
            payment = _payment(text)
            if payment.id in ids:
                result = self.on_change(Change(payment, text, place))
                if inspect.isawaitable(result):
                    await result

    async def _latest_update(self) -> datetime | None:
        """Return the latest `updatedAt` that the list shows, or None if the store has no payments."""
        walk = self.payments.list(
            sort_by=SortBy.UPDATED_AT, order_by=OrderBy.DESC, page_size=1, concurrency=1
        )
        try:
            async with aclosing(walk.joined()) as pages:
                async for page in pages:
                    self._record_page(page)
                    return _at_most(_payment(page.raw()[0]).updated_at, page.listing.date)
            return None
        finally:
            self._add_requests(walk)

    async def _proven_watermark(self, reading: Reading) -> datetime | None:
        """Return the watermark of a complete full read, or None if a payment that it saw contradicts it."""
        if reading.watermark is None or reading.begun is None:
            return reading.watermark
        latest = await self.worker.do(self.copy.latest_seen, reading.begun - self.overlap)
        return None if latest is not None and latest > reading.watermark else reading.watermark

    async def _keep_changes(self, changes: Sequence[Change], checkpoint: Checkpoint) -> None:
        self.state = attrs.evolve(self.state, changes=checkpoint)
        await self._keep([change.text for change in changes], self.state)

    async def _keep(self, rows: PageBatch | Sequence[bytes], state: State, *, seen: bool = False) -> None:
        now = self._first_answer_at or datetime.now(UTC)
        lagging = now - self.overlap, now
        # Before the write: after a crash a change is reported again rather than never.
        await self.notify(rows, lagging)
        self.report.add(await self.worker.do(self.copy.keep, rows, lagging, state, seen=seen))

    def _on_page(self, page: JoinedPage, report: WalkReport) -> None:
        self._record_page(page)
        if self.on_progress is not None:
            self.on_progress(report)

    def _record_page(self, page: JoinedPage) -> None:
        """Record a page. Raises ConfigurationError if its first payment is from another store."""
        self._latest_page = page
        self._first_answer_at = self._first_answer_at or page.listing.date
        expected, actual = self.state.store_hash, page.listing.heads[page.places[0]].store_hash
        if not isinstance(actual, str):
            return  # it does not name its store
        if expected is None:
            self.state = attrs.evolve(self.state, store_hash=actual)
        elif expected != actual:
            store = self.copy.store
            raise ConfigurationError(
                f"{store.place} is a copy of the store {shown(expected)}, but the service sent payments of "
                f"{actual!r}: use another {store.kept_in}."
            )

    def _add_requests(self, walk: Walk) -> None:
        self.report.requests += walk.report.requests
        self.report.waited += walk.report.waited

    def _mark_complete(self) -> None:
        self.report.complete = True
        self.report.watermark = self.state.watermark


def _at_most(updated: datetime, answered: datetime | None) -> datetime:
    """Return the time, but no later than that of the answer that showed it."""
    return min(updated, answered or datetime.now(UTC))


@without_data
def _payment(text: bytes | Raw) -> Payment:
    row = decode_row(text)
    return structure_payment(row, f"payment {row.get('id')}: $")
