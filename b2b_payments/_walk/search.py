"""Where in a list the rows of some time begin, found by reading single rows.

Nothing rests on what is found: the join takes the first page only where its first row is strictly before the
window, steps back otherwise, and drops what was not asked for. So a list that changes meanwhile, or a total
that is wrong, may mislead the search, and costs requests then, but no payment.

Where times are even, interpolation finds a place among a million in 3 reads. Outages, imports and years of
nothing mislead it, and halving what is left is all that helps then. So a guess may be anywhere as long as
halving the larger part that it may leave still fits into the reads that are left.
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

MOST_READS = 12
"""Rows read at most in search of a place among a million, however times are spread; one more for twice as
many."""
_CLOSE = 1_000
"""Rows within which a place is not looked for any further: four pages."""
_TWO_PAGES = 480
"""Rows of two pages that overlap: where the first page does not join, two in front of it lead up to it."""
_FURTHEST = 10**9
"""Rows that no list has, where one without a total gives some row at whatever offset."""
_BEFORE = 75
"""Rows that the first page holds before the likely place: they cost no request."""


@frozen
class Seen:
    """A row that was seen: its place, and its key."""

    offset: int
    key: Key

    def is_before(self, key: Key, after: bool) -> bool:
        return self.key < key or (after and self.key == key)


@frozen
class Start:
    """Where to begin to read: the row at `offset` is before what is looked for, or the first of all.

    The place is likely to be on the page at `first`, which may as well stand behind it.
    """

    offset: int = 0
    first: int = 0


@define
class Search:
    """What was seen of a list; no row of it is read twice.

    `read` reads its pages, newest first where the list is `descending`.
    """

    _read: Read
    _descending: bool
    reads: int = attrs.field(default=0, init=False)
    _seen: list[Seen] = attrs.field(factory=list, init=False)
    _end: int = attrs.field(default=0, init=False)

    async def start_of(self, key: Key, *, after: bool = False) -> Start:
        """Return where to read from for the rows with this key and larger ones; only for those `after` it."""
        if not self._seen:
            await self._see_ends()
        for left in count(MOST_READS - 2, -1):
            low = max((row.offset for row in self._seen if row.is_before(key, after)), default=-1)
            behind = [row.offset for row in self._seen if row.offset > low]
            high = min([*behind, max(self._end, low + 1)])
            place = min(max(self._likely_place(key), low), high)
            if high - low <= _CLOSE:
                break
            # To the side on which less is known, so that the next guess stands between two rows near it.
            aside = _BEFORE / 3 + 2 * math.sqrt(min(abs(row.offset - place) for row in self._seen))
            guess = round(place + aside if place - low < high - place else place - aside)
            longest = max(_CLOSE << max(left, 0), (high - low + 1) // 2)
            guess = min(max(guess, high - longest, low + 1), low + longest, high - 1)
            await self._see(guess)
        first = min(max(round(place) - _BEFORE, high - _TWO_PAGES, low), low + _TWO_PAGES)
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

    async def _see_ends(self) -> None:
        """Read the oldest row; the newest is taken to be of now."""
        self.reads += 1
        page = await self._read(PageRequest(0, one_row=True, from_other_end=self._descending))
        if not page.ids:
            return
        now, oldest = round(time.time()) if page.now is None else page.now, page.keys[0]
        keys = (-now, negated(oldest)) if self._descending else (oldest, now)
        self._end = page.total or await self._end_of_all()
        self._seen += [Seen(0, keys[0]), Seen(self._end - 1, keys[1])]

    async def _end_of_all(self) -> int:
        """Return an offset at or behind the end of a list whose total is not stated."""
        offset = _CLOSE
        while offset < _FURTHEST and await self._see(offset):
            offset *= 4
        return offset

    async def _see(self, offset: int) -> bool:
        """Read the row at this offset; tell whether there is one."""
        self.reads += 1
        page = await self._read(PageRequest(offset, one_row=True))
        if page.ids:
            self._seen.append(Seen(offset, page.keys[0]))
        else:
            self._end = offset  # or it lies behind a paging window
        return bool(page.ids)

    def _likely_place(self, key: Key) -> float:
        """Return where a key stands, judged by the two rows seen whose times are next to it."""
        near = sorted(self._seen, key=lambda row: abs(float(row.key) - float(key)))[:2]
        if not near:
            return 0.0
        span = float(near[-1].key) - float(near[0].key)
        rows = (float(key) - float(near[0].key)) / span * (near[-1].offset - near[0].offset) if span else 0.0
        return near[0].offset + rows
