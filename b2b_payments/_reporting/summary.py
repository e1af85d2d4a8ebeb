"""Money and counts, exact to the last digit, in memory that does not grow with the number of payments."""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from decimal import Decimal
from itertools import groupby
from operator import itemgetter
from typing import IO, Final

import attrs
import msgspec

from b2b_payments._models.decimals import EXACT
from b2b_payments._printable import define, frozen
from b2b_payments.export._reading import Read

DIMENSIONS: Final = ("month", "status", "channel", "module")
TOP_CUSTOMERS: Final = 10
"""Number of customers listed."""
_MAX_COMBINATIONS = 20_000
_MAX_CUSTOMERS = 50_000
_MAX_GROUPS = 5_000
OTHERS: Final = "others"  # the label for groups beyond the bound


@define
class Figure:
    """Number and total of payments in one currency."""

    payments: int = 0
    total: Decimal = Decimal(0)

    def add(self, payments: int, total: Decimal) -> None:
        """Add payments."""
        self.payments += payments
        self.total = EXACT.add(self.total, total)


@frozen
class Customer:
    """A customer's figure, with the first name seen for its id."""

    id: str
    name: str
    figure: Figure


@define
class CurrencyTotals:
    """The figures of one currency. Currencies are never added together."""

    whole: Figure = attrs.field(factory=Figure)
    by: dict[str, dict[str, Figure]] = attrs.field(factory=lambda: {name: {} for name in DIMENSIONS})
    customers: int = 0
    top: list[Customer] = attrs.field(factory=list)

    def add(self, labels: Sequence[str], payments: int, total: Decimal) -> None:
        """Add payments to the whole, and to their group in each dimension."""
        self.whole.add(payments, total)
        for groups, label in zip(self.by.values(), labels, strict=True):
            # A real store has a handful of groups; the bound is for memory.
            if (figure := groups.get(label)) is None:
                figure = groups.setdefault(label if len(groups) < _MAX_GROUPS else OTHERS, Figure())
            figure.add(payments, total)


@frozen
class Summary:
    """The totals of a file by currency, the names of its channels, and how many payments are unreadable."""

    payments: int
    unreadable: int
    currencies: Mapping[str, CurrencyTotals]
    channels: Mapping[str, str]


def summary_of(payments: Iterable[Read]) -> Summary:
    """Add payments up."""
    currencies: dict[str, CurrencyTotals] = {}
    channels: dict[str, str] = {}
    combined: dict[tuple[str, ...], Figure] = {}
    count = unreadable = 0
    with ExitStack() as files:
        customers = _Customers(files)
        for one in payments:
            count += 1
            if one.amount is None:
                unreadable += 1
                continue
            key = (one.currency, one.month, one.status, one.channel_id, one.module)
            if (figure := combined.get(key)) is None:
                if len(combined) >= _MAX_COMBINATIONS:
                    _flush(combined, currencies)
                figure = combined[key] = Figure()
                if len(channels) < _MAX_GROUPS:
                    channels.setdefault(one.channel_id, one.channel_name)
            figure.add(1, one.amount)
            customers.add(one, one.amount)
        _flush(combined, currencies)
        for currency, customer in customers.each():
            totals = currencies[currency]
            totals.customers += 1
            _add_to_top(totals.top, customer)
    return Summary(count, unreadable, currencies, channels)


def _flush(combined: dict[tuple[str, ...], Figure], currencies: dict[str, CurrencyTotals]) -> None:
    for (currency, *labels), figure in combined.items():
        currencies.setdefault(currency, CurrencyTotals()).add(labels, figure.payments, figure.total)
    combined.clear()


def _add_to_top(top: list[Customer], customer: Customer) -> None:
    """Add a customer, and keep those with the largest totals, largest first."""
    top.append(customer)
    top.sort(key=lambda one: (one.figure.total.copy_negate(), one.id))
    del top[TOP_CUSTOMERS:]


_Part = tuple[str, str, str, int, str]
"""A part of a customer's figure, in a temporary file: currency, id, name, payments and total."""
_key: Final = itemgetter(0, 1)


class _Customers:
    """The figures of all customers: in memory, and if they are many, in sorted temporary files."""

    def __init__(self, open_files: ExitStack) -> None:
        self._in_memory: dict[tuple[str, str], Customer] = {}
        self._files: list[IO[bytes]] = []
        self._open_files = open_files

    def add(self, one: Read, amount: Decimal) -> None:
        """Add a payment."""
        key = one.currency, one.customer_id
        if (customer := self._in_memory.get(key)) is None:
            if len(self._in_memory) >= _MAX_CUSTOMERS:
                self._spill()
            customer = self._in_memory[key] = Customer(one.customer_id, one.customer_name, Figure())
        customer.figure.add(1, amount)

    def each(self) -> Iterator[tuple[str, Customer]]:
        """Yield each customer once per currency."""
        decode = msgspec.json.Decoder(_Part).decode
        for file in self._files:
            file.seek(0)
        merged = heapq.merge(*(map(decode, file) for file in self._files), self._sorted(), key=_key)
        for (currency, customer_id), parts in groupby(merged, _key):
            figure, first_name = Figure(), ""
            for _, _, name, payments, total in parts:
                figure.add(payments, Decimal(total))
                first_name = first_name or name
            yield currency, Customer(customer_id, first_name, figure)

    def _sorted(self) -> Iterator[_Part]:
        for (currency, customer_id), one in sorted(self._in_memory.items()):
            yield currency, customer_id, one.name, one.figure.payments, f"{one.figure.total:f}"

    def _spill(self) -> None:
        file = self._open_files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
        file.writelines(msgspec.json.encode(part) + b"\n" for part in self._sorted())
        self._files.append(file)
        self._in_memory.clear()
