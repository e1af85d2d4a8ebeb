"""Pages of a walk, made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from b2b_payments._protocol.listing import Head, Listing
from b2b_payments._walk.page import Order, SortedPage, keyed

ASCENDING = Order("created_at", False)
_NOW = datetime(2026, 1, 1, tzinfo=UTC)

Rows = Sequence[tuple[object, object]]


def rows(first: int, last: int) -> list[tuple[object, object]]:
    """Return rows whose creation time is their id."""
    return [(number, number) for number in range(first, last + 1)]


def page(
    offset: int,
    given: Rows,
    *,
    total: int | None,
    full_size: bool = True,
    order: Order = ASCENDING,
    from_other_end: bool = False,
    limit: int = 250,
    now: datetime | None = _NOW,
) -> SortedPage:
    """Return a page of `(id, createdAt)` rows; `order` is the walk's."""
    heads = [Head(id=row_id, created_at=created, updated_at=created) for row_id, created in given]
    listing = Listing(heads, b"", offset, None, total, now)
    own = order.opposite if from_other_end else order
    return keyed(listing, own, limit=limit, full_size=full_size, from_other_end=from_other_end)
