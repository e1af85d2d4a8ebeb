"""The account of an export: what was asked, what came, and what it adds up to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from typing import Annotated, Any, NamedTuple

import attrs
import msgspec

from b2b_payments._converter import structure_payment
from b2b_payments._errors import ResponseDecodeError
from b2b_payments._half_made import shows_half_made
from b2b_payments._models.decimals import EXACT
from b2b_payments._walk.report import WalkReport

_USUAL_AMOUNT = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,40})?", re.ASCII)
UNREADABLE = "unreadable"


class Entry(NamedTuple):
    """What an account takes of one payment. Without a readable total, `amount` is None."""

    status: str
    currency: str
    amount: Decimal | None


def entry_of(raw: Mapping[str, Any]) -> Entry:
    """Read the service's own object as tolerantly as payments are read; what is none still counts."""
    status, total = raw.get("processingStatus"), raw.get("total")
    if status.__class__ is int and total.__class__ is dict:
        currency, value = total.get("code"), total.get("value")
        if currency.__class__ is str and value.__class__ is str:
            entry = usual_entry(status, currency, value)
            if entry is not None:
                return entry
    try:
        payment = structure_payment(raw)
    except ResponseDecodeError:
        return Entry(UNREADABLE, "", None)
    return Entry(str(int(payment.processing_status)), payment.total.currency, payment.total.amount)


def usual_entry(status: int, currency: str, value: str) -> Entry | None:
    """Give the entry of a payment whose total is spelled in the usual way; None where it is not."""
    return Entry(str(status), currency, Decimal(value)) if _USUAL_AMOUNT.fullmatch(value) else None


def entry_of_row(row: Any) -> Entry:
    """Take the entry of a payment that was read into a row."""
    return Entry(str(row.processing_status), row.total.code, Decimal(row.total.value))


@shows_half_made
@attrs.define
class Tally:
    """How many payments, and the sum of their totals in each currency, to the last digit."""

    rows: int = 0
    totals: dict[str, Decimal] = attrs.field(factory=dict)

    def add(self, rows: int, totals: Mapping[str, Decimal]) -> None:
        """Count payments."""
        self.rows += rows
        for currency, total in totals.items():
            before = self.totals.get(currency)
            self.totals[currency] = total if before is None else EXACT.add(before, total)

    def pack(self) -> dict[str, Any]:
        """Give it as plain JSON, amounts as digits."""
        return {
            "rows": self.rows,
            "totals": {currency: f"{total:f}" for currency, total in sorted(self.totals.items())},
        }


@shows_half_made
@attrs.define
class Sums:
    """The tally of all payments, and of those of each processing status."""

    whole: Tally = attrs.field(factory=Tally)
    statuses: dict[str, Tally] = attrs.field(factory=dict)

    def add(self, entries: Iterable[Entry]) -> None:
        """Count payments."""
        found: dict[str, dict[str, list[Decimal | None]]] = {}
        for status, currency, amount in entries:
            found.setdefault(status, {}).setdefault(currency, []).append(amount)
        with localcontext(EXACT):
            for status, currencies in found.items():
                rows = sum(map(len, currencies.values()))
                totals: dict[str, Decimal] = {}
                for currency, amounts in currencies.items():
                    known = [amount for amount in amounts if amount is not None]
                    if known:
                        totals[currency] = sum(known[1:], known[0])
                self.whole.add(rows, totals)
                self.statuses.setdefault(status, Tally()).add(rows, totals)

    def pack(self) -> dict[str, Any]:
        """Give them as plain JSON."""
        statuses = {status: tally.pack() for status, tally in sorted(self.statuses.items())}
        return {**self.whole.pack(), "statuses": statuses}


@shows_half_made
@attrs.define
class Account:
    """The account of one export, over all the times it was resumed.

    `begun` and `ended` are UTC. `query` is what was asked for, `requests` and `gaps` what the walks report;
    those of a process that was killed are counted up to its last commit. `complete` as in `WalkReport`.
    `store_hash` is the store that the first payment says it is of.
    """

    query: Mapping[str, Any]
    begun: str
    ended: str | None = None
    sums: Sums = attrs.field(factory=Sums)
    requests: int = 0
    gaps: int = 0
    complete: bool = False
    store_hash: str | None = None

    @classmethod
    def begin(cls, query: Mapping[str, Any]) -> Account:
        """Begin an account now."""
        return cls(query, _now())

    def add(self, batch: Iterable[Mapping[str, Any]]) -> None:
        """Count payments."""
        self.sums.add(map(entry_of, batch))

    def following(self, report: WalkReport, before: Account) -> None:
        """Take over what a walk spent, on top of what was spent before it."""
        self.requests = before.requests + report.requests
        self.gaps = before.gaps + report.gaps

    def end(self, *, complete: bool) -> None:
        """End it now."""
        self.ended, self.complete = _now(), complete

    def pack(self) -> dict[str, Any]:
        """Give it as plain JSON."""
        return {
            "query": dict(self.query),
            "begun": self.begun,
            "ended": self.ended,
            "complete": self.complete,
            **self.sums.pack(),
            "requests": self.requests,
            "gaps_repaired": self.gaps,
            "store_hash": self.store_hash,
        }

    @classmethod
    def unpack(cls, packed: object) -> Account:
        """Read what `pack` gave. Raises ValueError for anything else."""
        found = msgspec.convert(packed, _Packed)
        if not all(
            total.is_finite() for one in (found, *found.statuses.values()) for total in one.totals.values()
        ):
            raise ValueError("a total is not a number")
        statuses = {status: Tally(tally.rows, tally.totals) for status, tally in found.statuses.items()}
        return cls(
            found.query,
            found.begun,
            found.ended,
            Sums(Tally(found.rows, found.totals), statuses),
            found.requests,
            found.gaps_repaired,
            found.complete,
            found.store_hash,
        )


class _PackedTally(msgspec.Struct):
    rows: Annotated[int, msgspec.Meta(ge=0)]
    totals: dict[str, Decimal]


class _Packed(_PackedTally):
    query: dict[str, Any]
    begun: str
    ended: str | None
    complete: bool
    statuses: dict[str, _PackedTally]
    requests: int
    gaps_repaired: int
    store_hash: str | None = None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
