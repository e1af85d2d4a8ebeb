"""The part of a list that a walk is asked for: which of its rows, and when the walk is behind the last."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import attrs

from b2b_payments._errors import ConfigurationError
from b2b_payments._models.decimals import EXACT
from b2b_payments._models.moment import in_utc, microseconds_of
from b2b_payments._printable import define, frozen
from b2b_payments._walk.page import Key, Order, SortedPage, negated
from b2b_payments._walk.search import Seen


def seconds_of(moment: datetime) -> Key:
    """Return a moment in epoch seconds, exactly."""
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
class Period:
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
        """Return its ends in a walk's order."""
        start, stop = (None if one is None else seconds_of(one) for one in (self.start, self.stop))
        if order.descending:
            start, stop = (None if one is None else negated(one) for one in (stop, start))
        return Bounds(start, stop, starts_after=order.descending)


@define
class Bounds:
    """A period's ends in a walk's order; a row of `start` is in it, or (`starts_after`) one of `stop`."""

    start: Key | None = None
    stop: Key | None = None
    starts_after: bool = False
    _first: Seen | None = attrs.field(default=None, init=False)
    _latest: Seen | None = attrs.field(default=None, init=False)

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
        """Return those of a page's rows that are asked for."""
        keys = [negated(key) for key in page.keys] if page.from_other_end else page.keys
        if rows and not page.from_other_end:
            self._first = self._first or Seen(page.offset + rows[0], keys[rows[0]])
            self._latest = Seen(page.offset + rows[-1], keys[rows[-1]])
        return [row for row in rows if self.hold(keys[row])]

    def likely_end_before(self, offset: int) -> bool:
        """Whether no row from this offset on is likely to be asked for, judged by those that came."""
        first, latest = self._first, self._latest
        if self.stop is None or first is None or latest is None:
            return False
        span = float(latest.key) - float(first.key)
        left = (float(self.stop) - float(latest.key)) * (latest.offset - first.offset)
        return span <= 0 or latest.offset + left / span <= offset
