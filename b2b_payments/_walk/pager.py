"""The ways to iterate over joined pages, whether of one walk or of several."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import Any, Generic, Protocol, TypeVar

import attrs
from anyio import to_thread

from b2b_payments._arguments import whole
from b2b_payments._converter import decoded_page
from b2b_payments._models import Payment
from b2b_payments._printable import frozen
from b2b_payments._protocol.json import decode_row
from b2b_payments._protocol.listing import DecodeRows, leave_undecoded
from b2b_payments._tables import arrow
from b2b_payments._tables.arrow import ArrowBatches, TableName
from b2b_payments._walk.checkpoint import Checkpoint
from b2b_payments._walk.reader import JoinedPage
from b2b_payments._walk.report import WalkReport

Item = TypeVar("Item")


@frozen
class Page(Generic[Item]):
    """The new payments of one page, its offset, its limit, and the service's count of all rows.

    `checkpoint` is the position of the walk after this page: small plain JSON, to be passed as `checkpoint=`
    to resume, in this process or another.
    """

    items: list[Item]
    offset: int
    limit: int
    total_count: int | None
    checkpoint: Checkpoint = attrs.field(factory=dict, repr=False)


class IterationState(Protocol):
    """The report of one iteration, and the checkpoint before the page that it last yielded."""

    checkpoint: Checkpoint

    @property
    def report(self) -> WalkReport: ...


class Iteration(AsyncIterator[Item]):
    """One iteration over a walk. `report` and `checkpoint()` are its own: other loops do not change them.

    Close it (`contextlib.aclosing`) if you leave it before its end, so that no further requests are sent.
    """

    def __init__(self, items: AsyncGenerator[Item, None], state: IterationState) -> None:
        self._items = items
        self.state = state

    @property
    def report(self) -> WalkReport:
        """The report of this iteration, kept up to date."""
        return self.state.report

    def checkpoint(self) -> Checkpoint:
        """Return the position of this iteration, as `Walk.checkpoint` does."""
        return self.state.checkpoint

    def __aiter__(self) -> AsyncIterator[Item]:  # noqa: PYI034
        return self._items  # saves a loop one call per item

    def __anext__(self) -> Awaitable[Item]:
        return anext(self._items)

    async def aclose(self) -> None:
        """Cancel the requests in progress. May be called twice."""
        await self._items.aclose()


class Pager(ABC):
    """A source of payments: one by one, page by page, or all at once."""

    _latest: IterationState

    @property
    def report(self) -> WalkReport:
        """The report of the latest iteration, kept up to date while it runs."""
        return self._latest.report

    def checkpoint(self) -> Checkpoint:
        """Return the position of the latest iteration, before the page that it last yielded, as plain JSON.

        A walk resumed from it yields that page's payments again, then the rest. If you process whole pages,
        use `Page.checkpoint` instead: it is the position after its page.
        """
        return self._latest.checkpoint

    @abstractmethod
    def joined(self, *, decoded: DecodeRows = leave_undecoded) -> Iteration[JoinedPage]:
        """Return the new rows page by page, as the service sent them.

        `decoded` decodes the rows of a page for its later use.
        """

    def __aiter__(self) -> AsyncIterator[Payment]:
        return aiter(self._payments())

    def _payments(self) -> Iteration[Payment]:
        # Lazily: a payment that the caller has dropped is freed before the next one is built.
        return self._iterate(JoinedPage.payments, decoded=decoded_page)

    def pages(self) -> Iteration[Page[Payment]]:
        """Return the payments page by page: `Page(items, offset, limit, total_count)`."""
        return self._iterate(lambda page: [_page(list(page.payments()), page)], decoded=decoded_page)

    def raw(self) -> Iteration[dict[str, Any]]:
        """Return the service's own JSON objects one by one: cheaper, since nothing is converted."""
        return self._iterate(lambda page: map(decode_row, page.raw()))

    def raw_pages(self) -> Iteration[Page[dict[str, Any]]]:
        """Return the service's own JSON objects page by page: cheaper, since nothing is converted."""
        return self._iterate(lambda page: [_page(page.objects(), page)])

    def _iterate(
        self, items: Callable[[JoinedPage], Iterable[Item]], *, decoded: DecodeRows = leave_undecoded
    ) -> Iteration[Item]:
        joined = self.joined(decoded=decoded)
        return Iteration(_items(joined, items), joined.state)

    async def collect(self) -> list[Payment]:
        """Return all payments as one list, which has to fit into memory."""
        async with aclosing(self._payments()) as payments:
            return [payment async for payment in payments]

    def arrow_batches(
        self, *, rows: int = arrow.BATCH_ROWS, table: TableName = "payments"
    ) -> AsyncGenerator[arrow.RecordBatch, None]:
        """Return the payments as record batches of `rows` rows; the last one may be shorter.

        The columns are those of exports: amounts are decimal128(38, 12), times are UTC, and each status has a
        column for its number and one for its name, null if it is not documented. `line_items` is a list of
        structs; with ``table="line_items"`` the rows are line items, each with its `payment_id` and its
        `position` there, from 0. Memory holds one batch and the prefetched pages. Raises ConfigurationError
        if pyarrow is missing (extra `arrow`), ExportError for a number that its column cannot hold exactly.
        """
        arrow.check(table)
        arrow.require("pyarrow")
        return _in_batches(self.joined(), table, whole("rows", rows, least=1))

    async def to_arrow(self, *, table: TableName = "payments") -> arrow.ArrowTable:
        """Return all payments as one `pyarrow.Table`, with the columns and errors of `arrow_batches`."""
        async with aclosing(self.arrow_batches(table=table)) as batches:
            read = [batch async for batch in batches]
        return (await _builder(table)).table(read)

    async def to_pandas(self, *, table: TableName = "payments") -> arrow.PandasFrame:
        """Return all payments as a pandas DataFrame with Arrow types, so that decimals stay exact.

        Columns and errors are those of `arrow_batches`; the extra is `pandas`.
        """
        arrow.require("pandas")
        return await to_thread.run_sync(arrow.pandas_of, await self.to_arrow(table=table))

    async def to_polars(self, *, table: TableName = "payments") -> arrow.PolarsFrame:
        """Return all payments as a polars DataFrame.

        Columns and errors are those of `arrow_batches`; the extra is `polars`.
        """
        arrow.require("polars")
        return await to_thread.run_sync(arrow.polars_of, await self.to_arrow(table=table))


async def _items(
    pages: Iteration[JoinedPage], items: Callable[[JoinedPage], Iterable[Item]]
) -> AsyncGenerator[Item, None]:
    try:
        async for page in pages:
            for item in items(page):
                yield item
                del item  # the traceback of the next one's error would show it
    finally:
        await pages.aclose()


async def _in_batches(
    pages: Iteration[JoinedPage], table: TableName, rows: int
) -> AsyncGenerator[arrow.RecordBatch, None]:
    builder = None
    try:
        async for page in pages:
            builder = builder or await _builder(table, rows)
            for batch in builder.add(page.listing.body, page.places):
                yield batch
        for batch in builder.flush() if builder else ():
            yield batch
    finally:
        await pages.aclose()


async def _builder(table: TableName, rows: int = arrow.BATCH_ROWS) -> ArrowBatches:
    # In a thread: pyarrow takes seconds to import, and imports pandas if that is installed.
    return await to_thread.run_sync(ArrowBatches, table, rows)


def _page(items: list[Item], page: JoinedPage) -> Page[Item]:
    return Page(items, page.listing.offset, page.limit, page.listing.total_count, page.checkpoint)
