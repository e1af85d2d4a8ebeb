"""Lines that change in place: on standard error, and only where that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import NamedTuple, Self

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from b2b_payments._cli.streams import bare
from b2b_payments._printable import printable

_WIDE, _NARROW = 40, 12
_LABEL = 24
_SHOWN = 12


class Row(NamedTuple):
    """A line: whose it is, how far, of how much (None where that is not known), and what else to say."""

    label: str
    done: int
    total: int | None
    words: str


class Screen:
    """Shows the rows that a function gives, as long as it is entered; silent where there is no terminal.

    The first row speaks of the whole. Of the others a dozen are shown.
    """

    def __init__(self, rows: Callable[[], Iterable[Row]]) -> None:
        self._rows = rows
        self._live: Live | None = None
        if sys.stderr.isatty():
            self._live = Live(
                console=Console(file=bare(sys.stderr)),
                transient=True,
                refresh_per_second=10,
                get_renderable=self._table,
            )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def _table(self) -> Table:
        rows = list(self._rows())
        several = len(rows) > 1
        table = Table.grid(padding=(0, 1))
        if several:
            table.add_column(no_wrap=True, max_width=_LABEL, overflow="ellipsis")
        table.add_column(no_wrap=True)
        table.add_column()
        for row in rows[: 1 + _SHOWN]:
            bar = ProgressBar(total=row.total, completed=row.done, width=_NARROW if several else _WIDE)
            # One line may go on in the next; many are cut, and their ends alone.
            words = Text(printable(row.words), no_wrap=several, overflow="ellipsis" if several else "fold")
            table.add_row(*([Text(printable(row.label))] if several else []), bar, words)
        return table
