"""Copies read back by the databases' own libraries, and stores that remember every version of a payment."""

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
"""What a payment is, line items included, as the tests compare it."""

ENDINGS = ("sqlite", "duckdb")
KINDS = (*ENDINGS, "postgres")
"""The databases that copies are kept in; all but the last one are files of such an ending."""
Copied = Path | sync.Store
LAG = 1200.0
"""Seconds that lists lag a write at the most."""


def uneven_lag(seed: int) -> Callable[[], float]:
    """Return lags of up to 20 minutes: lists show some writes at once, others long after later ones."""
    draw = random.Random(f"lag {seed}")
    return lambda: draw.choice([0.0, 1.0, LAG / 4, LAG]) * draw.uniform(0.9, 1.0)


def version_of(wire: Mapping[str, Any]) -> Version:
    """Return the version that the service's own object is."""
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
    """Let what changes now be later than every overlap."""
    store.advance(7_200)


def store_in(kind: str, folder: Path, server: str) -> sync.Store:
    """Return a place for a copy in one kind of database: in a folder, or in a new schema on a server."""
    if kind == "postgres":
        return sync.PostgresStore(server, schema=f"copy {uuid4().hex[:12]}")
    return sync.store_for(folder / f"copy.{kind}")


@contextmanager
def connected(copy: Copied) -> Iterator[Any]:
    """Connect to a copy's database as its user would; on a server, to the schema."""
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
    """Return the payments and line items of a copy as the database's own library reads them."""
    with connected(copy) as connection:
        return selected(connection)


def held_in(copy: Copied) -> dict[int, Version]:
    """Return the versions that a copy holds, by id."""
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
    """Return the versions that the service has now, by id."""
    return {int(wire["id"]): version_of(wire) for wire in store.all_wire()}


def _seconds(cell: str | datetime) -> int:
    moment = datetime.fromisoformat(cell) if isinstance(cell, str) else cell
    return int(moment.astimezone(UTC).timestamp())


@attrs.define
class Wrong:
    """What is wrong with a copy, in payments."""

    stale: int = 0
    """Not as the service has them, though they were not written lately."""
    never: int = 0
    """Held in a version that the service never had."""
    left: int = 0
    """Held after a sweep, though they were deleted before it."""

    def __add__(self, other: Wrong) -> Wrong:
        return Wrong(self.stale + other.stale, self.never + other.never, self.left + other.left)


@attrs.define
class Lived:
    """A version of a payment, and from when to when it was the one that the store had."""

    id: int
    version: Version
    written: float
    ended: float = float("inf")


@attrs.frozen
class Backup:
    """What a store held at a moment."""

    snapshot: Snapshot
    versions: Mapping[int, Version]


class LivingStore:
    """A sandbox's store in which changes go on, at the loop's time, and are remembered.

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
        """Make so many changes now."""
        for _ in range(count):
            kind = self._draw.choices(("insert", "update", "delete"), (4, 5, 2))[0]
            for _ in range(self._draw.randint(2, self._many) if self._draw.random() < 0.1 else 1):
                # All within this second: each write moves the store's own clock on by one.
                self._tell_time()
                getattr(self, f"_{kind}")()

    def wrong(self, copy: Copied, *, begun: float, swept: bool) -> Wrong:
        """Compare a copy with the store, after a sync that began at this moment."""
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
        """Make a backup of the store."""
        return Backup(self.store.snapshot(), dict(self.now_versions))

    def restore(self, backup: Backup) -> None:
        """Restore the store from a backup: no list shows when payments went back to older versions."""
        self.store.restore(backup.snapshot)
        self.now_versions = dict(backup.versions)
        for payment_id, lived in [*self._living.items()]:
            if self.now_versions.get(payment_id) != lived.version:
                self._end(payment_id)

    def change_in_the_future(self, seconds: int) -> None:
        """Update a payment as a clock that is so much ahead would."""
        self._tell_time()
        if (payment_id := self.store.pick(self._draw)) is not None:
            self.store.update(payment_id, updatedAt=self.store.clock + seconds)
            self._note(payment_id)

    def _tell_time(self) -> None:
        self.store.clock = self._begun + int(self._now()) - 1

    def _before_list(self, _store: Store, _seen: SeenRequest) -> None:
        self._tell_time()
        left = self.during
        while self._draw.random() < left:
            left -= 1
            self.change()

    def _insert(self) -> None:
        if self._draw.random() < 0.5:
            self._note(self.store.insert())
        else:
            self._note(self.store.insert(payerName='O\'Brien\n"李"', customerName=f"c{self._draw.random()}"))

    def _update(self) -> None:
        if (payment_id := self.store.pick(self._draw)) is None:
            return
        lines = self.store.wire(payment_id)["lineItems"]
        if lines and self._draw.random() < 0.3:
            lines = lines[:-1] if self._draw.random() < 0.5 else [*lines, lines[0] | {"invoiceId": 7}]
        self.store.update(payment_id, payerName=f"p{self._draw.random()}", lineItems=lines)
        self._note(payment_id)

    def _delete(self) -> None:
        # Never the last one: that a list came empty is not believed.
        if len(self.store) > 1 and (payment_id := self.store.pick(self._draw)) is not None:
            self.store.delete(payment_id)
            self.deleted[payment_id] = self._now()
            del self.now_versions[payment_id]
            self._end(payment_id)

    def _end(self, payment_id: int) -> None:
        if (lived := self._living.pop(payment_id, None)) is not None:
            lived.ended = self._now()

    def _note(self, payment_id: int) -> None:
        version = version_of(self.store.wire(payment_id))
        self.now_versions[payment_id] = version
        self.had.setdefault(payment_id, set()).add(version)
        self.written[payment_id] = self._now()
        self._end(payment_id)
        self._living[payment_id] = lived = Lived(payment_id, version, self._now())
        self.lived.append(lived)
