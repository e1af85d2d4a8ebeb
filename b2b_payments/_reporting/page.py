"""A report as one HTML page that loads nothing: style and charts are inline."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from b2b_payments._printable import counted, printable
from b2b_payments._reporting.summary import CurrencyTotals, Summary
from b2b_payments._reporting.wording import Group, Section, by_payments, currency_name, money, sections

_STYLE: Final = """
:root { --paper: #fff; --ink: #1b1f24; --soft: #5b6570; --line: #d9dee4; --bar: #2f6fb2; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #15181c; --ink: #e7eaee; --soft: #9aa5b1; --line: #333a42; --bar: #6aa5e3; }
}
@media print {
  :root { --paper: #fff; --ink: #000; --soft: #444; --line: #bbb; --bar: #2f6fb2; }
  section section { break-inside: avoid; }
  * { print-color-adjust: exact; }
}
* { box-sizing: border-box; }
body { background: var(--paper); color: var(--ink); font: 16px/1.45 system-ui, sans-serif; margin: 0 auto;
  max-width: 60rem; padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; margin: 0 0 .25rem; }
h2 { border-top: 2px solid var(--line); font-size: 1.25rem; margin: 2rem 0 .25rem; padding-top: 1rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .25rem; }
p { margin: 0 0 .5rem; }
.soft, th { color: var(--soft); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; }
th { font-size: .8rem; font-weight: 600; text-align: left; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .5rem .3rem 0; vertical-align: top; }
th:last-child, td:last-child { padding-right: 0; }
.number { padding-left: 1rem; text-align: right; width: 1%; white-space: nowrap; }
svg { display: block; width: 100%; }
.bar { height: .35rem; margin-top: .15rem; }
.chart { height: 9rem; margin: .5rem 0; }
rect { fill: var(--bar); }
.axis { stroke: var(--line); stroke-width: 1; vector-effect: non-scaling-stroke; }
.ends { display: flex; font-size: .8rem; justify-content: space-between; }
@media (max-width: 30rem) {
  body { font-size: 15px; padding: .75rem; }
  thead { display: none; }
  tr { border-bottom: 1px solid var(--line); display: grid; grid-template-columns: auto 1fr;
    padding: .3rem 0; }
  td { border: 0; padding: 0; }
  td:first-child { grid-column: 1 / -1; }
  .number { white-space: normal; width: auto; }
  .payments { color: var(--soft); }
  .payments::after { content: " payments"; }
  tr.one .payments::after { content: " payment"; }
}
"""
_MAX_MONTHS: Final = 1_200  # up to which a chart leaves gaps for months without payments


def page_of(summary: Summary, name: str, notes: Sequence[str] = ()) -> str:
    """Return the page. `name` is the file's name, `notes` are sentences for the top of the page."""
    title = f"Payments in {printable(name)}"
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return "".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n',
            f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n",
            f"<h1>{escape(title)}</h1>\n<p>{escape(counted(summary.payments, 'payment'))}.</p>\n",
            *(f'<p class="soft">{escape(printable(note))}</p>\n' for note in notes),
            *(_currency(summary, currency, totals) for currency, totals in by_payments(summary)),
            "</body>\n</html>\n",
        ]
    )


def _currency(summary: Summary, currency: str, totals: CurrencyTotals) -> str:
    months, *others = sections(summary, totals)
    whole = f"{counted(totals.whole.payments, 'payment')}, {money(totals.whole.total)}"
    return "".join(
        [
            f"<section>\n<h2>{escape(currency_name(currency))}</h2>\n<p>{escape(whole)}</p>\n",
            _section(months, _chart(months.groups)),
            *map(_section, others),
            "</section>\n",
        ]
    )


def _section(section: Section, chart: str = "") -> str:
    """Return a table. Its rows have bars unless there is a chart."""
    head = f'<th>{escape(section.heading)}</th><th class="number">Payments</th><th class="number">Total</th>'
    rows = "".join(_row(group, bar=not chart) for group in section.groups)
    note = f'<p class="soft">{escape(section.note)}</p>\n' if section.note else ""
    return (
        f"<section>\n<h3>{escape(section.heading)}</h3>\n{chart}<table>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{rows}</tbody>\n</table>\n{note}</section>\n"
    )


def _row(group: Group, *, bar: bool) -> str:
    bar_svg = _bar(group.share) if bar else ""
    row_class = ' class="one"' if group.figure.payments == 1 else ""
    return (
        f"<tr{row_class}><td>{escape(group.label)}{bar_svg}</td>"
        f'<td class="number payments">{group.figure.payments:,}</td>'
        f'<td class="number">{escape(money(group.figure.total))}</td></tr>\n'
    )


def _bar(share: float) -> str:
    return (
        '<svg class="bar" viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect width="{100 * share:.2f}" height="1"/></svg>'
    )


def _chart(groups: Sequence[Group]) -> str:
    """Return a chart with a bar for each month, or "" for fewer than two months."""
    groups = [group for group in groups if group.label[0].isdecimal()]  # the rest is none or others
    if len(groups) < 2:
        return ""
    places = _places(groups)
    width = places[-1] + 1
    bars = "".join(_months(places, groups))
    most = f"up to {money(max(group.figure.total for group in groups))}"
    first, last = escape(groups[0].label), escape(groups[-1].label)
    return (
        f'<svg class="chart" viewBox="0 0 {width} 100" preserveAspectRatio="none" role="img" '
        f'aria-label="Total of each month from {first} to {last}">{bars}'
        f'<line class="axis" x1="0" y1="100" x2="{width}" y2="100"/></svg>\n'
        f'<p class="ends soft"><span>{first}</span><span>{escape(most)}</span><span>{last}</span></p>\n'
    )


def _places(months: Sequence[Group]) -> list[int]:
    """Return the x positions of months. A month without payments leaves a gap, unless there are too many."""
    numbers = [12 * int(month.label[:4]) + int(month.label[5:7]) for month in months]
    places = [number - numbers[0] for number in numbers]
    return places if places[-1] < _MAX_MONTHS else list(range(len(months)))


def _months(places: Sequence[int], groups: Sequence[Group]) -> Iterator[str]:
    for place, group in zip(places, groups, strict=True):
        height = 100 * group.share
        title = f"{group.label}: {money(group.figure.total)}, {counted(group.figure.payments, 'payment')}"
        yield (
            f'<rect x="{place + 0.1:.1f}" y="{100 - height:.2f}" width="0.8" height="{height:.2f}">'
            f"<title>{escape(title)}</title></rect>"
        )
