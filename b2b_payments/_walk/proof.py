"""Proving the end of a walk by reading the list's other end.

No I/O, no clock. What the service says about its list is only a claim: the total may be capped, or count
other rows, or just the page's own; an empty page may precede thousands of rows. So a walk that seems to be
over reads a page in the opposite order, from offset 0. By the join rule, that page holds every lasting
payment beyond its last row, and the walk has every one before K, the time of the last row taken. If the page
reaches back to a row strictly older than K, the two ends meet and nothing is missing. Its rows are delivered
like any others, so it replaces the walk's last page.

- The page proves something only if it is in the requested order: two of its rows must have different times.
- If the two ends do not meet, the walk tries again where it seemed to be over, then reads on from the other
  end, until they meet or neither leads further. In the last case the walk is not complete.
- A page at offset 0, from either end, without any row of the last second taken claims that those payments
  are gone. That is believed if looking them up by id answers 404 while another listed payment is found, or
  if they no longer match the filters.
- A list of a single second shows no order. It is complete if both ends show the same few payments and the
  page after them is empty.
- A list is empty if both ends are empty, twice. A walk that starts beyond the end of the list is over if both
  directions are empty there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from b2b_payments._errors import PaginationError
from b2b_payments._printable import frozen
from b2b_payments._protocol.query import ChannelEncoding
from b2b_payments._walk.checkpoint import Cursor
from b2b_payments._walk.join import Delivered, Join, Step
from b2b_payments._walk.page import LookupResult, Order, PageRequest, SortedPage, negated
from b2b_payments._walk.period import Bounds
from b2b_payments._walk.progress import Progress
from b2b_payments._walk.service_limits import Totals

OTHER_END = PageRequest(0, full_size=True, from_other_end=True)

_LOOKUPS = 3
"""Payments to look up by id when the list claims that some are gone."""
_MAX_ROUNDS = 4
"""Times that both ends are tried again when neither leads further, if new rows were found since the last."""
_WAITS = (0.5, 1.0, 2.0, 4.0)
"""Seconds to wait before a list that hides payments is read again."""
_EMPTY_WAITS = (0.5,)
"""Seconds to wait before a list that was empty from both ends is read again from both."""
_MAX_OF_ONE_SECOND = 10
"""Payments of a single second that may be the whole list. No service is known to cut lists below ten rows."""


def _sample(ids: Sequence[int]) -> Sequence[int]:
    """Return a few ids of at least one: the first, one from the middle, the last."""
    steps = _LOOKUPS - 1
    return list(dict.fromkeys(ids[step * (len(ids) - 1) // steps] for step in range(_LOOKUPS)))


@frozen
class Ending:
    """How a walk ended: whether it is complete, and the reason as text."""

    complete: bool
    reason: str


class Ends:
    """A walk that reads its list from both ends. It starts at the near one, and is over once `ending` is set.

    `near` and `far` are the positions of the walk to resume, `start` is the offset to start at. If
    `filtered`, payments may enter the list with an old time. `shown` are payments that this list had before.
    `bounds` limit the walk to a period. If `moved`, a row that appears with another time is delivered again.
    """

    def __init__(
        self,
        order: Order,
        totals: Totals,
        *,
        start: int = 0,
        near: Cursor | None = None,
        far: Cursor | None = None,
        filtered: bool = False,
        shown: Sequence[int] = (),
        bounds: Bounds | None = None,
        moved: bool = False,
    ) -> None:
        self._order = order
        self.bounds = bounds
        self._totals = totals
        self._filtered = filtered
        self._delivered = Delivered(forgets=order.exact, moved=moved)
        self._near = Join(order, self._delivered, start=start, cursor=near)
        self._start = start
        self._shown = shown
        self._is_of_whole_list = near is None and start == 0 and bounds is None
        self._far = Join(order.opposite, self._delivered, cursor=far, mirrored=True)
        self._far_front_ids: Sequence[int] = ()  # the ids of the first second at the far end
        self._near_front: SortedPage | None = None  # the latest page at offset 0, in each direction
        self._far_front: SortedPage | None = None
        self._far_was_read = far is not None
        self._ignores_order = False  # the service ignores orderBy
        self._next_far_page = None if far is None else self._far.next_page
        self._waits = iter(_WAITS)
        self._empty_waits = iter(_EMPTY_WAITS)
        self._is_flat = False  # both ends show the same payments of one second
        self._encoding: ChannelEncoding | None = None  # of the channels in the requests
        self._rows = 0
        self._rows_when_stuck = -1
        self._largest_page = 0
        self._rounds = iter(range(_MAX_ROUNDS))
        self._total_range: list[int] = []  # the smallest and the largest total
        self._total_exceeded_page = False  # a total was larger than the end of its page
        self._progress = Progress(self._near.resume_at + (0 if near is None else len(near.ids)))
        self.ending: Ending | None = None
        if far is not None:
            self._near.retries_empty = True
            self._far_front_ids = far.first_ids

    @property
    def over(self) -> bool:
        """Whether the walk is over, complete or not."""
        return self.ending is not None

    @property
    def resume_at(self) -> int:
        """The highest offset at which the next page can start and still join."""
        return self._near.resume_at

    @property
    def end(self) -> int:
        """The offset right after the last row taken."""
        return self._near.end

    @property
    def needs_other_end(self) -> bool:
        """Whether a page from the other end has yet to prove the walk's end."""
        return self._order.exact and not self._far_was_read

    @property
    def cursors(self) -> tuple[Cursor | None, Cursor | None]:
        """The positions of the walk at both ends."""
        near, far = self._near.cursor, self._far.cursor
        if far is not None:
            far = attrs.evolve(far, first_ids=tuple(self._far_front_ids))
        if near is not None and far is not None and self._have_met():
            # All rows were delivered: a walk that resumes reads what comes after the newest one.
            newest = near.key if far.first is None else negated(far.first)
            top, ids = max(near.key, newest), set(self._delivered.ids_at(max(near.key, newest)))
            if near.key == top:
                ids.update(near.ids)
            if newest == top:
                ids.update(self._far_front_ids)
            return attrs.evolve(near, key=top, closed=near.closed and top == near.key, ids=tuple(ids)), None
        return near, far

    def offer(self, page: SortedPage, *, more: bool = False) -> Step:
        """Take the new rows of a page, and return what to do next. `more`: other pages are requested already.

        Raises PaginationError if the page is not sorted.
        """
        self._totals.note(page)
        self._largest_page = max(self._largest_page, len(page.ids))
        if page.total is not None:
            self._total_range = [min([*self._total_range, page.total]), max([*self._total_range, page.total])]
            self._total_exceeded_page = self._total_exceeded_page or page.total > page.end
        if not page.is_sorted and page.from_other_end:
            # The end cannot be proven then, but the walk still reads on.
            self._far_was_read = self._ignores_order = True
            self._next_far_page = None
            return Step(False, read=self._near.retry())
        if not page.is_sorted:
            raise PaginationError(
                f"The service did not sort by {self._order.wire_name}: a walk over its pages cannot be exact."
                " If no sort order works, get the payments one by one."
            )
        if page.from_other_end and self._near.key is None and self._start > 0:
            if page.ids:
                self._end_unproven(f"the list goes beyond offset {self._start} only from the other end")
            else:
                self._end(
                    complete=True, reason=f"in both directions the list ends before offset {self._start}"
                )
            return Step(False)
        self._encoding = self._encoding or page.encoding
        if page.encoding is not self._encoding:
            # The pages may be of two lists: with an encoding that is misread, a channel may be missing.
            self._end_unproven("the service understood channelIds in another encoding than in earlier pages")
            return Step(False)
        if self._progress.repeats(page):
            self._end_unproven("the service returns the same page whatever the offset")
            return Step(False)
        missing = self._missing(page)
        if missing:
            return Step(False, look_up=_sample(missing))
        return self._take(page, more=more)

    def looked_up(self, page: SortedPage, results: Mapping[int, LookupResult], *, more: bool = False) -> Step:
        """Continue with a page after the payments in `step.look_up` were looked up by id."""
        if True in results.values():
            wait = next(self._waits, None)
            if wait is not None:
                again = PageRequest(0, full_size=True, from_other_end=page.from_other_end)
                return Step(False, read=again, wait=wait)
            self._end_unproven("the list no longer shows payments that are still there")
            return Step(False)
        self._shown = ()
        step = self._take(page, more=more)
        if None in results.values():
            self._end_unproven(
                "the list no longer shows payments that it showed before, and looking them up by id does not "
                "tell whether they are gone"
            )
        return step

    def _missing(self, page: SortedPage) -> Sequence[int]:
        """Return the payments taken earlier that this first page lacks, if it has none of the latest ones."""
        if page.offset > 0 or not self._order.exact:
            return ()
        if not page.ids and not len(self._delivered):
            return self._shown
        far, from_other_end = self._far.key, page.from_other_end
        last = [self._near.key, None if far is None else negated(far)][: 1 + from_other_end]
        front = page.keys[0] if page.ids else None
        if front is not None and from_other_end:
            front = negated(front)
        taken = [key for key in last if key is not None]
        reaches = front is not None and all(key <= front if from_other_end else key >= front for key in taken)
        return () if reaches else self._delivered.beyond(front, mirrored=from_other_end)

    def _take(self, page: SortedPage, *, more: bool) -> Step:
        step = self._take_far(page) if page.from_other_end else self._offer_near(page, more=more)
        if self.bounds is not None:
            step = attrs.evolve(step, rows=self.bounds.select(page, step.rows))
            # Rows of a single second do not show that the service sorted them.
            if self.ending is None and self._near.rises and self.bounds.end_before(self._near.key):
                self._end_proven()
        counting = self._near.counting or self._far.counting
        over = self._progress.is_over_after(page, new=len(step.rows), counting=counting)
        if over and self.ending is None:
            self._end_unproven("the service repeats itself and returns nothing new")
        return step

    def _offer_near(self, page: SortedPage, *, more: bool) -> Step:
        step = self._near.offer(page)
        self._rows += len(step.rows)
        if page.offset == 0:
            self._near_front = page
        elif page.ids:
            self._is_flat = False
        # Pages that were requested already may lead further: until they are joined, the list is not over.
        waits = more and self._near.key is not None and not step.drops_prefetched
        # In an order that is not exact, no other end is read to settle a run that is still being counted.
        counts = self._near.counting and not self._order.exact
        over = self._seems_over(page, step) and not waits and (step.stuck or not counts)
        if self._far_was_read:
            if self._have_met():
                self._end_proven()
            elif page.offset == 0:
                self._end_if_alike()
            turn = over and step.stuck and self.ending is None
            return self._turn_to_far(page, step) if turn else step
        if not over:
            return step
        if not self._order.exact:
            self._end_unproven("sorted by a key other than createdAt, payments move while they are read")
        elif self._near.key is None and self._start > 0:
            return Step(False, read=PageRequest(self._start, from_other_end=True))
        elif self._totals.vouch_for(page):
            self._end(
                complete=True, reason="one page holds them all, and the service's totals have been right"
            )
        return attrs.evolve(step, read=OTHER_END)

    def _seems_over(self, page: SortedPage, step: Step) -> bool:
        """Whether the list seems to end here. The other end will show whether it does."""
        if step.stuck or not step.joined:
            return step.stuck
        if page.total is not None:
            return page.reaches_total
        return self._order.exact and (not step.rows or len(page.ids) < page.limit)

    def _turn_to_far(self, page: SortedPage, step: Step) -> Step:
        """Continue from the other end, since this one leads no further."""
        flat = self._near_front if self._is_flat and not page.refused else None
        if flat is not None and page.offset == flat.end:
            self._end(complete=True, reason="both directions show the same payments, and nothing after them")
        return attrs.evolve(step, read=self._next_far_page or self._both_stuck())

    def _both_stuck(self) -> PageRequest:
        """Try again if new rows were found since both ends were last stuck; otherwise end the walk."""
        if self._ignores_order:
            self._end_unproven("the service ignores orderBy, so the list's other end cannot be read")
        elif self._rows == self._rows_when_stuck or next(self._rounds, None) is None:
            single = ": the service returns one payment a page, and only pages that overlap can be joined"
            overlap = single if self._largest_page == 1 else ""
            self._end_unproven(f"the pages read from both ends of the list stop before they meet{overlap}")
        self._rows_when_stuck = self._rows
        self._next_far_page = None if self._ignores_order else self._far.retry()
        return self._near.retry()

    def _take_far(self, page: SortedPage) -> Step:
        step = self._far.offer(page)
        self._rows += len(step.rows)
        # Within the page, rows are delivered in the walk's own order.
        step = attrs.evolve(step, rows=step.rows[::-1])
        first, self._far_was_read = not self._far_was_read, True
        if page.offset == 0:
            self._far_front = page
        if first:
            rows = zip(page.ids, page.keys, strict=True)
            self._far_front_ids = [payment_id for payment_id, key in rows if key == page.keys[0]]
            if page.ids:
                self._delivered.pin(negated(page.keys[0]))
        self._next_far_page = None if step.stuck else step.read or self._far.next_page
        if self._have_met():
            self._end_proven()
        elif not page.ids and self._near.key is None and not any(self._total_range):
            wait = next(self._empty_waits, None)
            if wait is not None:
                self._far_was_read = False
                return Step(False, read=PageRequest(0, full_size=True), wait=wait)
            self._end(complete=True, reason="the list was empty in both directions")
        elif first:
            return attrs.evolve(step, read=self._back_to_near())
        return attrs.evolve(step, read=self._next_far_page or self._both_stuck())

    def _back_to_near(self) -> PageRequest:
        """Return the page to read where the walk seemed to be over, since the far end did not prove it."""
        request = self._near.retry()
        same_second = self._near.key == self._near.first_key and self._far.key == self._far.first_key
        few = len(self._near_front.ids) <= _MAX_OF_ONE_SECOND if self._near_front is not None else False
        self._is_flat = few and same_second and self._are_alike()
        self._end_if_alike()
        return self._near.page_after() if self._is_flat else request

    def _end_if_alike(self) -> None:
        """End the walk if both directions show the same payments, on a page that no limit cut."""
        page = self._near_front
        if page is not None and self._are_alike() and self._totals.is_uncut(page):
            self._end(complete=True, reason="both directions show the same payments")

    def _are_alike(self) -> bool:
        """Whether both first pages show the same payments, and neither total says that there are more."""
        near, far = self._near_front, self._far_front
        if near is None or far is None or not near.ids or self._start > 0:
            return False
        rows = len(set(near.ids))
        if near.total is None or far.total is None:
            # A paging window over a single second may show the same rows in both directions.
            totals_agree = rows == 1 or near.keys[0] != near.keys[-1]
        else:
            totals_agree = max(near.total, far.total) <= rows
        return set(near.ids) == set(far.ids) and totals_agree

    def _have_met(self) -> bool:
        """Whether the two ends have met: every lasting payment was taken from one of them."""
        near, far = self._near, self._far
        if near.key is None or far.key is None or not far.rises:
            return False  # nothing shows that the service honoured the opposite order
        reached = negated(far.key)
        return reached < near.key or (reached == near.key and (near.closed or far.closed))

    def _end_proven(self) -> None:
        if self._is_of_whole_list and self._total_exceeded_page:
            self._totals.compare(self._total_range[1], self._rows)
        if not self._order.exact:
            self._end_unproven("sorted by a key other than createdAt, payments move while they are read")
        elif self._near.counted_late or self._far.counted_late:
            self._end_unproven("payments of one second were counted while some of them appeared late")
        elif self._filtered and (self._near.counted or self._far.counted):
            # A payment with that time may have entered the filter meanwhile.
            self._end_unproven(
                "payments of one second were counted under a filter that others may have entered meanwhile"
            )
        elif self._have_met():
            self._end(complete=True, reason="the pages read from both ends of the list meet")
        else:
            self._end(complete=True, reason="the list was read beyond the requested period")

    def _end_unproven(self, reason: str) -> None:
        self._end(complete=False, reason=reason)

    def _end(self, *, complete: bool, reason: str) -> None:
        self.ending = Ending(complete, reason + self._wrong_total())

    def _wrong_total(self) -> str:
        if not self._is_of_whole_list or not self._total_range or self._total_range == [self._rows] * 2:
            return ""
        low, high = self._total_range
        stated = f"{high:,}" if low == high else f"{low:,} to {high:,}"
        return f"; the service stated a total of {stated}"
