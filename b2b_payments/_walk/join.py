"""The rule by which pages of a changing list are joined without losing or doubling a row.

No I/O, no clock: pages are offered in the order of their offsets, and each offer says which of its rows
are new and what to read next.

Let K be the sort key (`createdAt`) of the last row taken. The invariant: every lasting payment created
before K has been seen. A page joins on if it starts at offset 0, or if its *first* row was created before K:
then whatever lies in front of the page was seen already, and after taking the page the invariant holds for
the key of its last row. It says nothing about when the page was read, so pages may be fetched ahead, at
once and in any order. Strictly before, since rows of one second may come in another order each time.

The rule holds from either end of the list. Where the list ends, a join cannot know: `proof.py` proves that.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

from b2b_payments._printable import frozen
from b2b_payments._walk.checkpoint import Cursor
from b2b_payments._walk.page import Key, Order, PageRequest, SortedPage, negated
from b2b_payments._walk.ties import Ties

_MOST_WITHOUT_PROGRESS = 64
"""Pages in a row that may bring nothing new. Real changes bring a few; a service that repeats itself, all."""
_MOST_REPEATS = 3
"""Times that the very same page of them may come: then reading goes round in a circle."""


@frozen
class Step:
    """What one offered page brought: `rows` are the places of its new rows; `joined` is False for a page
    that leaves a gap, to be offered again once what was asked for by `read` has joined.

    `read` is the page to read before anything else, after `wait` seconds; None to go on with what comes next
    in line. `stuck` says that nothing further can be read from this end, now, and `drops_prefetched` that
    pages asked for ahead will not lead further either. `look_up` names payments to be looked up by id, one by
    one, before anything is read.
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
"""Ids remembered before older ones are let go (a run of equals is always remembered whole)."""


class Given:
    """The rows given so far. Keys are those of the walk's own direction; `forgets` lets go of ids.

    By a time that moves, as `updatedAt` does, an old row may come again far from where it was: such a walk
    remembers every id, unless a row that has moved is wanted again (`moved`).
    """

    def __init__(self, *, forgets: bool, moved: bool = False) -> None:
        self._forgets = forgets or moved
        self._moved = moved
        self._keys: dict[int, Key] = {}
        self._low: Key | None = None  # rows with a smaller key were given
        self._high: Key | None = None  # rows with a larger key were given
        self._next: dict[bool, Key | None] = {False: None, True: None}
        self._most = _KEPT_IDS
        self._kept: Key | None = None  # ids of this key are never let go
        self._earlier: set[int] = set()  # ids given by the walk that is resumed

    def __len__(self) -> int:
        return len(self._keys)

    def restore(self, key: Key, ids: Sequence[int], *, mirrored: bool) -> None:
        """Take it that all rows behind this key were given, and of those with this key the ones named."""
        edge = negated(key) if mirrored else key
        self._keys |= dict.fromkeys(ids, edge)
        self._earlier.update(ids)
        self._move(edge, mirrored=mirrored)

    def leave_out_before(self, key: Key) -> None:
        """Rows before this key are not asked for."""
        self._low = key

    def take(
        self, ids: Sequence[int], keys: Sequence[Key], *, mirrored: bool, upto: Key | None = None
    ) -> tuple[list[int], int]:
        """Return the places of the rows that were not given before, and how many were; none beyond `upto`.

        `mirrored` says that the keys are those of the opposite order.
        """
        known, low, high = self._keys, self._low, self._high
        rows: list[int] = []
        duplicates = 0
        for place, (payment_id, own) in enumerate(zip(ids, keys, strict=True)):
            if upto is not None and own > upto:
                continue
            key = negated(own) if mirrored else own
            # A store that was restored since the earlier walk gives an id again to a payment created later.
            again = payment_id in known and not (
                (self._moved or payment_id in self._earlier) and key > known[payment_id]
            )
            if again or (low is not None and key < low) or (high is not None and key > high):
                duplicates += 1
            else:
                known[payment_id] = key
                rows.append(place)
        return rows, duplicates

    def ids_at(self, key: Key) -> tuple[int, ...]:
        """Return the ids that were given of this key, as far as they are remembered."""
        return tuple(payment_id for payment_id, known in self._keys.items() if known == key)

    def beyond(self, key: Key | None, *, mirrored: bool) -> Sequence[int]:
        """Return the remembered ids of rows before this key, or after it if `mirrored`."""
        known = sorted(self._keys.items(), key=lambda item: item[1])
        return [one for one, own in known if key is None or (own > key if mirrored else own < key)]

    def keep(self, key: Key) -> None:
        """Never let go of the ids of this key."""
        self._kept = key

    def forget(self, key: Key, *, mirrored: bool) -> None:
        """Let go of ids that lie well behind `key`, up to which one end was read."""
        if not self._forgets or len(self._keys) <= self._most:
            return
        edge, self._next[mirrored] = self._next[mirrored], negated(key) if mirrored else key
        if edge is not None:
            self._move(edge, mirrored=mirrored)
            low, high, kept = self._low, self._high, self._kept
            self._keys = {
                one: key
                for one, key in self._keys.items()
                if ((low is None or key >= low) and (high is None or key <= high)) or key == kept
            }
        self._most = len(self._keys) + _KEPT_IDS

    def _move(self, edge: Key, *, mirrored: bool) -> None:
        if mirrored:
            self._high = edge
        else:
            self._low = edge


class Join:
    """The pages read from one end of the list: what has been taken, and where to go on.

    `mirrored` says that this is the end opposite to the one where the walk began; keys are those of its own
    direction then.
    """

    def __init__(
        self,
        order: Order,
        given: Given,
        *,
        start: int = 0,
        place: Cursor | None = None,
        mirrored: bool = False,
    ) -> None:
        self._order = order
        self._given = given
        self._mirrored = mirrored
        self.key: Key | None = None
        """K: the sort key of the last row taken."""
        self.first_key: Key | None = None
        """The smallest sort key of a row taken."""
        self.rises = False
        """Whether one page showed two sort keys, in the order asked for."""
        self.closed = False
        """Whether K's own second has been seen whole."""
        self.counted = False
        """Whether a run of equals was settled by counting."""
        self.counted_late = False
        """Whether rows came late meanwhile, as from a list that lags, so that counting proves nothing."""
        self.resume_at = start
        """Where the next page has to start at the latest to join on, if nothing has moved."""
        self.cursor = 0
        """The offset right behind the last row taken."""
        self.insists = mirrored or not order.exact
        """Whether an empty page is read again from further forward before it is taken for an end."""
        self._boundary: list[int] = []  # the ids given of K's second
        self._steps_back = 0
        self._gap_at: SortedPage | None = None  # the page that did not join last
        self._in_vain: Counter[tuple[int, Sequence[int]]] = Counter()  # pages since the last that was new
        self._look_behind = False  # the next page is read right behind a page that led no further
        self._run: Ties | None = None
        if place is not None:
            self.key, self.first_key = place.key, place.key if place.first is None else place.first
            self.closed, self.resume_at, self._boundary = place.closed, place.resume_at, list(place.ids)
            self.rises = place.rises
            given.restore(place.key, place.ids, mirrored=mirrored)

    @property
    def place(self) -> Cursor | None:
        """Where the join stands, None before the first row."""
        if self.key is None:
            return None
        ids = tuple(self._boundary)
        return Cursor(self.key, self.closed, self.resume_at, ids, self.first_key, rises=self.rises)

    @property
    def counting(self) -> bool:
        """Whether a run of equals is being counted, which takes many pages that bring nothing new."""
        return self._run is not None

    @property
    def next_page(self) -> PageRequest:
        """The page that leads on from here, as large as the service gives it."""
        return self._page(self.resume_at)

    def retry(self) -> PageRequest:
        """Return the page to read where this end was stuck, and believe no empty answer from now on."""
        self.insists, self._look_behind = True, False
        return self.next_page

    def look_behind(self) -> PageRequest:
        """Return the page right behind the last row taken."""
        self._look_behind = True
        return self._page(self.cursor)

    def offer(self, page: SortedPage) -> Step:
        """Take what a page brings, and say what to read next."""
        if self._run is not None:
            return self._in_run(self._run, page)
        if not page.ids:
            return self._empty(page)
        return self._joined(page) if self._joins(page) else self._gap(page)

    def _page(self, offset: int) -> PageRequest:
        return PageRequest(offset, full_size=True, from_other_end=self._mirrored)

    def _joins(self, page: SortedPage) -> bool:
        if self.key is None or page.offset == 0 or self._order.field is None:
            return True
        first = page.keys[0]
        return first < self.key or (self.closed and first == self.key)

    def _joined(self, page: SortedPage) -> Step:
        last = page.keys[-1]
        if self.key is None and page.offset > 0:
            self._given.leave_out_before(page.keys[0])  # the walk was asked to begin here
        if self.first_key is None or page.keys[0] < self.first_key:
            self.first_key = page.keys[0]
        self.rises = self.rises or page.keys[0] < last
        rows, duplicates = self._given.take(page.ids, page.keys, mirrored=self._mirrored)
        if self.key is not None and last < self.key and page.offset < self.resume_at and not self._steps_back:
            # Fetched ahead, and overtaken meanwhile: it leads nowhere that was not reached already.
            return Step(True, rows, duplicates)
        if self.key is None or last > self.key:
            self.key, self.closed, self._boundary = last, False, []
        self._note_boundary(page, rows)
        self._steps_back = 0
        self._look_behind = False
        self.cursor = page.end
        # Rows at the end that are not before K: the next page has to start in front of them.
        by_time = self._order.field is not None and not self.closed
        tail = len(page.keys) - bisect_left(page.keys, self.key) if by_time else 0
        self.resume_at = max(0, page.end - tail - 1)
        self._given.forget(self.key, mirrored=self._mirrored)
        if self._stalls(page, rows):
            return Step(True, rows, duplicates, stuck=True, drops_prefetched=True)
        if self.resume_at > page.offset:
            return Step(True, rows, duplicates)
        # Reading on from where this page leads would give this page again.
        if not page.full_size:
            return Step(True, rows, duplicates, read=self.next_page)
        return Step(True, rows, duplicates, read=self.look_behind())

    def _gap(self, page: SortedPage) -> Step:
        behind, self._look_behind = self._look_behind, False
        if behind and self.key is not None:
            # The page before was, but for its first row, one run of equals: no page can reach beyond it.
            newest_first = self._order.descending
            if newest_first and self.first_key != self.key:
                # Only from the other end can it be counted.
                return Step(False, stuck=True, drops_prefetched=True)
            self._run = Ties(self.key, newest_first=newest_first)
            return self._in_run(self._run, page)
        stalls = page is not self._gap_at and self._stalls(page, ())
        return Step(False, stuck=True, drops_prefetched=True) if stalls else self._step_back(page)

    def _stalls(self, page: SortedPage, rows: Sequence[int]) -> bool:
        """Whether too many pages in a row brought nothing new, or one of them comes again and again."""
        if rows:
            self._in_vain.clear()
            return False
        same = page.offset, tuple(page.ids)
        self._in_vain[same] += 1
        return self._in_vain[same] > _MOST_REPEATS or self._in_vain.total() > _MOST_WITHOUT_PROGRESS

    def _step_back(self, page: SortedPage) -> Step:
        """Read where the last joined page leads, then 2, 8, 32 … rows before that, until a page joins."""
        offered_before, self._gap_at = page is self._gap_at, page
        if self._steps_back == 0 and (offered_before or page.offset != self.resume_at):
            self._steps_back = 1
            return Step(False, read=self.next_page)
        self._steps_back = 4 * self._steps_back if self._steps_back > 1 else 2
        # A list that has become shorter than that ends at its own total.
        last = page.offset if page.total is None else min(page.offset, page.total)
        return Step(False, read=self._page(max(0, min(self.resume_at, last) - self._steps_back)))

    def _empty(self, page: SortedPage) -> Step:
        """Join nothing: nothing stands here now, says this answer."""
        behind, self._look_behind = self._look_behind, False
        over = page.offset == 0 or self.key is None or behind or page.refused or not self.insists
        if over or self._stalls(page, ()):
            return Step(False, stuck=True, drops_prefetched=behind)
        return self._step_back(page)

    def _in_run(self, run: Ties, page: SortedPage) -> Step:
        next_offset = run.observe(page)
        rows, duplicates = self._given.take(page.ids, page.keys, mirrored=self._mirrored, upto=run.key)
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
        self.cursor = run.resume_at
        self.resume_at = max(0, run.resume_at - 1)
        return Step(True, rows, duplicates, read=PageRequest(self.resume_at, from_other_end=self._mirrored))

    def _note_boundary(self, page: SortedPage, rows: Sequence[int]) -> None:
        for index in reversed(rows):
            if page.keys[index] != self.key:
                break
            self._boundary.append(page.ids[index])
