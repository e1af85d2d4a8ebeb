"""The state of the sandbox's store: payments and channels. It does no I/O."""

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
from b2b_payments.sandbox._data import FIRST_CREATED, Rows, created_times, spelled_channel, spelled_payment
from b2b_payments.sandbox._listing import Listing, ListQuery, Row, Table
from b2b_payments.sandbox._rules import Rules

_CACHED_ROWS = 20_000


@frozen(eq=False)
class Snapshot:
    """What a store held at a moment: made by `Store.snapshot`, for `Store.restore`."""

    table: Table
    last_id: int


class Store:
    """Payments that can be read, listed and changed, by the service or by a test.

    `clock` is the store's own time in epoch seconds (UTC), that of createdAt and updatedAt. It begins
    at the newest payment, and each write moves it on by one second; `advance` moves it further. `lag_time` is
    the clock, in seconds, that `Rules.list_lag` is measured on.
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
        # Changes that lists do not show yet, each with the moment from which on they do.
        self._hidden: list[tuple[float, int, Callable[[Table], None]]] = []
        self._shown_at: dict[int | None, float] = {}  # the last of those moments, of each payment and of all
        self._changes = 0
        self._encoded: dict[int, msgspec.Raw] = {}
        self.clock: int = self._now.newest or FIRST_CREATED

    @property
    def rules(self) -> Rules:
        """The rules in force. `multi_storefront` counts for the payments only when the store is made."""
        return self._rules

    @rules.setter
    def rules(self, rules: Rules) -> None:
        self._rules = rules
        self._encoded.clear()

    @property
    def payments(self) -> int:
        """How many payments there are."""
        return len(self._now)

    @property
    def channels(self) -> tuple[int, ...]:
        """The BigCommerce ids of the channels, those that `channelIds` takes."""
        return self._rows.channels

    def __len__(self) -> int:
        return len(self._now)

    def __contains__(self, payment_id: object) -> bool:
        return payment_id in self._now

    def ids(self) -> list[int]:
        """Return the ids of all payments in the order of creation."""
        return list(self._now.ids)

    def pick(self, draw: random.Random) -> int | None:
        """Return any payment's id, None in an empty store."""
        return draw.choice(self._now.ids) if len(self._now) else None

    def wire(self, payment_id: int) -> Row:
        """Return the service's own JSON object of a payment, complete. Raises `KeyError` if there is none."""
        return spelled_payment(self._now.row(payment_id), self._rules)

    def all_wire(self) -> Iterator[Row]:
        """Return every payment's JSON object in the order of creation."""
        return (self.wire(payment_id) for payment_id in self.ids())

    def created(self, payment_id: int) -> int:
        """Return createdAt in epoch seconds. Raises `KeyError` if there is no such payment."""
        return self._now.created(payment_id)

    def channel(self, payment_id: int) -> int | None:
        """Return a payment's channel id, None where it has none. Raises `KeyError` without such a payment."""
        if payment_id not in self._now:
            raise KeyError(payment_id)
        channel: int = self._now.key("channelId", payment_id)
        return channel or None

    def channel_name(self, channel_id: int) -> str:
        """Return a channel's name. Raises `KeyError` for a channel that the store does not have."""
        return self._rows.channel_name(channel_id)

    def channel_list(self) -> list[Row]:
        """Return the channels' JSON objects."""
        return [spelled_channel(channel, self._rules) for channel in self._rows.channel_list()]

    def advance(self, seconds: int = 1) -> int:
        """Move the store's clock on, and give its new time."""
        self.clock += seconds
        return self.clock

    def insert(self, *, created_at: int | None = None, **fields: Any) -> int:
        """Create a payment and give its id.

        It is created now, behind all others, unless `created_at` (epoch seconds) says when. `fields` are in
        the service's own words; what they leave out is drawn from the seed.
        """
        created = self.advance() if created_at is None else created_at
        self.clock = max(self.clock, created)
        self._last_id += 1
        payment_id = self._last_id
        row = None
        if fields:
            single = not self._rules.multi_storefront
            drawn = self._rows.payment(payment_id, created, single_storefront=single)
            row = drawn | {"updatedAt": created} | fields
            row["lineItems"] = [line | {"paymentId": payment_id} for line in row["lineItems"]]
        self._change(payment_id, lambda table: table.insert(payment_id, created, row))
        return payment_id

    def update(self, payment_id: int, **fields: Any) -> None:
        """Change fields of a payment, in the service's own words; `updatedAt` moves.

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
        """Return what the store holds now, as a backup does."""
        return Snapshot(self._now.copy(), self._last_id)

    def restore(self, snapshot: Snapshot) -> None:
        """Hold again what the snapshot has, and nothing else, as a service restored from a backup does.

        Reading by id and lists, without any lag, give the older versions, and payments deleted since then are
        back. Payments created since are gone; their ids will be given again, as a database's sequence does.
        The clock goes on.
        """
        self._now = self._listed = snapshot.table.copy()
        self._last_id = snapshot.last_id
        self._hidden.clear()
        self._shown_at.clear()
        self._encoded.clear()

    def is_hidden(self, payment_id: int) -> bool:
        """Say whether the rules hide a payment. Raises `KeyError` if there is no such payment."""
        return self._hides(self._now, payment_id)

    def spelled_id(self, payment_id: int) -> int | str:
        """Spell an id as the rules say."""
        return str(payment_id) if self._rules.ids_as == "string" else payment_id

    def page(self, query: ListQuery) -> Listing:
        """Return one page of what lists show, under the rules in force."""
        self._catch_up()
        rules = self._rules
        limit = min(query.limit, rules.max_limit)
        ids = self._view(query)
        if callable(rules.short_pages):
            limit = max(0, min(limit, rules.short_pages(limit)))
        elif rules.short_pages and limit > 1 and self._random.random() < rules.short_pages:
            limit = self._random.randrange(1, limit)
        page = self._cut(ids, query, limit)
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
        # Only rows from the seed are kept: they stay what they are.
        drawn = not self._listed.is_changed(payment_id)
        if drawn and (known := self._encoded.get(payment_id)) is not None:
            return known
        row = dict(self._listed.row(payment_id))
        if self._rules.sparse_lists:
            row = self._rows.sparse(row)
        encoded = msgspec.Raw(msgspec.json.encode(spelled_payment(row, self._rules)))
        if drawn:
            if len(self._encoded) >= _CACHED_ROWS:
                self._encoded.clear()
            self._encoded[payment_id] = encoded
        return encoded

    def _view(self, query: ListQuery) -> Sequence[int]:
        """Return the ids that a query's pages are cut from."""
        rules, listed = self._rules, self._listed
        matches: object = query.filters
        if rules.hidden or rules.shown is not None:
            matches = query.filters, rules.hidden, rules.shown
        return listed.view(query.sort_by or "id", matches, lambda: query.select(listed, self._reachable()))

    def _reachable(self) -> Sequence[int]:
        """Return the ids that lists can show at all."""
        ids = self._listed.ids
        if self._rules.hidden:
            ids = [one for one in ids if not self._hides(self._listed, one)]
        return ids[: self._rules.shown]

    def _hides(self, table: Table, payment_id: int) -> bool:
        hidden = self._rules.hidden
        return hidden(table.row(payment_id)) if callable(hidden) else payment_id in hidden

    def _cut(self, ids: Sequence[int], query: ListQuery, limit: int) -> list[int]:
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
        # Runs of equals that the page cuts are ordered whole: any of their rows may be on this side.
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
        self._catch_up()
        lag = self._rules.list_lag
        if lag or self._hidden:
            if self._listed is self._now:
                self._listed = self._now.copy()
            # Of all writes, or of those of one payment, none overtakes another.
            name, seconds = (payment_id, lag()) if callable(lag) else (None, lag)
            shown_at = max(self._lag_time() + seconds, self._shown_at.get(name, 0.0))
            self._shown_at[name] = self._shown_at[payment_id] = shown_at
            self._changes += 1
            heappush(self._hidden, (shown_at, self._changes, change))
        change(self._now)

    def _catch_up(self) -> None:
        while self._hidden and self._hidden[0][0] <= self._lag_time():
            heappop(self._hidden)[2](self._listed)
        if not self._hidden:
            self._listed = self._now
            self._shown_at.clear()


def _times(payments: int | Sequence[int], seed: int) -> array[int]:
    """Draw the creation times of so many payments, or take those that are given."""
    if not isinstance(payments, Sequence):
        return created_times(seed, whole("payments", payments, least=0))
    if not all(map(is_whole, payments)) or list(payments) != sorted(payments):
        raise ConfigurationError("payments must be how many, or whole epoch seconds, the oldest first.")
    return array("q", payments)
