"""How `channelIds` has to be written for this service: what was learned of it, and one page's tries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import attrs

from b2b_payments._errors import APIError, BadRequestError, PaginationError, ValidationError
from b2b_payments._mixups import MixUps
from b2b_payments._printable import define
from b2b_payments._protocol.listing import Head, Listing
from b2b_payments._protocol.query import ChannelEncoding, PaymentQuery
from b2b_payments._walk.page import Order, SortedPage, keyed

Read = Callable[[PaymentQuery, ChannelEncoding, int], Awaitable[Listing]]
"""Reads the first rows of a list, so many at the most."""

_TIMES_ASKED = 2
_TIMES_DOUBTED = 5
"""How often a misread page is asked for in one spelling: as a rule, and where it may be another request's."""


@define
class Spellings:
    """What one client has learned of the ways to write `channelIds`.

    `useful` are those not known to be of no use, the first to be tried first: the service refused the others,
    gave rows of other channels, or not all. `accepted` were answered, each for one channel or for several. In
    those `confirmed`, a page with rows of the channels asked for came, and of no others; in those `joint`,
    rows of more than one of several channels.
    """

    useful: list[ChannelEncoding] = attrs.field(factory=lambda: list(ChannelEncoding))
    accepted: set[tuple[ChannelEncoding, bool]] = attrs.field(factory=set)
    confirmed: set[ChannelEncoding] = attrs.field(factory=set)
    joint: set[ChannelEncoding] = attrs.field(factory=set)


@define(eq=False)
class ChannelPage:
    """One page of some channels: the next spelling is tried where the service refuses or misreads one.

    A refusal need not be about `channelIds`. Only where the same page is answered in another spelling is it
    known to be, and remembered. A page with payments of other channels may be another request's: it is asked
    for again, and what comes again is remembered unless answers were mixed up lately. `compared` are those
    spellings that the walk has tried to see whether they show what another hides.
    """

    _learned: Spellings
    _mixups: MixUps
    _query: PaymentQuery
    _order: Order
    _read: Read
    _compared: set[ChannelEncoding]
    _shown: bool = attrs.field(default=False, init=False)  # payments of the channels asked for, among others
    _refusals: dict[ChannelEncoding, APIError] = attrs.field(factory=dict, init=False)
    _given_up: set[ChannelEncoding] = attrs.field(factory=set, init=False)
    _misread: list[Sequence[int]] = attrs.field(factory=list, init=False)  # in the spelling that is tried
    _answered: bool = attrs.field(default=False, init=False)

    @property
    def _asked(self) -> set[str]:
        return set(map(str, self._query.channel_ids or ()))

    def next(self) -> ChannelEncoding | None:
        """Return the spelling to try; None where no channel was asked for.

        Raises the first refusal where each was refused, and PaginationError where none is of use.
        """
        if self._query.channel_ids is None:
            return None
        # What was understood before comes first: a spelling in doubt does not cost each page its tries.
        for encoding in sorted(self._learned.useful, key=self._learned.confirmed.__contains__, reverse=True):
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
        if named or (encoding, len(self._asked) > 1) in self._learned.accepted:
            return False
        if self._answered:
            self._give_up(encoding)
        else:
            self._refusals[encoding] = error
        return True

    async def fits(self, encoding: ChannelEncoding, page: SortedPage) -> bool:
        """Take in a page; tell whether it is of the channels asked for. If not, there is a `next`."""
        self._answered = True
        self._learned.accepted.add((encoding, len(self._asked) > 1))
        for refused in self._refusals:  # it was of their spellings
            self._give_up(refused)
        self._refusals.clear()
        if not self._compared and await self._is_shown_otherwise(encoding, page):
            self._shown = True
            self._give_up(encoding)
            return False
        if self._hides(encoding, page) or await self._is_misread(encoding, page):
            self._note_misread(encoding, page)
            return False
        if self._misread:
            self._mixups.noticed()  # what came before in the same spelling was another's
        return True

    def _note_misread(self, encoding: ChannelEncoding, page: SortedPage) -> None:
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

    def _give_up(self, encoding: ChannelEncoding) -> None:
        self._misread.clear()
        self._given_up.add(encoding)
        if not self._mixups.lately and encoding in self._learned.useful:
            self._learned.useful.remove(encoding)

    def _hides(self, encoding: ChannelEncoding, page: SortedPage) -> bool:
        """Whether nothing came in this spelling, where payments of these channels came in another."""
        return not page.ids and self._shown and encoding not in self._learned.confirmed

    async def _is_shown_otherwise(self, encoding: ChannelEncoding, page: SortedPage) -> bool:
        """Whether payments of the channels asked for come in another spelling, where none came in this."""
        if page.ids or page.offset > 0 or encoding in self._learned.confirmed:
            return False
        asked = self._asked
        for other in [one for one in self._learned.useful if one not in {encoding, *self._given_up}]:
            self._compared.add(other)
            if any(str(head.channel_id) in asked for head in await self._shown_in(other, page.limit)):
                return True
        return False

    async def _is_misread(self, encoding: ChannelEncoding, page: SortedPage) -> bool:
        """Whether rows of another channel came, or of several channels only one's where others' belong."""
        learned, asked = self._learned, self._asked
        given = {str(head.channel_id) for head in page.listing.heads if head.channel_id not in (None, "")}
        if not given <= asked:
            return True
        if given:
            learned.confirmed.add(encoding)
        if len(given) > 1:
            learned.joint.add(encoding)
        if len(asked) == 1 or encoding in learned.joint or page.offset > 0:
            return False
        # One channel's rows alone, or none: the others' first rows have to lie behind them.
        for channel_id in asked - given:
            one = attrs.evolve(self._query, channel_ids=(int(channel_id),))
            try:
                listing = await self._read(one, encoding, 1)
            except (BadRequestError, ValidationError):
                continue  # what is refused shows nothing
            alone = keyed(listing, self._order, limit=1, full_size=False)
            belongs = (
                not page.ids
                or page.reaches_total
                or (page.is_sorted and alone.ids and alone.keys[0] < page.keys[-1])
            )
            if alone.ids and belongs and all(str(head.channel_id) == channel_id for head in listing.heads):
                return True
        # They may well lie behind. But whoever reads one of the channels alone, gives another's when turned.
        turned = attrs.evolve(self._query, channel_ids=(self._query.channel_ids or ())[::-1])
        listing = await self._read(turned, encoding, 1)
        return bool(given) and given.isdisjoint(str(head.channel_id) for head in listing.heads)

    async def _shown_in(self, encoding: ChannelEncoding, limit: int) -> Sequence[Head]:
        try:
            return (await self._read(self._query, encoding, limit)).heads
        except (BadRequestError, ValidationError):
            return ()  # what is refused shows nothing
