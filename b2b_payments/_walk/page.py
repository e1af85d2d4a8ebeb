"""A page as the join sees it: ids and sort keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal

import attrs

from b2b_payments._errors import ResponseDecodeError
from b2b_payments._models.decimals import decimal_of, is_whole, whole_of
from b2b_payments._models.description import wire_names
from b2b_payments._models.enums import OrderBy, SortBy
from b2b_payments._models.payment import Payment
from b2b_payments._printable import define, frozen
from b2b_payments._protocol.answer import kind_of
from b2b_payments._protocol.listing import Listing
from b2b_payments._protocol.query import ChannelEncoding

Key = int | Decimal
Found = bool | Literal["left"] | None
"""Whether a payment that was looked up by id is there; "left" if it is, and shows that it left the list's
filters; None where that cannot be told."""


def negated(key: Key) -> Key:
    """Return the key in the opposite order, exactly, whatever the caller's decimal context."""
    return -key if key.__class__ is int else key.copy_negate()  # type: ignore[union-attr]


MOST_DIGITS = 20  # of a time; beyond a million of them, not even its sign can be changed

_TIMES: Mapping[SortBy, Literal["created_at", "updated_at"]] = {
    SortBy.CREATED_AT: "created_at",
    SortBy.UPDATED_AT: "updated_at",
}

_WIRE_NAMES = wire_names(Payment)


@frozen
class Order:
    """The order that a walk asked for.

    `field` is the time that rows are sorted by, or None for a sort key that the join rule
    does not know. Keys rise along the list in either direction: a descending list is read with its times
    negated.
    """

    field: Literal["created_at", "updated_at"] | None
    descending: bool

    @classmethod
    def of(cls, sort_by: SortBy, order_by: OrderBy) -> Order:
        """Return the order that two of the list's parameters ask for."""
        return cls(_TIMES.get(sort_by), order_by is OrderBy.DESC)

    @property
    def wire_name(self) -> str:
        """The time's name in the service's words."""
        return _WIRE_NAMES[self.field or "created_at"]

    @property
    def exact(self) -> bool:
        """Whether a walk in this order can miss nothing: only `createdAt` never moves."""
        return self.field == "created_at"

    @property
    def opposite(self) -> Order:
        """The same time, from the list's other end."""
        return attrs.evolve(self, descending=not self.descending)


@frozen
class PageRequest:
    """Which page to read: from which offset, with the most rows that the service gives where `full_size`.

    `one_row` says that its first row is all that is asked for, `from_other_end` asks for the walk's opposite
    order.
    """

    offset: int
    full_size: bool = False
    one_row: bool = False
    from_other_end: bool = False


@define
class SortedPage:
    """An answered page: where it starts, what is in it, and how many rows the service says there are.

    `limit` is the limit that the service says it used, or else the one asked for; `full_size` says whether
    the most rows were asked for that ever are. `from_other_end` says that the walk's opposite order was asked
    for, and `is_sorted` whether the rows came in the order asked for. No second before `now` (epoch seconds
    by the service's clock, None where it does not say) gets new rows any more. `spelling` is how several
    channels were asked for, None where they were not. `refused` says that nothing was answered here.
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
    spelling: ChannelEncoding | None = None
    refused: bool = False

    @property
    def end(self) -> int:
        """The offset right behind the last row."""
        return self.offset + len(self.ids)

    @property
    def reaches_total(self) -> bool:
        """Whether this answer itself says that nothing comes after it.

        A total that this very page exceeds is no total.
        """
        return self.total is not None and self.end == max(self.total, self.offset)

    @property
    def contradicts_its_total(self) -> bool:
        """Whether this very answer shows that its total is wrong."""
        return self.total is not None and (self.end > self.total if self.ids else self.offset < self.total)


def keyed(
    listing: Listing, order: Order, *, limit: int, full_size: bool, from_other_end: bool = False
) -> SortedPage:
    """Read ids and sort keys from the rows. Raises ResponseDecodeError for a row without a usable one."""
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
    # One look at all of them is enough for nearly every page; ids may arrive as strings [seen].
    if not _are_whole([*ids, *keys]):
        ids = [_whole(value, f"$.data[{index}].id") for index, value in enumerate(ids)]
        keys = [_number(value, f"$.data[{index}].{order.wire_name}") for index, value in enumerate(keys)]
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


def nothing_at(request: PageRequest) -> SortedPage:
    """Return the page of an offset that the service refuses to read from."""
    offset, full_size, from_other_end = request.offset, request.full_size, request.from_other_end
    nothing = Listing([], b"", offset, None, None)
    return SortedPage(nothing.offset, nothing, (), (), None, 0, full_size, from_other_end, refused=True)


def _are_whole(numbers: Sequence[Any]) -> bool:
    kinds = set(map(type, numbers))
    return not kinds or (kinds == {int} and is_whole(min(numbers)) and is_whole(max(numbers)))


def _whole(value: object, path: str) -> int:
    number = whole_of(value)
    if is_whole(number):
        return number
    raise ResponseDecodeError(f"Expected a whole number at {path}, found {kind_of(value)}.", paths=[path])


def _number(value: object, path: str) -> Key:
    if is_whole(value):
        return value
    if isinstance(value, (float, str, Decimal)):
        number = value if isinstance(value, Decimal) else decimal_of(str(value))
        if number is not None and number.is_finite() and number.adjusted() < MOST_DIGITS:
            return number
    raise ResponseDecodeError(f"Expected epoch seconds at {path}, found {kind_of(value)}.", paths=[path])
