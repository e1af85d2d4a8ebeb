"""What can be done with joined pages, whether they come from one walk or from several."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any, Generic, TypeVar

import attrs

from b2b_payments.converter import structure_payments
from b2b_payments.models import Payment
from b2b_payments.walk.reader import JoinedPage

Item = TypeVar("Item")


@attrs.frozen
class Page(Generic[Item]):
    """The new payments of one page, its offset, the rows asked for, and the service's count of all rows."""

    items: list[Item]
    offset: int
    limit: int
    total_count: int | None


class Paged(ABC):
    """Payments to be had one by one, page by page, or all at once."""

    @abstractmethod
    def joined(self) -> AsyncGenerator[JoinedPage, None]:
        """Give the new rows page by page, as the service sent them."""

    def __aiter__(self) -> AsyncIterator[Payment]:
        return self._payments()

    async def _payments(self) -> AsyncGenerator[Payment, None]:
        async with aclosing(self.pages()) as pages:
            async for page in pages:
                for payment in page.items:
                    yield payment  # noqa: ASYNC119 - aclosing is no cancel scope

    def pages(self) -> AsyncGenerator[Page[Payment], None]:
        """Give the payments page by page: `Page(items, offset, limit, total_count)`."""
        return self._pages(structure_payments)

    def raw_pages(self) -> AsyncGenerator[Page[dict[str, Any]], None]:
        """Give the service's own JSON objects page by page: nothing is converted, so it is cheaper."""
        return self._pages(list)

    async def _pages(self, read: Callable[[Sequence[Any]], list[Item]]) -> AsyncGenerator[Page[Item], None]:
        async with aclosing(self.joined()) as pages:
            async for page in pages:
                items = read(page.rows)
                yield Page(items, page.offset, page.limit, page.total)  # noqa: ASYNC119

    async def collect(self) -> list[Payment]:
        """Give all payments as one list: as much memory as there are payments."""
        async with aclosing(self._payments()) as payments:
            return [payment async for payment in payments]
