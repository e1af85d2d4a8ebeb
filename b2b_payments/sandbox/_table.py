"""The payments of a store as a table."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any, Final, Self

import attrs

from b2b_payments._printable import define
from b2b_payments.sandbox._data import Rows

Row = dict[str, Any]


def _text(name: str) -> Callable[[Row], str]:
    return lambda row: str(row.get(name) or "")


KEYS: Final[dict[str, Callable[[Row], Any]]] = {
    "id": lambda row: int(row["id"]),
    "createdAt": lambda row: row["createdAt"],
    "updatedAt": lambda row: row["updatedAt"],
    "moduleName": _text("moduleName"),
    "customerId": _text("customerId"),
    "customerName": lambda row: str(row.get("customerName") or "").casefold(),
    "externalId": _text("externalId"),
    "externalCustomerId": _text("externalCustomerId"),
    "processingStatus": lambda row: row["processingStatus"],
    "appliedStatus": lambda row: row["appliedStatus"],
    "fundingStatus": lambda row: row["fundingStatus"],
    "totalAmount": lambda row: Decimal(row["total"]["value"]),
    "channelId": lambda row: int(row.get("channelId") or 0),
    "invoiceIds": lambda row: tuple(int(line["invoiceId"]) for line in row["lineItems"]),
}
"""The sort and filter key of each column."""

_MAX_CACHED_VIEWS = 32


@define(eq=False)
class Table:
    """Payments in the order (createdAt, id). A row is generated from the seed unless it was changed."""

    _rows: Rows
    _generated_times: array[int]
    _single_storefront: bool
    _times: array[int]
    _ids: array[int]
    _added: dict[int, int] = attrs.field(factory=dict)
    _changed: dict[int, Row] = attrs.field(factory=dict)
    _columns: dict[str, dict[int, Any]] = attrs.field(factory=dict)
    _cached_views: dict[tuple[object, str], Sequence[int]] = attrs.field(factory=dict, init=False)

    @classmethod
    def of(cls, rows: Rows, times: array[int], *, single_storefront: bool = False) -> Self:
        """Create a table of payments 1, 2, 3 …, created at these times (ascending, epoch seconds)."""
        return cls(rows, times, single_storefront, times[:], array("q", range(1, len(times) + 1)))

    def copy(self) -> Self:
        """Return an independent copy with the same rows."""
        return attrs.evolve(
            self,
            times=self._times[:],
            ids=self._ids[:],
            added=dict(self._added),
            changed=dict(self._changed),
            columns={name: dict(column) for name, column in self._columns.items()},
        )

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, payment_id: object) -> bool:
        return isinstance(payment_id, int) and self._find(payment_id) is not None

    @property
    def ids(self) -> Sequence[int]:
        """The ids in the order of creation."""
        return self._ids

    @property
    def newest(self) -> int | None:
        """The creation time of the last row, or None if the table is empty."""
        return self._times[-1] if self._times else None

    def created(self, payment_id: int) -> int:
        """Return the creation time in epoch seconds. Raises `KeyError` if there is no such payment."""
        return self._times[self._position(payment_id)]

    def row(self, payment_id: int) -> Row:
        """Return a payment; do not modify it. Raises `KeyError` if there is no such payment."""
        return self._changed.get(payment_id) or self._generate(payment_id, self.created(payment_id))

    def is_changed(self, payment_id: int) -> bool:
        """Whether the row differs from the one generated from the seed."""
        return payment_id in self._changed

    def insert(self, payment_id: int, created: int, row: Row | None) -> None:
        """Insert a payment, by id among those with the same creation time.

        None as `row` means the one generated from the seed.
        """
        low = bisect_left(self._times, created)
        at = bisect_left(self._ids, payment_id, low, bisect_right(self._times, created, low))
        self._times.insert(at, created)
        self._ids.insert(at, payment_id)
        self._added[payment_id] = created
        if row is not None:
            self._changed[payment_id] = row
        self._refresh(payment_id)

    def replace(self, payment_id: int, row: Row) -> None:
        """Replace the row of a payment."""
        self._changed[payment_id] = row
        self._refresh(payment_id)

    def delete(self, payment_id: int) -> None:
        """Remove a payment. Raises `KeyError` if there is no such payment."""
        at = self._position(payment_id)
        del self._times[at], self._ids[at]
        self._added.pop(payment_id, None)
        self._changed.pop(payment_id, None)
        for column in self._columns.values():
            column.pop(payment_id, None)
        self._cached_views.clear()

    def view(self, sort_by: str, matches: object, select: Callable[[], Iterable[int]]) -> Sequence[int]:
        """Return the ids from `select`, in ascending order of `sort_by`; cached until the table changes.

        `matches` identifies the selection in the cache. `select` returns ids in the order of creation.
        """
        if (found := self._cached_views.get((matches, sort_by))) is not None:
            return found
        ids: Sequence[int] = self._ids if matches is None else list(select())
        if sort_by != "createdAt":
            ids = sorted(ids, key=None if sort_by == "id" else self.column(sort_by).__getitem__)
        if len(self._cached_views) >= _MAX_CACHED_VIEWS:
            self._cached_views.clear()
        self._cached_views[matches, sort_by] = ids
        return ids

    def column(self, name: str) -> dict[int, Any]:
        """Return the values of `KEYS[name]` by id, computed once."""
        if (column := self._columns.get(name)) is None:
            column = self._columns[name] = {
                payment_id: self.key(name, payment_id) for payment_id in self._ids
            }
        return column

    def key(self, name: str, payment_id: int) -> Any:
        """Return one payment's value of `KEYS[name]`."""
        if name == "channelId" and not self._single_storefront and payment_id not in self._changed:
            return self._rows.channel(payment_id)
        return KEYS[name](self.row(payment_id))

    def _refresh(self, payment_id: int) -> None:
        for name, column in self._columns.items():
            column[payment_id] = self.key(name, payment_id)
        self._cached_views.clear()

    def _generate(self, payment_id: int, created: int) -> Row:
        row = self._rows.payment(payment_id, created, single_storefront=self._single_storefront)
        # No row was updated after the store's clock, which starts at the newest generated payment.
        newest = self._generated_times[-1] if self._generated_times else created
        row["updatedAt"] = min(row["updatedAt"], max(created, newest))
        return row

    def _position(self, payment_id: int) -> int:
        if (at := self._find(payment_id)) is None:
            raise KeyError(payment_id)
        return at

    def _find(self, payment_id: int) -> int | None:
        created = self._added.get(payment_id)
        if created is None:
            if not 0 < payment_id <= len(self._generated_times):
                return None
            created = self._generated_times[payment_id - 1]
        # Within one second ids ascend.
        low = bisect_left(self._times, created)
        at = bisect_left(self._ids, payment_id, low, bisect_right(self._times, created, low))
        return at if at < len(self._ids) and self._ids[at] == payment_id else None
