"""The progress of exports and syncs: a line for an export and each of its channels, or for each store."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from time import monotonic
from typing import NamedTuple, Self

import click
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from b2b_payments._cli.options import Verbosity, clock
from b2b_payments._cli.terminal import can_draw, live
from b2b_payments._cli.waits import OBJECT_STORE_PATIENCE, PlainLines, Waits, object_store_wait
from b2b_payments._printable import counted, printable
from b2b_payments._quota import Quota
from b2b_payments._walk.report import WalkReport
from b2b_payments._walk.stream import PaymentStream
from b2b_payments._walk.walk import Walk
from b2b_payments.events import Event, QuotaWait
from b2b_payments.export import StoreReport, StoreState
from b2b_payments.export._bucket import longest_wait
from b2b_payments.export._pace import Pace, PaceReading

_ROOMY = 80
"""Columns a terminal needs for a bar and its text side by side."""
_ONLY_BAR, _BAR, _SHORT_BAR = 40, 12, 6
_LABEL, _SHORT_LABEL = 24, 14
_MAX_ROWS = 12
_LINE_INTERVAL = 10.0
"""Seconds between two plain lines, printed if the display cannot be redrawn."""
_CHECK_INTERVAL = 1.0
"""Seconds between two checks whether an object store has stopped answering."""


class Row(NamedTuple):
    """A line of the display: its label, the progress, the total (None if not known), and text."""

    label: str
    done: int
    total: int | None
    text: str


class Screen(ABC):
    """Shows its rows, while entered, within an event loop.

    The first row is for the whole. Of the others, a terminal shows a dozen. If lines cannot be redrawn (no
    terminal, a plain one, or log lines), the first row's text is printed every ten seconds, and at once if an
    object store does not answer. With `quiet`, nothing is shown.
    """

    def __init__(self, verbosity: Verbosity) -> None:
        self._verbosity = verbosity
        self._timer: asyncio.TimerHandle | None = None
        self._printed_at, self._printed_wait = 0.0, False
        self._live: Live | None = None

    @abstractmethod
    def _rows(self) -> Iterable[Row]:
        """Return the rows to show now."""

    def __enter__(self) -> Self:
        if redraws(self._verbosity):
            self._live = live(self._table)
            self._live.start(refresh=True)
        elif not self._verbosity.quiet:
            self._printed_at = asyncio.get_running_loop().time()
            self._schedule_check()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
        if self._timer is not None:
            self._timer.cancel()

    def _schedule_check(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_CHECK_INTERVAL, self._check)

    def _check(self) -> None:
        now, waits = asyncio.get_running_loop().time(), longest_wait(OBJECT_STORE_PATIENCE) is not None
        if now - self._printed_at >= _LINE_INTERVAL or (waits and not self._printed_wait):
            click.echo(f"{self._all_rows()[0].text}.", err=True)
            self._printed_at, self._printed_wait = now, waits
        self._schedule_check()

    def _all_rows(self) -> list[Row]:
        first, *others = self._rows()
        if (wait := longest_wait(OBJECT_STORE_PATIENCE)) is not None:
            first = first._replace(text=f"{object_store_wait(*wait)} · {first.text}")
        return [first, *others]

    def _table(self, width: int) -> Table:
        rows = self._all_rows()
        if len(rows) > 1:
            return _lines(rows[: 1 + _MAX_ROWS], roomy=width >= _ROOMY)
        (row,) = rows
        bar = ProgressBar(total=row.total, completed=row.done, width=min(_ONLY_BAR, width - 1))
        # A single row may wrap.
        text = Text(printable(row.text), overflow="fold")
        table = Table.grid(padding=(0, 1))
        if width >= _ROOMY:
            table.add_row(bar, text)
        else:
            table.add_row(bar)
            table.add_row(text)
        return table


def _lines(rows: Iterable[Row], *, roomy: bool) -> Table:
    """Return one line per row, cut off at the terminal's width."""
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True, max_width=_LABEL if roomy else _SHORT_LABEL, overflow="ellipsis")
    table.add_column(no_wrap=True)
    table.add_column()
    for row in rows:
        bar = ProgressBar(total=row.total, completed=row.done, width=_BAR if roomy else _SHORT_BAR)
        text = Text(printable(row.text), no_wrap=True, overflow="ellipsis")
        table.add_row(Text(printable(row.label)), bar, text)
    return table


class ExportLine:
    """The line of one export or sync, from its client's events and its pace."""

    def __init__(self, label: str, plain: PlainLines | None = None) -> None:
        self.label = label
        self._waits = Waits()
        self._plain = plain

    def listen(self, event: Event) -> None:
        if not isinstance(event, QuotaWait):  # the row takes waits for the quota from the pace
            self._waits.listen(event)
        if self._plain is not None:
            self._plain.listen(event)

    def row(self, pace: PaceReading) -> Row:
        done, left = pace.before + pace.rows, pace.seconds_left
        # With several channels, a resumed walk's total lacks the channels that were already finished.
        total = pace.total if pace.total is not None and pace.total >= done else None
        parts = [_payments(done, total), f"{pace.rate:,.0f}/s"]
        if left is not None:
            parts.append(f"{clock(left)} left")
        if pace.waiting >= 1 and left != 0:
            parts.append(f"waiting {pace.waiting:.0f} s for the store's quota")
        if (wait := self._waits.text) is not None:
            parts.append(wait)
        parts.append(counted(pace.pages, "page"))
        return Row(self.label, done, total, " · ".join(parts))


def redraws(verbosity: Verbosity) -> bool:
    """Whether progress is a display that redraws itself."""
    return can_draw() and not (verbosity.quiet or verbosity.log)


def _plain_lines(verbosity: Verbosity, label: str = "") -> PlainLines | None:
    """Return what prints waits if there is no display, or None if there is one or nothing is printed.

    The line of a single store's progress repeats its wait; that of many stores does not have it.
    """
    return None if redraws(verbosity) or verbosity.quiet else PlainLines(label, repeats=bool(label))


class Progress(Screen):
    """Shows the progress of an export or sync, as far as its `pace` knows."""

    def __init__(self, quota: Quota | None, verbosity: Verbosity) -> None:
        super().__init__(verbosity)
        self.pace: Pace = Pace(quota)
        self._line = ExportLine("all", _plain_lines(verbosity))
        self._channels: PaymentStream | None = None

    def listen(self, event: Event) -> None:
        self.pace.listen(event)
        self._line.listen(event)

    def track_channels(self, source: Walk | PaymentStream) -> None:
        """Show a line for each channel, if the source is a stream of several."""
        if isinstance(source, PaymentStream) and len(source.reports) > 1:
            self._channels = source

    def _rows(self) -> Iterator[Row]:
        yield self._line.row(self.pace.reading())
        if self._channels is not None:
            elapsed = self.pace.elapsed
            yield from _by_channel(self._channels.reports, elapsed, resumed=self.pace.before > 0)


class StoresProgress(Screen):
    """Shows the progress of many stores: a line for all, and one for each store in progress.

    `reports` holds the latest report of each store, in their order; `stores` is the number of stores.
    """

    def __init__(self, verbosity: Verbosity) -> None:
        super().__init__(verbosity)
        self.reports: dict[str, StoreReport] = {}
        self.stores = 0
        self._lines: dict[str, ExportLine] = {}
        self._ended = Counter(stores=0, rows=0, before=0)
        self._started = monotonic()

    def advance(self, report: StoreReport) -> None:
        self.reports[report.name] = report
        if report.state is StoreState.RUNNING:
            self._line(report.name)
        elif report.state is not StoreState.NOT_BEGUN:
            self._lines.pop(report.name, None)
            self._ended.update(stores=1, rows=report.pace.rows, before=report.pace.before)

    def listen(self, name: str, event: Event) -> None:
        self._line(name).listen(event)

    def _line(self, name: str) -> ExportLine:
        if name not in self._lines:
            self._lines[name] = ExportLine(name, _plain_lines(self._verbosity, name))
        return self._lines[name]

    def _rows(self) -> Iterator[Row]:
        # A copy of the list: the screen calls this in its own thread.
        running = [(line, self.reports[name].pace) for name, line in list(self._lines.items())]
        paces = [pace for _, pace in running]
        ended, stores = self._ended["stores"], max(self.stores, len(self.reports))
        rows = self._ended["rows"] + sum(pace.rows for pace in paces)
        before = self._ended["before"] + sum(pace.before for pace in paces)
        elapsed = monotonic() - self._started
        rate = max(0, rows) / elapsed if elapsed > 0 else 0.0
        parts = [
            f"{ended:,} of {counted(stores, 'store')}",
            counted(before + rows, "payment"),
            f"{rate:,.0f}/s",
        ]
        left = [pace.seconds_left for pace in paces]
        # No estimate while stores have not begun: how long those take is not known.
        if left and ended + len(running) == stores and None not in left:
            parts.append(f"{clock(max(seconds or 0.0 for seconds in left))} left")
        yield Row("all stores", ended, stores, " · ".join(parts))
        for line, pace in running:
            yield line.row(pace)


def _by_channel(reports: Mapping[int | None, WalkReport], elapsed: float, *, resumed: bool) -> Iterator[Row]:
    for channel_id, report in reports.items():
        if report.pages and not report.ending:
            rate = report.rows / elapsed if elapsed > 0 else 0.0
            # How many payments of a channel the interrupted export had kept is not known: an empty bar.
            done, total = (0, None) if resumed else (report.rows, report.total_last)
            text = f"{_payments(report.rows, total)}{' in this run' if resumed else ''} · {rate:,.0f}/s"
            yield Row(f"channel {channel_id}", done, total, text)


def _payments(done: int, total: int | None) -> str:
    return counted(done, "payment") if total is None else f"{done:,} of {counted(total, 'payment')}"
