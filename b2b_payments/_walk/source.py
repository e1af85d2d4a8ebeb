"""Reads single pages for a walk, in the request format that the service accepts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

import attrs

from b2b_payments._call import Caller
from b2b_payments._errors import (
    APIError,
    BadRequestError,
    NotFoundError,
    PayloadTooLargeError,
    ResponseDecodeError,
    ValidationError,
)
from b2b_payments._models import OrderBy
from b2b_payments._models.decimals import whole_of
from b2b_payments._printable import define
from b2b_payments._protocol.json import decode_part
from b2b_payments._protocol.listing import Decode, DecodeRows, Listing, leave_undecoded, read_listing
from b2b_payments._protocol.lookup import read_lookup
from b2b_payments._protocol.query import ChannelEncoding, PaymentQuery, has_left
from b2b_payments._protocol.request import get_payment, list_payments
from b2b_payments._walk.channels import EncodingTrials
from b2b_payments._walk.page import LookupResult, Order, PageRequest, SortedPage, keyed, refused_page
from b2b_payments._walk.service_limits import ServiceLimits

MAX_ROWS = 250
"""The largest page size in the vendor's shared model; one client reports a lower limit [open]."""
_A_FEW_ROWS = PaymentQuery().pairs(offset=0, limit=5, encoding=ChannelEncoding.REPEAT)


@define
class Source:
    """Reads pages for one walk, whose calls `caller` makes. `decoded` decodes their rows."""

    caller: Caller
    learned: ServiceLimits
    query: PaymentQuery
    page_size: int
    reuse: bool = True
    decoded: DecodeRows = leave_undecoded
    order: Order = attrs.field(init=False)
    refusal: APIError | None = attrs.field(default=None, init=False)
    """The latest refusal of an offset above 0; pages from the other end may still complete the walk."""
    _was_answered: bool = attrs.field(default=False, init=False)
    _compared: set[ChannelEncoding] = attrs.field(factory=set, init=False)
    _not_applied: set[ChannelEncoding] = attrs.field(factory=set, init=False)
    _lookups_work: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.order = Order.of(self.query.sort_by, self.query.order_by)

    @property
    def _has_several_channels(self) -> bool:
        return self.query.channel_ids is not None and len(self.query.channel_ids) > 1

    async def read(self, request: PageRequest, is_awaited: Callable[[], bool] = lambda: False) -> SortedPage:
        """Read one page, with another page size or channel encoding if the service requires it.

        A refused offset, after another page was answered, may lie beyond a paging window such as search
        engines have: an empty page is returned for it, and `refusal` is set.
        """
        # Only the list's first page shows whether an encoding leaves out a channel.
        if request.offset > 0 and self._has_several_channels and not self._was_answered:
            await self._read(PageRequest(0))
        try:
            page = await self._read(request, lambda body: self.decoded(body, is_awaited()))
            if not page.is_sorted:
                # A page in another order may be the answer to another request.
                page = await self._read(request)
                if page.is_sorted:
                    self.caller.mixups.record()
        except (BadRequestError, NotFoundError, ValidationError) as refusal:
            if request.offset == 0 or not self._was_answered:
                raise
            self.refusal = refusal
            return refused_page(request)
        self._was_answered = True
        return page

    async def _read(self, request: PageRequest, decoded: Decode | None = None) -> SortedPage:
        query, order, full_size = self.query, self.order, request.full_size
        if request.from_other_end:
            order = order.opposite
            query = attrs.evolve(query, order_by=OrderBy.DESC if order.descending else OrderBy.ASC)
        largest = max(self.page_size, MAX_ROWS)
        # With channels, a whole page: it shows better than one row whether the service applies channelIds.
        size = 1 if request.one_row and query.channel_ids is None else self.page_size

        async def first_rows(query: PaymentQuery, encoding: ChannelEncoding, limit: int) -> Listing:
            # On a new connection: rows without a channel do not show that they answer another request.
            return await self._listing(query, encoding, 0, limit, reuse=False)

        trials = EncodingTrials(
            self.learned.encodings,
            self.caller.mixups,
            query,
            order,
            first_rows,
            self._compared,
            self._not_applied,
        )
        while True:
            limit = self.learned.limit(largest if full_size else size)
            encoding = trials.next()
            try:
                listing = await self._listing(query, encoding, request.offset, limit, decoded)
            except (PayloadTooLargeError, ResponseDecodeError) as error:
                if limit == 1 or not (isinstance(error, PayloadTooLargeError) or error.too_large):
                    raise
                self.learned.note_too_large(limit)
                continue
            except (BadRequestError, ValidationError) as error:
                if encoding is None or not trials.refused(encoding, error):
                    raise
                continue
            page = keyed(
                listing,
                order,
                limit=listing.limit or limit,
                full_size=limit >= self.learned.limit(largest),
                from_other_end=request.from_other_end,
            )
            if encoding is None or await trials.fits(encoding, page):
                self.learned.note_shown(self.query, page.ids)
                page.encoding = encoding if self._has_several_channels else None
                return page

    async def exists(self, payment_id: int) -> LookupResult:
        """Look a payment up by id. Returns None if a 404 may come from a gateway or from a missing scope."""
        try:
            payment = await look_up(self.caller, payment_id)
        except NotFoundError:
            return None
        if payment is not None:
            ignored = self.caller.mixups.ignored("payments.list")
            return "left" if has_left(self.query, decode_part(payment), ignored) else True
        self._lookups_work = self._lookups_work or await lookups_work(self.caller, payment_id)
        if not self._lookups_work:
            return None
        self.learned.note_deleted(payment_id)
        return False

    async def _listing(
        self,
        query: PaymentQuery,
        encoding: ChannelEncoding | None,
        offset: int,
        limit: int,
        decoded: Decode | None = None,
        *,
        reuse: bool = True,
    ) -> Listing:
        request = list_payments(
            query.pairs(offset=offset, limit=limit, encoding=encoding or ChannelEncoding.REPEAT),
            reuse=self.reuse and reuse,
        )
        return await self.caller.read(request, partial(read_listing, offset=offset, decoded=decoded))


async def look_up(caller: Caller, payment_id: int) -> bytes | None:
    """Return the payment as the service writes it, or None if the service itself says that it does not exist.

    GET by id does not lag, unlike lists [seen]. Raises what `read_lookup` raises, such as NotFoundError for a
    gateway's 404.
    """
    # A 404 does not name its payment. On a new connection it cannot be the answer to an earlier request.
    request = attrs.evolve(get_payment(payment_id), reuse=False)
    return await caller.read(request, partial(read_lookup, payment_id=payment_id))


async def lookups_work(caller: Caller, missing_id: int) -> bool:
    """Whether GET by id returns a payment that the list shows, other than `missing_id`, which answers 404.

    A missing scope shows as 404, too [seen], but for every payment.
    """
    listing = await caller.read(list_payments(_A_FEW_ROWS), partial(read_listing, offset=0))
    for head in listing.heads:
        # A lagging list may still show deleted payments, `missing_id` among them.
        if (listed := whole_of(head.id)) is None or listed == missing_id:
            continue
        with suppress(NotFoundError):
            if await look_up(caller, listed) is not None:
                return True
    return False
