"""The account of an export: its filters, and the number and sums of the payments."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from typing import Annotated, Any

import attrs
import msgspec

from b2b_payments._converter import structure_payment
from b2b_payments._errors import ResponseDecodeError
from b2b_payments._models import Money, Payment
from b2b_payments._models.decimals import EXACT
from b2b_payments._models.description import wire_names
from b2b_payments._models.money import MAX_DIGITS, is_amount
from b2b_payments._printable import define
from b2b_payments._protocol.json import decode_part, exact_number
from b2b_payments._protocol.listing import Head, decoder_of
from b2b_payments._tables.columns import PAYMENTS
from b2b_payments._tables.rows import Rows

UNREADABLE = "unreadable"

Entry = tuple[object, str, Decimal | None]
"""What an account needs of a payment: its status, currency and amount (None without a readable total)."""

_are_plain = re.compile(r"[0-9.-]*").fullmatch
_LONGEST = 80
_LONGEST_SUM = MAX_DIGITS + 20  # a sum of as many amounts as `_Count` allows is at most 15 digits longer
_ENTRY_COLUMNS = [PAYMENTS.names.index(name) for name in ("processing_status", "currency", "total")]
_Count = Annotated[int, msgspec.Meta(ge=0, le=10**15)]


class _Total(msgspec.Struct, rename=wire_names(Money), gc=False):
    currency: str
    amount: str


class FastPayment(Head, rename=wire_names(Payment), kw_only=True, gc=False):
    """What an account and a walk need of a payment. Decodes fast, but only the service's usual format."""

    processing_status: int
    total: _Total


_decode_page = decoder_of(FastPayment)
_decode_payment = msgspec.json.Decoder(FastPayment, float_hook=exact_number).decode


def account_page(body: bytes, _is_awaited: bool) -> Any:
    """Decode a page so that its rows suit `entries_of`, too. Returns None if any row is unusual."""
    with suppress(ValueError, ArithmeticError, RecursionError):
        return _decode_page(body)
    return None


def entries_of(payments: Sequence[FastPayment]) -> Iterable[Entry]:
    """Return the entries of payments. Raises ValueError or InvalidOperation if a total is unusual."""
    totals = [payment.total for payment in payments]
    amounts = [total.amount for total in totals]
    # Decimal accepts more: `1_000`, digits of other scripts, NaN.
    if not _are_plain("".join(amounts)) or max(map(len, amounts), default=0) > _LONGEST:
        raise ValueError
    # Lazily: a list of tuples, one per payment, would trigger the garbage collector.
    statuses = [payment.processing_status for payment in payments]
    return zip(statuses, [total.currency for total in totals], [*map(Decimal, amounts)], strict=True)


def entries_of_rows(rows: Rows) -> Iterable[Entry]:
    statuses, currencies, amounts = map(rows.tables[PAYMENTS.name].__getitem__, _ENTRY_COLUMNS)
    return zip(statuses, currencies, [amount and Decimal(amount) for amount in amounts], strict=True)


def entry_of(row: bytes | msgspec.Raw) -> Entry:
    """Return a payment's entry, also if only other fields are unreadable. Unreadable payments count, too."""
    with suppress(ValueError, ArithmeticError, RecursionError):
        return next(iter(entries_of([_decode_payment(row)])))
    try:
        payment = structure_payment(decode_part(row))
    except ResponseDecodeError:
        return UNREADABLE, "", None
    return int(payment.processing_status), payment.total.currency, payment.total.amount


@define
class Sum:
    """The number of payments, and the exact sum of their totals in each currency."""

    rows: _Count = 0
    totals: dict[str, Decimal] = attrs.field(factory=dict)

    def add(self, rows: int, totals: Mapping[str, Decimal]) -> None:
        self.rows += rows
        for currency, total in totals.items():
            before = self.totals.get(currency)
            self.totals[currency] = total if before is None else EXACT.add(before, total)

    def pack(self) -> dict[str, Any]:
        """Return plain JSON, with amounts as strings."""
        return {
            "rows": self.rows,
            "totals": {currency: f"{total:f}" for currency, total in sorted(self.totals.items())},
        }


@define
class Sums:
    """The sum of all payments, and of the payments with each processing status."""

    whole: Sum = attrs.field(factory=Sum)
    statuses: dict[str, Sum] = attrs.field(factory=dict)

    def add(self, entries: Iterable[Entry]) -> None:
        groups: dict[tuple[object, str], list[Decimal | None]] = defaultdict(list)
        for status, currency, amount in entries:
            groups[status, currency].append(amount)
        with localcontext(EXACT):
            for (status, currency), amounts in groups.items():
                readable = [amount for amount in amounts if amount is not None]
                totals = {currency: sum(readable[1:], readable[0])} if readable else {}
                self.whole.add(len(amounts), totals)
                self.statuses.setdefault(str(status), Sum()).add(len(amounts), totals)

    def pack(self) -> dict[str, Any]:
        statuses = {status: one.pack() for status, one in sorted(self.statuses.items())}
        return {**self.whole.pack(), "statuses": statuses}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


@define
class Account:
    """The account of one export, across all resumptions.

    `begun` and `ended` are times in UTC. `query` holds the filters. `requests` and `gaps` are summed over the
    walks' reports; a killed process counts up to its last commit. `complete` is as in `WalkReport`.
    `store_hash` is that of the first payment.
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
        """Record the end of the export, at the current time."""
        self.ended, self.complete = _now(), complete

    def pack(self) -> dict[str, Any]:
        """Return plain JSON."""
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
        """Read the result of `pack`. Raises ValueError for anything else."""
        fields = msgspec.structs.asdict(msgspec.convert(packed, _Packed))
        sums = Sums(Sum(fields.pop("rows"), fields.pop("totals")), fields.pop("statuses"))
        for one in (sums.whole, *sums.statuses.values()):
            if not all(is_amount(total, _LONGEST_SUM) for total in one.totals.values()):
                raise ValueError("a total is not a sum of amounts")
        return cls(sums=sums, gaps=fields.pop("gaps_repaired"), **fields)


class _Packed(msgspec.Struct):
    query: dict[str, Any]
    begun: str
    ended: str | None
    complete: bool
    rows: _Count
    totals: dict[str, Decimal]
    statuses: dict[str, Sum]
    requests: _Count
    gaps_repaired: _Count
    store_hash: str | None = None
