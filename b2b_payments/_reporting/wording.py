"""What a report says, on a terminal and as a page: headings, labels, and in which order."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from b2b_payments._models import ProcessingStatus
from b2b_payments._printable import counted, frozen, printable
from b2b_payments._reporting.summary import DIMENSIONS, Figure, OfCurrency, Summary

_HEADINGS: Final = {
    "month": "Month of creation (UTC)",
    "status": "Processing status",
    "channel": "Channel",
    "module": "Module",
}


@frozen
class Group:
    """A line of a table, and the part of the longest bar that its own has, from 0 to 1."""

    label: str
    figure: Figure
    part: float


@frozen
class Section:
    """A table: what its lines are, and a note where it does not show all."""

    heading: str
    groups: list[Group]
    note: str = ""


def ordered(summary: Summary) -> list[tuple[str, OfCurrency]]:
    """Return the currencies, that of most payments first."""
    return sorted(summary.currencies.items(), key=lambda one: (-one[1].whole.payments, one[0]))


def sections(summary: Summary, of: OfCurrency) -> Iterator[Section]:
    """Yield the tables of one currency."""
    for name in DIMENSIONS:
        lines = sorted(of.by[name].items())
        if name != "month":
            lines.sort(key=lambda one: one[1].total.copy_negate())
        yield Section(_HEADINGS[name], _groups([(_label(name, key, summary), it) for key, it in lines]))
    customers = [(f"{one.name or 'without a name'} ({one.id})", one.figure) for one in of.top]
    more = of.customers - len(of.top)
    yield Section("Top customers", _groups(customers), f"and {counted(more, 'other')}" if more else "")


def money(total: Decimal) -> str:
    """Write an amount with every digit but the zeros behind its cents, which are the format's own."""
    whole, _, rest = f"{total:,f}".partition(".")
    return f"{whole}.{rest.rstrip('0'):0<2}"


def currency_name(currency: str) -> str:
    """Name a currency."""
    return printable(currency) or "without a currency"


def _label(dimension: str, key: str, summary: Summary) -> str:
    if dimension == "status" and key.isdecimal() and int(key) in set(ProcessingStatus):
        return f"{ProcessingStatus(int(key)).name.lower().replace('_', ' ')} ({key})"
    if dimension == "channel" and key:
        name = summary.channels.get(key)
        return f"{name} ({key})" if name else key
    return key or "none"


def _groups(lines: list[tuple[str, Figure]]) -> list[Group]:
    most = max((figure.total for _, figure in lines), default=Decimal(0))
    return [Group(printable(label), figure, _part(figure.total, most)) for label, figure in lines]


def _part(total: Decimal, most: Decimal) -> float:
    return float(total) / float(most) if total > 0 else 0.0
