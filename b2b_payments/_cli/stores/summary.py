"""What came of each store, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs

from b2b_payments._printable import printable

COMPLETE = "complete"
ALREADY = "complete already"
NOT_COMPLETE = "not complete"
FAILED = "failed"
STOPPED = "stopped"
NOT_BEGUN = "not begun"


@attrs.define
class Standing:
    """How a store stands: `rows` are the payments that are kept, `requests` and `seconds` this run's."""

    name: str
    path: Path
    state: str = NOT_BEGUN
    rows: int = 0
    requests: int = 0
    seconds: float = 0.0
    kept: bool = False
    remark: str = ""

    @property
    def complete(self) -> bool:
        """Whether its file is there and complete."""
        return self.state in {COMPLETE, ALREADY}


def table(standings: Sequence[Standing]) -> str:
    """Give a line for each store, in columns, with a heading. A remark of several lines becomes one."""
    from rich.cells import cell_len

    rows = [("store", "state", "payments", "requests", "seconds", "file or error")]
    for one in standings:
        figures = (f"{one.rows:,}", f"{one.requests:,}", f"{one.seconds:,.1f}")
        # Made visible here: an escape is wider than what it stands for.
        remark = printable(" ".join(one.remark.split()) or str(one.path))
        rows.append((one.name, one.state, *figures, remark))
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = []
        for place, (cell, width) in enumerate(zip(row, widths, strict=True)):
            space = " " * (width - cell_len(cell))
            cells.append(space + cell if place in {2, 3, 4} else cell + space)
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
