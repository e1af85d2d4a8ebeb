"""Money and counts, added up to the last digit, in a memory that does not grow with the payments."""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from decimal import Decimal
from itertools import groupby
from typing import IO, Final, Self

import attrs
import msgspec

from b2b_payments._models.decimals import EXACT
from b2b_payments._printable import define, frozen
from b2b_payments.export._reading import Read

DIMENSIONS: Final = ("month", "status", "channel", "module")
MOST_SHOWN: Final = 10
"""Customers that are listed."""
_MOST_TOGETHER = 20_000
_MOST_CUSTOMERS = 50_000
_MOST_GROUPS = 5_000
OTHERS: Final = "others"


@define
class Figure:
    """How many payments, and what they add up to, in one currency."""

    payments: int = 0
    total: Decimal = Decimal(0)

    def add(self, payments: int, total: Decimal) -> None:
        """Count payments."""
        self.payments += payments
        self.total = EXACT.add(self.total, total)


@frozen
class Customer:
    """A customer's figure; the name is the one that came first."""

    id: str
    name: str
    figure: Figure


@define
class OfCurrency:
    """All that is reported of one currency: never added to another's."""

    whole: Figure = attrs.field(factory=Figure)
    by: dict[str, dict[str, Figure]] = attrs.field(factory=lambda: {name: {} for name in DIMENSIONS})
    customers: int = 0
    top: list[Customer] = attrs.field(factory=list)

    def add(self, labels: Sequence[str], payments: int, total: Decimal) -> None:
        """Count payments under each of their labels."""
        self.whole.add(payments, total)
        for groups, label in zip(self.by.values(), labels, strict=True):
            # What a store has of its own is a handful: more is not what a report is read for.
            if (figure := groups.get(label)) is None:
                figure = groups.setdefault(label if len(groups) < _MOST_GROUPS else OTHERS, Figure())
            figure.add(payments, total)


@frozen
class Summary:
    """What is in a file: by currency, the channels' names, and how many payments could not be read."""

    payments: int
    unreadable: int
    currencies: Mapping[str, OfCurrency]
    channels: Mapping[str, str]


def summary_of(payments: Iterable[Read]) -> Summary:
    """Add payments up."""
    currencies: dict[str, OfCurrency] = {}
    channels: dict[str, str] = {}
    together: dict[tuple[str, ...], Figure] = {}
    count = unreadable = 0
    with _Customers() as customers:
        for one in payments:
            count += 1
            if one.amount is None:
                unreadable += 1
                continue
            key = (one.currency, one.month, one.status, one.channel_id, one.module)
            if (figure := together.get(key)) is None:
                if len(together) >= _MOST_TOGETHER:
                    _add_up(together, currencies)
                figure = together[key] = Figure()
                if len(channels) < _MOST_GROUPS:
                    channels.setdefault(one.channel_id, one.channel_name)
            figure.add(1, one.amount)
            customers.add(one, one.amount)
        _add_up(together, currencies)
        for currency, customer in customers.each():
            of_currency = currencies[currency]
            of_currency.customers += 1
            _keep(of_currency.top, customer)
    return Summary(count, unreadable, currencies, channels)


def _add_up(together: dict[tuple[str, ...], Figure], currencies: dict[str, OfCurrency]) -> None:
    for (currency, *labels), figure in together.items():
        currencies.setdefault(currency, OfCurrency()).add(labels, figure.payments, figure.total)
    together.clear()


def _keep(top: list[Customer], customer: Customer) -> None:
    """Keep the customers of the largest totals, the largest first."""
    top.append(customer)
    top.sort(key=lambda one: (one.figure.total.copy_negate(), one.id))
    del top[MOST_SHOWN:]


class _Run(msgspec.Struct, array_like=True):
    """A customer's figure in a temporary file."""

    currency: str
    id: str
    name: str
    payments: int
    total: str


class _Customers:
    """The figures of all customers: in memory, and where they are many, in sorted temporary files."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], Customer] = {}
        self._runs: list[IO[bytes]] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, one: Read, amount: Decimal) -> None:
        """Count a payment."""
        key = one.currency, one.customer_id
        if (customer := self._held.get(key)) is None:
            if len(self._held) >= _MOST_CUSTOMERS:
                self._write()
            customer = self._held[key] = Customer(one.customer_id, one.customer_name, Figure())
        customer.figure.add(1, amount)

    def each(self) -> Iterator[tuple[str, Customer]]:
        """Yield each customer once in each currency."""
        runs: list[Iterable[_Run]] = []
        for file in self._runs:
            file.seek(0)
            runs.append(map(msgspec.json.Decoder(_Run).decode, file))
        merged = heapq.merge(*runs, self._sorted(), key=_key)
        for (currency, customer_id), parts in groupby(merged, _key):
            figure, name = Figure(), ""
            for part in parts:
                figure.add(part.payments, Decimal(part.total))
                name = name or part.name
            yield currency, Customer(customer_id, name, figure)

    def _sorted(self) -> Iterable[_Run]:
        for (currency, customer_id), one in sorted(self._held.items()):
            yield _Run(currency, customer_id, one.name, one.figure.payments, f"{one.figure.total:f}")

    def _write(self) -> None:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - it is closed with the others
        self._stack.callback(file.close)
        for run in self._sorted():
            file.write(msgspec.json.encode(run) + b"\n")
        self._runs.append(file)
        self._held.clear()


def _key(run: _Run) -> tuple[str, str]:
    return run.currency, run.id
