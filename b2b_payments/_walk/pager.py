"""What can be done with joined pages, whether they come from one walk or from several."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import Any, Generic, Protocol, TypeVar

import attrs

from b2b_payments._arguments import whole
from b2b_payments._converter import decoded_page
from b2b_payments._models import Payment
from b2b_payments._printable import frozen
from b2b_payments._protocol.json import decode_part
from b2b_payments._protocol.listing import DecodeRows, not_decoded
from b2b_payments._tables import arrow
from b2b_payments._tables.arrow import ArrowBatches, TableName
from b2b_payments._walk.checkpoint import Checkpoint
from b2b_payments._walk.reader import JoinedPage
from b2b_payments._walk.report import WalkReport

Item = TypeVar("Item")


@frozen
class Page(Generic[Item]):
    """The new payments of one page, its offset, the rows asked for, and the service's count of all rows.

    `checkpoint` is where the walk stands once these payments are kept: small plain JSON, to be given back as
    `checkpoint=` by whoever goes on, in this process or another.
    """

    items: list[Item]
    offset: int
    limit: int
    total_count: int | None
    checkpoint: Checkpoint = attrs.field(factory=dict, repr=False)


class Standing(Protocol):
    """Where one iteration stands: its account, and the checkpoint in front of the page now given out."""

    checkpoint: Checkpoint

    @property
    def report(self) -> WalkReport: ...


class Iteration(AsyncIterator[Item]):
    """One way through a walk. `report` and `checkpoint()` are its own, whatever other loops go on.

    Left before its end, it is to be closed (`contextlib.aclosing`): then nothing more is asked for.
    """

    def __init__(self, items: AsyncGenerator[Item, None], standing: Standing) -> None:
        self._items = items
        self.standing = standing

    @property
    def report(self) -> WalkReport:
        """The account of this iteration, kept up to date."""
        return self.standing.report

    def checkpoint(self) -> Checkpoint:
        """Return where this iteration stands, as in `Walk.checkpoint`."""
        return self.standing.checkpoint

    def __aiter__(self) -> AsyncIterator[Item]:  # noqa: PYI034
        return self._items  # so that a loop costs no call more for each item

    def __anext__(self) -> Awaitable[Item]:
        return anext(self._items)

    async def aclose(self) -> None:
        """Cancel what is under way. May be called twice."""
        await self._items.aclose()


class Pager(ABC):
    """Payments to be had one by one, page by page, or all at once."""

    _latest: Standing

    @property
    def report(self) -> WalkReport:
        """The account of the latest iteration, kept up to date while it runs."""
        return self._latest.report

    def checkpoint(self) -> Checkpoint:
        """Return where the latest iteration stands, as small plain JSON: in front of the page now given out.

        A walk that is made with it gives that page's payments again, and then the rest. Whoever keeps pages
        takes `Page.checkpoint`, which stands behind its page.
        """
        return self._latest.checkpoint

    @abstractmethod
    def joined(self, *, decoded: DecodeRows = not_decoded) -> Iteration[JoinedPage]:
        """Return the new rows page by page, as the service sent them.

        `decoded` decodes a page's rows as they are wanted.
        """

    def __aiter__(self) -> AsyncIterator[Payment]:
        return self._payments()

    def _payments(self) -> AsyncGenerator[Payment, None]:
        # One by one: a payment that the caller lets go is gone before the next one is made.
        return _flat(self.joined(decoded=decoded_page), JoinedPage.payments)

    def pages(self) -> Iteration[Page[Payment]]:
        """Return the payments page by page: `Page(items, offset, limit, total_count)`."""
        joined = self.joined(decoded=decoded_page)
        return Iteration(_each(joined, lambda page: _page(list(page.payments()), page)), joined.standing)

    def raw(self) -> Iteration[dict[str, Any]]:
        """Return the service's own JSON objects one by one: nothing is converted, so it is cheaper."""
        joined = self.joined()
        return Iteration(_flat(joined, lambda page: map(decode_part, page.raw())), joined.standing)

    def raw_pages(self) -> Iteration[Page[dict[str, Any]]]:
        """Return the service's own JSON objects page by page: nothing is converted, so it is cheaper."""
        joined = self.joined()
        return Iteration(_each(joined, lambda page: _page(page.objects(), page)), joined.standing)

    async def collect(self) -> list[Payment]:
        """Return all payments as one list: as much memory as there are payments."""
        async with aclosing(self._payments()) as payments:
            return [payment async for payment in payments]

    def arrow_batches(
        self, *, rows: int = arrow.BATCH_ROWS, table: TableName = "payments"
    ) -> AsyncGenerator[arrow.RecordBatch, None]:
        """Return the payments as record batches of `rows` rows, the last of which may be shorter.

        Columns are those of exports: amounts decimal128(38, 12), times UTC, and beside the number of a status
        its name, null for one that is not documented. `line_items` is a list of structs; with
        ``table="line_items"`` the rows are line items, each with its `payment_id` and its `position` there,
        from 0. In memory are one batch and the pages ahead. Raises ConfigurationError where pyarrow is
        missing (extra `arrow`), ExportError for a number that its column cannot hold exactly.
        """
        batches = ArrowBatches(table, whole("rows", rows, least=1))
        return _in_batches(self.joined(), batches)

    async def to_arrow(self, *, table: TableName = "payments") -> arrow.ArrowTable:
        """Return all payments as one `pyarrow.Table`, with the columns and errors of `arrow_batches`."""
        made = ArrowBatches(table)
        async with aclosing(_in_batches(self.joined(), made)) as batches:
            return made.table([batch async for batch in batches])

    async def to_pandas(self, *, table: TableName = "payments") -> arrow.PandasFrame:
        """Return all payments as a pandas DataFrame of Arrow's types, so that decimals stay exact.

        Columns and errors are those of `arrow_batches`; the extra is `pandas`.
        """
        arrow.library("pandas")
        return arrow.pandas_of(await self.to_arrow(table=table))

    async def to_polars(self, *, table: TableName = "payments") -> arrow.PolarsFrame:
        """Return all payments as a polars DataFrame.

        Columns and errors are those of `arrow_batches`; the extra is `polars`.
        """
        arrow.library("polars")
        return arrow.polars_of(await self.to_arrow(table=table))


async def _flat(
    pages: Iteration[JoinedPage], items: Callable[[JoinedPage], Iterable[Item]]
) -> AsyncGenerator[Item, None]:
    try:
        async for page in pages:
            for item in items(page):
                yield item
    finally:
        await pages.aclose()


async def _each(
    pages: Iteration[JoinedPage], made: Callable[[JoinedPage], Item]
) -> AsyncGenerator[Item, None]:
    try:
        async for page in pages:
            yield made(page)
    finally:
        await pages.aclose()


async def _in_batches(
    pages: Iteration[JoinedPage], batches: ArrowBatches
) -> AsyncGenerator[arrow.RecordBatch, None]:
    try:
        async for page in pages:
            for batch in batches.add(page.listing.body, page.places):
                yield batch
        for batch in batches.rest():
            yield batch
    finally:
        await pages.aclose()


def _page(items: list[Item], page: JoinedPage) -> Page[Item]:
    return Page(items, page.listing.offset, page.limit, page.listing.total_count, page.checkpoint)
