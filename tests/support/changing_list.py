"""A list of payments that changes at every read, without a socket: for thousands of schedules in a second."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime

import anyio
import attrs

from b2b_payments._protocol.json import encode
from b2b_payments._protocol.listing import Head, Listing
from b2b_payments._walk.page import Order, PageRequest, SortedPage, keyed

FULL_SIZE = 250
CREATED = Order("created_at", False)


@attrs.define
class ChangingList:
    """Rows by id, sorted by time at each read; equal times in shuffled order unless `stable`.

    Each read makes `changes` changes on average before it is answered: deletes, more of them at the
    start, and new rows at the end. `most` is the service's page size, `short` the share of pages with fewer
    rows than possible, `total` how it counts. `lasting` are the ids that exist from the start on.
    """

    rows: dict[int, int]
    draw: random.Random
    order: Order = CREATED
    page_size: int = 10
    most: int = 10**9
    changes: float = 0.0
    short: float = 0.0
    stable: bool = False
    total: str = "true"
    requests: int = 0
    lasting: set[int] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.lasting = set(self.rows)

    @classmethod
    def drawn(cls, draw: random.Random, count: int, *, runs: list[int]) -> ChangingList:
        """Draw `count` rows, in runs of equal times of these lengths."""
        rows: dict[int, int] = {}
        moment = 1_600_000_000
        while len(rows) < count:
            moment += draw.randint(1, 3)
            for _ in range(min(draw.choice(runs), count - len(rows))):
                rows[len(rows) + 1] = moment
        return cls(rows, draw)

    def change(self) -> None:
        """Make some changes."""
        left = self.changes
        while self.draw.random() < left:
            left -= 1
            if self.rows and self.draw.random() < 0.6:
                ids = sorted(self.rows)
                gone = ids[int(self.draw.random() ** 2 * len(ids))]
                del self.rows[gone]
                self.lasting.discard(gone)
            else:
                newest = max(self.rows.values(), default=1_600_000_000)
                self.rows[10**6 + self.requests * 100 + len(self.rows)] = newest + 1

    def listing(self, offset: int, limit: int, *, from_other_end: bool = False) -> Listing:
        """Answer one request."""
        self.change()
        self.requests += 1
        sign = -1 if self.order.descending is not from_other_end else 1
        ids = sorted(self.rows, key=lambda i: (sign * self.rows[i], i if self.stable else self.draw.random()))
        count = min(limit, self.most)
        if self.draw.random() < self.short:
            count = self.draw.randint(1, count)
        total = {"true": len(ids), "too large": len(ids) + 1_000, "absent": None}[self.total]
        part = [{"id": i, "createdAt": self.rows[i]} for i in ids[offset : offset + count]]
        heads = [Head(id=row["id"], created_at=row["createdAt"]) for row in part]
        # One second after the newest payment: no payment is created in a past second.
        now = datetime.fromtimestamp(max(self.rows.values(), default=1_600_000_000) + 1, UTC)
        return Listing(heads, encode({"data": part}), offset, None, total, now)

    async def read(self, request: PageRequest, _is_awaited: Callable[[], bool]) -> SortedPage:
        """Read a page as a walk's source does; answers overtake one another."""
        for _ in range(self.draw.randint(0, 3)):
            await anyio.lowlevel.checkpoint()
        limit = max(self.page_size, FULL_SIZE) if request.full_size else self.page_size
        listing = self.listing(request.offset, limit, from_other_end=request.from_other_end)
        for _ in range(self.draw.randint(0, 3)):
            await anyio.lowlevel.checkpoint()
        order = self.order.opposite if request.from_other_end else self.order
        full_size = request.full_size or limit >= FULL_SIZE
        return keyed(listing, order, limit=limit, full_size=full_size, from_other_end=request.from_other_end)

    async def is_there(self, payment_id: int) -> bool | None:
        """Look a payment up by its id."""
        return payment_id in self.rows
