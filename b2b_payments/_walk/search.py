"""Finding the offset of a time in a list by reading single rows.

The result need not be right: the join takes a first page only if its first row is strictly before the period,
steps back otherwise, and drops rows outside the period. So a list that changes meanwhile, or a wrong total,
may mislead the search, which costs requests but loses no payment.

If times are evenly spread, interpolation finds an offset among a million rows in 3 reads. Outages, imports
and years without payments mislead it, and then only bisection helps. So a guess may be anywhere, as long as
bisecting the larger of the two parts that it may leave still fits into the remaining reads.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable
from itertools import count

import attrs

from b2b_payments._printable import define, frozen
from b2b_payments._walk.page import Key, PageRequest, SortedPage, negated

Read = Callable[[PageRequest], Awaitable[SortedPage]]

MAX_READS = 12
"""The most rows to read in a search among a million, however times are spread; one more for twice as many."""
_CLOSE = 1_000
"""The search ends once the offset is known to within this many rows, four pages."""
_TWO_PAGES = 480
"""Rows of two pages that overlap: if the first page does not join, two pages before it close the gap."""
_FURTHEST = 10**9
"""More rows than any list has: the limit if the service states no total and returns rows at any offset."""
_BEFORE = 75
"""Rows of the first page that are before the likely offset. They cost no request."""


@frozen
class SeenRow:
    """A row that was read: its offset and its key."""

    offset: int
    key: Key

    def is_before(self, key: Key, after: bool) -> bool:
        return self.key < key or (after and self.key == key)


@frozen
class Start:
    """Where to start reading: the row at `offset` is before the searched time, or the first of the list.

    The time is probably on the page at `first`, but it may be before that page.
    """

    offset: int = 0
    first: int = 0


@define
class Search:
    """A search in one list, which reads no row twice.

    `read` reads pages of the list, newest first if it is `descending`.
    """

    _read: Read
    _descending: bool
    reads: int = attrs.field(default=0, init=False)
    _seen: list[SeenRow] = attrs.field(factory=list, init=False)
    _end: int = attrs.field(default=0, init=False)

    async def start_of(self, key: Key, *, after: bool = False) -> Start:
        """Return where to start reading rows with this key or a larger one, or only larger ones (`after`)."""
        if not self._seen:
            await self._read_ends()
        for left in count(MAX_READS - 2, -1):
            low = max((row.offset for row in self._seen if row.is_before(key, after)), default=-1)
            higher = [row.offset for row in self._seen if row.offset > low]
            high = min([*higher, max(self._end, low + 1)])
            likely = min(max(self._likely_offset(key), low), high)
            if high - low <= _CLOSE:
                break
            # Guess a little to the side with the wider gap, so that the next guess is between two close rows.
            aside = _BEFORE / 3 + 2 * math.sqrt(min(abs(row.offset - likely) for row in self._seen))
            guess = round(likely + aside if likely - low < high - likely else likely - aside)
            longest = max(_CLOSE << max(left, 0), (high - low + 1) // 2)
            guess = min(max(guess, high - longest, low + 1), low + longest, high - 1)
            await self._read_row(guess)
        first = min(max(round(likely) - _BEFORE, high - _TWO_PAGES, low), low + _TWO_PAGES)
        return Start(max(0, low), max(0, first))

    async def rows_before(self, key: Key) -> int:
        """Return how many rows have a smaller key."""
        offset = (await self.start_of(key)).first
        page = await self._read(PageRequest(offset, full_size=True))
        while offset > 0 and not (page.ids and page.keys[0] < key):
            offset = max(0, offset - _CLOSE // 4)
            page = await self._read(PageRequest(offset, full_size=True))
        while page.ids and page.keys[-1] < key:
            offset = page.end
            page = await self._read(PageRequest(offset, full_size=True))
        return offset + bisect_left(page.keys, key)

    async def _read_ends(self) -> None:
        """Read the oldest row. The newest is assumed to be from now."""
        self.reads += 1
        page = await self._read(PageRequest(0, one_row=True, from_other_end=self._descending))
        if not page.ids:
            return
        now, oldest = round(time.time()) if page.now is None else page.now, page.keys[0]
        keys = (-now, negated(oldest)) if self._descending else (oldest, now)
        self._end = page.total or await self._find_end()
        self._seen += [SeenRow(0, keys[0]), SeenRow(self._end - 1, keys[1])]

    async def _find_end(self) -> int:
        """Return an offset at or after the end of a list without a stated total."""
        offset = _CLOSE
        while offset < _FURTHEST and await self._read_row(offset):
            offset *= 4
        return offset

    async def _read_row(self, offset: int) -> bool:
        """Read the row at this offset. Returns whether it exists."""
        self.reads += 1
        page = await self._read(PageRequest(offset, one_row=True))
        if page.ids:
            self._seen.append(SeenRow(offset, page.keys[0]))
        else:
            self._end = offset  # or the offset is beyond a paging window
        return bool(page.ids)

    def _likely_offset(self, key: Key) -> float:
        """Interpolate the offset of a key between the two rows read whose times are closest to it."""
        near = sorted(self._seen, key=lambda row: abs(float(row.key) - float(key)))[:2]
        if not near:
            return 0.0
        span = float(near[-1].key) - float(near[0].key)
        rows = (float(key) - float(near[0].key)) / span * (near[-1].offset - near[0].offset) if span else 0.0
        return near[0].offset + rows
