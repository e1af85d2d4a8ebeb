"""One page of a walk, asked for in the way that this service understands."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import attrs

from b2b_payments._call import Caller
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
from b2b_payments._protocol.belonging import OF_ROWS
from b2b_payments._protocol.listing import Head, Listing, read_listing
from b2b_payments._protocol.query import ChannelEncoding, PaymentQuery
from b2b_payments._protocol.request import list_payments
from b2b_payments._quota import Priority
from b2b_payments._walk.lookup import look_up
from b2b_payments._walk.page import KeyedPage, Order, PageRequest, keyed
from b2b_payments._walk.report import WalkReport
from b2b_payments._walk.totals import Totals

MOST_ROWS = 250
"""Rows of a page that the vendor's shared model allows at most; some answers give fewer [open]."""
_TIMES_ASKED = 2
_TIMES_DOUBTED = 5
"""How often a misread page is asked for in one spelling: as a rule, and where it may be another request's."""
_KEPT_SHOWN = 3
_SMALLER = (249, 200, 100, 50, 25, 10, 5, 3, 1)


class Learned:
    """What one client has found out about its service, and goes on with."""

    def __init__(self) -> None:
        self._most_rows: int | None = None  # the largest page that was not refused as too large
        self._encodings = list(ChannelEncoding)
        self._for_several: set[ChannelEncoding] = set()
        self._accepted: set[tuple[ChannelEncoding, bool]] = set()
        self._fitting: set[ChannelEncoding] = set()
        self._totals: dict[tuple[str, ...], Totals] = {}
        self._shown: dict[tuple[int, ...] | None, Sequence[int]] = {}

    def totals_of(self, query: PaymentQuery) -> Totals:
        """Give what was learned of the totals of lists under the same filters, whatever their values."""
        return self._totals.setdefault(query.filters, Totals())

    def shows(self, query: PaymentQuery, payment_ids: Sequence[int]) -> None:
        """Note payments that a page showed; in which channel one is does not change."""
        if payment_ids:
            some = payment_ids[-_KEPT_SHOWN:]
            self._shown[None] = some
            if not query.filtered:
                self._shown[query.channel_ids] = some

    def shown(self, query: PaymentQuery) -> Sequence[int]:
        """Give some payments that this list has to show unless they were deleted."""
        return () if query.filtered else self._shown.get(query.channel_ids, ())

    @property
    def encodings(self) -> Sequence[ChannelEncoding]:
        """The ways to write `channelIds` that are not known to be of no use, the first to be tried first."""
        return self._encodings

    def of_no_use(self, encoding: ChannelEncoding) -> None:
        """Note that the service, asked in this way, refused, gave rows of other channels, or not all."""
        if encoding in self._encodings:
            self._encodings.remove(encoding)

    def takes(self, encoding: ChannelEncoding, *, several: bool) -> bool:
        """Whether the service once answered when asked for one channel, or for several, in this way."""
        return (encoding, several) in self._accepted

    def took(self, encoding: ChannelEncoding, *, several: bool) -> None:
        """Note that the service answered when asked in this way."""
        self._accepted.add((encoding, several))

    def fits(self, encoding: ChannelEncoding) -> bool:
        """Whether a page with rows of the channels asked for, and no others, came when asked in this way."""
        return encoding in self._fitting

    def fitted(self, encoding: ChannelEncoding) -> None:
        """Note that rows of the channels asked for, and no others, came when asked in this way."""
        self._fitting.add(encoding)

    def reads_several(self, encoding: ChannelEncoding) -> bool:
        """Whether rows of more than one of several channels came when asked in this way."""
        return encoding in self._for_several

    def gave_several(self, encoding: ChannelEncoding) -> None:
        """Note that rows of more than one channel came when asked in this way."""
        self._for_several.add(encoding)

    def limit(self, wanted: int) -> int:
        """Give the number of rows to ask for."""
        return wanted if self._most_rows is None else min(wanted, self._most_rows)

    def too_large(self, limit: int) -> None:
        """Note that so many rows were refused, by the service or, as more than is read, by us."""
        smaller = next(size for size in _SMALLER if size < limit)
        self._most_rows = self.limit(smaller)


class _Spellings:
    """The ways to write `channelIds` for one page: the next is tried where the service refuses one.

    A refusal need not be about `channelIds`. Only where the same page is answered in another spelling is it
    known to be, and remembered. A page with payments of other channels may be another request's: it is asked
    for again, and what comes again is remembered unless answers were mixed up lately.
    """

    def __init__(self, learned: Learned, mixups: MixUps, channel_ids: Sequence[int] | None) -> None:
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
        for encoding in sorted(self._learned.encodings, key=self._learned.fits, reverse=True):
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
        if named or self._learned.takes(encoding, several=self._several):
            return False
        if self._answered:
            self._give_up(encoding)
        else:
            self._refusals[encoding] = error
        return True

    def answered(self, encoding: ChannelEncoding) -> None:
        """Take in that the page was answered: so the refusals before were of their spellings."""
        self._answered = True
        self._learned.took(encoding, several=self._several)
        for refused in self._refusals:
            self._give_up(refused)
        self._refusals.clear()

    def misread(self, encoding: ChannelEncoding, page: KeyedPage) -> None:
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

    def hides(self, encoding: ChannelEncoding, page: KeyedPage) -> bool:
        """Whether nothing came in this spelling, where payments of these channels came in another."""
        return not page.ids and self._shown and not self._learned.fits(encoding)

    def others(self, encoding: ChannelEncoding, page: KeyedPage) -> Sequence[ChannelEncoding]:
        """Give the spellings to be tried before this one is believed, in which nothing came."""
        if page.ids or page.offset > 0 or self._learned.fits(encoding):
            return ()
        return [one for one in self._learned.encodings if one not in {encoding, *self._given_up}]

    def hid(self, encoding: ChannelEncoding) -> None:
        """Note that payments of these channels came in another spelling than this one."""
        self._shown = True
        self._give_up(encoding)


@attrs.define
class Source:
    """Reads pages for one walk."""

    caller: Caller
    learned: Learned
    query: PaymentQuery
    page_size: int
    until: float | None
    report: WalkReport
    priority: Priority = Priority.PAGE
    reuse: bool = True
    order: Order = attrs.field(init=False)
    _tried_others: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.order = Order.of(self.query.sort_by, self.query.order_by)

    async def read(self, request: PageRequest) -> KeyedPage:
        """Read one page, with another page size or channel encoding where the service wants that."""
        query, order, wide = self.query, self.order, request.wide
        if request.from_other_end:
            order = order.opposite
            query = attrs.evolve(query, order_by=OrderBy.DESC if order.descending else OrderBy.ASC)
        most = max(self.page_size, MOST_ROWS)
        spellings = _Spellings(self.learned, self.caller.mixups, query.channel_ids)
        while True:
            limit = self.learned.limit(most if wide else self.page_size)
            encoding = spellings.next()
            try:
                listing = await self._listing(query, encoding, request.offset, limit)
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
                wide=limit >= self.learned.limit(most),
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
                return page
            spellings.misread(encoding, page)

    async def is_there(self, payment_id: int) -> bool | None:
        """Whether a payment is there, by the service's own word; None where a gateway answered."""
        try:
            return await look_up(self.caller, payment_id, until=self.until, tally=self.report) is not None
        except NotFoundError:
            return None

    async def _is_shown_in(
        self, encodings: Sequence[ChannelEncoding], page: KeyedPage, query: PaymentQuery
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
        self, encoding: ChannelEncoding, page: KeyedPage, query: PaymentQuery, order: Order
    ) -> bool:
        """Whether rows of another channel came, or of several channels only one's where others' belong."""
        asked = {str(channel_id) for channel_id in query.channel_ids or ()}
        given = {str(head.channel_id) for head in page.listing.heads if _says_channel(head)}
        if not given <= asked:
            return True
        if given:
            self.learned.fitted(encoding)
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
            alone = keyed(listing, order, limit=1, wide=False)
            belongs = (
                not page.ids
                or page.reaches_total
                or (page.is_sorted and alone.ids and alone.keys[0] < page.keys[-1])
            )
            if alone.ids and belongs and all(str(head.channel_id) == channel_id for head in listing.heads):
                return True
        return False

    async def _listing(
        self, query: PaymentQuery, encoding: ChannelEncoding | None, offset: int, limit: int
    ) -> Listing:
        request = list_payments(
            query.pairs(offset=offset, limit=limit, encoding=encoding or ChannelEncoding.REPEAT),
            reuse=self.reuse,
        )
        reader = partial(read_listing, offset=offset)
        listing = await self.caller.read(
            request, reader, priority=self.priority, until=self.until, tally=self.report
        )
        self.report.ignored_filters |= {place.removeprefix(f"{OF_ROWS}.") for place in listing.ignored}
        return listing


def _says_channel(head: Head) -> bool:
    return head.channel_id not in (None, "")
