"""The end of a walk, proven by the list's other end.

No I/O, no clock. What the service says of its list is a claim: the total may be capped, may count other rows
or the page's own; an empty page may stand in front of thousands of rows. So a walk that seems to be over
reads a page in the opposite order, from offset 0. By the join's own rule that page holds every lasting
payment beyond its last row; the walk holds every one before K, the time of the last row taken. Where the page
reaches back to a row strictly older than K, the two meet, and nothing is missing. Its rows are given like any
others, so it takes the place of the walk's last page.

- The page proves something only if it came in the order asked for. That shows where two of its rows differ.
- Where the two ends do not meet, the walk is tried again where it seemed to be over, and then read on from
  the other end, until they meet or neither leads any further. Then the walk is not complete.
- A page at offset 0 that shows nothing of the last second taken, from either end, says that those payments
  are gone. That is believed where they answer 404 when looked up by id, and another that is listed does not,
  or where they show that they left the filters.
- A list of a single second shows no order. It is whole where both ends show the same few payments and nothing
  stands behind them.
- A list that comes empty from both ends, twice, is empty; one that a walk begins behind is over if both say
  so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from b2b_payments._errors import PaginationError
from b2b_payments._printable import frozen
from b2b_payments._protocol.query import ChannelEncoding
from b2b_payments._walk.checkpoint import Cursor
from b2b_payments._walk.join import Given, Join, Step
from b2b_payments._walk.page import Found, Order, PageRequest, SortedPage, negated
from b2b_payments._walk.period import Bounds
from b2b_payments._walk.progress import Progress
from b2b_payments._walk.service_limits import Totals

OTHER_END = PageRequest(0, full_size=True, from_other_end=True)

_LOOKED_UP = 3
"""Payments looked up by id where the list says that they are gone."""
_MOST_ROUNDS = 4
"""Times that both ends are tried again where neither leads any further, and new rows came."""
_WAITS = (0.5, 1.0, 2.0, 4.0)
"""Seconds before a list that hides payments is read again."""
_EMPTY_WAITS = (0.5,)
"""Seconds before a list that came empty from both ends is read again from both."""
_MOST_OF_ONE_SECOND = 10
"""Payments of a single second that may be the whole list: nothing is known to cut lists shorter than that."""


def _some(ids: Sequence[int]) -> Sequence[int]:
    """Return a few of them: from the front, the middle, the end."""
    if not ids:
        return ids
    steps = _LOOKED_UP - 1
    return list(dict.fromkeys(ids[step * (len(ids) - 1) // steps] for step in range(_LOOKED_UP)))


@frozen
class Ending:
    """How a walk ended: whether it is complete, and why, in words."""

    complete: bool
    reason: str


class Ends:
    """A walk read from both ends of its list; it is over once there is an `ending`.

    `place` and `other` are where an earlier walk stood at either end, `start` the offset to begin at. Where
    `filtered`, payments may enter the list with an old time. `shown` are payments that this list was
    seen to hold before. `bounds` are those of what is asked for; where `moved`, a row that comes
    again with another time is given again.
    """

    def __init__(
        self,
        order: Order,
        totals: Totals,
        *,
        start: int = 0,
        place: Cursor | None = None,
        other: Cursor | None = None,
        filtered: bool = False,
        shown: Sequence[int] = (),
        bounds: Bounds | None = None,
        moved: bool = False,
    ) -> None:
        self._order = order
        self.bounds = bounds
        self._totals = totals
        self._filtered = filtered
        self._given = Given(forgets=order.exact, moved=moved)
        self._near = Join(order, self._given, start=start, place=place)
        self._start = start
        self._shown = shown
        self._fresh = place is None and start == 0 and bounds is None
        self._far = Join(order.opposite, self._given, place=other, mirrored=True)
        self._front: Sequence[int] = ()  # the ids at the very front of the other end
        self._near_list: SortedPage | None = None  # the latest page at offset 0, in either direction
        self._far_list: SortedPage | None = None
        self._far_was_read = other is not None
        self._is_one_way = False  # the service ignores orderBy
        self._next_far_page = None if other is None else self._far.next_page  # where to read on from there
        self._waits = iter(_WAITS)
        self._empty_waits = iter(_EMPTY_WAITS)
        self._is_flat = False  # both ends show the same payments of one second
        self._spelling: ChannelEncoding | None = None  # in which the pages were asked for
        self._rows = 0
        self._rows_when_stuck = -1
        self._largest_page = 0
        self._rounds = iter(range(_MOST_ROUNDS))
        self._total_range: list[int] = []  # the smallest and the largest total
        self._total_exceeded_page = False  # a total was more than the page's own end
        self._progress = Progress(self._near.resume_at + (0 if place is None else len(place.ids)))
        self.ending: Ending | None = None
        if other is not None:
            self._near.insists = True
            self._front = other.first_ids

    @property
    def over(self) -> bool:
        """Whether the walk is over, complete or not."""
        return self.ending is not None

    @property
    def resume_at(self) -> int:
        """Where the next page has to start at the latest to join on."""
        return self._near.resume_at

    @property
    def cursor(self) -> int:
        """The offset right behind the last row taken."""
        return self._near.cursor

    @property
    def wants_other_end(self) -> bool:
        """Whether the walk's end is still to be proven by a page from the other end."""
        return self._order.exact and not self._far_was_read

    @property
    def places(self) -> tuple[Cursor | None, Cursor | None]:
        """Where the walk stands at either end."""
        near, far = self._near.place, self._far.place
        if far is not None:
            far = attrs.evolve(far, first_ids=tuple(self._front))
        if near is not None and far is not None and self._is_met():
            # All is given: whoever goes on wants what came behind the newest row.
            newest = near.key if far.first is None else negated(far.first)
            top, ids = max(near.key, newest), set(self._given.ids_at(max(near.key, newest)))
            if near.key == top:
                ids.update(near.ids)
            if newest == top:
                ids.update(self._front)
            return attrs.evolve(near, key=top, closed=near.closed and top == near.key, ids=tuple(ids)), None
        return near, far

    def offer(self, page: SortedPage, *, more: bool = False) -> Step:
        """Take what a page brings, and say what to do next. `more` says that others were asked for already.

        Raises PaginationError for a list that is not sorted.
        """
        self._totals.note(page)
        self._largest_page = max(self._largest_page, len(page.ids))
        if page.total is not None:
            self._total_range = [min([*self._total_range, page.total]), max([*self._total_range, page.total])]
            self._total_exceeded_page = self._total_exceeded_page or page.total > page.end
        if not page.is_sorted and page.from_other_end:
            # Nothing is proven then, but what stands further on is given.
            self._far_was_read = self._is_one_way = True
            self._next_far_page = None
            return Step(False, read=self._near.retry())
        if not page.is_sorted:
            raise PaginationError(
                f"The service did not sort by {self._order.wire_name}: a walk over its pages cannot be exact."
                " Without a sort that holds, ask for the payments one by one."
            )
        if page.from_other_end and self._near.key is None and self._start > 0:
            if page.ids:
                self._end_unproven(f"only from the other end does the list go beyond offset {self._start}")
            else:
                self._end(
                    complete=True, reason=f"in both directions the list ends before offset {self._start}"
                )
            return Step(False)
        self._spelling = self._spelling or page.spelling
        if page.spelling is not self._spelling:
            # Pages of two lists, perhaps: those of a misread spelling may lack a channel.
            self._end_unproven("the service understood channelIds in another spelling than in earlier pages")
            return Step(False)
        if self._progress.repeats(page):
            self._end_unproven("the service gives the same page whatever the offset")
            return Step(False)
        missing = self._missing(page)
        if missing:
            return Step(False, look_up=_some(missing))
        return self._take(page, more=more)

    def looked_up(self, page: SortedPage, found: Mapping[int, Found], *, more: bool = False) -> Step:
        """Take in which of the payments to be looked up for this page are there."""
        if True in found.values():
            wait = next(self._waits, None)
            if wait is not None:
                again = PageRequest(0, full_size=True, from_other_end=page.from_other_end)
                return Step(False, read=again, wait=wait)
            self._end_unproven("the list no longer shows payments that are still there")
            return Step(False)
        self._shown = ()
        step = self._take(page, more=more)
        if None in found.values():
            self._end_unproven(
                "the list no longer shows payments that it showed before, and looking them up by id does not "
                "tell whether they are gone"
            )
        return step

    def _missing(self, page: SortedPage) -> Sequence[int]:
        """Return the payments taken that this page says are gone, if it has none of those taken last."""
        if page.offset > 0 or not self._order.exact:
            return ()
        if not page.ids and not len(self._given):
            return self._shown
        far, from_other_end = self._far.key, page.from_other_end
        last = [self._near.key, None if far is None else negated(far)][: 1 + from_other_end]
        front = page.keys[0] if page.ids else None
        if front is not None and from_other_end:
            front = negated(front)
        taken = [key for key in last if key is not None]
        reaches = front is not None and all(key <= front if from_other_end else key >= front for key in taken)
        return () if reaches else self._given.beyond(front, mirrored=from_other_end)

    def _take(self, page: SortedPage, *, more: bool) -> Step:
        step = self._take_far(page) if page.from_other_end else self._offer_near(page, more=more)
        if self.bounds is not None:
            step = attrs.evolve(step, rows=self.bounds.cut(page, step.rows))
            # A single row, or one second's, do not show that the order was honoured.
            if self.ending is None and self._near.rises and self.bounds.are_passed(self._near.key):
                self._end_proven()
        counting = self._near.counting or self._far.counting
        over = self._progress.is_over_after(page, new=len(step.rows), counting=counting)
        if over and self.ending is None:
            self._end_unproven("the service repeats itself, and nothing new comes")
        return step

    def _offer_near(self, page: SortedPage, *, more: bool) -> Step:
        step = self._near.offer(page)
        self._rows += len(step.rows)
        if page.offset == 0:
            self._near_list = page
        elif page.ids:
            self._is_flat = False
        # What seems to be the end is none where pages that were asked for already may lead further.
        waits = more and self._near.key is not None and not step.drops_prefetched
        # By a time that moves, there is no other end to settle a run that is still being counted.
        counts = self._near.counting and not self._order.exact
        over = self._seems_over(page, step) and not waits and (step.stuck or not counts)
        if self._far_was_read:
            if self._is_met():
                self._end_proven()
            elif page.offset == 0:
                self._compare()
            turn = over and step.stuck and self.ending is None
            return self._turn_to_far(page, step) if turn else step
        if not over:
            return step
        if not self._order.exact:
            self._end_unproven("sorted by another key than createdAt, payments move while they are read")
        elif self._near.key is None and self._start > 0:
            return Step(False, read=PageRequest(self._start, from_other_end=True))
        elif self._totals.vouch_for(page):
            self._end(
                complete=True, reason="one page holds them all, and the service's totals have proved right"
            )
        return attrs.evolve(step, read=OTHER_END)

    def _seems_over(self, page: SortedPage, step: Step) -> bool:
        """Whether the list seems to end here: what that is worth shows at the other end."""
        if step.stuck or not step.joined:
            return step.stuck
        if page.total is not None:
            return page.reaches_total
        return self._order.exact and (not step.rows or len(page.ids) < page.limit)

    def _turn_to_far(self, page: SortedPage, step: Step) -> Step:
        """Go on from the other end, where this one leads no further."""
        flat = self._near_list if self._is_flat and not page.refused else None
        if flat is not None and page.offset == flat.end:
            self._end(complete=True, reason="both directions show the same payments, and nothing behind them")
        return attrs.evolve(step, read=self._next_far_page or self._both_stuck())

    def _both_stuck(self) -> PageRequest:
        """Try again where rows came since neither end led any further; end the walk otherwise."""
        if self._is_one_way:
            self._end_unproven("the service ignores orderBy, so that the list's other end cannot be read")
        elif self._rows == self._rows_when_stuck or next(self._rounds, None) is None:
            single = ": the service gives one payment a page, and only pages that overlap can be joined"
            overlap = single if self._largest_page == 1 else ""
            self._end_unproven(f"the pages read from both ends of the list stop before they meet{overlap}")
        self._rows_when_stuck = self._rows
        self._next_far_page = None if self._is_one_way else self._far.retry()
        return self._near.retry()

    def _take_far(self, page: SortedPage) -> Step:
        step = self._far.offer(page)
        self._rows += len(step.rows)
        # The walk's own order, as far as one page goes.
        step = attrs.evolve(step, rows=step.rows[::-1])
        first, self._far_was_read = not self._far_was_read, True
        if page.offset == 0:
            self._far_list = page
        if first:
            fronts = zip(page.ids, page.keys, strict=True)
            self._front = [payment_id for payment_id, key in fronts if key == page.keys[0]]
            if page.ids:
                self._given.keep(negated(page.keys[0]))
        self._next_far_page = None if step.stuck else step.read or self._far.next_page
        if self._is_met():
            self._end_proven()
        elif not page.ids and self._near.key is None and not any(self._total_range):
            wait = next(self._empty_waits, None)
            if wait is not None:
                self._far_was_read = False
                return Step(False, read=PageRequest(0, full_size=True), wait=wait)
            self._end(complete=True, reason="the list came empty in both directions")
        elif first:
            return attrs.evolve(step, read=self._back_to_near())
        return attrs.evolve(step, read=self._next_far_page or self._both_stuck())

    def _back_to_near(self) -> PageRequest:
        """Return the page to read where the walk seemed to be over, and was not shown to be."""
        request = self._near.retry()
        same_second = self._near.key == self._near.first_key and self._far.key == self._far.first_key
        few = len(self._near_list.ids) <= _MOST_OF_ONE_SECOND if self._near_list is not None else False
        self._is_flat = few and same_second and self._is_same_list()
        self._compare()
        return self._near.look_behind() if self._is_flat else request

    def _compare(self) -> None:
        """End where both directions show the same payments, on a page that is not as long as pages can be."""
        page = self._near_list
        if page is not None and self._is_same_list() and self._totals.is_uncut(page):
            self._end(complete=True, reason="both directions show the same payments")

    def _is_same_list(self) -> bool:
        """Whether both directions show the same payments, and neither's total says that there are more."""
        near, far = self._near_list, self._far_list
        if near is None or far is None or not near.ids or self._start > 0:
            return False
        rows = len(set(near.ids))
        if near.total is None or far.total is None:
            # Of a single second, a window shows the same rows in both directions.
            totals_agree = rows == 1 or near.keys[0] != near.keys[-1]
        else:
            totals_agree = max(near.total, far.total) <= rows
        return set(near.ids) == set(far.ids) and totals_agree

    def _is_met(self) -> bool:
        """Whether every lasting payment is before K, or beyond what the other end has reached."""
        near, far = self._near, self._far
        if near.key is None or far.key is None or not far.rises:
            return False  # nothing shows that the opposite order was honoured
        reached = negated(far.key)
        return reached < near.key or (reached == near.key and (near.closed or far.closed))

    def _end_proven(self) -> None:
        if self._fresh and self._total_exceeded_page:
            self._totals.prove(self._total_range[1], self._rows)
        if not self._order.exact:
            self._end_unproven("sorted by another key than createdAt, payments move while they are read")
        elif self._near.counted_late or self._far.counted_late:
            self._end_unproven("a run of equals was counted while payments came late")
        elif self._filtered and (self._near.counted or self._far.counted):
            # A payment may have entered the filter with that time.
            self._end_unproven(
                "a run of equals was counted, under a filter that payments may enter meanwhile"
            )
        elif self._is_met():
            self._end(complete=True, reason="the pages read from both ends of the list meet")
        else:
            self._end(complete=True, reason="the list was read beyond the time asked for")

    def _end_unproven(self, reason: str) -> None:
        self._end(complete=False, reason=reason)

    def _end(self, *, complete: bool, reason: str) -> None:
        self.ending = Ending(complete, reason + self._claims())

    def _claims(self) -> str:
        if not self._fresh or not self._total_range or self._total_range == [self._rows] * 2:
            return ""
        low, high = self._total_range
        stated = f"{high:,}" if low == high else f"{low:,} to {high:,}"
        return f"; the service stated a total of {stated}"
