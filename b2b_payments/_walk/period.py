"""The period that a walk is limited to: which rows are within it, and when the walk has passed its end."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import attrs

from b2b_payments._errors import ConfigurationError
from b2b_payments._models.moment import in_utc
from b2b_payments._printable import define, frozen
from b2b_payments._walk.page import Key, Order, SortedPage, epoch_seconds, negated
from b2b_payments._walk.search import SeenRow


def _utc(name: str, value: Any) -> datetime | None:
    try:
        return None if value is None else in_utc(value)
    except ConfigurationError as error:
        raise ConfigurationError(f"{name}: {error}") from None


def _created_from(value: Any) -> datetime | None:
    return _utc("created_from", value)


def _created_to(value: Any) -> datetime | None:
    return _utc("created_to", value)


@frozen
class Period:
    """A period of creation times (of update times in a list sorted by those): from `start`, before `stop`."""

    start: datetime | None = attrs.field(default=None, converter=_created_from)
    stop: datetime | None = attrs.field(default=None, converter=_created_to)

    def __attrs_post_init__(self) -> None:
        if self.start is not None and self.stop is not None and self.start >= self.stop:
            raise ConfigurationError(
                f"created_from ({self.start.isoformat()}) must be before created_to "
                f"({self.stop.isoformat()}): the first is included, the second is not."
            )

    def __bool__(self) -> bool:
        return self.start is not None or self.stop is not None

    @property
    def parameters(self) -> dict[str, str]:
        """The bounds that are set, as ISO 8601 text by parameter name."""
        bounds = {"created_from": self.start, "created_to": self.stop}
        return {name: moment.isoformat() for name, moment in bounds.items() if moment is not None}

    def within(self, order: Order) -> Bounds:
        """Return the period as sort keys in a walk's order."""
        start, stop = (None if one is None else epoch_seconds(one) for one in (self.start, self.stop))
        if order.descending:
            start, stop = (None if one is None else negated(one) for one in (stop, start))
        return Bounds(start, stop, starts_after=order.descending)


@define
class Bounds:
    """A period as sort keys in a walk's order: `start` included, or `stop` instead if `starts_after`."""

    start: Key | None = None
    stop: Key | None = None
    starts_after: bool = False
    _first: SeenRow | None = attrs.field(default=None, init=False)
    _latest: SeenRow | None = attrs.field(default=None, init=False)

    def contains(self, key: Key) -> bool:
        """Whether a row with this key is within the period."""
        start, stop = self.start, self.stop
        if self.starts_after:
            return (start is None or key > start) and (stop is None or key <= stop)
        return (start is None or key >= start) and (stop is None or key < stop)

    def end_before(self, key: Key | None) -> bool:
        """Whether every row of the period comes before a row with this key."""
        stop = self.stop
        return stop is not None and key is not None and (key > stop if self.starts_after else key >= stop)

    def select(self, page: SortedPage, rows: Sequence[int]) -> list[int]:
        """Return those of `rows`, indexes in the page, that are within the period."""
        keys = [negated(key) for key in page.keys] if page.from_other_end else page.keys
        if rows and not page.from_other_end:
            self._first = self._first or SeenRow(page.offset + rows[0], keys[rows[0]])
            self._latest = SeenRow(page.offset + rows[-1], keys[rows[-1]])
        return [row for row in rows if self.contains(keys[row])]

    def likely_end_before(self, offset: int) -> bool:
        """Whether the period probably ends before this offset, extrapolated from the rows received so far."""
        first, latest = self._first, self._latest
        if self.stop is None or first is None or latest is None:
            return False
        span = float(latest.key) - float(first.key)
        left = (float(self.stop) - float(latest.key)) * (latest.offset - first.offset)
        return span <= 0 or latest.offset + left / span <= offset
