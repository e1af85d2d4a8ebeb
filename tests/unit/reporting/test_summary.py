"""Totals in bounded memory."""

from __future__ import annotations

import random
from collections import defaultdict
from decimal import Decimal, localcontext

import pytest

from b2b_payments._reporting import summary
from b2b_payments._reporting.page import page_of
from b2b_payments._reporting.summary import OTHERS, summary_of
from b2b_payments.export._reading import Read


def _payment(number: int, customer: int) -> Read:
    amount = Decimal(f"{number}.{number:04d}")
    currency = ("USD", "EUR")[number % 2]
    month, status = f"20{number % 30:02d}-01", str(number % 5)
    others = "1", "Main", f"m{number % 7}", f"C{customer}", f"N{customer}"
    return Read(number, status, currency, amount, month, *others)


def test_many_customers_are_summed_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """With more customers and combinations than memory may hold, totals are the same to the last digit."""
    draw = random.Random(3)
    payments = [_payment(number, draw.randrange(400)) for number in range(3_000)]
    whole = summary_of(payments)
    monkeypatch.setattr(summary, "_MAX_CUSTOMERS", 20)
    monkeypatch.setattr(summary, "_MAX_COMBINATIONS", 10)
    with localcontext(prec=3):
        assert summary_of(payments) == whole
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for one in payments:
        if one.currency == "USD" and one.amount is not None:
            sums[one.customer_id] += one.amount
    usd = whole.currencies["USD"]
    assert usd.whole.total == sum(sums.values())
    assert usd.customers == len(sums)
    best = sorted(sums.items(), key=lambda one: (-one[1], one[0]))[:10]
    assert [(one.id, one.figure.total) for one in usd.top] == best


def test_groups_beyond_the_bound_are_combined(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store with thousands of modules needs no more memory: those beyond the bound are one group."""
    monkeypatch.setattr(summary, "_MAX_GROUPS", 3)
    modules = summary_of(_payment(number, 1) for number in range(0, 70, 2)).currencies["USD"].by["module"]
    assert len(modules) == 4
    assert sum(one.payments for one in modules.values()) == 35
    assert modules[OTHERS].payments == 20


def test_names_of_channels_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file with thousands of channels, the names of the first are kept."""
    monkeypatch.setattr(summary, "_MAX_GROUPS", 3)
    payments = [_payment(2, 1)._replace(channel_id=str(number), channel_name="x") for number in range(9)]
    found = summary_of(payments)
    assert list(found.channels) == ["0", "1", "2"]
    assert found.currencies["USD"].by["channel"][OTHERS].payments == 6


def test_a_single_month_has_no_chart() -> None:
    """The page of payments of one month has the month's total, but no chart, and one of two months has."""
    payments = [_payment(2, 1)._replace(month=month) for month in ("2026-01", "2026-02")]
    one, two = page_of(summary_of(payments[:1]), "p.csv", []), page_of(summary_of(payments), "p.csv", [])
    assert "2026-01" in one
    assert ('class="chart"' in one, 'class="chart"' in two) == (False, True)
