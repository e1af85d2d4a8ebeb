"""The account of an export: what was asked, what came, and what it adds up to."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation, localcontext
from typing import Annotated, Any

import attrs
import msgspec

from b2b_payments._converter import structure_payment
from b2b_payments._errors import ResponseDecodeError
from b2b_payments._models import Money, Payment
from b2b_payments._models.decimals import EXACT
from b2b_payments._models.description import wire_names
from b2b_payments._printable import define
from b2b_payments._protocol.json import decode_part
from b2b_payments._protocol.listing import Head, decoder_of
from b2b_payments._tables.columns import PAYMENTS
from b2b_payments._tables.rows import Rows

UNREADABLE = "unreadable"

Entry = tuple[object, str, Decimal | None]
"""What an account takes of a payment: its status, its currency, its amount; None without a readable total."""

_are_plain = re.compile(r"[0-9.-]*").fullmatch
_LONGEST = 80
_PLACES = [PAYMENTS.names.index(name) for name in ("processing_status", "currency", "total")]
_Count = Annotated[int, msgspec.Meta(ge=0)]


class _Total(msgspec.Struct, rename=wire_names(Money), gc=False):
    currency: str
    amount: str


class UsualPayment(Head, rename=wire_names(Payment), kw_only=True, gc=False):
    """What an account takes of a payment, as it usually comes, and what a walk has to know of it."""

    processing_status: int
    total: _Total


_decoded = decoder_of(UsualPayment)
_usual = msgspec.json.Decoder(UsualPayment).decode


def account_page(body: bytes, _is_awaited: bool) -> Any:
    """Return a page with its rows decoded for `entries_of`, too; None where one is not as usual."""
    with suppress(ValueError, ArithmeticError, RecursionError):
        return _decoded(body)
    return None


def entries_of(payments: Sequence[UsualPayment]) -> Iterable[Entry]:
    """Return the entries of payments. Raises ValueError or InvalidOperation for an unusual total."""
    totals = [payment.total for payment in payments]
    amounts = [total.amount for total in totals]
    # Decimal takes more: `1_000`, other scripts' digits, NaN.
    if not _are_plain("".join(amounts)) or max(map(len, amounts), default=0) > _LONGEST:
        raise ValueError
    # Entries that are there together would wake the garbage collector.
    statuses = [payment.processing_status for payment in payments]
    return zip(statuses, [total.currency for total in totals], [*map(Decimal, amounts)], strict=True)


def entries_of_rows(rows: Rows) -> Iterable[Entry]:
    """Return the entries of payments that were read as rows."""
    statuses, currencies, amounts = map(rows.tables[PAYMENTS.name].__getitem__, _PLACES)
    return zip(statuses, currencies, [amount and Decimal(amount) for amount in amounts], strict=True)


def entry_of(sent: bytes | msgspec.Raw) -> Entry:
    """Read a payment as it was sent, as tolerantly as payments are read; what is none still counts."""
    with suppress(ValueError, RecursionError, InvalidOperation):
        return next(iter(entries_of([_usual(sent)])))
    try:
        payment = structure_payment(decode_part(sent))
    except ResponseDecodeError:
        return UNREADABLE, "", None
    return int(payment.processing_status), payment.total.currency, payment.total.amount


@define
class Sum:
    """How many payments, and the sum of their totals in each currency, to the last digit."""

    rows: _Count = 0
    totals: dict[str, Decimal] = attrs.field(factory=dict)

    def add(self, rows: int, totals: Mapping[str, Decimal]) -> None:
        """Count payments."""
        self.rows += rows
        for currency, total in totals.items():
            before = self.totals.get(currency)
            self.totals[currency] = total if before is None else EXACT.add(before, total)

    def pack(self) -> dict[str, Any]:
        """Return it as plain JSON, amounts as digits."""
        return {
            "rows": self.rows,
            "totals": {currency: f"{total:f}" for currency, total in sorted(self.totals.items())},
        }


@define
class Sums:
    """The sum of all payments, and of those of each processing status."""

    whole: Sum = attrs.field(factory=Sum)
    statuses: dict[str, Sum] = attrs.field(factory=dict)

    def add(self, entries: Iterable[Entry]) -> None:
        """Count payments."""
        found: dict[tuple[object, str], list[Decimal | None]] = defaultdict(list)
        for status, currency, amount in entries:
            found[status, currency].append(amount)
        with localcontext(EXACT):
            for (status, currency), amounts in found.items():
                known = [amount for amount in amounts if amount is not None]
                totals = {currency: sum(known[1:], known[0])} if known else {}
                self.whole.add(len(amounts), totals)
                self.statuses.setdefault(str(status), Sum()).add(len(amounts), totals)

    def pack(self) -> dict[str, Any]:
        """Return them as plain JSON."""
        statuses = {status: one.pack() for status, one in sorted(self.statuses.items())}
        return {**self.whole.pack(), "statuses": statuses}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


@define
class Account:
    """The account of one export, over all the times it was resumed.

    `begun` and `ended` are UTC. `query` is what was asked for, `requests` and `gaps` what the walks report;
    those of a process that was killed are counted up to its last commit. `complete` as in `WalkReport`.
    `store_hash` is the store that the first payment says it is of.
    """

    query: Mapping[str, Any]
    begun: str = attrs.field(factory=_now)
    ended: str | None = None
    sums: Sums = attrs.field(factory=Sums)
    requests: int = 0
    gaps: int = 0
    complete: bool = False
    store_hash: str | None = None

    def end(self, *, complete: bool) -> None:
        """End it now."""
        self.ended, self.complete = _now(), complete

    def pack(self) -> dict[str, Any]:
        """Return it as plain JSON."""
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
        whole = Sum(found.rows, found.totals)
        for one in (whole, *found.statuses.values()):
            if not all(total.is_finite() for total in one.totals.values()):
                raise ValueError("a total is not a number")
        return cls(
            found.query,
            found.begun,
            found.ended,
            Sums(whole, found.statuses),
            found.requests,
            found.gaps_repaired,
            found.complete,
            found.store_hash,
        )


class _Packed(msgspec.Struct):
    query: dict[str, Any]
    begun: str
    ended: str | None
    complete: bool
    rows: _Count
    totals: dict[str, Decimal]
    statuses: dict[str, Sum]
    requests: int
    gaps_repaired: int
    store_hash: str | None = None
