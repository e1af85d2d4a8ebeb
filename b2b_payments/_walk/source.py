"""One page of a walk, asked for in the way that this service understands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import attrs

from b2b_payments._call import Caller, Spent, Tally
from b2b_payments._errors import (
    APIError,
    BadRequestError,
    NotFoundError,
    PaginationError,
    PayloadTooLargeError,
    ResponseDecodeError,
    ValidationError,
)
from b2b_payments._mixups import MixUps
from b2b_payments._models import OrderBy
from b2b_payments._printable import define
from b2b_payments._protocol.belonging import number
from b2b_payments._protocol.listing import Decode, DecodeRows, Head, Listing, not_decoded, read_listing
from b2b_payments._protocol.lookup import read_lookup
from b2b_payments._protocol.query import ChannelEncoding, PaymentQuery, has_left
from b2b_payments._protocol.request import get_payment, list_payments
from b2b_payments._quota import Priority
from b2b_payments._walk.page import Found, Order, PageRequest, SortedPage, keyed, nothing_at
from b2b_payments._walk.service_limits import ServiceLimits

MOST_ROWS = 250
"""Rows of a page that the vendor's shared model allows at most; some answers give fewer [open]."""
_A_FEW_ROWS = PaymentQuery().pairs(offset=0, limit=5, encoding=ChannelEncoding.REPEAT)
_TIMES_ASKED = 2
_TIMES_DOUBTED = 5
"""How often a misread page is asked for in one spelling: as a rule, and where it may be another request's."""


class _Spellings:
    """The ways to write `channelIds` for one page: the next is tried where the service refuses one.

    A refusal need not be about `channelIds`. Only where the same page is answered in another spelling is it
    known to be, and remembered. A page with payments of other channels may be another request's: it is asked
    for again, and what comes again is remembered unless answers were mixed up lately.
    """

    def __init__(self, learned: ServiceLimits, mixups: MixUps, channel_ids: Sequence[int] | None) -> None:
        self._learned = learned
        self._mixups = mixups
        self._needed = channel_ids is not None
        self._several = channel_ids is not None and len(channel_ids) > 1
        self._asked = {str(channel_id) for channel_id in channel_ids or ()}
        self._shown = False  # payments of the channels asked for, among others
        self._refusals: dict[ChannelEncoding, APIError] = {}
        self._given_up: set[ChannelEncoding] = set()
        self._misread: list[Sequence[int]] = []  # what came in the spelling that is being tried
        self._answered = False

    def next(self) -> ChannelEncoding | None:
        """Give the spelling to try; None where no channel was asked for.

        Raises the first refusal where each was refused, and PaginationError where none is of use.
        """
        if not self._needed:
            return None
        # What was understood before comes first: a spelling in doubt does not cost each page its tries.
        for encoding in sorted(self._learned.encodings, key=self._learned.is_confirmed, reverse=True):
            if encoding not in self._refusals and encoding not in self._given_up:
                return encoding
        for refusal in self._refusals.values():
            raise refusal
        raise PaginationError(
            "The service misreads channelIds however it is written: it refuses it, gives payments of other "
            "channels, or not those of all. Walk the whole store (channel_ids=None) and pick by "
            "payment.channel_id."
        )

    def refused(self, encoding: ChannelEncoding, error: APIError) -> bool:
        """Take in a refusal; tell whether it may be one of this spelling."""
        named = error.errors and not any("channel" in path.lower() for path in error.errors)
        if named or self._learned.was_accepted(encoding, several=self._several):
            return False
        if self._answered:
            self._give_up(encoding)
        else:
            self._refusals[encoding] = error
        return True

    def answered(self, encoding: ChannelEncoding) -> None:
        """Take in that the page was answered: so the refusals before were of their spellings."""
        self._answered = True
        self._learned.note_accepted(encoding, several=self._several)
        for refused in self._refusals:
            self._give_up(refused)
        self._refusals.clear()

    def misread(self, encoding: ChannelEncoding, page: SortedPage) -> None:
        """Take in a page with payments of other channels: it is asked for again, or in the next spelling."""
        given = {str(head.channel_id) for head in page.listing.heads}
        self._shown = self._shown or (page.offset == 0 and bool(given & self._asked))
        self._misread.append(page.ids)
        if page.ids != self._misread[0]:
            self._mixups.noticed()
        # Whoever ignores or misreads channelIds gives some of these channels' payments, too, as a rule.
        doubted = self._mixups.lately or given.isdisjoint(self._asked)
        if len(self._misread) >= (_TIMES_DOUBTED if doubted else _TIMES_ASKED):
            self._give_up(encoding)

    def understood(self) -> None:
        """Take in a page of the channels asked for: what came before in the same spelling was another's."""
        if self._misread:
            self._mixups.noticed()

    def _give_up(self, encoding: ChannelEncoding) -> None:
        self._misread.clear()
        self._given_up.add(encoding)
        if not self._mixups.lately:
            self._learned.of_no_use(encoding)

    def hides(self, encoding: ChannelEncoding, page: SortedPage) -> bool:
        """Whether nothing came in this spelling, where payments of these channels came in another."""
        return not page.ids and self._shown and not self._learned.is_confirmed(encoding)

    def others(self, encoding: ChannelEncoding, page: SortedPage) -> Sequence[ChannelEncoding]:
        """Give the spellings to be tried before this one is believed, in which nothing came."""
        if page.ids or page.offset > 0 or self._learned.is_confirmed(encoding):
            return ()
        return [one for one in self._learned.encodings if one not in {encoding, *self._given_up}]

    def hid(self, encoding: ChannelEncoding) -> None:
        """Note that payments of these channels came in another spelling than this one."""
        self._shown = True
        self._give_up(encoding)


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
    _tried_others: bool = attrs.field(default=False, init=False)
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
        spellings = _Spellings(self.learned, self.caller.mixups, query.channel_ids)
        while True:
            limit = self.learned.limit(most if full_size else size)
            encoding = spellings.next()
            try:
                listing = await self._listing(query, encoding, request.offset, limit, decoded)
            except (PayloadTooLargeError, ResponseDecodeError) as error:
                if limit == 1 or not (isinstance(error, PayloadTooLargeError) or error.too_large):
                    raise
                self.learned.too_large(limit)
                continue
            except (BadRequestError, ValidationError) as error:
                if encoding is None or not spellings.refused(encoding, error):
                    raise
                continue
            page = keyed(
                listing,
                order,
                limit=listing.limit or limit,
                full_size=limit >= self.learned.limit(most),
                from_other_end=request.from_other_end,
            )
            if encoding is None:
                self.learned.shows(self.query, page.ids)
                return page
            spellings.answered(encoding)
            if not self._tried_others and await self._is_shown_in(
                spellings.others(encoding, page), page, query
            ):
                spellings.hid(encoding)
                continue
            if not (spellings.hides(encoding, page) or await self._is_misread(encoding, page, query, order)):
                spellings.understood()
                self.learned.shows(self.query, page.ids)
                page.spelling = encoding if self._is_of_several else None
                return page
            spellings.misread(encoding, page)

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

    async def _is_shown_in(
        self, encodings: Sequence[ChannelEncoding], page: SortedPage, query: PaymentQuery
    ) -> bool:
        """Whether payments of the channels asked for come in one of these spellings of `channelIds`."""
        asked = {str(channel_id) for channel_id in query.channel_ids or ()}
        for encoding in encodings:
            self._tried_others = True
            try:
                listing = await self._listing(query, encoding, 0, page.limit)
            except (BadRequestError, ValidationError):
                continue  # what is refused shows nothing
            if any(str(head.channel_id) in asked for head in listing.heads):
                return True
        return False

    async def _is_misread(
        self, encoding: ChannelEncoding, page: SortedPage, query: PaymentQuery, order: Order
    ) -> bool:
        """Whether rows of another channel came, or of several channels only one's where others' belong."""
        asked = {str(channel_id) for channel_id in query.channel_ids or ()}
        given = {str(head.channel_id) for head in page.listing.heads if _says_channel(head)}
        if not given <= asked:
            return True
        if given:
            self.learned.confirm(encoding)
        if len(given) > 1:
            self.learned.gave_several(encoding)
        if len(asked) == 1 or self.learned.reads_several(encoding) or page.offset > 0:
            return False
        # One channel's rows alone, or none: the others' first rows have to lie behind them.
        for channel_id in asked - given:
            one = attrs.evolve(query, channel_ids=(int(channel_id),))
            try:
                listing = await self._listing(one, encoding, 0, 1)
            except (BadRequestError, ValidationError):
                continue  # what is refused shows nothing
            alone = keyed(listing, order, limit=1, full_size=False)
            belongs = (
                not page.ids
                or page.reaches_total
                or (page.is_sorted and alone.ids and alone.keys[0] < page.keys[-1])
            )
            if alone.ids and belongs and all(str(head.channel_id) == channel_id for head in listing.heads):
                return True
        # They may well lie behind. But whoever reads one of the channels alone, gives another's when turned.
        turned = attrs.evolve(query, channel_ids=(query.channel_ids or ())[::-1])
        listing = await self._listing(turned, encoding, 0, 1)
        return bool(given) and given.isdisjoint(str(head.channel_id) for head in listing.heads)

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


def _says_channel(head: Head) -> bool:
    return head.channel_id not in (None, "")


async def look_up(
    caller: Caller,
    payment_id: int,
    *,
    priority: Priority = Priority.PAGE,
    until: float | None = None,
    tally: Tally | None = None,
) -> dict[str, Any] | None:
    """Give the payment as the service sends it, None where the service itself says that there is none.

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
        if (listed := number(head.id)) is None or listed == but:
            continue
        with suppress(NotFoundError):
            if await look_up(caller, listed, priority=priority, until=until, tally=tally) is not None:
                return True
    return False
