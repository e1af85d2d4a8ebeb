"""Finding the encoding of `channelIds` that this service understands."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

import attrs

from b2b_payments._errors import APIError, BadRequestError, PaginationError, ValidationError
from b2b_payments._mixups import MixUps
from b2b_payments._models import OrderBy
from b2b_payments._models.decimals import whole_of
from b2b_payments._printable import define
from b2b_payments._protocol.listing import Head, Listing
from b2b_payments._protocol.query import ChannelEncoding, PaymentQuery
from b2b_payments._walk.page import Order, SortedPage, keyed

Read = Callable[[PaymentQuery, ChannelEncoding, int], Awaitable[Listing]]
"""Reads the first rows of a list, up to a limit."""

_ATTEMPTS = 2
_ATTEMPTS_IF_SUSPECT = 5
"""Requests of a misread page in one encoding: normally, and if it may be the answer to another request."""


@define
class LearnedEncodings:
    """What one client has learned about the encodings of `channelIds`.

    `useful` are those still worth trying, in order: the service refused the others, or answered them with
    rows of other channels or without some of the requested ones. `accepted` were answered, for one channel
    (False) or for several (True). `shown` are the channels that an encoding returned when they were
    requested, and no others; a `joint` encoding returned rows of more than one of several channels. Neither
    shows that the service understands it: it may ignore it, and list these channels by default. An `applied`
    one listed other channels for another request that was otherwise the same (for one channel or several).
    `latest` are the query and the channels of the latest first page with rows of requested channels.
    """

    useful: list[ChannelEncoding] = attrs.field(factory=lambda: list(ChannelEncoding))
    accepted: set[tuple[ChannelEncoding, bool]] = attrs.field(factory=set)
    shown: dict[ChannelEncoding, set[int | str]] = attrs.field(factory=dict)
    joint: set[ChannelEncoding] = attrs.field(factory=set)
    applied: set[tuple[ChannelEncoding, bool]] = attrs.field(factory=set)
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


@define(eq=False)
class EncodingTrials:
    """The encodings tried for one page of some channels, until the service neither refuses nor misreads one.

    A refusal need not be about `channelIds`: it is remembered against the encoding only if the same page is
    answered in another one. A page with payments of other channels may be the answer to another request: it
    is requested again before its encoding is given up, for good unless answers were mixed up recently.
    `compared` are the encodings that the walk has tried to see whether they show what another one hides.
    """

    _learned: LearnedEncodings
    _mixups: MixUps
    _query: PaymentQuery
    _order: Order
    _read: Read
    _compared: set[ChannelEncoding]
    _shown: bool = attrs.field(default=False, init=False)  # some encoding showed rows of requested channels
    _refusals: dict[ChannelEncoding, APIError] = attrs.field(factory=dict, init=False)
    _given_up: set[ChannelEncoding] = attrs.field(factory=set, init=False)
    _misread: list[Sequence[int]] = attrs.field(factory=list, init=False)  # ids, in the current encoding
    _answered: bool = attrs.field(default=False, init=False)

    @property
    def _requested(self) -> set[int]:
        return set(self._query.channel_ids or ())

    def next(self) -> ChannelEncoding | None:
        """Return the encoding to try, or None if the query has no channels.

        Raises the first refusal if all that are left were refused, PaginationError if none of them works.
        """
        if self._query.channel_ids is None:
            return None
        # Encodings that showed rows first, so that not every page tries an uncertain one again.
        for encoding in sorted(self._learned.useful, key=self._learned.shown.__contains__, reverse=True):
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
        if names_others or (encoding, len(self._requested) > 1) in self._learned.accepted:
            return False
        if self._answered:
            self._give_up(encoding)
        else:
            self._refusals[encoding] = error
        return True

    async def fits(self, encoding: ChannelEncoding, page: SortedPage) -> bool:
        """Record a page. Returns whether it holds the requested channels; if not, try `next` again."""
        self._answered = True
        self._learned.accepted.add((encoding, len(self._requested) > 1))
        for refused in self._refusals:  # the refusals were due to their encodings
            self._give_up(refused)
        self._refusals.clear()
        if not self._compared and await self._is_shown_in_another(encoding, page):
            self._shown = True
            self._give_up(encoding)
            return False
        if self._hides(encoding, page) or await self._is_misread(encoding, page):
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

    def _hides(self, encoding: ChannelEncoding, page: SortedPage) -> bool:
        """Whether the page is empty although another encoding showed payments of these channels."""
        return not page.ids and self._shown and not self._learned.finds(encoding, self._requested)

    async def _is_shown_in_another(self, encoding: ChannelEncoding, page: SortedPage) -> bool:
        """Whether the page is empty and another encoding shows payments of the requested channels."""
        if page.ids or page.offset > 0 or self._learned.finds(encoding, self._requested):
            return False
        for other in [one for one in self._learned.useful if one not in {encoding, *self._given_up}]:
            self._compared.add(other)
            if _named(await self._first_rows(other, page.limit)) & self._requested:
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
        if not missing or len(requested) == 1 or encoding in learned.joint or page.offset > 0:
            return False
        return await self._leaves_out(encoding, page, channels, missing)

    async def _leaves_out(
        self, encoding: ChannelEncoding, page: SortedPage, channels: set[int | str], missing: set[int]
    ) -> bool:
        """Whether the list lacks some of several channels, given its first page, of one channel or empty."""
        # That is right only if the others' first rows come after it.
        for channel_id in missing:
            listing = await self._first_row([channel_id], encoding)
            if listing is None:
                continue
            first = keyed(listing, self._order, limit=1, full_size=False)
            belongs = (
                not page.ids
                or page.reaches_total
                or (page.is_sorted and first.ids and first.keys[0] < page.keys[-1])
            )
            if first.ids and belongs and _named(listing.heads) == {channel_id}:
                return True
        # They may. But a service that ignores the encoding may list one channel, whatever is requested.
        # One channel alone is written alike in several encodings. With any other one, this one is shown.
        if channels and (encoding, True) not in self._learned.applied:
            others = missing if len(missing) > 1 else missing | {max(self._requested) + 1}
            listing = await self._first_row([*others], encoding)
            if listing is not None:
                if _named(listing.heads) & channels:
                    return True
                self._learned.applied.add((encoding, True))
        # And a service that applies one of the channels only shows another if they are reversed.
        listing = await self._first_row((self._query.channel_ids or ())[::-1], encoding)
        if listing is None or not channels:
            return False
        return channels.isdisjoint(_named(listing.heads))

    async def _first_row(self, channel_ids: Sequence[int], encoding: ChannelEncoding) -> Listing | None:
        """Return the first row of these channels, None if they are refused: that shows nothing."""
        try:
            return await self._read(attrs.evolve(self._query, channel_ids=channel_ids), encoding, 1)
        except (BadRequestError, ValidationError):
            return None

    async def _first_rows(self, encoding: ChannelEncoding, limit: int) -> Sequence[Head]:
        try:
            return (await self._read(self._query, encoding, limit)).heads
        except (BadRequestError, ValidationError):
            return ()  # a refusal shows nothing
