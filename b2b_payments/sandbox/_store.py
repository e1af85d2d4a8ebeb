"""The state of the sandbox's store: payments and channels. No I/O."""

from __future__ import annotations

import random
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush
from typing import Any

import msgspec

from b2b_payments._arguments import check, whole
from b2b_payments._errors import ConfigurationError
from b2b_payments._models.decimals import is_whole
from b2b_payments._printable import frozen
from b2b_payments.sandbox._data import (
    FIRST_CREATED,
    Rows,
    created_times,
    format_channel,
    format_id,
    format_payment,
)
from b2b_payments.sandbox._listing import Listing, ListQuery
from b2b_payments.sandbox._rules import Rules
from b2b_payments.sandbox._table import Row, Table

_CACHED_ROWS = 20_000


@frozen(eq=False)
class Snapshot:
    """The contents of a store at one time: made by `Store.snapshot`, for `Store.restore`."""

    table: Table
    last_id: int


class Store:
    """Payments that can be read, listed and changed, by the service or by a test.

    `clock` is the store's own time in epoch seconds (UTC), used for createdAt and updatedAt. It starts at the
    newest payment, and each write advances it by one second; `advance` moves it further. `lag_time` is the
    clock, in seconds, by which `Rules.list_lag` is measured.
    """

    def __init__(
        self,
        payments: int | Sequence[int] = 1000,
        channels: Sequence[int] = (1, 2, 3),
        seed: int = 7,
        rules: Rules | None = None,
        lag_time: Callable[[], float] = time.monotonic,
    ) -> None:
        check("channels", channels, Sequence, "a list of channel ids, such as (1, 2, 3)")
        check("seed", seed, int, "a whole number")
        times = _times(payments, seed)
        check("rules", rules, Rules | None, "Rules")
        if not channels or len(set(channels)) != len(channels):
            raise ConfigurationError(f"channels={channels!r} must be one channel id or more, each once.")
        self._rules = rules or Rules()
        self._rows = Rows(seed, channels)
        self._now = self._listed = Table.of(
            self._rows, times, single_storefront=not self._rules.multi_storefront
        )
        self._random = random.Random(f"store {seed}")
        self._last_id = len(times)
        self._lag_time = lag_time
        # Changes that lists do not show yet, each with the time from which they do.
        self._pending: list[tuple[float, int, Callable[[Table], None]]] = []
        self._due_at: dict[int | None, float] = {}  # the latest of those times, by payment and overall
        self._changes = 0
        self._encoded: dict[int, msgspec.Raw] = {}
        self.clock: int = self._now.newest or FIRST_CREATED

    @property
    def rules(self) -> Rules:
        """The current rules. `multi_storefront` affects payments only when the store is created."""
        return self._rules

    @rules.setter
    def rules(self, rules: Rules) -> None:
        self._rules = rules
        self._encoded.clear()

    @property
    def payments(self) -> int:
        """The number of payments."""
        return len(self._now)

    @property
    def channels(self) -> tuple[int, ...]:
        """The BigCommerce ids of the channels, as used in `channelIds`."""
        return self._rows.channels

    def __len__(self) -> int:
        return len(self._now)

    def __contains__(self, payment_id: object) -> bool:
        return payment_id in self._now

    def ids(self) -> list[int]:
        """Return the ids of all payments in the order of creation."""
        return list(self._now.ids)

    def pick(self, draw: random.Random) -> int | None:
        """Return a random payment's id, or None if the store is empty."""
        return draw.choice(self._now.ids) if len(self._now) else None

    def wire(self, payment_id: int) -> Row:
        """Return a payment as the service's complete JSON object. Raises `KeyError` if it does not exist."""
        return format_payment(self._now.row(payment_id), self._rules)

    def all_wire(self) -> Iterator[Row]:
        """Return the JSON objects of all payments in the order of creation."""
        return (self.wire(payment_id) for payment_id in self.ids())

    def created(self, payment_id: int) -> int:
        """Return createdAt in epoch seconds. Raises `KeyError` if there is no such payment."""
        return self._now.created(payment_id)

    def channel(self, payment_id: int) -> int | None:
        """Return a payment's channel id, or None. Raises `KeyError` if there is no such payment."""
        if payment_id not in self._now:
            raise KeyError(payment_id)
        channel: int = self._now.key("channelId", payment_id)
        return channel or None

    def channel_name(self, channel_id: int) -> str:
        """Return a channel's name. Raises `KeyError` for a channel that the store does not have."""
        return self._rows.channel_name(channel_id)

    def channel_list(self) -> list[Row]:
        """Return the channels' JSON objects."""
        return [format_channel(channel, self._rules) for channel in self._rows.channel_list()]

    def advance(self, seconds: int = 1) -> int:
        """Advance the store's clock and return its new time."""
        self.clock += seconds
        return self.clock

    def insert(self, *, created_at: int | None = None, **fields: Any) -> int:
        """Create a payment and return its id.

        It is created now, after all others, or at `created_at` (epoch seconds). `fields` have the service's
        names; missing ones are generated from the seed.
        """
        created = self.advance() if created_at is None else created_at
        self.clock = max(self.clock, created)
        self._last_id += 1
        payment_id = self._last_id
        row = None
        if fields:
            single = not self._rules.multi_storefront
            generated = self._rows.payment(payment_id, created, single_storefront=single)
            row = generated | {"updatedAt": created} | fields
            row["lineItems"] = [line | {"paymentId": payment_id} for line in row["lineItems"]]
        self._change(payment_id, lambda table: table.insert(payment_id, created, row))
        return payment_id

    def update(self, payment_id: int, **fields: Any) -> None:
        """Change fields of a payment, by the service's names, and its `updatedAt`.

        Raises `KeyError` if there is no such payment.
        """
        row = self._now.row(payment_id) | {"updatedAt": self.advance()} | fields
        self._change(payment_id, lambda table: table.replace(payment_id, row))

    def delete(self, payment_id: int) -> None:
        """Delete a payment. Raises `KeyError` if there is no such payment."""
        if payment_id not in self._now:
            raise KeyError(payment_id)
        self._change(payment_id, lambda table: table.delete(payment_id))

    def snapshot(self) -> Snapshot:
        """Return a backup of the store's current contents."""
        return Snapshot(self._now.copy(), self._last_id)

    def restore(self, snapshot: Snapshot) -> None:
        """Restore the contents of a snapshot, as when a service is restored from a backup.

        Reads by id and lists return the older versions, without any lag. Payments deleted since then are
        back. Payments created since then are gone, and their ids will be assigned again, as by a database's
        sequence. The clock is not set back.
        """
        self._now = self._listed = snapshot.table.copy()
        self._last_id = snapshot.last_id
        self._pending.clear()
        self._due_at.clear()
        self._encoded.clear()

    def is_hidden(self, payment_id: int) -> bool:
        """Whether the rules hide a payment. Raises `KeyError` if there is no such payment."""
        return self._hides(self._now, payment_id)

    def spelled_id(self, payment_id: int) -> int | float | str:
        """Return an id as the rules say."""
        return format_id(self._rules)(payment_id)

    def page(self, query: ListQuery) -> Listing:
        """Return one page of the list, under the current rules."""
        self._apply_due()
        rules = self._rules
        limit = min(query.limit, rules.max_limit)
        ids = self._view(query)
        if callable(rules.short_pages):
            limit = max(0, min(limit, rules.short_pages(limit)))
        elif rules.short_pages and limit > 1 and self._random.random() < rules.short_pages:
            limit = self._random.randrange(1, limit)
        page = self._slice(ids, query, limit)
        match rules.total_count:
            case "page":
                total = len(page)
            case "store":
                total = len(self._view(ListQuery()))
            case "wandering":
                near = max(2, len(ids) // 8)
                total = max(0, len(ids) + self._random.randint(-near, near))
            case _:
                total = len(ids)
        if rules.total_cap is not None:
            total = min(total, rules.total_cap)
        return Listing(ids=page, total=total, asked=query.limit, limit=limit)

    def encoded(self, payment_id: int) -> msgspec.Raw:
        """Return a payment as lists show it, as JSON. Raises `KeyError` if lists do not show it."""
        # Only rows generated from the seed are cached: they never change.
        generated = not self._listed.is_changed(payment_id)
        if generated and (known := self._encoded.get(payment_id)) is not None:
            return known
        row = dict(self._listed.row(payment_id))
        if self._rules.sparse_lists:
            row = self._rows.sparse(row)
        encoded = msgspec.Raw(msgspec.json.encode(format_payment(row, self._rules)))
        if generated:
            if len(self._encoded) >= _CACHED_ROWS:
                self._encoded.clear()
            self._encoded[payment_id] = encoded
        return encoded

    def _view(self, query: ListQuery) -> Sequence[int]:
        """Return the ids that a query's pages are slices of."""
        rules, listed = self._rules, self._listed
        matches: object = query.filters
        if rules.hidden or rules.shown is not None:
            matches = query.filters, rules.hidden, rules.shown
        return listed.view(query.sort_by or "id", matches, lambda: query.select(listed, self._listable()))

    def _listable(self) -> Sequence[int]:
        """Return the ids that lists can show."""
        ids = self._listed.ids
        if self._rules.hidden:
            ids = [one for one in ids if not self._hides(self._listed, one)]
        return ids[: self._rules.shown]

    def _hides(self, table: Table, payment_id: int) -> bool:
        hidden = self._rules.hidden
        return hidden(table.row(payment_id)) if callable(hidden) else payment_id in hidden

    def _slice(self, ids: Sequence[int], query: ListQuery, limit: int) -> list[int]:
        low, high = query.offset, min(query.offset + limit, len(ids))
        if self._rules.paging_window is not None:
            high = min(high, self._rules.paging_window)
        if low >= high:
            return []
        if not query.ascending:
            low, high = len(ids) - high, len(ids) - low
        if self._rules.equals != "stable" and query.sort_by is not None:
            return self._among_equals(ids, query, low, high)
        page = list(ids[low:high])
        return page if query.ascending else page[::-1]

    def _among_equals(self, ids: Sequence[int], query: ListQuery, low: int, high: int) -> list[int]:
        # Runs of equal keys at the page's edges are ordered as a whole: any of their rows may be on the page.
        start, end, sort_by = low, high, query.sort_by or "id"
        table = self._listed
        column = None if sort_by == "createdAt" else table.column(sort_by)
        key = table.created if column is None else column.__getitem__
        while start > 0 and key(ids[start - 1]) == key(ids[low]):
            start -= 1
        while end < len(ids) and key(ids[end]) == key(ids[high - 1]):
            end += 1
        page = list(ids[start:end])
        if self._rules.equals == "shuffled":
            self._random.shuffle(page)
        page.sort(key=key, reverse=not query.ascending)
        return page[low - start : high - start] if query.ascending else page[end - high : end - low]

    def _change(self, payment_id: int, change: Callable[[Table], None]) -> None:
        self._apply_due()
        lag = self._rules.list_lag
        if lag or self._pending:
            if self._listed is self._now:
                self._listed = self._now.copy()
            # Lists show all writes in order, or, if the lag is a function, those of each payment.
            name, seconds = (payment_id, lag()) if callable(lag) else (None, lag)
            due_at = max(self._lag_time() + seconds, self._due_at.get(name, 0.0))
            self._due_at[name] = self._due_at[payment_id] = due_at
            self._changes += 1
            heappush(self._pending, (due_at, self._changes, change))
        change(self._now)

    def _apply_due(self) -> None:
        while self._pending and self._pending[0][0] <= self._lag_time():
            heappop(self._pending)[2](self._listed)
        if not self._pending:
            self._listed = self._now
            self._due_at.clear()


def _times(payments: int | Sequence[int], seed: int) -> array[int]:
    """Generate creation times for a number of payments, or return the given ones."""
    if not isinstance(payments, Sequence):
        return created_times(seed, whole("payments", payments, least=0))
    if not all(map(is_whole, payments)) or list(payments) != sorted(payments):
        raise ConfigurationError("payments must be a number, or whole epoch seconds, oldest first.")
    return array("q", payments)
