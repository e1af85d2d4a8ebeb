"""What can be done with joined pages, whether they come from one walk or from several."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Generic, NoReturn, TypeVar

import attrs

from b2b_payments._half_made import shows_half_made
from b2b_payments._models import Payment
from b2b_payments._protocol.json import decode_part
from b2b_payments._walk.checkpoint import Checkpoint
from b2b_payments._walk.reader import JoinedPage

Item = TypeVar("Item")


@shows_half_made
@attrs.frozen
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


class Paged(ABC):
    """Payments to be had one by one, page by page, or all at once."""

    @abstractmethod
    def joined(self) -> AsyncGenerator[JoinedPage, None]:
        """Give the new rows page by page, as the service sent them."""

    def __await__(self) -> NoReturn:
        raise TypeError("A walk is not awaited: use `async for payment in walk`, or `await walk.collect()`.")

    def __iter__(self) -> NoReturn:
        raise TypeError("A walk is asynchronous: use `async for payment in walk`, or `await walk.collect()`.")

    def __aiter__(self) -> AsyncIterator[Payment]:
        return self._payments()

    async def _payments(self) -> AsyncGenerator[Payment, None]:
        pages = self.joined()
        try:
            async for page in pages:
                # One by one: a payment that the caller lets go is gone before the next one is made.
                for payment in page.payments():
                    yield payment
        finally:
            await pages.aclose()

    async def pages(self) -> AsyncGenerator[Page[Payment], None]:
        """Give the payments page by page: `Page(items, offset, limit, total_count)`."""
        pages = self.joined()
        try:
            async for page in pages:
                yield _page(list(page.payments()), page)
        finally:
            await pages.aclose()

    async def raw(self) -> AsyncGenerator[dict[str, Any], None]:
        """Give the service's own JSON objects one by one: nothing is converted, so it is cheaper."""
        pages = self.joined()
        try:
            async for page in pages:
                for row in page.raw():
                    yield decode_part(row)
        finally:
            await pages.aclose()

    async def raw_pages(self) -> AsyncGenerator[Page[dict[str, Any]], None]:
        """Give the service's own JSON objects page by page: nothing is converted, so it is cheaper."""
        pages = self.joined()
        try:
            async for page in pages:
                yield _page(page.objects(), page)
        finally:
            await pages.aclose()

    async def collect(self) -> list[Payment]:
        """Give all payments as one list: as much memory as there are payments."""
        async with aclosing(self._payments()) as payments:
            return [payment async for payment in payments]


def _page(items: list[Item], page: JoinedPage) -> Page[Item]:
    return Page(items, page.listing.offset, page.limit, page.listing.total_count, page.checkpoint)
