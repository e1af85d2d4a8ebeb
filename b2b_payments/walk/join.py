"""The rule by which pages of a changing list are joined without losing or doubling a row.

No I/O, no clock: pages are offered in the order of their offsets, and each offer says which of its rows
are new and what to read next.

Let K be the sort key (`createdAt`) of the last row taken. The invariant: every lasting payment created
before K has been seen. A page joins on if it starts at offset 0, or if its *first* row was created before K:
then whatever lies in front of the page was seen already, and after taking the page the invariant holds for
the key of its last row. It says nothing about when the page was read, so pages may be fetched ahead, at
once and in any order. Strictly before, since rows of one second may come in another order each time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from enum import Enum

import attrs

from b2b_payments.errors import PaginationError
from b2b_payments.walk.page import Key, KeyedPage, Order
from b2b_payments.walk.run import LongRun

_KEPT_IDS = 4_096
"""Ids remembered before older ones are let go (a run of equals is always remembered whole)."""
_MOST_BARREN = 256
"""Pages in a row that may bring nothing new. Real changes bring a few; a service that repeats itself, all."""


_MOST_RUN_READS = 1_000
"""Requests for one run of equals. In an order that changes at each request, 2,000 rows take about 250."""


class End(Enum):
    """How a walk learned that it was through."""

    TOTAL = "the last page reached the total that it stated"
    EMPTY = "the total lies beyond what can be read; an empty answer, asked twice, was the end"


@attrs.frozen
class Step:
    """What one offered page brought: `rows` are the places of its new rows; `joined` is False for a page
    that leaves a gap, to be offered again once what was read at `read_at` has joined.

    `read_at` is the offset to read before anything else, None to go on with what comes next in line;
    `wide` asks for as many rows as the service gives in one page.
    """

    joined: bool
    rows: Sequence[int] = ()
    duplicates: int = 0
    read_at: int | None = None
    wide: bool = False


@attrs.frozen
class Place:
    """Where a walk stands: all that another process needs to go on from there.

    Every lasting row before `key` was given, and of that second those in `ids` (`closed`: all of them). The
    next page has to start at `resume_at` or before.
    """

    key: Key
    closed: bool
    resume_at: int
    ids: tuple[int, ...]


class Join:
    """The state of one walk: what has been taken, and where to go on."""

    def __init__(
        self, order: Order, *, start: int = 0, place: Place | None = None, filtered: bool = False
    ) -> None:
        self._order = order
        self._filtered = filtered  # rows may enter the list with an old time
        self._counted = False  # a run of equals was settled by counting
        self.key: Key | None = None
        """K: the sort key of the last row taken."""
        self.end: End | None = None
        self.resume_at = start
        """Where the next page has to start at the latest to join on, if nothing has moved."""
        self.cursor = 0
        """The offset right behind the last row taken."""
        self._closed = False  # K's own second has been seen whole
        self._seen: dict[int, Key] = {}
        self._boundary: list[int] = []  # the ids given of K's second
        self._floor: Key | None = None  # rows before it were seen, and their ids let go
        self._next_floor: Key | None = None
        self._most_seen = _KEPT_IDS
        self._steps_back = 0
        self._gap_at: KeyedPage | None = None  # the page that did not join last
        self._barren = 0
        self._last_row: tuple[int, int] | None = None  # where the last joined page ended, and on which id
        self._empty_behind: tuple[int, int] | None = None  # … when the answer right behind it was empty
        self._confirmed = 0  # such empty answers, where that row still stood there afterwards
        self._empty_start = False
        self._look_behind = False  # the next page is read right behind a page that led no further
        self._run: LongRun | None = None
        if place is not None:
            # Rows before the place were given, and so were those of its own second that it names.
            self.key = self._floor = place.key
            self._closed, self.resume_at, self._boundary = place.closed, place.resume_at, list(place.ids)
            self._seen = dict.fromkeys(place.ids, place.key)

    @property
    def complete(self) -> bool:
        """Whether the walk is through and can have missed nothing.

        In a descending list new rows come in front, so that a row may stand where it stood although one
        behind it slipped past: there an empty answer proves nothing.
        """
        proven = self.end is End.TOTAL or (self.end is End.EMPTY and not self._order.descending)
        return proven and self._order.exact and self.doubt is None

    @property
    def doubt(self) -> str | None:
        """Why a walk that is through may have missed a row, where its order alone does not say so.

        Counting a run of equals takes it that no row enters the list with that time. Under a filter one may.
        """
        if self._counted and self._filtered:
            return "a run of equals was counted, under a filter that payments may enter meanwhile"
        return None

    @property
    def place(self) -> Place | None:
        """Where the walk stands, None before the first row."""
        if self.key is None:
            return None
        return Place(self.key, self._closed, self.resume_at, tuple(self._boundary))

    def offer(self, page: KeyedPage) -> Step:
        """Take what a page brings, and say what to read next.

        Raises PaginationError where the service repeats itself without end.
        """
        if self._run is not None:
            return self._in_run(self._run, page)
        if not page.ids:
            step = self._empty(page)
        elif self._joins(page):
            step = self._joined(page)
        else:
            step = self._gap(page)
        self._count_barren(len(step.rows))
        return step

    def _joins(self, page: KeyedPage) -> bool:
        if self.key is None or page.offset == 0 or self._order.field is None:
            return True
        first = page.keys[0]
        return first < self.key or (self._closed and first == self.key)

    def _joined(self, page: KeyedPage) -> Step:
        last = page.keys[-1]
        if self.key is None and page.offset > 0:
            self._floor = page.keys[0]  # the walk was asked to begin here
        rows, duplicates = self._take(page, upto=None)
        overtaken = self.key is not None and last < self.key and page.offset < self.resume_at
        if overtaken and self._steps_back == 0:
            # Fetched ahead, and overtaken meanwhile: it leads nowhere that was not reached already.
            self.end = End.TOTAL if page.reaches_total else None
            return Step(True, rows, duplicates)
        if self.key is None or last > self.key:
            self.key, self._closed, self._boundary = last, False, []
        self._note_boundary(page, rows)
        self._steps_back = 0
        self._look_behind = False
        self.cursor = page.end
        # Rows at the end that are not before K: the next page has to start in front of them.
        by_time = self._order.field is not None and not self._closed
        tail = len(page.keys) - bisect_left(page.keys, self.key) if by_time else 0
        self.resume_at = max(0, page.end - tail - 1)
        self._forget()
        after_empty = self._confirm(page)
        self._last_row, self._empty_start = (page.end, page.ids[-1]), False
        if page.reaches_total or self._confirmed > 1:
            self.end = End.TOTAL if page.reaches_total else End.EMPTY
            return Step(True, rows, duplicates)
        if self.resume_at > page.offset and (rows or not after_empty):
            return Step(True, rows, duplicates)
        # Reading on from where this page leads would give this page again.
        if not page.wide:
            return Step(True, rows, duplicates, read_at=self.resume_at, wide=True)
        self._look_behind = True
        return Step(True, rows, duplicates, read_at=page.end, wide=True)

    def _confirm(self, page: KeyedPage) -> bool:
        """Note whether the row before an empty answer still stands there: then no row had slipped past it."""
        if self._empty_behind is None:
            return False
        (end, payment_id), self._empty_behind = self._empty_behind, None
        place = end - 1 - page.offset
        self._confirmed += 0 <= place < len(page.ids) and page.ids[place] == payment_id
        return True

    def _gap(self, page: KeyedPage) -> Step:
        behind, self._look_behind = self._look_behind, False
        countable = page.total is not None or not self._order.descending
        if behind and countable and self.key is not None:
            # The page before was, but for its first row, one run of equals: no page can reach beyond it.
            self._run = LongRun(self.key, descending=self._order.descending)
            return self._in_run(self._run, page)
        return self._step_back(page)

    def _step_back(self, page: KeyedPage) -> Step:
        """Read where the last joined page leads, then 2, 8, 32 … rows before that, until a page joins."""
        offered_before, self._gap_at = page is self._gap_at, page
        if self._steps_back == 0 and (offered_before or page.offset != self.resume_at):
            self._steps_back = 1
            return Step(False, read_at=self.resume_at, wide=True)
        self._steps_back = 4 * self._steps_back if self._steps_back > 1 else 2
        # A list that has become shorter than that ends at its own total.
        last = page.offset if page.total is None else min(page.offset, page.total)
        return Step(False, read_at=max(0, min(self.resume_at, last) - self._steps_back), wide=True)

    def _empty(self, page: KeyedPage) -> Step:
        """Join nothing.

        An empty answer that contradicts its total is the end where it comes twice right behind the last row,
        and that row still stood there in between.
        """
        self._look_behind = False
        if self.key is None or page.offset == 0:
            # Nothing to join on to: the list is empty, or says twice that it is.
            if page.reaches_total:
                self.end = End.TOTAL
            elif self._empty_start:
                self.end = End.EMPTY
            self._empty_start = True
            return Step(True, read_at=None if self.end else page.offset)
        if page.offset == self.cursor and not page.reaches_total:
            if self._confirmed:
                self.end = End.EMPTY
                return Step(True)
            self._empty_behind = self._last_row
            return Step(False, read_at=self.resume_at, wide=True)
        return self._step_back(page)

    def _in_run(self, run: LongRun, page: KeyedPage) -> Step:
        next_offset = run.observe(page)
        rows, duplicates = self._take(page, upto=run.key)
        self._note_boundary(page, rows)
        if run.reads > _MOST_RUN_READS:
            raise PaginationError(
                f"A run of at least {run.size} payments created in one second is longer than a page, and "
                f"changed too often in {run.reads} requests to be read whole. Walk again when it is quiet.",
            )
        if not run.complete:
            return Step(True, rows, duplicates, read_at=next_offset, wide=True)
        self._run = None
        self._closed = True
        self._counted = self._counted or run.counted
        self.cursor = run.resume_at
        self.resume_at = max(0, run.resume_at - 1)
        return Step(True, rows, duplicates, read_at=self.resume_at)

    def _take(self, page: KeyedPage, *, upto: Key | None) -> tuple[list[int], int]:
        """Pick the rows whose ids are new; rows before the floor were seen when their ids were still kept."""
        seen, floor = self._seen, self._floor
        rows: list[int] = []
        duplicates = 0
        for index, (payment_id, key) in enumerate(zip(page.ids, page.keys, strict=True)):
            if upto is not None and key > upto:
                continue
            if payment_id in seen or (floor is not None and key < floor):
                duplicates += 1
            else:
                seen[payment_id] = key
                rows.append(index)
        return rows, duplicates

    def _count_barren(self, rows: int) -> None:
        self._barren = 0 if rows else self._barren + 1
        if self._barren > _MOST_BARREN:
            raise PaginationError(
                f"{_MOST_BARREN} pages in a row brought nothing new: the service repeats itself.",
            )

    def _note_boundary(self, page: KeyedPage, rows: list[int]) -> None:
        for index in reversed(rows):
            if page.keys[index] != self.key:
                break
            self._boundary.append(page.ids[index])

    def _forget(self) -> None:
        """Let go the ids of rows that lie well behind, so that memory does not grow with the walk."""
        # Only a createdAt never moves: by another key an old row may come again, far from where it was.
        if not self._order.exact or len(self._seen) <= self._most_seen:
            return
        floor, self._next_floor = self._next_floor, self.key
        if floor is not None:
            self._floor = floor
            self._seen = {payment_id: key for payment_id, key in self._seen.items() if key >= floor}
        self._most_seen = len(self._seen) + _KEPT_IDS
