"""A stream that merges concurrent walks over several channels: `client.payments.stream()`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING

import anyio
import attrs

from b2b_payments._errors import ConfigurationError, PaginationError
from b2b_payments._printable import define
from b2b_payments._protocol.listing import DecodeRows, leave_undecoded
from b2b_payments._tasks import Tasks
from b2b_payments._walk.checkpoint import Checkpoint, of_channels, with_channel
from b2b_payments._walk.pager import Iteration, Pager
from b2b_payments._walk.prefetch import ConcurrencyLimiter
from b2b_payments._walk.reader import JoinedPage
from b2b_payments._walk.report import WalkReport
from b2b_payments._walk.walk import Walk

if TYPE_CHECKING:
    # Slow to import, and not needed by a walk over one list.
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

_PAGES_HELD = 2
"""Joined pages that each channel buffers, in addition to the pages that its walk prefetches."""

_Item = tuple[int | None, JoinedPage | Exception]


@define
class StreamState:
    """The state of one iteration of a stream. `doubled` counts rows that two channels' walks returned."""

    walks: Mapping[int | None, Walk | Iteration[JoinedPage]]
    checkpoint: Checkpoint = attrs.field(init=False)
    doubled: int = 0

    def __attrs_post_init__(self) -> None:
        channels = {channel_id: walk.checkpoint() for channel_id, walk in self.walks.items()}
        self.checkpoint = channels[None] if list(channels) == [None] else of_channels(channels)

    @property
    def report(self) -> WalkReport:
        """The report of all channels together."""
        total = WalkReport.total(walk.report for walk in self.walks.values())
        total.rows -= self.doubled
        total.duplicates += self.doubled
        return total


class PaymentStream(Pager):
    """The payments of several channels, each exactly once: as they arrive, or channel by channel.

    An error in one channel ends the stream and the walks of the other channels. `reports` has a report per
    channel, `report` their sum. Rows that do not name their channel are remembered by id, so that none is
    delivered twice: if a service leaves the channel out, memory grows with the stream.
    """

    _latest: StreamState

    def __init__(
        self, tasks: Tasks, walks: Mapping[int | None, Walk], *, concurrency: int, ordered: bool
    ) -> None:
        self._tasks = tasks
        self._walks = walks
        self._concurrency = concurrency
        self._ordered = ordered
        self._latest = StreamState(walks)

    @property
    def reports(self) -> dict[int | None, WalkReport]:
        """The latest report of each channel. The key is None if the whole store is one walk."""
        return {channel_id: walk.report for channel_id, walk in self._latest.walks.items()}

    def joined(self, *, decoded: DecodeRows = leave_undecoded) -> Iteration[JoinedPage]:
        """Return the new rows page by page, as the service sent them."""
        limiter = ConcurrencyLimiter(self._tasks, self._concurrency)
        walks = {
            channel_id: walk.joined(limiter, decoded=decoded) for channel_id, walk in self._walks.items()
        }
        state = self._latest = StreamState(walks)
        return Iteration(self._merge(state, limiter, walks), state)

    async def _merge(
        self,
        state: StreamState,
        limiter: ConcurrencyLimiter,
        walks: Mapping[int | None, Iteration[JoinedPage]],
    ) -> AsyncGenerator[JoinedPage, None]:
        self._tasks.require_running()
        pumps = [_Pump(channel_id, walk) for channel_id, walk in walks.items()]
        # If rows do not name their channel, a service that ignores channelIds would return them in each walk.
        ids_without_channel: set[object] = set()
        lanes = self._lanes(pumps)
        try:
            for lane in lanes:
                async for channel_id, item in lane:
                    if isinstance(item, PaginationError):
                        item.checkpoint = state.checkpoint
                    if isinstance(item, Exception):
                        raise item
                    checkpoint = with_channel(state.checkpoint, channel_id, item.checkpoint)
                    page = _without_doubles(item, ids_without_channel, checkpoint)
                    state.doubled += len(item.places) - len(page.places)
                    yield page
                    state.checkpoint = checkpoint
                    self._tasks.require_home()
            if not all(pump.finished for pump in pumps):
                raise ConfigurationError("The client was closed while a stream was under way.")
        finally:
            self._tasks.run_at_home(partial(_drop, limiter, pumps, lanes))

    def _lanes(self, pumps: list[_Pump]) -> list[MemoryObjectReceiveStream[_Item]]:
        """Start the walks, each with its own lane if the stream is ordered, otherwise with one for all."""
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
    # First, since a pump is cancelled only at its next step, and could send another request until then.
    limiter.drop()
    for pump in pumps:
        pump.scope.cancel()
    for lane in lanes:
        lane.close()


class _Pump:
    """Moves the pages of one walk into a lane. An error is sent as a value, and raised by the stream."""

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
                return  # the stream was closed
            except Exception as error:  # noqa: BLE001 - raised again where the pages are awaited
                await send.send((self._channel_id, error))


def _without_doubles(page: JoinedPage, seen_ids: set[object], checkpoint: Checkpoint) -> JoinedPage:
    """Leave out rows without a channel that another channel's walk has returned already."""
    heads, new = page.listing.heads, list[int]()
    for place in page.places:
        head = heads[place]
        if head.channel_id in (None, ""):
            if head.id in seen_ids:
                continue
            seen_ids.add(head.id)
        new.append(place)
    return JoinedPage(page.listing, new, checkpoint, page.limit)
