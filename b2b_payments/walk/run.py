"""Reading a run of equal times that is longer than a page.

Within such a run no page can start before the run and reach beyond it, so no page joins on by its first
row, and the order among equals may be another at each request. What settles it is counting:

- A page that shows where the run *ends* says how many rows are at or before it: at that moment, `upto`.
- A later page that shows where the run *starts* says how many rows are before it: `before`.
- Nothing is created within a second that is past, so rows at or before the run only ever get fewer (but for
  those that enter a filter, and then the walk says so). The run thus held at most `upto - before` rows when
  its end was seen.
- When that many different ids of the run were seen since then, all of it was seen.

The run is read to and fro, so that each end is seen again and again, until one pair of ends settles it.
In a descending list new rows come in front, so the rows are counted from the list's end instead.
"""

from __future__ import annotations

from b2b_payments.walk.page import Key, KeyedPage

_MOST_ENDS = 32
"""Ends kept to be settled by a later start."""


class LongRun:
    """One run of rows with the sort key `key`, being read to and fro."""

    def __init__(self, key: Key, *, descending: bool) -> None:
        self.key = key
        self._descending = descending
        self.reads = 0
        """Pages taken in."""
        self._seen_at: dict[int, int] = {}
        self._ends: list[tuple[int, int]] = []
        self._forward = True
        self._length = 1  # rows in the longest page seen
        self._last_end = -1
        self._empty_at = -1
        self.complete = False
        self.counted = False
        """Whether it took counting; a page that shows the whole run needs none."""
        self.resume_at = 0

    @property
    def size(self) -> int:
        """How many different rows of the run were seen."""
        return len(self._seen_at)

    def observe(self, page: KeyedPage) -> int:
        """Take in one page, and give the offset to read next (of no meaning once `complete`)."""
        self.reads += 1
        for payment_id, key in zip(page.ids, page.keys, strict=True):
            if key == self.key:
                self._seen_at[payment_id] = self.reads
        self._length = max(self._length, len(page.ids))
        start, end = self._start(page), self._end(page)
        if not page.ids and not self._descending and not page.reaches_total:
            if self._empty_at != page.offset:
                self._empty_at = page.offset
                return page.offset  # a contradiction of its own total is asked twice
            end = page.offset  # no row stands here, so at most that many stand at or before the run
        if end is not None:
            self.resume_at = end
        if start is not None and end is not None:
            self.complete = True  # one page shows it whole
            return end
        # Counted from the list's end, as in a descending list, the start of the run is the larger count.
        upto, before = (start, end) if self._descending else (end, start)
        if upto is not None and (count := self._count(page, upto)) is not None:
            self._ends = [*self._ends[-_MOST_ENDS:], (self.reads, count)]
        if before is not None and (count := self._count(page, before)) is not None:
            self.complete = any(self._settles(since, upto_count - count) for since, upto_count in self._ends)
            self.counted = self.complete
        return self._next(page, start, end)

    def _settles(self, since: int, bound: int) -> bool:
        return sum(step >= since for step in self._seen_at.values()) == bound

    def _count(self, page: KeyedPage, position: int) -> int | None:
        """How many rows are at or before this position, counted from the side where nothing is added."""
        if not self._descending:
            return position
        return None if page.total is None else page.total - position

    def _start(self, page: KeyedPage) -> int | None:
        """Where the run starts, if this page shows it."""
        first = next((index for index, key in enumerate(page.keys) if key >= self.key), None)
        if first is None:
            return page.end if page.reaches_total and page.ids else None
        return page.offset + first if first > 0 or page.offset == 0 else None

    def _end(self, page: KeyedPage) -> int | None:
        """Where the run ends, if this page shows it."""
        after = next((index for index, key in enumerate(page.keys) if key > self.key), None)
        if after is None:
            return page.end if page.reaches_total and page.ids else None
        return page.offset + after if after > 0 or page.offset == 0 else None

    def _next(self, page: KeyedPage, start: int | None, end: int | None) -> int:
        behind = bool(page.keys) and page.keys[-1] < self.key
        beyond = not page.keys or page.keys[0] > self.key
        if behind:
            self._forward = True
        elif beyond or (self._forward and end is not None):
            self._forward = False
        elif not self._forward and start is not None:
            self._forward = True
        if not self._forward:
            return max(0, page.offset - max(self._length - 1, 1))
        # One row of overlap, so that one row deleted in front leaves no hole; none where that led no further.
        led_further, self._last_end = page.end > self._last_end, page.end
        return page.end - led_further
