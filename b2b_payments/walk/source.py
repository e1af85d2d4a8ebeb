"""One page of a walk, asked for in the way that this service understands."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import attrs

from b2b_payments.call import Caller
from b2b_payments.errors import PaginationError, PayloadTooLargeError
from b2b_payments.protocol.listing import Head, Listing, read_listing
from b2b_payments.protocol.query import ChannelEncoding, PaymentQuery
from b2b_payments.protocol.request import list_payments
from b2b_payments.quota import Priority
from b2b_payments.walk.page import KeyedPage, Order, keyed
from b2b_payments.walk.report import WalkReport

MOST_ROWS = 250
"""Rows of a page that the vendor's shared model allows at most; some answers give fewer [open]."""
_SMALLER = (249, 200, 100, 50, 25, 10, 5, 3, 1)


class Learned:
    """What one client has found out about its service, and goes on with."""

    def __init__(self) -> None:
        self.most_rows: int | None = None
        """The page size that the service really gives, where it is less than was asked for."""
        self._encodings = list(ChannelEncoding)

    @property
    def encoding(self) -> ChannelEncoding | None:
        """The way to write `channelIds` that is not known to be ignored; None where all are."""
        return self._encodings[0] if self._encodings else None

    def ignored(self, encoding: ChannelEncoding) -> None:
        """Note that the service gave rows of other channels when asked in this way."""
        if encoding in self._encodings:
            self._encodings.remove(encoding)

    def limit(self, wanted: int) -> int:
        """Give the number of rows to ask for."""
        return wanted if self.most_rows is None else min(wanted, self.most_rows)


@attrs.define
class Source:
    """Reads pages for one walk."""

    caller: Caller
    learned: Learned
    query: PaymentQuery
    page_size: int
    until: float | None
    report: WalkReport
    order: Order = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.order = Order.of(self.query.sort_by, self.query.order_by)

    async def read(self, offset: int, wide: bool) -> KeyedPage:
        """Read one page, with another page size or channel encoding where the service wants that."""
        most = max(self.page_size, MOST_ROWS)
        while True:
            limit = self.learned.limit(most if wide else self.page_size)
            try:
                listing, encoding = await self._listing(offset, limit)
            except PayloadTooLargeError:
                if limit == 1:
                    raise
                self.learned.most_rows = next(size for size in _SMALLER if size < limit)
                continue
            if encoding is not None and _foreign(listing.heads, self.query.channel_ids or ()):
                self.learned.ignored(encoding)
                continue
            return keyed(
                listing, self.order, limit=listing.limit or limit, wide=limit >= self.learned.limit(most)
            )

    async def _listing(self, offset: int, limit: int) -> tuple[Listing, ChannelEncoding | None]:
        encoding = self.learned.encoding
        asked = self.query.channel_ids is not None
        if encoding is None and asked:
            raise PaginationError(
                "The service gives payments of other channels however channelIds is written. Walk the whole "
                "store (channel_ids=None) and pick by payment.channel_id."
            )
        request = list_payments(
            self.query.pairs(offset=offset, limit=limit, encoding=encoding or ChannelEncoding.REPEAT)
        )
        reader = partial(read_listing, offset=offset)
        reply = await self.caller.read(request, reader, priority=Priority.PAGE, until=self.until)
        self.report.requests += reply.attempts
        self.report.waited += reply.waited
        return reply.value, encoding if asked else None


def _foreign(heads: Sequence[Head], channel_ids: Sequence[int]) -> bool:
    """Whether a row says that it belongs to a channel that was not asked for."""
    asked = {str(channel_id) for channel_id in channel_ids}
    return any(head.channel_id not in (None, "") and str(head.channel_id) not in asked for head in heads)
