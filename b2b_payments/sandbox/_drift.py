"""A store that changes while it is read."""

from __future__ import annotations

import random

import attrs

from b2b_payments._printable import define
from b2b_payments.sandbox._faults import SeenRequest
from b2b_payments.sandbox._store import Store


@define(eq=False)
class Drift:
    """Changes the store before each list request; assign it to `Sandbox.before_list`.

    `rate` is the mean number of changes per request. `insert`, `delete` and `update` are the relative weights
    of the kinds of change. A quarter of the inserts share their second with the newest payment. The ids of
    changed payments are recorded: a payment in neither `inserted` nor `deleted` existed the whole time.
    """

    seed: int = 0
    rate: float = attrs.field(default=1.0, kw_only=True)
    insert: float = attrs.field(default=1, kw_only=True)
    delete: float = attrs.field(default=1, kw_only=True)
    update: float = attrs.field(default=1, kw_only=True)
    inserted: set[int] = attrs.field(factory=set, init=False)
    deleted: set[int] = attrs.field(factory=set, init=False)
    updated: set[int] = attrs.field(factory=set, init=False)
    _random: random.Random = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._random = random.Random(f"drift {self.seed}")

    def __call__(self, store: Store, _seen: SeenRequest | None = None) -> None:
        """Make the changes for one request."""
        for _ in range(self._count()):
            (change,) = self._random.choices(
                (self._insert, self._delete, self._update), (self.insert, self.delete, self.update)
            )
            change(store)

    def lasting(self, before: set[int]) -> set[int]:
        """Return the payments in `before` that were never deleted."""
        return before - self.deleted

    def _count(self) -> int:
        # The number of arrivals of a Poisson process within one unit of time.
        count, at = 0, self._random.expovariate(self.rate) if self.rate > 0 else 1.0
        while at < 1.0:
            count += 1
            at += self._random.expovariate(self.rate)
        return count

    def _insert(self, store: Store) -> None:
        equal = self._random.random() < 0.25
        self.inserted.add(store.insert(created_at=store.clock if equal else None))

    def _delete(self, store: Store) -> None:
        if (payment_id := store.pick(self._random)) is not None:
            store.delete(payment_id)
            self.deleted.add(payment_id)

    def _update(self, store: Store) -> None:
        if (payment_id := store.pick(self._random)) is not None:
            store.update(payment_id, payerName=f"Payer {self._random.randrange(1000)}")
            self.updated.add(payment_id)
