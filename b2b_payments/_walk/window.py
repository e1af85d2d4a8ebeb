"""The part of a list that a walk is asked for, and how its start is found without reading what stands before.

Nothing rests on where a start is found: the join takes the first page only where its first row is strictly
before the window, steps back otherwise, and drops what was not asked for. So a list that changes meanwhile,
or a total that is wrong, may mislead the search, and costs requests then, but no payment.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import attrs

from b2b_payments._errors import BadRequestError, ConfigurationError, NotFoundError, ValidationError
from b2b_payments._models.decimals import EXACT
from b2b_payments._models.moment import in_utc, microseconds_of
from b2b_payments._printable import define, frozen
from b2b_payments._walk.page import Key, Order, PageRequest, SortedPage, negated

Read = Callable[[PageRequest], Awaitable[SortedPage]]

_NEAR = 100
"""Rows before a window that its first page may hold: they cost no request."""
_PAGE = 250
"""Rows that a page too many reads: it costs no more than another single row would."""
_CLOSE = 1_500
"""Rows within which times are taken to be even: a few pages at the most, where they are not."""
_FEW_READS = 8
"""Single rows read in search of a place before each further one halves what is left …"""
_MOST_READS = 20
"""… and the most in all, beside the list's first and last: a million rows of times at random take 2 or 3."""


def seconds_of(moment: datetime) -> Key:
    """Give a moment in epoch seconds, exactly."""
    microseconds = microseconds_of(moment)
    if microseconds % 1_000_000 == 0:
        return microseconds // 1_000_000
    return Decimal(microseconds).scaleb(-6, EXACT)


def _moment(name: str, value: Any) -> datetime | None:
    try:
        return None if value is None else in_utc(value)
    except ConfigurationError as error:
        raise ConfigurationError(f"{name}: {error}") from None


def _from(value: Any) -> datetime | None:
    return _moment("created_from", value)


def _to(value: Any) -> datetime | None:
    return _moment("created_to", value)


@frozen
class Window:
    """Payments created (or updated, in a list sorted by that) from one moment on, and before another."""

    start: datetime | None = attrs.field(default=None, converter=_from)
    stop: datetime | None = attrs.field(default=None, converter=_to)

    def __attrs_post_init__(self) -> None:
        if self.start is not None and self.stop is not None and self.start >= self.stop:
            raise ConfigurationError(
                f"created_from ({self.start.isoformat()}) must be before created_to "
                f"({self.stop.isoformat()}), for payments from the one on and before the other."
            )

    def __bool__(self) -> bool:
        return self.start is not None or self.stop is not None

    @property
    def words(self) -> dict[str, str]:
        """The bounds, as text, by the names of the parameters."""
        given = {"created_from": self.start, "created_to": self.stop}
        return {name: moment.isoformat() for name, moment in given.items() if moment is not None}

    def within(self, order: Order) -> Bounds:
        """Give its ends in a walk's order."""
        start, stop = (None if one is None else seconds_of(one) for one in (self.start, self.stop))
        if order.descending:
            start, stop = (None if one is None else negated(one) for one in (stop, start))
        return Bounds(start, stop, starts_after=order.descending)


@frozen
class _Row:
    """A row that was seen: its place, and its key."""

    offset: int
    key: Key


@define
class Bounds:
    """A window's ends in a walk's order; a row of `start` is in it, or (`starts_after`) one of `stop`."""

    start: Key | None = None
    stop: Key | None = None
    starts_after: bool = False
    _first: _Row | None = attrs.field(default=None, init=False)
    _latest: _Row | None = attrs.field(default=None, init=False)

    def hold(self, key: Key) -> bool:
        """Whether a row with this key is asked for."""
        start, stop = self.start, self.stop
        if self.starts_after:
            return (start is None or key > start) and (stop is None or key <= stop)
        return (start is None or key >= start) and (stop is None or key < stop)

    def are_passed(self, key: Key | None) -> bool:
        """Whether all rows that are asked for stand before this key."""
        stop = self.stop
        return stop is not None and key is not None and (key > stop if self.starts_after else key >= stop)

    def cut(self, page: SortedPage, rows: Sequence[int]) -> list[int]:
        """Give those of a page's rows that are asked for."""
        keys = [negated(key) for key in page.keys] if page.from_other_end else page.keys
        if rows and not page.from_other_end:
            self._first = self._first or _Row(page.offset + rows[0], keys[rows[0]])
            self._latest = _Row(page.offset + rows[-1], keys[rows[-1]])
        return [row for row in rows if self.hold(keys[row])]

    def likely_end_before(self, offset: int) -> bool:
        """Whether no row from this offset on is likely to be asked for, judged by those that came."""
        first, latest = self._first, self._latest
        if self.stop is None or first is None or latest is None:
            return False
        span = float(latest.key) - float(first.key)
        left = (float(self.stop) - float(latest.key)) * (latest.offset - first.offset)
        return span <= 0 or latest.offset + left / span <= offset


@define
class _Search:
    """Rows seen in search of a key: `low` is the last that is before it, `high` the first that is not."""

    key: Key
    low: _Row
    high: _Row
    _seen: list[_Row] = attrs.field(factory=list)
    _places: list[float] = attrs.field(factory=list)
    _in_vain: int = 0
    """Guesses in a row that left more than half of the rows."""

    def __attrs_post_init__(self) -> None:
        self._seen += [self.low, self.high]

    @property
    def place(self) -> float:
        """Where the key stands, judged by the two rows seen whose times are next to it."""
        one, other = sorted(self._seen, key=lambda row: abs(float(row.key) - float(self.key)))[:2]
        span = float(other.key) - float(one.key)
        rows = (float(self.key) - float(one.key)) / span * (other.offset - one.offset) if span else 0.0
        return min(max(one.offset + rows, self.low.offset), self.high.offset)

    def is_near(self, near: int) -> bool:
        """Whether `low` is as near as it has to be."""
        rows = self.high.offset - self.low.offset
        return rows <= max(near, _PAGE) or (rows <= _CLOSE and self.place - self.low.offset <= near)

    def guess(self) -> int:
        """Give the offset to look at next: a little to the side on which less is known.

        That is further where nothing near was seen, and where the place was last thought to be elsewhere.
        """
        low, high, place = self.low.offset, self.high.offset, self.place
        known = min(abs(row.offset - place) for row in self._seen)
        moved = abs(place - self._places[-1]) if len(self._places) > 1 else 0
        self._places.append(place)
        spread = max(_NEAR / 2, math.sqrt(known) * 2, moved / 4)
        if self._in_vain > 1 or len(self._seen) > _FEW_READS + 2:  # times are far from even
            place = (low + high) / 2
        elif high - place > _CLOSE - _NEAR:
            place += spread
        else:
            place -= spread
        return min(max(round(place), low + 1), high - 1)

    def saw(self, offset: int, key: Key | None) -> None:
        """Take in the row at this offset, None where there is none."""
        rows = self.high.offset - self.low.offset
        row = _Row(offset, self.high.key if key is None else key)
        if row.key < self.key:
            self.low = row
        else:
            self.high = row
        self._seen.append(row)
        halved = 2 * (self.high.offset - self.low.offset) <= rows
        self._in_vain = 0 if halved else self._in_vain + 1


async def offset_before(read: Read, key: Key, *, near: int = _NEAR) -> int:
    """Give the offset of a row strictly before `key`, near the first that is not; 0 where there is none.

    `read` reads pages of one row.
    """
    first = await read(PageRequest(0))
    if not first.ids or first.keys[0] >= key:
        return 0
    last = await read(PageRequest(0, from_other_end=True))
    newest = negated(last.keys[0]) if last.ids else first.keys[0]
    end = first.total if first.total is not None else await _end_of(read)
    if newest < key:
        return max(0, end - 1)
    search = _Search(key, _Row(0, first.keys[0]), _Row(max(1, end - 1), newest))
    for _ in range(_MOST_READS):
        if search.is_near(near):
            break
        offset = search.guess()
        try:
            page = await read(PageRequest(offset))
        except (BadRequestError, NotFoundError, ValidationError):
            search.saw(offset, None)  # behind a paging window
        else:
            search.saw(offset, page.keys[0] if page.ids else None)
    return search.low.offset


async def place_of(read: Read, read_page: Read, key: Key) -> int:
    """Give how many rows of the list are before `key`."""
    offset = await offset_before(read, key)
    while True:
        page = await read_page(PageRequest(offset, full_size=True))
        if page.ids and page.keys[0] >= key and offset > 0:
            offset = max(0, offset - len(page.ids))
        elif page.ids and page.keys[-1] < key:
            offset = page.end
        else:
            return offset + bisect_left(page.keys, key)


async def _end_of(read: Read) -> int:
    """Give an offset at or behind the end of a list whose total is not stated."""
    offset = 1
    while (await read(PageRequest(offset))).ids:
        offset *= 4
    return offset
