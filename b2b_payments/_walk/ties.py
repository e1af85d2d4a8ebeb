"""Reading a run of equal times that is longer than a page.

Within such a run no page can start before the run and reach beyond it, so no page joins on by its first
row, and the order among equals may be another at each request. What settles it is counting, by the places of
rows alone; no total that the service states is believed.

Oldest first:

- A page that shows a row behind the run says how many rows are at or before it: at that moment, `upto`.
- A later page that shows where the run starts says how many rows are before it: `before`.
- Nothing is created within a second that is past, so rows at or before the run only ever get fewer (but for
  those that enter a filter, and then the walk says so). The run thus held at most `upto - before` rows when
  its end was seen.
- When that many different ids of the run were seen since then, all of it was seen.

Newest first, new rows come in front and places move. Only a run at the very front can be counted: the place
of the first older row says how many rows the run had at most, if that second was over by then.

The run is read in both directions, so that each end is seen again and again, until one pair settles it.
"""

from __future__ import annotations

from b2b_payments._walk.page import Key, SortedPage, negated

_MOST_BOUNDS = 32
"""Ends kept to be settled by a later start."""

_MOST_READS = 1_000
"""Requests for one run. In an order that changes at each request, 2,000 rows take about 250."""

_MOST_TURNS = 2
"""Turns at the run's far end without a count that holds."""


class Ties:
    """One run of rows with the sort key `key`, being read in both directions."""

    def __init__(self, key: Key, *, newest_first: bool) -> None:
        self.key = key
        self._newest_first = newest_first
        self._reads = 0
        self._seen_at: dict[int, int] = {}
        self._ends: list[tuple[int, int]] = []
        self._forward = True
        self._turns = 0
        self._is_behind = False  # rows in front of the run were seen
        self._length = 1  # rows in the longest page seen
        self._last_end = -1
        self.complete = False
        """Whether every row of the run was seen."""
        self.stuck = False
        """Whether it cannot be settled from this end of the list."""
        self.counted = False
        """Whether it took counting; a page that shows the whole run needs none."""
        self.resume_at = 0
        self.grew = False
        """Whether rows came at or before the run while it was read, which counting cannot bear."""

    def observe(self, page: SortedPage) -> int:
        """Take in one page, and give the offset to read next (of no meaning once complete or stuck)."""
        self._reads += 1
        for payment_id, key in zip(page.ids, page.keys, strict=True):
            if key == self.key:
                self._seen_at[payment_id] = self._reads
        self._length = max(self._length, len(page.ids))
        start, end = self._start(page), self._end(page)
        if end is not None:
            self.grew = self.grew or (not self._newest_first and bool(self._ends) and end > self._ends[-1][1])
            self.resume_at = end
        if start is not None and end is not None:
            self.complete = True  # one page shows it whole
            return end
        self._is_behind = self._is_behind or (bool(page.keys) and page.keys[0] < self.key)
        if end is not None and not (self._newest_first and (self._is_behind or self._may_grow(page))):
            self._ends = [*self._ends[-_MOST_BOUNDS:], (self._reads, end)]
        before = 0 if self._newest_first else start
        if before is not None:
            self.complete = any(self._settles(since, upto - before) for since, upto in self._ends)
            self.counted = self.complete
        self.stuck = not self.complete and self._gives_up(page)
        return self._next(page, start, end)

    def _gives_up(self, page: SortedPage) -> bool:
        """Whether the run cannot be settled from this end of the list.

        An empty page says that the list ends with the run, so that its end is never shown; newest first, a
        row in front of the run says that it is not at the very front.
        """
        is_behind = self._newest_first and self._is_behind and (page.offset == 0 or not self._ends)
        uncounted = self._turns > _MOST_TURNS and not self._ends
        return not page.ids or is_behind or uncounted or self._reads > _MOST_READS

    def _settles(self, since: int, bound: int) -> bool:
        return sum(step >= since for step in self._seen_at.values()) == bound

    def _may_grow(self, page: SortedPage) -> bool:
        """Whether the run's second was not over, by the service's clock, when this page was given."""
        return page.now is None or negated(self.key) >= page.now

    def _start(self, page: SortedPage) -> int | None:
        """Where the run starts, if this page shows it."""
        first = next((index for index, key in enumerate(page.keys) if key >= self.key), None)
        return None if first is None or (first == 0 and page.offset > 0) else page.offset + first

    def _end(self, page: SortedPage) -> int | None:
        """Where the run ends, if this page shows it."""
        after = next((index for index, key in enumerate(page.keys) if key > self.key), None)
        return None if after is None or (after == 0 and page.offset > 0) else page.offset + after

    def _next(self, page: SortedPage, start: int | None, end: int | None) -> int:
        behind = bool(page.keys) and page.keys[-1] < self.key
        beyond = not page.keys or page.keys[0] > self.key
        if behind:
            self._forward = True
        elif beyond or (self._forward and end is not None):
            self._turns += self._forward
            self._forward = False
        elif not self._forward and start is not None:
            self._forward = True
        if not self._forward:
            return max(0, page.offset - max(self._length - 1, 1))
        # One row of overlap, so that one row deleted in front leaves no hole; none where that led no further.
        led_further, self._last_end = page.end > self._last_end, page.end
        return page.end - led_further
