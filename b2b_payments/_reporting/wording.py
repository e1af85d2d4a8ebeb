"""The headings, labels and order of a report, for the terminal and the page."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from b2b_payments._models import ProcessingStatus
from b2b_payments._printable import counted, frozen, printable
from b2b_payments._reporting.summary import DIMENSIONS, CurrencyTotals, Figure, Summary

_HEADINGS: Final = {
    "month": "Month of creation (UTC)",
    "status": "Processing status",
    "channel": "Channel",
    "module": "Module",
}


@frozen
class Group:
    """A row of a table. `share` is the length of its bar, as a fraction (0 to 1) of the longest one."""

    label: str
    figure: Figure
    share: float


@frozen
class Section:
    """A table, with a note if it does not show everything."""

    heading: str
    groups: list[Group]
    note: str = ""


def by_payments(summary: Summary) -> list[tuple[str, CurrencyTotals]]:
    """Return the currencies with their totals, the one with the most payments first."""
    return sorted(summary.currencies.items(), key=lambda one: (-one[1].whole.payments, one[0]))


def sections(summary: Summary, totals: CurrencyTotals) -> Iterator[Section]:
    """Yield the tables of one currency."""
    for name in DIMENSIONS:
        rows = sorted(totals.by[name].items())
        if name != "month":
            rows.sort(key=lambda row: row[1].total.copy_negate())
        yield Section(_HEADINGS[name], _groups([(_label(name, key, summary), it) for key, it in rows]))
    customers = [(f"{one.name or 'no name'} ({one.id})", one.figure) for one in totals.top]
    more = totals.customers - len(totals.top)
    yield Section("Top customers", _groups(customers), f"and {counted(more, 'other')}" if more else "")


def money(total: Decimal) -> str:
    """Format an amount with all its digits, without trailing zeros after the cents (exports add them)."""
    whole, _, rest = f"{total:,f}".partition(".")
    return f"{whole}.{rest.rstrip('0'):0<2}"


def currency_name(currency: str) -> str:
    """Return a currency's code, or a placeholder if it is empty."""
    return printable(currency) or "no currency"


def _label(dimension: str, key: str, summary: Summary) -> str:
    if dimension == "status" and key.isdecimal() and int(key) in set(ProcessingStatus):
        return f"{ProcessingStatus(int(key)).name.lower().replace('_', ' ')} ({key})"
    if dimension == "channel" and key:
        name = summary.channels.get(key)
        return f"{name} ({key})" if name else key
    return key or "none"


def _groups(rows: list[tuple[str, Figure]]) -> list[Group]:
    largest = max((figure.total for _, figure in rows), default=Decimal(0))
    return [Group(printable(label), figure, _share(figure.total, largest)) for label, figure in rows]


def _share(total: Decimal, largest: Decimal) -> float:
    return float(total) / float(largest) if total > 0 else 0.0
