"""Several channels walked at once, merged into one stream: what `client.payments.stream()` gives."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING

import anyio
import attrs

from b2b_payments._errors import ConfigurationError, PaginationError
from b2b_payments._printable import define
from b2b_payments._protocol.listing import DecodeRows, not_decoded
from b2b_payments._tasks import Tasks
from b2b_payments._walk.checkpoint import Checkpoint, of_channels, with_channel
from b2b_payments._walk.pager import Iteration, Pager
from b2b_payments._walk.prefetch import ConcurrencyLimiter
from b2b_payments._walk.reader import JoinedPage
from b2b_payments._walk.report import WalkReport
from b2b_payments._walk.walk import Walk

if TYPE_CHECKING:
    # It takes a while to load, and a walk over one list needs none of it.
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

_PAGES_HELD = 2
"""Joined pages that a channel holds ready; each walk's pages ahead come on top."""

_Item = tuple[int | None, JoinedPage | Exception]


@define
class StreamStanding:
    """Where one iteration of a stream stands. `doubled` rows came from two channels' walks."""

    walks: Mapping[int | None, Walk | Iteration[JoinedPage]]
    checkpoint: Checkpoint = attrs.field(init=False)
    doubled: int = 0

    def __attrs_post_init__(self) -> None:
        channels = {channel_id: walk.checkpoint() for channel_id, walk in self.walks.items()}
        self.checkpoint = channels[None] if list(channels) == [None] else of_channels(channels)

    @property
    def report(self) -> WalkReport:
        """The account of all channels together."""
        total = WalkReport.total(walk.report for walk in self.walks.values())
        total.rows -= self.doubled
        total.duplicates += self.doubled
        return total


class PaymentStream(Pager):
    """The payments of several channels, each exactly once: as they come, or channel by channel.

    One channel's error ends the stream, and with it the other channels' walks. `reports` has the account of
    each channel, `report` their sum. Rows that do not name their channel are remembered by their ids, so that
    none comes twice: where a service leaves the channel out, memory grows with the stream.
    """

    _latest: StreamStanding

    def __init__(
        self, tasks: Tasks, walks: Mapping[int | None, Walk], *, concurrency: int, ordered: bool
    ) -> None:
        self._tasks = tasks
        self._walks = walks
        self._concurrency = concurrency
        self._ordered = ordered
        self._latest = StreamStanding(walks)

    @property
    def reports(self) -> dict[int | None, WalkReport]:
        """The latest account of each channel; the key is None where the whole store is one walk."""
        return {channel_id: walk.report for channel_id, walk in self._latest.walks.items()}

    def joined(self, *, decoded: DecodeRows = not_decoded) -> Iteration[JoinedPage]:
        """Return the new rows page by page, as the service sent them."""
        limiter = ConcurrencyLimiter(self._tasks, self._concurrency)
        walks = {
            channel_id: walk.joined(limiter, decoded=decoded) for channel_id, walk in self._walks.items()
        }
        standing = self._latest = StreamStanding(walks)
        return Iteration(self._merge(standing, limiter, walks), standing)

    async def _merge(
        self,
        standing: StreamStanding,
        limiter: ConcurrencyLimiter,
        walks: Mapping[int | None, Iteration[JoinedPage]],
    ) -> AsyncGenerator[JoinedPage, None]:
        self._tasks.require_running()
        pumps = [_Pump(channel_id, walk) for channel_id, walk in walks.items()]
        # Where rows do not say their channel, a service that ignores channelIds could give them twice.
        unnamed: set[object] = set()
        lanes = self._lanes(pumps)
        try:
            for lane in lanes:
                async for channel_id, item in lane:
                    if isinstance(item, PaginationError):
                        item.checkpoint = standing.checkpoint
                    if isinstance(item, Exception):
                        raise item
                    behind = with_channel(standing.checkpoint, channel_id, item.checkpoint)
                    once = _once(item, unnamed, behind)
                    standing.doubled += len(item.places) - len(once.places)
                    yield once
                    standing.checkpoint = behind
                    self._tasks.require_home()
            if not all(pump.finished for pump in pumps):
                raise ConfigurationError("The client was closed while a stream was under way.")
        finally:
            self._tasks.at_home(partial(_drop, limiter, pumps, lanes))

    def _lanes(self, pumps: list[_Pump]) -> list[MemoryObjectReceiveStream[_Item]]:
        """Start the walks: a lane for each of them, or one for all."""
        if self._ordered:
            pairs = [anyio.create_memory_object_stream[_Item](_PAGES_HELD) for _ in pumps]
            for pump, (send, _) in zip(pumps, pairs, strict=True):
                self._tasks.spawn(pump.run, send)
            return [receive for _, receive in pairs]
        send, receive = anyio.create_memory_object_stream[_Item](_PAGES_HELD * len(pumps))
        with send:
            for pump in pumps:
                self._tasks.spawn(pump.run, send.clone())
        return [receive]


def _drop(
    limiter: ConcurrencyLimiter, pumps: list[_Pump], lanes: list[MemoryObjectReceiveStream[_Item]]
) -> None:
    # First of all: a pump hears of its end only at its next step, and a page could be asked for till then.
    limiter.drop()
    for pump in pumps:
        pump.scope.cancel()
    for lane in lanes:
        lane.close()


class _Pump:
    """Moves one walk's pages into a lane; an error travels as a value, to be raised where it is awaited."""

    def __init__(self, channel_id: int | None, walk: Iteration[JoinedPage]) -> None:
        self._channel_id = channel_id
        self._walk = walk
        self.scope = anyio.CancelScope()
        self.finished = False

    async def run(self, send: MemoryObjectSendStream[_Item]) -> None:
        with send, self.scope:
            try:
                async with aclosing(self._walk) as pages:
                    async for page in pages:
                        await send.send((self._channel_id, page))
                self.finished = True
            except anyio.BrokenResourceError:
                return  # nobody listens any more
            except Exception as error:  # noqa: BLE001 - raised again where the pages are awaited
                await send.send((self._channel_id, error))


def _once(page: JoinedPage, unnamed: set[object], checkpoint: Checkpoint) -> JoinedPage:
    """Leave out rows without a channel that another channel's walk gave already."""
    heads, fresh = page.listing.heads, list[int]()
    for place in page.places:
        head = heads[place]
        if head.channel_id in (None, ""):
            if head.id in unnamed:
                continue
            unnamed.add(head.id)
        fresh.append(place)
    return JoinedPage(page.listing, fresh, checkpoint, page.limit)
