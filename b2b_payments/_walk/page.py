"""A page as the join sees it: the ids and sort keys of its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

import attrs

from b2b_payments._errors import ResponseDecodeError
from b2b_payments._models.decimals import EXACT, decimal_of, is_whole, whole_of
from b2b_payments._models.description import wire_names
from b2b_payments._models.enums import OrderBy, SortBy
from b2b_payments._models.moment import iso_moment, microseconds_of
from b2b_payments._models.payment import Payment
from b2b_payments._printable import define, frozen
from b2b_payments._protocol.answer import kind_of
from b2b_payments._protocol.listing import Listing
from b2b_payments._protocol.query import ChannelEncoding

Key = int | Decimal
LookupResult = bool | Literal["left"] | None
"""Whether a payment that was looked up by id exists; "left" if it exists but no longer matches the list's
filters; None if the answer does not prove either."""


def negated(key: Key) -> Key:
    """Return the key negated, for the opposite order. Exact in any decimal context."""
    return -key if key.__class__ is int else key.copy_negate()  # type: ignore[union-attr]


MAX_DIGITS = 20  # of a time; a decimal of more than a million digits cannot even be negated

_TIMES: Mapping[SortBy, Literal["created_at", "updated_at"]] = {
    SortBy.CREATED_AT: "created_at",
    SortBy.UPDATED_AT: "updated_at",
}

_WIRE_NAMES = wire_names(Payment)


@frozen
class Order:
    """The order that a walk requested.

    `field` is the time that rows are sorted by, or None for a sort key that the join rule cannot use. Keys
    rise along the list in either direction: the times of a descending list are negated.
    """

    field: Literal["created_at", "updated_at"] | None
    descending: bool

    @classmethod
    def of(cls, sort_by: SortBy, order_by: OrderBy) -> Order:
        """Return the order for the list's `sortBy` and `orderBy` parameters."""
        return cls(_TIMES.get(sort_by), order_by is OrderBy.DESC)

    @property
    def wire_name(self) -> str:
        """The name of the time in the service's JSON."""
        return _WIRE_NAMES[self.field or "created_at"]

    @property
    def exact(self) -> bool:
        """Whether a walk in this order can be exact: of the sort keys, only `createdAt` never changes."""
        return self.field == "created_at"

    @property
    def opposite(self) -> Order:
        """The same sort key in the other direction: the list read from its other end."""
        return attrs.evolve(self, descending=not self.descending)


@frozen
class PageRequest:
    """Which page to read. `full_size` requests as many rows as the service allows.

    `one_row` requests the first row alone, `from_other_end` the opposite of the walk's order.
    """

    offset: int
    full_size: bool = False
    one_row: bool = False
    from_other_end: bool = False


@define
class SortedPage:
    """A page that was received: its offset, its rows, and the service's count of all rows.

    `limit` is the limit that the service says it used, or else the requested one; `full_size` says whether
    the largest limit was requested. `from_other_end` says that the opposite of the walk's order was
    requested, `is_sorted` whether the rows are in the requested order. Seconds before `now` (epoch seconds by
    the service's clock, None if it does not say) get no new rows. `encoding` is how the request wrote its
    channels if there were several. `refused` says that the service refused to read at this offset.
    """

    offset: int
    listing: Listing = attrs.field(repr=False)
    ids: Sequence[int] = attrs.field(repr=False)
    keys: Sequence[Key] = attrs.field(repr=False)
    total: int | None
    limit: int
    full_size: bool
    from_other_end: bool = False
    is_sorted: bool = True
    now: int | None = None
    encoding: ChannelEncoding | None = None
    refused: bool = False

    @property
    def end(self) -> int:
        """The offset right after the last row."""
        return self.offset + len(self.ids)

    @property
    def reaches_total(self) -> bool:
        """Whether the page ends at its own total, or is empty after it. False if it exceeds the total."""
        return self.total is not None and self.end == max(self.total, self.offset)

    @property
    def contradicts_its_total(self) -> bool:
        """Whether the page itself shows that its total is wrong."""
        return self.total is not None and (self.end > self.total if self.ids else self.offset < self.total)


def keyed(
    listing: Listing, order: Order, *, limit: int, full_size: bool, from_other_end: bool = False
) -> SortedPage:
    """Read the ids and sort keys of the rows. Raises ResponseDecodeError if one is missing or unusable."""
    heads, field = listing.heads, order.field
    ids: Sequence[Any] = [head.id for head in heads]
    if field is None:
        keys: Sequence[Any] = [0] * len(heads)
    else:
        keys = (
            [head.created_at for head in heads]
            if field == "created_at"
            else [head.updated_at for head in heads]
        )
    # One check of all values is enough for nearly every page; ids may arrive as strings [seen].
    if not _are_whole([*ids, *keys]):
        ids = [_whole(value, f"$.data[{index}].id") for index, value in enumerate(ids)]
        keys = [
            _number(value, f"$.data[{index}].{order.wire_name}", ids[index])
            for index, value in enumerate(keys)
        ]
    if order.field and order.descending:
        keys = [negated(key) for key in keys]
    return SortedPage(
        listing.offset,
        listing,
        ids,
        keys,
        listing.total_count,
        limit,
        full_size,
        from_other_end,
        list(keys) == sorted(keys),
        None if listing.date is None else int(listing.date.timestamp()),
    )


def refused_page(request: PageRequest) -> SortedPage:
    """Return an empty page for an offset that the service refuses to read from."""
    offset, full_size, from_other_end = request.offset, request.full_size, request.from_other_end
    empty = Listing([], b"", offset, None, None)
    return SortedPage(offset, empty, (), (), None, 0, full_size, from_other_end, refused=True)


def _are_whole(numbers: Sequence[Any]) -> bool:
    kinds = set(map(type, numbers))
    return not kinds or (kinds == {int} and is_whole(min(numbers)) and is_whole(max(numbers)))


def _whole(value: object, path: str) -> int:
    number = whole_of(value)
    if is_whole(number):
        return number
    raise ResponseDecodeError(f"Expected a whole number at {path}, found {kind_of(value)}.", paths=[path])


def epoch_seconds(moment: datetime) -> Key:
    """Return a datetime in epoch seconds, exactly."""
    microseconds = microseconds_of(moment)
    if microseconds % 1_000_000 == 0:
        return microseconds // 1_000_000
    return Decimal(microseconds).scaleb(-6, EXACT)


def _number(value: object, path: str, payment_id: int) -> Key:
    if is_whole(value):
        return value
    if isinstance(value, str) and (moment := iso_moment(value)) is not None:
        return epoch_seconds(moment)
    if isinstance(value, (float, str, Decimal)):
        number = value if isinstance(value, Decimal) else decimal_of(str(value))
        if number is not None and number.is_finite() and number.adjusted() < MAX_DIGITS:
            return number
    what = f"payment {payment_id}: expected a time at {path}"
    raise ResponseDecodeError(f"{what}, found {kind_of(value)}.", paths=[path])
