"""Reads copies with the databases' own libraries; stores that remember every version of a payment."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import attrs
import psycopg

from b2b_payments import sync
from b2b_payments.sandbox import Sandbox, SeenRequest, Store
from b2b_payments.sandbox._store import Snapshot
from b2b_payments.sync._store import FileStore
from tests.support.export_reading import Rows, connected_to, selected

Version = tuple[Any, ...]
"""A version of a payment, line items included, in a form that tests compare."""

ENDINGS = ("sqlite", "duckdb")
KINDS = (*ENDINGS, "postgres")
"""The databases that can hold a copy; all but the last are files with that ending."""
Copied = Path | sync.Store
LAG = 1200.0
"""The most seconds by which lists lag a write."""


def uneven_lag(seed: int) -> Callable[[], float]:
    """Return a function that draws lags of up to 20 minutes, so that lists show writes out of order."""
    draw = random.Random(f"lag {seed}")
    return lambda: draw.choice([0.0, 1.0, LAG / 4, LAG]) * draw.uniform(0.9, 1.0)


def version_of(wire: Mapping[str, Any]) -> Version:
    """Return the version that a payment, as the service sent it, stands for."""
    items = [
        (
            int(item["invoiceId"]),
            item["invoiceNumber"],
            item["amount"]["code"],
            Decimal(item["amount"]["value"]),
        )
        for item in wire["lineItems"]
    ]
    return (
        wire["createdAt"],
        wire["updatedAt"],
        wire["payerName"],
        wire["customerName"],
        wire.get("externalId"),
        int(wire["processingStatus"]),
        wire["total"]["code"],
        Decimal(wire["total"]["value"]),
        tuple(items),
    )


def hours_pass(store: Store) -> None:
    """Advance the store's clock, so that later changes are beyond every overlap."""
    store.advance(7_200)


def store_in(kind: str, folder: Path, server: str) -> sync.Store:
    """Return a store for a copy in this kind of database: in a folder, or in a new schema on a server."""
    if kind == "postgres":
        return sync.PostgresStore(server, schema=f"copy {uuid4().hex[:12]}")
    return sync.store_for(folder / f"copy.{kind}")


@contextmanager
def connected(copy: Copied) -> Iterator[Any]:
    """Connect to a copy's database as a user would; on a server, with its schema as the search path."""
    if isinstance(copy, sync.PostgresStore):
        with psycopg.connect(copy.place.dsn, autocommit=True) as connection:
            connection.execute(f'SET search_path = "{copy.place.schema}"')
            yield connection
    else:
        path = copy.path if isinstance(copy, FileStore) else copy
        assert isinstance(path, Path)
        with connected_to(path, path.suffix[1:]) as connection:
            yield connection


def tables_of(copy: Copied) -> tuple[Rows, Rows]:
    """Return the payments and line items of a copy, read by the database's own library."""
    with connected(copy) as connection:
        return selected(connection)


def held_in(copy: Copied) -> dict[int, Version]:
    """Return the version of each payment in a copy, by id."""
    payments, lines = tables_of(copy)
    items: dict[int, list[Version]] = {row["id"]: [] for row in payments}
    assert len(items) == len(payments)
    for place, line in enumerate(lines):
        its = items[line["payment_id"]]  # no line item without its payment
        assert line["position"] == len(its), place
        its.append((line["invoice_id"], line["invoice_number"], line["currency"], Decimal(line["amount"])))
    return {
        row["id"]: (
            _seconds(row["created_at"]),
            _seconds(row["updated_at"]),
            row["payer_name"],
            row["customer_name"],
            row["external_id"],
            row["processing_status"],
            row["currency"],
            Decimal(row["total"]),
            tuple(items[row["id"]]),
        )
        for row in payments
    }


def versions_of(store: Store) -> dict[int, Version]:
    """Return the version of each payment in the service now, by id."""
    return {int(wire["id"]): version_of(wire) for wire in store.all_wire()}


def _seconds(cell: str | datetime) -> int:
    moment = datetime.fromisoformat(cell) if isinstance(cell, str) else cell
    return int(moment.astimezone(UTC).timestamp())


@attrs.define
class Wrong:
    """What is wrong with a copy, as numbers of payments."""

    stale: int = 0
    """Not as the service has them, although they were not written recently."""
    never: int = 0
    """In a version that the service never had."""
    left: int = 0
    """Still in the copy after a sweep, although they were deleted before it."""

    def __add__(self, other: Wrong) -> Wrong:
        return Wrong(self.stale + other.stale, self.never + other.never, self.left + other.left)


@attrs.define
class Lived:
    """A version of a payment, and the interval in which the store had it."""

    id: int
    version: Version
    written: float
    ended: float = float("inf")


@attrs.frozen
class Backup:
    """The content of a store at one time."""

    snapshot: Snapshot
    versions: Mapping[int, Version]


class LivingStore:
    """A sandbox's store that keeps changing, by the loop's clock, and remembers all versions.

    `during` is the mean number of changes before each list request. A tenth of the changes are of many
    payments in one second, as an import or a nightly job makes them.
    """

    def __init__(self, sandbox: Sandbox, seed: int, *, during: float = 0.0, many: int = 20) -> None:
        self.store = sandbox.store
        self.during = during
        self._many = many
        self._draw = random.Random(f"living {seed}")
        self._now = sandbox._time
        self._begun = self.store.clock + 1 - int(self._now())
        self.now_versions = versions_of(self.store)
        self.had: dict[int, set[Version]] = {one: {it} for one, it in self.now_versions.items()}
        self.written: dict[int, float] = {}
        self.deleted: dict[int, float] = {}
        self.lived: list[Lived] = []
        self._living: dict[int, Lived] = {}
        sandbox.before_list = self._before_list

    def change(self, count: int = 1) -> None:
        """Make `count` changes now."""
        for _ in range(count):
            kind = self._draw.choices(("insert", "update", "delete"), (4, 5, 2))[0]
            for _ in range(self._draw.randint(2, self._many) if self._draw.random() < 0.1 else 1):
                # All in the same second: each write would advance the store's own clock by one.
                self._set_clock()
                getattr(self, f"_{kind}")()

    def wrong(self, copy: Copied, *, begun: float, swept: bool) -> Wrong:
        """Compare a copy with the store, after a sync that began at `begun`."""
        held = held_in(copy)
        settled = begun - LAG - 1
        return Wrong(
            stale=sum(
                held.get(one) != version
                for one, version in self.now_versions.items()
                if self.written.get(one, -LAG * 9) < settled
            ),
            never=sum(version not in self.had[one] for one, version in held.items()),
            left=sum(one in held for one, at in self.deleted.items() if at < settled) if swept else 0,
        )

    def back_up(self) -> Backup:
        """Return a backup of the store."""
        return Backup(self.store.snapshot(), dict(self.now_versions))

    def restore(self, backup: Backup) -> None:
        """Restore the store from a backup: payments go back to older versions without a new updatedAt."""
        self.store.restore(backup.snapshot)
        self.now_versions = dict(backup.versions)
        for payment_id, lived in [*self._living.items()]:
            if self.now_versions.get(payment_id) != lived.version:
                self._end(payment_id)

    def change_in_the_future(self, seconds: int) -> None:
        """Update a payment with an updatedAt that many seconds in the future."""
        self._set_clock()
        if (payment_id := self.store.pick(self._draw)) is not None:
            self.store.update(payment_id, updatedAt=self.store.clock + seconds)
            self._remember(payment_id)

    def _set_clock(self) -> None:
        self.store.clock = self._begun + int(self._now()) - 1

    def _before_list(self, _store: Store, _seen: SeenRequest) -> None:
        self._set_clock()
        left = self.during
        while self._draw.random() < left:
            left -= 1
            self.change()

    def _insert(self) -> None:
        if self._draw.random() < 0.5:
            self._remember(self.store.insert())
        else:
            self._remember(
                self.store.insert(payerName='O\'Brien\n"李"', customerName=f"c{self._draw.random()}")
            )

    def _update(self) -> None:
        if (payment_id := self.store.pick(self._draw)) is None:
            return
        lines = self.store.wire(payment_id)["lineItems"]
        if lines and self._draw.random() < 0.3:
            lines = lines[:-1] if self._draw.random() < 0.5 else [*lines, lines[0] | {"invoiceId": 7}]
        self.store.update(payment_id, payerName=f"p{self._draw.random()}", lineItems=lines)
        self._remember(payment_id)

    def _delete(self) -> None:
        # Never the last payment: an empty list is not believed.
        if len(self.store) > 1 and (payment_id := self.store.pick(self._draw)) is not None:
            self.store.delete(payment_id)
            self.deleted[payment_id] = self._now()
            del self.now_versions[payment_id]
            self._end(payment_id)

    def _end(self, payment_id: int) -> None:
        if (lived := self._living.pop(payment_id, None)) is not None:
            lived.ended = self._now()

    def _remember(self, payment_id: int) -> None:
        version = version_of(self.store.wire(payment_id))
        self.now_versions[payment_id] = version
        self.had.setdefault(payment_id, set()).add(version)
        self.written[payment_id] = self._now()
        self._end(payment_id)
        self._living[payment_id] = lived = Lived(payment_id, version, self._now())
        self.lived.append(lived)
