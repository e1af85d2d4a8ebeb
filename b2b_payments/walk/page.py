"""A page as the join sees it: ids and sort keys."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import attrs

from b2b_payments.errors import PaginationError, ResponseDecodeError
from b2b_payments.models.enums import OrderBy, SortBy
from b2b_payments.protocol.answer import kind_of
from b2b_payments.protocol.listing import Listing

Key = int | Decimal

_TIME_KEYS = {SortBy.CREATED_AT: "createdAt", SortBy.UPDATED_AT: "updatedAt"}


@attrs.frozen
class Order:
    """The order that a walk asked for.

    `field` is the wire name of the time that rows are sorted by, or None for a sort key that the join rule
    does not know. Keys rise along the list in either direction: a descending list is read with its times
    negated.
    """

    field: str | None
    descending: bool

    @classmethod
    def of(cls, sort_by: SortBy, order_by: OrderBy) -> Order:
        """Give the order that two of the list's parameters ask for."""
        return cls(_TIME_KEYS.get(sort_by), order_by is OrderBy.DESC)

    @property
    def exact(self) -> bool:
        """Whether a walk in this order can miss nothing: only `createdAt` never moves."""
        return self.field == "createdAt"


@attrs.define
class KeyedPage:
    """An answered page: where it starts, what is in it, and how many rows the service says there are.

    `limit` is the limit that the service says it used, or else the one asked for; `wide` says whether the
    most rows were asked for that ever are.
    """

    offset: int
    rows: Sequence[dict[str, Any]] = attrs.field(repr=False)
    ids: Sequence[int] = attrs.field(repr=False)
    keys: Sequence[Key] = attrs.field(repr=False)
    total: int | None
    limit: int
    wide: bool

    @property
    def end(self) -> int:
        """The offset right behind the last row."""
        return self.offset + len(self.rows)

    @property
    def reaches_total(self) -> bool:
        """Whether this answer itself says that nothing comes after it.

        A total that this very page exceeds is no total.
        """
        return self.total is not None and self.end == max(self.total, self.offset)


def keyed(listing: Listing, order: Order, *, limit: int, wide: bool) -> KeyedPage:
    """Read ids and sort keys from the rows.

    Raises ResponseDecodeError for a row without a usable id or time, and PaginationError where the service
    did not sort as it was asked to.
    """
    rows = listing.rows
    try:
        ids: Sequence[Any] = [row["id"] for row in rows]
        keys: Sequence[Any] = [row[order.field] for row in rows] if order.field else [0] * len(rows)
    except KeyError:
        ids = keys = [None]
    # One look at the types is enough for nearly every page; ids may arrive as strings [seen].
    if not set(map(type, ids)) | set(map(type, keys)) <= {int}:
        ids = [_whole(row.get("id"), f"$.data[{index}].id") for index, row in enumerate(rows)]
        if order.field:
            keys = [
                _number(row.get(order.field), f"$.data[{index}].{order.field}")
                for index, row in enumerate(rows)
            ]
    if order.field and order.descending:
        keys = [-key for key in keys]
    if list(keys) != sorted(keys):
        raise PaginationError(
            f"The service did not sort by {order.field}: a walk over its pages cannot be exact. "
            "Without a sort that holds, ask for the payments one by one."
        )
    return KeyedPage(listing.offset, rows, ids, keys, listing.total_count, limit, wide)


def _whole(value: object, path: str) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        return int(value)
    if type(value) is int:
        return value
    raise ResponseDecodeError(f"Expected a whole number at {path}, found {kind_of(value)}.", paths=[path])


def _number(value: object, path: str) -> Key:
    if type(value) is int:
        return value
    if isinstance(value, (float, str, Decimal)):
        try:
            number = Decimal(str(value))
        except InvalidOperation:
            number = Decimal("NaN")
        if number.is_finite():
            return number
    raise ResponseDecodeError(f"Expected epoch seconds at {path}, found {kind_of(value)}.", paths=[path])
