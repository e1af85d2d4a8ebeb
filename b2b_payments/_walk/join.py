"""The rule for joining pages of a changing list without losing or repeating a row.

No I/O, no clock: pages are offered in the order of their offsets, and each offer returns which rows of the
page are new and what to read next.

Let K be the sort key (the time `createdAt`) of the last row taken; keys rise in reading order. The invariant:
every lasting payment with a key before K has been seen. A page joins if it is the first one, starts at offset
0, or has a *first* row before K: then everything in front of the page was seen already, and once the page is
taken the invariant holds for the key of its last row. It does not matter when a page was read, so pages may
be fetched ahead, concurrently and in any order. "Before" is strict, since rows of one second may be in
another order at each request; only once all rows of K's second were seen (`closed`) may a page begin with K.

In a list that is not sorted by time, every page joins, and the walk says that it is not exact. The rule holds
from either end of the list, with negated keys in a descending one. A join cannot tell where the list ends:
`proof.py` proves that.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

from b2b_payments._printable import frozen
from b2b_payments._walk.checkpoint import Cursor
from b2b_payments._walk.page import Key, Order, PageRequest, SortedPage, negated
from b2b_payments._walk.ties import Ties

_MAX_STALLED = 64
"""Pages in a row that may bring nothing new. Changes cause a few, a service that repeats itself all."""
_MAX_REPEATS = 3
"""Times that the same page may be among them: once more, and reading goes in a circle."""


@frozen
class Step:
    """The result of offering a page. `joined` says that its rows were taken, `rows` which are new.
    A page that left a gap is offered again once the page to `read` has joined.

    `read` is the page to read next, after `wait` seconds, before any prefetched page; None to continue with
    the prefetched ones. `stuck` says that no page from this end leads further for now, `drops_prefetched`
    that the prefetched ones do not either. `look_up` are payments to look up by id before reading on.
    """

    joined: bool
    rows: Sequence[int] = ()
    duplicates: int = 0
    read: PageRequest | None = None
    wait: float = 0.0
    stuck: bool = False
    drops_prefetched: bool = False
    look_up: Sequence[int] = ()


_KEPT_IDS = 4_096
"""Ids remembered before older ones are forgotten (a run of equals is always remembered whole)."""


class Delivered:
    """The rows delivered so far. Keys are those of the walk's own direction; `forgets` allows forgetting ids.

    In a list sorted by a time that changes, such as `updatedAt`, a row may show up again far from where it
    was. Such a walk remembers every id, unless rows that moved are to be delivered again (`moved`).
    """

    def __init__(self, *, forgets: bool, moved: bool = False) -> None:
        self._forgets = forgets or moved
        self._moved = moved
        self._keys: dict[int, Key] = {}
        self._low: Key | None = None  # rows with a smaller key were delivered
        self._high: Key | None = None  # rows with a larger key were delivered
        self._next: dict[bool, Key | None] = {False: None, True: None}
        self._max_ids = _KEPT_IDS
        self._pinned: Key | None = None  # ids with this key are never forgotten
        self._earlier: set[int] = set()  # ids delivered by the walk that is resumed

    def __len__(self) -> int:
        return len(self._keys)

    def restore(self, key: Key, ids: Sequence[int], *, mirrored: bool) -> None:
        """Mark as delivered what a join had passed at this key: all rows before it, and these ids with it."""
        edge = negated(key) if mirrored else key
        self._keys |= dict.fromkeys(ids, edge)
        self._earlier.update(ids)
        self._move(edge, mirrored=mirrored)

    def leave_out_before(self, key: Key) -> None:
        """Treat rows before this key as delivered: they were not requested."""
        self._low = key

    def add(
        self, ids: Sequence[int], keys: Sequence[Key], *, mirrored: bool, upto: Key | None = None
    ) -> tuple[list[int], int]:
        """Add rows up to the key `upto`. Returns the indexes of the new ones, and how many were duplicates.

        `mirrored` says that the keys are those of the opposite order.
        """
        known, low, high = self._keys, self._low, self._high
        rows: list[int] = []
        duplicates = 0
        for index, (payment_id, own) in enumerate(zip(ids, keys, strict=True)):
            if upto is not None and own > upto:
                continue
            key = negated(own) if mirrored else own
            # A store restored from a backup since the earlier walk may reuse an id for a later payment.
            is_duplicate = payment_id in known and not (
                (self._moved or payment_id in self._earlier) and key > known[payment_id]
            )
            if is_duplicate or (low is not None and key < low) or (high is not None and key > high):
                duplicates += 1
            else:
                known[payment_id] = key
                rows.append(index)
        return rows, duplicates

    def ids_at(self, key: Key) -> tuple[int, ...]:
        """Return the remembered ids with this key."""
        return tuple(payment_id for payment_id, known in self._keys.items() if known == key)

    def beyond(self, key: Key | None, *, mirrored: bool) -> Sequence[int]:
        """Return the remembered ids before this key, or after it if `mirrored`; all of them if it is None."""
        known = sorted(self._keys.items(), key=lambda item: item[1])
        return [one for one, own in known if key is None or (own > key if mirrored else own < key)]

    def pin(self, key: Key) -> None:
        """Never forget the ids with this key."""
        self._pinned = key

    def forget(self, key: Key, *, mirrored: bool) -> None:
        """Forget ids that are well before `key`, the position of one end's join."""
        if not self._forgets or len(self._keys) <= self._max_ids:
            return
        edge, self._next[mirrored] = self._next[mirrored], negated(key) if mirrored else key
        if edge is not None:
            self._move(edge, mirrored=mirrored)
            low, high, pinned = self._low, self._high, self._pinned
            self._keys = {
                one: key
                for one, key in self._keys.items()
                if ((low is None or key >= low) and (high is None or key <= high)) or key == pinned
            }
        self._max_ids = len(self._keys) + _KEPT_IDS

    def _move(self, edge: Key, *, mirrored: bool) -> None:
        if mirrored:
            self._high = edge
        else:
            self._low = edge


class Join:
    """The pages read from one end of the list: what was taken from them, and where to continue.

    `mirrored` says that this is not the end where the walk started. Keys are those of the join's direction.
    """

    def __init__(
        self,
        order: Order,
        delivered: Delivered,
        *,
        start: int = 0,
        cursor: Cursor | None = None,
        mirrored: bool = False,
    ) -> None:
        self._order = order
        self._delivered = delivered
        self._mirrored = mirrored
        self.key: Key | None = None
        """K: the sort key of the last row taken."""
        self.first_key: Key | None = None
        """The smallest sort key of a row taken."""
        self.rises = False
        """Whether one page showed two different sort keys, in the requested order."""
        self.closed = False
        """Whether all rows of K's second have been seen."""
        self.counted = False
        """Whether a run of equals was settled by counting."""
        self.counted_late = False
        """Whether rows appeared late during counting, as in a list that lags: then it proves nothing."""
        self.resume_at = start
        """The highest offset at which the next page can start and still join, if nothing has moved."""
        self.end = 0
        """The offset right after the last row taken."""
        self.retries_empty = mirrored or not order.exact
        """Whether an empty page is read again from a lower offset before it counts as the end."""
        self._boundary: list[int] = []  # the ids of K's second that were delivered
        self._rows_back: int | None = None  # rows before `resume_at` read to close a gap; None: no gap
        self._last_gap: SortedPage | None = None  # the latest page that did not join
        self._stalled: Counter[tuple[int, Sequence[int]]] = Counter()  # pages since the last new row
        self._is_page_after = False  # the next page starts right after a page that led no further
        self._run: Ties | None = None
        if cursor is not None:
            self.key, self.first_key = cursor.key, cursor.key if cursor.first is None else cursor.first
            self.closed, self.resume_at, self._boundary = cursor.closed, cursor.resume_at, list(cursor.ids)
            self.rises = cursor.rises
            delivered.restore(cursor.key, cursor.ids, mirrored=mirrored)

    @property
    def cursor(self) -> Cursor | None:
        """The position of the join, None before the first row."""
        if self.key is None:
            return None
        ids = tuple(self._boundary)
        return Cursor(self.key, self.closed, self.resume_at, ids, self.first_key, rises=self.rises)

    @property
    def counting(self) -> bool:
        """Whether a run of equals is being counted, which takes many pages without new rows."""
        return self._run is not None

    @property
    def next_page(self) -> PageRequest:
        """The page that continues from here, as large as the service allows."""
        return self._page(self.resume_at)

    def retry(self) -> PageRequest:
        """Return the page to read again where this end was stuck; from now on, empty pages are retried."""
        self.retries_empty, self._is_page_after = True, False
        return self.next_page

    def page_after(self) -> PageRequest:
        """Return the page right after the last row taken."""
        self._is_page_after = True
        return self._page(self.end)

    def offer(self, page: SortedPage) -> Step:
        """Take the new rows of a page, and return what to read next."""
        if self._run is not None:
            return self._in_run(self._run, page)
        if not page.ids:
            return self._empty(page)
        return self._take(page) if self._joins(page) else self._gap(page)

    def _page(self, offset: int) -> PageRequest:
        return PageRequest(offset, full_size=True, from_other_end=self._mirrored)

    def _joins(self, page: SortedPage) -> bool:
        if self.key is None or page.offset == 0 or self._order.field is None:
            return True
        first = page.keys[0]
        return first < self.key or (self.closed and first == self.key)

    def _take(self, page: SortedPage) -> Step:
        last = page.keys[-1]
        if self.key is None and page.offset > 0:
            self._delivered.leave_out_before(page.keys[0])  # the walk starts here by request
        if self.first_key is None or page.keys[0] < self.first_key:
            self.first_key = page.keys[0]
        self.rises = self.rises or page.keys[0] < last
        rows, duplicates = self._delivered.add(page.ids, page.keys, mirrored=self._mirrored)
        closes_gap = self._rows_back is not None
        if self.key is not None and last < self.key and page.offset < self.resume_at and not closes_gap:
            # Prefetched, and another page has reached further since: it leads nowhere new.
            return Step(True, rows, duplicates)
        # New rows before K, such as payments created at the front of a descending list, lead no further.
        leads_on = rows if self.key is None or (rows and page.keys[rows[-1]] >= self.key) else ()
        if self.key is None or last > self.key:
            self.key, self.closed, self._boundary = last, False, []
        self._note_boundary(page, rows)
        self._rows_back = None
        self._is_page_after = False
        self.end = page.end
        # The next page has to start in front of the rows at the end that are not before K.
        by_time = self._order.field is not None and not self.closed
        tail = len(page.keys) - bisect_left(page.keys, self.key) if by_time else 0
        self.resume_at = max(0, page.end - tail - 1)
        self._delivered.forget(self.key, mirrored=self._mirrored)
        if not self._note_progress(page, leads_on):
            return Step(True, rows, duplicates, stuck=True, drops_prefetched=True)
        if self.resume_at > page.offset:
            return Step(True, rows, duplicates)
        # Reading at `resume_at` would return this page again.
        if not page.full_size:
            return Step(True, rows, duplicates, read=self.next_page)
        return Step(True, rows, duplicates, read=self.page_after())

    def _gap(self, page: SortedPage) -> Step:
        is_after, self._is_page_after = self._is_page_after, False
        if is_after and self.key is not None:
            # But for its first row, the previous page was one run of equals: no page reaches across the run.
            newest_first = self._order.descending
            if newest_first and self.first_key != self.key:
                # It can be counted from the other end only.
                return Step(False, stuck=True, drops_prefetched=True)
            self._run = Ties(self.key, newest_first=newest_first)
            return self._in_run(self._run, page)
        # A page that is offered again after its gap was counted then.
        if page is self._last_gap or self._note_progress(page, ()):
            return self._step_back(page)
        return Step(False, stuck=True, drops_prefetched=True)

    def _note_progress(self, page: SortedPage, rows: Sequence[int]) -> bool:
        """Record a page. Returns False once too many in a row, or the same too often, brought nothing new."""
        if rows:
            self._stalled.clear()
            return True
        same = page.offset, tuple(page.ids)
        self._stalled[same] += 1
        return self._stalled[same] <= _MAX_REPEATS and self._stalled.total() <= _MAX_STALLED

    def _step_back(self, page: SortedPage) -> Step:
        """Read at `resume_at`, then 2, 8, 32 … rows before it, until a page joins."""
        offered_before, self._last_gap = page is self._last_gap, page
        if self._rows_back is None and (offered_before or page.offset != self.resume_at):
            self._rows_back = 0
            return Step(False, read=self.next_page)
        self._rows_back = 4 * self._rows_back if self._rows_back else 2
        # The list may have become shorter than `resume_at`: then it ends at its total.
        last = page.offset if page.total is None else min(page.offset, page.total)
        return Step(False, read=self._page(max(0, min(self.resume_at, last) - self._rows_back)))

    def _empty(self, page: SortedPage) -> Step:
        """Handle an empty page: it may be the end, or is read again from a lower offset."""
        is_after, self._is_page_after = self._is_page_after, False
        over = page.offset == 0 or self.key is None or is_after or page.refused or not self.retries_empty
        if over or not self._note_progress(page, ()):
            return Step(False, stuck=True, drops_prefetched=is_after)
        return self._step_back(page)

    def _in_run(self, run: Ties, page: SortedPage) -> Step:
        next_offset = run.observe(page)
        rows, duplicates = self._delivered.add(page.ids, page.keys, mirrored=self._mirrored, upto=run.key)
        self.rises = self.rises or bool(page.keys and page.keys[0] < page.keys[-1])
        self._note_boundary(page, rows)
        if run.stuck:
            self._run = None
            return Step(True, rows, duplicates, stuck=True, drops_prefetched=True)
        if not run.complete:
            return Step(True, rows, duplicates, read=self._page(next_offset))
        self._run = None
        self.closed = True
        self.counted = self.counted or run.counted
        self.counted_late = self.counted_late or (run.counted and run.grew)
        self.end = run.resume_at
        self.resume_at = max(0, run.resume_at - 1)
        return Step(True, rows, duplicates, read=PageRequest(self.resume_at, from_other_end=self._mirrored))

    def _note_boundary(self, page: SortedPage, rows: Sequence[int]) -> None:
        for index in reversed(rows):
            if page.keys[index] != self.key:
                break
            self._boundary.append(page.ids[index])
