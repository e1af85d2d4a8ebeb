"""How exports go, in lines: a line for an export and each of its channels, or for each store."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from time import monotonic
from typing import NamedTuple, Self

import click
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from b2b_payments._cli.options import Telling, clock
from b2b_payments._cli.terminal import can_draw, console_on
from b2b_payments._cli.waits import PATIENCE, PlainLines, Waits, words_of_silence
from b2b_payments._printable import counted, printable
from b2b_payments._quota import Quota
from b2b_payments._walk.report import WalkReport
from b2b_payments._walk.stream import PaymentStream
from b2b_payments._walk.walk import Walk
from b2b_payments.events import Event, QuotaWait
from b2b_payments.export import StoreReport, StoreState
from b2b_payments.export._bucket import waited_for
from b2b_payments.export._pace import Pace, PaceReading

_ROOMY = 80
"""Columns from which on a bar and its words stand side by side."""
_WIDE, _NARROW, _SHORT = 40, 12, 6
_LABEL, _SHORT_LABEL = 24, 14
_SHOWN = 12
_EVERY = 10.0
"""Seconds between two lines where nothing can be drawn over."""
_LOOK_EVERY = 1.0
"""Seconds between two looks whether an object store is waited for."""


class Row(NamedTuple):
    """A line: whose it is, how far, of how much (None where that is not known), and what else to say."""

    label: str
    done: int
    total: int | None
    words: str


class Screen:
    """Shows the rows that a function gives, as long as it is entered, within an event loop.

    The first row speaks of the whole. Of the others a dozen are shown on a terminal; where that cannot be
    drawn over, and off terminals, the first one's words come as a line every ten seconds, and at once where
    an object store does not answer.
    """

    def __init__(self, rows: Callable[[], Iterable[Row]], telling: Telling) -> None:
        self._rows = rows
        self._telling = telling
        self._timer: asyncio.TimerHandle | None = None
        self._told_at, self._told_of_wait = 0.0, False
        self._live: Live | None = None
        if draws(telling):
            console = console_on(sys.stderr)
            self._live = Live(
                console=console,
                transient=True,
                refresh_per_second=10,
                get_renderable=lambda: self._table(console.width),
            )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start(refresh=True)
        elif not self._telling.quiet:
            self._told_at = asyncio.get_running_loop().time()
            self._look_later()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
        if self._timer is not None:
            self._timer.cancel()

    def _look_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_LOOK_EVERY, self._look)

    def _look(self) -> None:
        now, waits = asyncio.get_running_loop().time(), waited_for(PATIENCE) is not None
        if now - self._told_at >= _EVERY or (waits and not self._told_of_wait):
            click.echo(f"{self._all_rows()[0].words}.", err=True)
            self._told_at, self._told_of_wait = now, waits
        self._look_later()

    def _all_rows(self) -> list[Row]:
        first, *others = self._rows()
        if (wait := waited_for(PATIENCE)) is not None:
            first = first._replace(words=f"{words_of_silence(*wait)} · {first.words}")
        return [first, *others]

    def _table(self, width: int) -> Table:
        rows = self._all_rows()
        if len(rows) > 1:
            return self._lines(rows[: 1 + _SHOWN], roomy=width >= _ROOMY)
        (row,) = rows
        bar = ProgressBar(total=row.total, completed=row.done, width=min(_WIDE, width - 1))
        # It may go on in the next line.
        words = Text(printable(row.words), overflow="fold")
        table = Table.grid(padding=(0, 1))
        if width >= _ROOMY:
            table.add_row(bar, words)
        else:
            table.add_row(bar)
            table.add_row(words)
        return table

    @staticmethod
    def _lines(rows: Iterable[Row], *, roomy: bool) -> Table:
        """Return a line each: it is cut at its end."""
        table = Table.grid(padding=(0, 1))
        table.add_column(no_wrap=True, max_width=_LABEL if roomy else _SHORT_LABEL, overflow="ellipsis")
        table.add_column(no_wrap=True)
        table.add_column()
        for row in rows:
            bar = ProgressBar(total=row.total, completed=row.done, width=_NARROW if roomy else _SHORT)
            words = Text(printable(row.words), no_wrap=True, overflow="ellipsis")
            table.add_row(Text(printable(row.label)), bar, words)
        return table


class Line:
    """One export: told of its client's events, and of how it goes."""

    def __init__(self, label: str, plain: PlainLines | None = None) -> None:
        self.label = label
        self._waits = Waits()
        self._plain = plain

    def listen(self, event: Event) -> None:
        """Take in what the client does."""
        if not isinstance(event, QuotaWait):  # the pace knows more of these
            self._waits.listen(event)
        if self._plain is not None:
            self._plain.listen(event)

    def row(self, pace: PaceReading) -> Row:
        """Say how it goes."""
        done, left = pace.before + pace.rows, pace.seconds_left
        # Of several channels, a resumed walk is not told the totals of those that it had finished.
        total = pace.total if pace.total is not None and pace.total >= done else None
        parts = [_payments(done, total), f"{pace.rate:,.0f}/s"]
        if left is not None:
            parts.append(f"{clock(left)} left")
        if pace.waiting >= 1 and left != 0:
            parts.append(f"waiting {pace.waiting:.0f} s for the store's quota")
        if (words := self._waits.words) is not None:
            parts.append(words)
        parts.append(counted(pace.pages, "page"))
        return Row(self.label, done, total, " · ".join(parts))


def draws(telling: Telling) -> bool:
    """Whether what is told is drawn, over and over."""
    return can_draw() and not (telling.quiet or telling.log)


def _plain_lines(telling: Telling, label: str = "") -> PlainLines | None:
    """Return what tells of waits where no screen does."""
    return None if draws(telling) or telling.quiet else PlainLines(label)


class _Shown:
    """What is on a screen as long as it is entered."""

    _screen: Screen

    def __enter__(self) -> Self:
        self._screen.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._screen.__exit__()


class Progress(_Shown):
    """Shows how an export goes, as long as it is entered, within an event loop."""

    def __init__(self, quota: Quota | None, telling: Telling) -> None:
        self._pace = Pace(quota)
        self._line = Line("all", _plain_lines(telling))
        self._channels: PaymentStream | None = None
        self._screen = Screen(self._rows, telling)

    def listen(self, event: Event) -> None:
        """Take in what the client does."""
        self._pace.listen(event)
        self._line.listen(event)

    def advance(self, report: WalkReport) -> None:
        """Take in how far the walk is."""
        self._pace.advance(report)

    def resumed(self, rows: int) -> None:
        """Take in how many payments an interrupted export had kept."""
        self._pace.before = rows

    @property
    def requests(self) -> int:
        """How many requests were sent."""
        return self._pace.requests

    @property
    def seconds(self) -> float:
        """How long it has taken."""
        return self._pace.elapsed

    def follow(self, source: Walk | PaymentStream) -> None:
        """Return each channel of a stream a line of its own."""
        if isinstance(source, PaymentStream) and len(source.reports) > 1:
            self._channels = source

    def _rows(self) -> Iterator[Row]:
        yield self._line.row(self._pace.reading())
        if self._channels is not None:
            elapsed = self._pace.elapsed
            yield from _of_channels(self._channels.reports, elapsed, since=self._pace.before > 0)


class StoresProgress(_Shown):
    """Shows how the exports of many stores go: a line for all, and one for each that is under way.

    `reports` are the latest of all stores, in their order; `stores` is how many there will be.
    """

    def __init__(self, telling: Telling) -> None:
        self.reports: dict[str, StoreReport] = {}
        self.stores = 0
        self._telling = telling
        self._lines: dict[str, Line] = {}
        self._ended = _Ended()
        self._began = monotonic()
        self._screen = Screen(self._rows, telling)

    def advance(self, report: StoreReport) -> None:
        """Take in how a store stands."""
        self.reports[report.name] = report
        if report.state is StoreState.RUNNING:
            self._line(report.name)
        elif report.state is not StoreState.NOT_BEGUN:
            self._lines.pop(report.name, None)
            self._ended.add(report.pace)

    def listen(self, name: str, event: Event) -> None:
        """Take in what a store's client does."""
        self._line(name).listen(event)

    def _line(self, name: str) -> Line:
        if name not in self._lines:
            self._lines[name] = Line(name, _plain_lines(self._telling, name))
        return self._lines[name]

    def _rows(self) -> Iterator[Row]:
        # A copy: this is asked for in the screen's own thread.
        running = [(line, self.reports[name].pace) for name, line in list(self._lines.items())]
        paces = [pace for _, pace in running]
        ended, stores = self._ended.stores, max(self.stores, len(self.reports))
        rows = self._ended.rows + sum(pace.rows for pace in paces)
        before = self._ended.before + sum(pace.before for pace in paces)
        elapsed = monotonic() - self._began
        rate = max(0, rows) / elapsed if elapsed > 0 else 0.0
        parts = [
            f"{ended:,} of {counted(stores, 'store')}",
            counted(before + rows, "payment"),
            f"{rate:,.0f}/s",
        ]
        left = [pace.seconds_left for pace in paces]
        # What a store that has not begun will take, nobody knows.
        if left and ended + len(running) == stores and None not in left:
            parts.append(f"{clock(max(seconds or 0.0 for seconds in left))} left")
        yield Row("all stores", ended, stores, " · ".join(parts))
        for line, pace in running:
            yield line.row(pace)


class _Ended:
    """The stores that have ended: how many, and their payments of this run and of earlier ones."""

    stores = rows = before = 0

    def add(self, pace: PaceReading) -> None:
        self.stores += 1
        self.rows += pace.rows
        self.before += pace.before


def _of_channels(reports: Mapping[int | None, WalkReport], elapsed: float, *, since: bool) -> Iterator[Row]:
    for channel_id, report in reports.items():
        if report.pages and not report.ending:
            rate = report.rows / elapsed if elapsed > 0 else 0.0
            # How many of a channel an interrupted export had kept is not known, so the bar says nothing.
            done, total = (0, None) if since else (report.rows, report.total_last)
            words = f"{_payments(report.rows, total)}{' in this run' if since else ''} · {rate:,.0f}/s"
            yield Row(f"channel {channel_id}", done, total, words)


def _payments(done: int, total: int | None) -> str:
    return counted(done, "payment") if total is None else f"{done:,} of {counted(total, 'payment')}"
