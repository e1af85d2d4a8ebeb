"""Finding the encoding of `channelIds` that this service understands."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

import attrs

from b2b_payments._errors import (
    APIError,
    BadRequestError,
    NotFoundError,
    PaginationError,
    PermissionDeniedError,
    ValidationError,
)
from b2b_payments._mixups import MixUps
from b2b_payments._models import OrderBy, SortBy
from b2b_payments._models.decimals import whole_of
from b2b_payments._printable import define
from b2b_payments._protocol.belonging import OF_ROWS
from b2b_payments._protocol.listing import Head, Listing
from b2b_payments._protocol.query import ChannelEncoding, PaymentQuery
from b2b_payments._walk.page import Order, SortedPage, keyed

Read = Callable[[PaymentQuery, ChannelEncoding, int], Awaitable[Listing]]
"""Reads the first rows of a list, up to a limit."""

_ATTEMPTS = 2
_ATTEMPTS_IF_SUSPECT = 5
"""Requests of a misread page in one encoding: normally, and if it may be the answer to another request."""
_CHANNEL_IDS = f"{OF_ROWS}.channelIds"
_REFUSALS = (BadRequestError, NotFoundError, PermissionDeniedError, ValidationError)
"""Possible answers to a request of a channel that the store does not have."""


@define
class LearnedEncodings:
    """What one client has learned about the encodings of `channelIds`.

    `useful` are those still worth trying, in order: the service refused the others, or answered them with
    rows of other channels or without some of the requested ones. `accepted` were answered, for one channel
    (False) or for several (True). `shown` are the channels that an encoding returned when they were
    requested, and no others; a `joint` encoding returned rows of more than one of several channels. Neither
    shows that the service understands it: it may ignore it, and list these channels by default. An `applied`
    one listed other channels for another request that was otherwise the same (for one channel or several),
    an `ignored` one payments of the first request, none of which named its channel.
    `latest` are the query and the channels of the latest first page with rows of requested channels.
    """

    useful: list[ChannelEncoding] = attrs.field(factory=lambda: list(ChannelEncoding))
    accepted: set[tuple[ChannelEncoding, bool]] = attrs.field(factory=set)
    shown: dict[ChannelEncoding, set[int | str]] = attrs.field(factory=dict)
    joint: set[ChannelEncoding] = attrs.field(factory=set)
    applied: set[tuple[ChannelEncoding, bool]] = attrs.field(factory=set)
    ignored: set[tuple[ChannelEncoding, bool]] = attrs.field(factory=set)
    latest: dict[tuple[ChannelEncoding, bool, OrderBy], tuple[PaymentQuery, set[int | str]]] = attrs.field(
        factory=dict
    )

    def note_shown(
        self, encoding: ChannelEncoding, channels: set[int | str], query: PaymentQuery | None
    ) -> None:
        """Record a page with rows of these requested channels and no others; the query, of a first page."""
        self.shown.setdefault(encoding, set()).update(channels)
        if len(channels) > 1:
            self.joint.add(encoding)
        if query is not None:
            several = len(query.channel_ids or ()) > 1
            key, query = (encoding, several, query.order_by), attrs.evolve(query, channel_ids=None)
            before, others = self.latest.get(key, (None, channels))
            if before == query and channels.isdisjoint(others):
                self.applied.add((encoding, several))
            self.latest[key] = query, channels

    def finds(self, encoding: ChannelEncoding, channels: set[int]) -> bool:
        """Whether an empty list of these channels can be believed in this encoding."""
        is_applied = (encoding, len(channels) > 1) in self.applied
        return is_applied or channels <= self.shown.get(encoding, set())


def _named(heads: Iterable[Head]) -> set[int | str]:
    """Return the channels that rows name, as whole numbers where they are."""
    present = [head.channel_id for head in heads if head.channel_id not in (None, "")]
    return {str(one) if (whole := whole_of(one)) is None else whole for one in present}


def _may_be_alike(page: SortedPage, other: SortedPage) -> bool:
    """Whether `other` may start the same list: of one second, any payment may be the first."""
    is_one_second = page.keys[0] == page.keys[-1] and not page.reaches_total
    return is_one_second and {*other.keys[:1]} == {page.keys[0]}


@define(eq=False)
class EncodingTrials:
    """The encodings tried for one page of some channels, until the service neither refuses nor misreads one.

    A refusal need not be about `channelIds`: it is remembered against the encoding only if the same page is
    answered in another one. A page with payments of other channels may be the answer to another request: it
    is requested again before its encoding is given up, for good unless answers were mixed up recently.
    `compared` are the encodings that the walk has tried to see whether they show what another one hides.

    Rows need not name their channel [doc]. If none does, they are compared with those of other channels in
    the same encoding. `not_applied` are the encodings that the walk could not show to be applied. If there is
    no other, the page is accepted, and its listing names the filter as ignored.
    """

    _learned: LearnedEncodings
    _mixups: MixUps
    _query: PaymentQuery
    _order: Order
    _read: Read
    _compared: set[ChannelEncoding]
    _not_applied: set[ChannelEncoding]
    _shown: bool = attrs.field(default=False, init=False)  # some encoding showed rows of requested channels
    _refusals: dict[ChannelEncoding, APIError] = attrs.field(factory=dict, init=False)
    _given_up: set[ChannelEncoding] = attrs.field(factory=set, init=False)
    _misread: list[Sequence[int]] = attrs.field(factory=list, init=False)  # ids, in the current encoding
    _answered: bool = attrs.field(default=False, init=False)

    @property
    def _requested(self) -> set[int]:
        return set(self._query.channel_ids or ())

    def _key(self, encoding: ChannelEncoding) -> tuple[ChannelEncoding, bool]:
        return encoding, len(self._requested) > 1

    def next(self) -> ChannelEncoding | None:
        """Return the encoding to try, or None if the query has no channels.

        Raises the first refusal if all that are left were refused, PaginationError if none of them works.
        """
        if self._query.channel_ids is None:
            return None
        # Encodings that showed rows first, so that not every page tries an uncertain one again.
        for encoding in sorted(
            self._learned.useful, key=lambda one: (self._is_ignored(one), one not in self._learned.shown)
        ):
            if encoding not in self._refusals and encoding not in self._given_up:
                return encoding
        for refusal in self._refusals.values():
            raise refusal
        raise PaginationError(
            "The service misreads channelIds however it is written: it refuses it, returns payments of other "
            "channels, or leaves out some. Walk the whole store (channel_ids=None) and filter by "
            "payment.channel_id."
        )

    def refused(self, encoding: ChannelEncoding, error: APIError) -> bool:
        """Record a refusal. Returns whether it may be due to this encoding."""
        names_others = error.errors and not any("channel" in path.lower() for path in error.errors)
        if names_others or self._key(encoding) in self._learned.accepted:
            return False
        if self._answered:
            self._give_up(encoding)
        else:
            self._refusals[encoding] = error
        return True

    async def fits(self, encoding: ChannelEncoding, page: SortedPage) -> bool:
        """Record a page. Returns whether it holds the requested channels; if not, try `next` again."""
        self._answered = True
        self._learned.accepted.add(self._key(encoding))
        for refused in self._refusals:  # the refusals were due to their encodings
            self._give_up(refused)
        self._refusals.clear()
        if not self._compared and await self._is_shown_in_another(encoding, page):
            self._shown = True
            self._give_up(encoding)
            return False
        if page.ids and not _named(page.listing.heads):
            if not await self._fits_unnamed(encoding, page):
                return False
        elif self._hides(encoding, page) or await self._is_misread(encoding, page):
            self._note_misread(encoding, page)
            return False
        if self._misread:
            self._mixups.record()  # the earlier pages in this encoding were answers to other requests
        return True

    def _note_misread(self, encoding: ChannelEncoding, page: SortedPage) -> None:
        """Record a page with payments of other channels: it is requested again, then in the next encoding."""
        channels = _named(page.listing.heads)
        self._shown = self._shown or (page.offset == 0 and bool(channels & self._requested))
        self._misread.append(page.ids)
        if page.ids != self._misread[0]:
            self._mixups.record()
        # A service that ignores or misreads channelIds usually returns some of these channels' rows as well.
        is_suspect = self._mixups.recent or channels.isdisjoint(self._requested)
        if len(self._misread) >= (_ATTEMPTS_IF_SUSPECT if is_suspect else _ATTEMPTS):
            self._give_up(encoding)

    def _give_up(self, encoding: ChannelEncoding) -> None:
        self._misread.clear()
        self._given_up.add(encoding)
        if not self._mixups.recent and encoding in self._learned.useful:
            self._learned.useful.remove(encoding)

    def _is_ignored(self, encoding: ChannelEncoding) -> bool:
        return encoding in self._not_applied or self._key(encoding) in self._learned.ignored

    async def _fits_unnamed(self, encoding: ChannelEncoding, page: SortedPage) -> bool:
        """Whether to accept a page of rows that name no channel."""
        learned, key = self._learned, self._key(encoding)
        if self._is_ignored(encoding):  # and so are all others that are left
            page.listing = attrs.evolve(page.listing, ignored=page.listing.ignored | {_CHANNEL_IDS})
            return True
        if key not in learned.applied and not await self._is_applied(encoding, page):
            self._not_applied.add(encoding)
            return False
        if len(self._requested) > 1 and page.offset == 0 and encoding not in learned.joint:
            if await self._differs_if_reversed(encoding, page):
                self._shown = True
                self._give_up(encoding)
                return False
            learned.joint.add(encoding)
        return True

    async def _is_applied(self, encoding: ChannelEncoding, page: SortedPage) -> bool | None:
        """Whether other channels have other payments than these, of which a page has no channels.

        None if the list changes too fast to compare, or if its order does.
        """
        several, needed = self._key(encoding)[1], 2 if self._mixups.recent else 1
        others = [max(self._requested) + place for place in ((1, 2) if several else (1,))]
        verdicts = list[bool | None]()
        while len(verdicts) < _ATTEMPTS_IF_SUSPECT:
            verdict = await self._compare(encoding, page, others, again=bool(verdicts))
            verdicts.append(verdict)
            if verdict is not None and verdicts[-needed:] == [verdict] * needed:
                known = self._learned.applied if verdict else self._learned.ignored
                # One channel alone is written alike in several encodings.
                alike = [one for one in ChannelEncoding if one.pairs(others) == encoding.pairs(others)]
                known.update((one, several) for one in alike)
                return verdict
        return None

    async def _compare(
        self, encoding: ChannelEncoding, page: SortedPage, others: Sequence[int], *, again: bool
    ) -> bool | None:
        """Compare the first payment of other channels with these channels' first page.

        Returns whether it is not among them, or None if they may have changed between the requests.
        """
        own = await self._oldest(encoding, page, again=again)
        other = await self._first_page(others, encoding, self._oldest_first, 1)
        if own is None or not own.ids:
            return None
        if other is not None and not {*other.ids}.isdisjoint(own.ids):
            return False
        is_empty = other is None or not other.ids
        if is_empty and len(own.ids) > 1:  # not all of them have left it meanwhile
            return True
        now = await self._oldest(encoding, page, again=True)
        if now is None or {*now.ids[:1]}.isdisjoint(own.ids):
            return None
        if other is None or not _may_be_alike(own, other):
            return True
        self._shown = True  # as far as can be known
        return None

    async def _differs_if_reversed(self, encoding: ChannelEncoding, page: SortedPage) -> bool:
        """Whether only the first or the last channel is applied: if they are reversed, it is another one."""
        own = await self._oldest(encoding, page)
        channel_ids = (self._query.channel_ids or ())[::-1]
        other = await self._first_page(channel_ids, encoding, self._oldest_first, 1)
        if own is None or other is None or not own.ids or {*other.ids} & {*own.ids}:
            return False
        # The list may have changed between the two requests.
        now = await self._oldest(encoding, page, again=True)
        if now is None or {*now.ids[:1]}.isdisjoint(own.ids) or {*other.ids} & {*now.ids}:
            return False
        return not _may_be_alike(own, other)

    @property
    def _oldest_first(self) -> PaymentQuery:
        """The query in an order in which a new payment comes last, and is not taken for another channel's."""
        return attrs.evolve(self._query, sort_by=SortBy.CREATED_AT, order_by=OrderBy.ASC)

    async def _oldest(
        self, encoding: ChannelEncoding, page: SortedPage, *, again: bool = False
    ) -> SortedPage | None:
        """Return the first page, oldest first, of the requested channels: `page` if it is that page."""
        if not again and page.offset == 0 and self._query == self._oldest_first:
            return page
        return await self._first_page(self._query.channel_ids or (), encoding, self._oldest_first, page.limit)

    def _hides(self, encoding: ChannelEncoding, page: SortedPage) -> bool:
        """Whether the page is empty although another encoding showed payments of these channels."""
        return not page.ids and self._shown and not self._learned.finds(encoding, self._requested)

    async def _is_shown_in_another(self, encoding: ChannelEncoding, page: SortedPage) -> bool:
        """Whether the page is empty and another encoding shows payments of the requested channels."""
        if page.ids or page.offset > 0 or self._learned.finds(encoding, self._requested):
            return False
        channel_ids = self._query.channel_ids or ()
        tried = [encoding.pairs(channel_ids)]  # one channel alone is written alike in several encodings
        for other in [one for one in self._learned.useful if one not in {encoding, *self._given_up}]:
            self._compared.add(other)
            if self._is_ignored(other) or other.pairs(channel_ids) in tried:
                continue
            tried.append(other.pairs(channel_ids))
            shown = await self._first_page(channel_ids, other, self._query, page.limit)
            if shown is None or not shown.ids:
                continue
            channels = _named(shown.listing.heads)
            if channels & self._requested:
                return True
            is_applied = self._key(other) in self._learned.applied
            if not channels and (is_applied or await self._is_applied(other, shown) is not False):
                return True
        return False

    async def _is_misread(self, encoding: ChannelEncoding, page: SortedPage) -> bool:
        """Whether the page has rows of another channel, or lacks rows of one of several channels."""
        learned, requested = self._learned, self._requested
        channels = _named(page.listing.heads)
        if not channels <= requested:
            return True
        if channels:
            learned.note_shown(encoding, channels, self._query if page.offset == 0 else None)
        missing = requested - channels
        if not missing or len(requested) == 1 or page.offset > 0:
            return False
        if encoding in learned.joint:  # it may ignore the encoding, and list several channels by default
            return bool(channels) and await self._lists_others(encoding, channels, missing)
        return await self._leaves_out(encoding, page, channels, missing)

    async def _lists_others(
        self, encoding: ChannelEncoding, channels: set[int | str], missing: set[int]
    ) -> bool:
        """Whether the service lists some of these channels when other ones are requested."""
        if (encoding, True) in self._learned.applied:
            return False
        # One channel alone is written alike in several encodings. With any other one, this one is shown.
        others = missing if len(missing) > 1 else missing | {max(self._requested) + 1}
        listing = await self._first_row([*others], encoding)
        if listing is not None and _named(listing.heads) & channels:
            return True
        self._learned.applied.add((encoding, True))
        return False

    async def _leaves_out(
        self, encoding: ChannelEncoding, page: SortedPage, channels: set[int | str], missing: set[int]
    ) -> bool:
        """Whether the list lacks some of several channels, given its first page, of one channel or empty."""
        # That is right only if the others' first rows come after it.
        for channel_id in missing:
            first = await self._first_page([channel_id], encoding, self._query, 1)
            if first is None or not first.ids:
                continue
            named = _named(first.listing.heads)
            # An unnamed row is not on an empty list, unless the encoding is ignored for one channel.
            is_of_it = named == {channel_id} or (
                not named and not page.ids and (encoding, False) not in self._learned.ignored
            )
            belongs = not page.ids or page.reaches_total or (page.is_sorted and first.keys[0] < page.keys[-1])
            if is_of_it and belongs:
                self._shown = True
                return True
        # They may. But a service that ignores the encoding may list one channel, whatever is requested.
        if channels and await self._lists_others(encoding, channels, missing):
            return True
        # And a service that applies one of the channels only shows another if they are reversed.
        listing = await self._first_row((self._query.channel_ids or ())[::-1], encoding)
        if listing is None:
            return False
        self._shown = self._shown or bool(listing.heads)
        return channels.isdisjoint(_named(listing.heads)) if channels else bool(listing.heads)

    async def _first_page(
        self, channel_ids: Sequence[int], encoding: ChannelEncoding, query: PaymentQuery, limit: int
    ) -> SortedPage | None:
        """Return the first page of these channels, None if they are refused."""
        query = attrs.evolve(query, channel_ids=channel_ids)
        try:
            listing = await self._read(query, encoding, limit)
        except _REFUSALS:
            return None
        return keyed(listing, Order.of(query.sort_by, query.order_by), limit=limit, full_size=False)

    async def _first_row(self, channel_ids: Sequence[int], encoding: ChannelEncoding) -> Listing | None:
        """Return the first row of these channels, None if they are refused."""
        page = await self._first_page(channel_ids, encoding, self._query, 1)
        return None if page is None else page.listing
