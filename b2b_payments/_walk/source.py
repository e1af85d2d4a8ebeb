"""One page of a walk, asked for in the way that this service understands."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import attrs

from b2b_payments._call import Caller, Spent, Tally
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
from b2b_payments._protocol.listing import Decode, DecodeRows, Listing, not_decoded, read_listing
from b2b_payments._protocol.lookup import read_lookup
from b2b_payments._protocol.query import ChannelEncoding, PaymentQuery, has_left
from b2b_payments._protocol.request import get_payment, list_payments
from b2b_payments._quota import Priority
from b2b_payments._walk.channels import ChannelPage
from b2b_payments._walk.page import Found, Order, PageRequest, SortedPage, keyed, nothing_at
from b2b_payments._walk.service_limits import ServiceLimits

MOST_ROWS = 250
"""Rows of a page that the vendor's shared model allows at most; some answers give fewer [open]."""
_A_FEW_ROWS = PaymentQuery().pairs(offset=0, limit=5, encoding=ChannelEncoding.REPEAT)


@define
class Source:
    """Reads pages for one walk.

    `decoded` decodes them, as `read_listing` has it.
    """

    caller: Caller
    learned: ServiceLimits
    query: PaymentQuery
    page_size: int
    until: float | None
    tally: Tally = attrs.field(factory=Spent)
    priority: Priority = Priority.PAGE
    reuse: bool = True
    decoded: DecodeRows = not_decoded
    order: Order = attrs.field(init=False)
    refusal: APIError | None = attrs.field(default=None, init=False)
    """Why some page could not be read, which another page may have made up for."""
    _was_answered: bool = attrs.field(default=False, init=False)
    _compared: set[ChannelEncoding] = attrs.field(factory=set, init=False)
    _spelling_is_tried: bool = attrs.field(init=False)
    _gives_listed: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.order = Order.of(self.query.sort_by, self.query.order_by)
        self._spelling_is_tried = not self._is_of_several

    @property
    def _is_of_several(self) -> bool:
        return self.query.channel_ids is not None and len(self.query.channel_ids) > 1

    async def read(self, request: PageRequest, is_awaited: Callable[[], bool] = lambda: False) -> SortedPage:
        """Read one page, with another page size or channel encoding where the service wants that.

        Where an offset is refused once others were answered, it may lie behind a paging window, as search
        engines have it: nothing can be read there.
        """
        # Only the list's first page shows whether a spelling leaves out a channel.
        if request.offset > 0 and not self._spelling_is_tried:
            await self._read(PageRequest(0))
        try:
            page = await self._read(request, lambda body: self.decoded(body, is_awaited()))
            if not page.is_sorted:
                # Another order than was asked for may be another request's.
                page = await self._read(request)
                if page.is_sorted:
                    self.caller.mixups.noticed()
        except (BadRequestError, NotFoundError, ValidationError) as refusal:
            if request.offset == 0 or not self._was_answered:
                raise
            self.refusal = refusal
            return nothing_at(request)
        self._spelling_is_tried = self._was_answered = True
        return page

    async def _read(self, request: PageRequest, decoded: Decode | None = None) -> SortedPage:
        query, order, full_size = self.query, self.order, request.full_size
        if request.from_other_end:
            order = order.opposite
            query = attrs.evolve(query, order_by=OrderBy.DESC if order.descending else OrderBy.ASC)
        most = max(self.page_size, MOST_ROWS)
        # A page of one channel says more about whether the service reads channelIds than one row does.
        size = 1 if request.one_row and query.channel_ids is None else self.page_size

        async def first_rows(of: PaymentQuery, encoding: ChannelEncoding, limit: int) -> Listing:
            return await self._listing(of, encoding, 0, limit)

        channels = ChannelPage(
            self.learned.spellings, self.caller.mixups, query, order, first_rows, self._compared
        )
        while True:
            limit = self.learned.limit(most if full_size else size)
            encoding = channels.next()
            try:
                listing = await self._listing(query, encoding, request.offset, limit, decoded)
            except (PayloadTooLargeError, ResponseDecodeError) as error:
                if limit == 1 or not (isinstance(error, PayloadTooLargeError) or error.too_large):
                    raise
                self.learned.too_large(limit)
                continue
            except (BadRequestError, ValidationError) as error:
                if encoding is None or not channels.refused(encoding, error):
                    raise
                continue
            page = keyed(
                listing,
                order,
                limit=listing.limit or limit,
                full_size=limit >= self.learned.limit(most),
                from_other_end=request.from_other_end,
            )
            if encoding is None or await channels.fits(encoding, page):
                self.learned.shows(self.query, page.ids)
                page.spelling = encoding if self._is_of_several else None
                return page

    async def is_there(self, payment_id: int) -> Found:
        """Whether a payment is there, by the service's own word; None where it may be out of scope."""
        try:
            payment = await look_up(self.caller, payment_id, until=self.until, tally=self.tally)
        except NotFoundError:
            return None
        if payment is not None:
            ignored = self.caller.mixups.ignored("payments.list")
            return "left" if has_left(self.query, payment, ignored) else True
        self._gives_listed = self._gives_listed or await gives_listed(
            self.caller, payment_id, until=self.until, tally=self.tally
        )
        if not self._gives_listed:
            return None
        self.learned.is_gone(payment_id)
        return False

    async def _listing(
        self,
        query: PaymentQuery,
        encoding: ChannelEncoding | None,
        offset: int,
        limit: int,
        decoded: Decode | None = None,
    ) -> Listing:
        request = list_payments(
            query.pairs(offset=offset, limit=limit, encoding=encoding or ChannelEncoding.REPEAT),
            reuse=self.reuse,
        )
        reader = partial(read_listing, offset=offset, decoded=decoded)
        return await self.caller.read(
            request, reader, priority=self.priority, until=self.until, tally=self.tally
        )


async def look_up(
    caller: Caller,
    payment_id: int,
    *,
    priority: Priority = Priority.PAGE,
    until: float | None = None,
    tally: Tally | None = None,
) -> dict[str, Any] | None:
    """Return the payment as the service sends it, None where the service itself says that there is none.

    GET by id does not lag, as lists do [seen]. Unless `priority` says otherwise, it gives way to calls that
    somebody waits for. Raises as `read_lookup` does: NotFoundError for a 404 that is not the service's own.
    """
    return await caller.read(
        # A 404 does not say whose it is: this one came on no kept connection.
        attrs.evolve(get_payment(payment_id), reuse=False),
        partial(read_lookup, payment_id=payment_id),
        priority=priority,
        until=until,
        tally=tally,
    )


async def gives_listed(
    caller: Caller,
    but: int,
    *,
    priority: Priority = Priority.PAGE,
    until: float | None = None,
    tally: Tally | None = None,
) -> bool:
    """Whether a payment that the list shows is given by its id, other than `but`, which was answered 404.

    A missing scope shows as 404, too [seen]: it hides them all.
    """
    request, reader = list_payments(_A_FEW_ROWS), partial(read_listing, offset=0)
    listing = await caller.read(request, reader, priority=priority, until=until, tally=tally)
    for head in listing.heads:
        # The list may still show payments that were deleted, and this one.
        if (listed := whole_of(head.id)) is None or listed == but:
            continue
        with suppress(NotFoundError):
            if await look_up(caller, listed, priority=priority, until=until, tally=tally) is not None:
                return True
    return False
