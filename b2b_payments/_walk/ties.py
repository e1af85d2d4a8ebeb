"""Reading a run of equal times ("ties") that is longer than a page.

No page can start before such a run and reach beyond it, so no page joins by its first row, and the order
among equals may differ at each request. The run is settled by counting, from the offsets of rows alone: no
total that the service states is trusted.

Oldest first:

- A page with a row after the run shows how many rows are in the run or before it at that time: `upto`.
- A later page that shows the start of the run shows how many rows are before it: `before`.
- Nothing is created in a second that is past, so the rows in the run or before it can only become fewer
  (except for those that enter a filter; the walk reports that case). So the run had at most `upto - before`
  rows when its end was seen.
- Once that many different ids of the run have been seen since then, all of it has been seen.

Newest first, new rows are inserted in front and offsets move. Only a run at the very front can be counted:
the offset of the first older row is the most rows that the run can have, if its second was over by then.

The run is read in both directions, so that each end is seen repeatedly, until one pair of ends settles it.
"""

from __future__ import annotations

from b2b_payments._walk.page import Key, SortedPage, negated

_MAX_ENDS = 32
"""Sightings of the run's end that are kept, to be settled by a later sighting of its start."""

_MAX_READS = 1_000
"""Requests for one run. In an order that changes at each request, 2,000 rows take about 250."""

_MAX_TURNS = 2
"""Turns at the run's far end without a sighting of that end that can be counted from."""


class Ties:
    """One run of rows with the sort key `key`, which is read in both directions."""

    def __init__(self, key: Key, *, newest_first: bool) -> None:
        self.key = key
        self._newest_first = newest_first
        self._reads = 0
        self._seen_at: dict[int, int] = {}
        self._ends: list[tuple[int, int]] = []
        self._forward = True
        self._turns = 0
        self._has_rows_before = False
        self._length = 1  # rows in the longest page seen
        self._last_end = -1
        self.complete = False
        """Whether every row of the run was seen."""
        self.stuck = False
        """Whether the run cannot be settled from this end of the list."""
        self.counted = False
        """Whether it took counting; a page that shows the whole run needs none."""
        self.resume_at = 0
        self.grew = False
        """Whether rows appeared in the run or before it while it was read: then the count is unreliable."""

    def observe(self, page: SortedPage) -> int:
        """Record a page. Returns the offset to read next (meaningless once complete or stuck)."""
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
            self.complete = True  # the page shows the whole run
            return end
        self._has_rows_before = self._has_rows_before or (bool(page.keys) and page.keys[0] < self.key)
        if end is not None and not (self._newest_first and (self._has_rows_before or self._may_grow(page))):
            self._ends = [*self._ends[-_MAX_ENDS:], (self._reads, end)]
        before = 0 if self._newest_first else start
        if before is not None:
            self.complete = any(self._settles(since, upto - before) for since, upto in self._ends)
            self.counted = self.complete
        self.stuck = not self.complete and self._gives_up(page)
        return self._next(page, start, end)

    def _gives_up(self, page: SortedPage) -> bool:
        """Whether the run cannot be settled from this end of the list.

        After an empty page, the list ends with the run, and no page will show the run's end. Newest first, a
        row before the run shows that it is not at the very front.
        """
        not_in_front = self._newest_first and self._has_rows_before and (page.offset == 0 or not self._ends)
        uncounted = self._turns > _MAX_TURNS and not self._ends
        return not page.ids or not_in_front or uncounted or self._reads > _MAX_READS

    def _settles(self, since: int, bound: int) -> bool:
        return sum(step >= since for step in self._seen_at.values()) == bound

    def _may_grow(self, page: SortedPage) -> bool:
        """Whether the run's second may still have been running, by the service's clock, for this page."""
        return page.now is None or negated(self.key) >= page.now

    def _start(self, page: SortedPage) -> int | None:
        """Return the offset at which the run starts, if this page shows it."""
        first = next((index for index, key in enumerate(page.keys) if key >= self.key), None)
        return None if first is None or (first == 0 and page.offset > 0) else page.offset + first

    def _end(self, page: SortedPage) -> int | None:
        """Return the offset right after the run, if this page shows it."""
        after = next((index for index, key in enumerate(page.keys) if key > self.key), None)
        return None if after is None or (after == 0 and page.offset > 0) else page.offset + after

    def _next(self, page: SortedPage, start: int | None, end: int | None) -> int:
        is_before_run = bool(page.keys) and page.keys[-1] < self.key
        is_after_run = not page.keys or page.keys[0] > self.key
        if is_before_run:
            self._forward = True
        elif is_after_run or (self._forward and end is not None):
            self._turns += self._forward
            self._forward = False
        elif not self._forward and start is not None:
            self._forward = True
        if not self._forward:
            return max(0, page.offset - max(self._length - 1, 1))
        # Overlap by a row, so that one row deleted in front leaves no hole, unless this page led no further.
        led_further, self._last_end = page.end > self._last_end, page.end
        return page.end - led_further
