"""The charts: horizontal bars, as one small SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from benchmarks.compare.table import Table

_WIDTH, _LEFT, _ROW, _RIGHT = 760, 250, 22, 110


def svg(tables: Sequence[Table]) -> str:
    """Draw the tables that have a chart, one below the other, with this library's bars highlighted."""
    parts: list[str] = []
    y = 8
    for table in tables:
        if not table.chart:
            continue
        y += 22
        parts.append(f'<text x="8" y="{y}" class="title">{escape(table.title)}</text>')
        y += 10
        unit = escape(table.chart_unit)
        largest = max(table.chart.values()) or 1.0
        for name, value in table.chart.items():
            width = max(1.0, (_WIDTH - _LEFT - _RIGHT) * value / largest)
            kind = "ours" if name.startswith("b2b_payments") else "other"
            parts += [
                f'<text x="{_LEFT - 8}" y="{y + 15}" text-anchor="end">{escape(name)}</text>',
                f'<rect x="{_LEFT}" y="{y + 3}" width="{width:.1f}" height="16" class="{kind}"/>',
                f'<text x="{_LEFT + width + 6:.1f}" y="{y + 15}">{value:,.1f} {unit}</text>',
            ]
            y += _ROW
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y + 12}" width="{_WIDTH}">\n'
        "<style>text{font:12px sans-serif;fill:#333}.title{font-weight:bold}.ours{fill:#2468c8}"
        ".other{fill:#b8bec8}@media(prefers-color-scheme:dark){text{fill:#ddd}}</style>\n"
        + "\n".join(parts)
        + "\n</svg>\n"
    )
