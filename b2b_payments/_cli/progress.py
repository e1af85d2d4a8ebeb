"""How exports go, in lines: a line for an export and each of its channels, or for each store."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from time import monotonic
from types import TracebackType
from typing import NamedTuple, Self

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from b2b_payments._cli.pace import Pace
from b2b_payments._cli.streams import bare
from b2b_payments._cli.waits import PlainLines, Waits
from b2b_payments._printable import counted, printable
from b2b_payments._quota import Quota
from b2b_payments._walk.report import WalkReport
from b2b_payments._walk.stream import PaymentStream
from b2b_payments._walk.walk import Walk
from b2b_payments.events import Event, QuotaWait

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


class Line:
    """One export: told of its client's events and of its walk's report after each page."""

    def __init__(self, label: str, quota: Quota | None, plain: PlainLines | None = None) -> None:
        self.label = label
        self.pace = Pace(quota or Quota())
        self._waits = Waits()
        self._plain = plain

    def listen(self, event: Event) -> None:
        """Take in what the client does."""
        self.pace.listen(event)
        if not isinstance(event, QuotaWait):  # the pace knows more of these
            self._waits.listen(event)
        if self._plain is not None:
            self._plain.listen(event)

    def advance(self, report: WalkReport) -> None:
        """Take in how far the walk is."""
        self.pace.advance(report)

    def resumed(self, rows: int) -> None:
        """Take in how many payments an interrupted export had kept."""
        self.pace.before = rows

    def row(self) -> Row:
        """Say how it goes."""
        pace = self.pace
        done = pace.before + pace.rows
        parts = [_payments(done, pace.total), f"{pace.rate:,.0f}/s"]
        if (left := pace.seconds_left) is not None:
            parts.append(f"{_duration(left)} left")
        if pace.waiting >= 1 and left != 0:
            parts.append(f"waiting {pace.waiting:.0f} s for the store's quota")
        if (words := self._waits.words) is not None:
            parts.append(words)
        parts.append(counted(pace.pages, "page"))
        return Row(self.label, done, pace.total, " · ".join(parts))


def _plain_lines(label: str = "") -> PlainLines | None:
    """Give what tells of waits where no screen does."""
    return None if sys.stderr.isatty() else PlainLines(label)


class _Shown:
    """What is on a screen as long as it is entered."""

    _screen: Screen

    def __enter__(self) -> Self:
        self._screen.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._screen.__exit__(kind, error, traceback)


class Progress(_Shown):
    """Shows how an export goes, as long as it is entered; silent where there is no terminal."""

    def __init__(self, quota: Quota | None) -> None:
        self._line = Line("all", quota, _plain_lines())
        self._channels: PaymentStream | None = None
        self._screen = Screen(self._rows)

    def listen(self, event: Event) -> None:
        """Take in what the client does."""
        self._line.listen(event)

    def advance(self, report: WalkReport) -> None:
        """Take in how far the walk is."""
        self._line.advance(report)

    def resumed(self, rows: int) -> None:
        """Take in how many payments an interrupted export had kept."""
        self._line.resumed(rows)

    @property
    def requests(self) -> int:
        """How many requests were sent."""
        return self._line.pace.requests

    def follow(self, source: Walk | PaymentStream) -> None:
        """Give each channel of a stream a line of its own."""
        if isinstance(source, PaymentStream) and len(source.reports) > 1:
            self._channels = source

    def _rows(self) -> Iterator[Row]:
        yield self._line.row()
        if self._channels is not None:
            elapsed = self._line.pace.elapsed
            yield from _of_channels(self._channels.reports, elapsed, since=self._line.pace.before > 0)


class StoresProgress(_Shown):
    """Shows how the exports of many stores go: a line for all, and one for each that is under way."""

    def __init__(self, stores: int) -> None:
        self._stores = stores
        self._running: dict[str, Line] = {}
        self._ended = 0
        self._began = monotonic()
        self._rows_ended = 0  # those of this run, and those that were there already
        self._before_ended = 0
        self._screen = Screen(self._rows)

    def begin(self, name: str, quota: Quota | None) -> Line:
        """Give a store its line."""
        line = self._running[name] = Line(name, quota, _plain_lines(name))
        return line

    def end(self, name: str) -> None:
        """Count a store as ended, and take its line away if it has one."""
        line = self._running.pop(name, None)
        if line is not None:
            self._rows_ended += line.pace.before + line.pace.rows
            self._before_ended += line.pace.before
        self._ended += 1

    def _rows(self) -> Iterator[Row]:
        # A copy: this is asked for in the screen's own thread.
        lines = list(self._running.values())
        before = self._before_ended + sum(line.pace.before for line in lines)
        rows = self._rows_ended + sum(line.pace.before + line.pace.rows for line in lines)
        elapsed = monotonic() - self._began
        rate = max(0, rows - before) / elapsed if elapsed > 0 else 0.0
        parts = [
            f"{self._ended:,} of {counted(self._stores, 'store')}",
            counted(rows, "payment"),
            f"{rate:,.0f}/s",
        ]
        left = [line.pace.seconds_left for line in lines]
        # What a store that has not begun will take, nobody knows.
        if left and self._ended + len(lines) == self._stores and None not in left:
            parts.append(f"{_duration(max(seconds or 0.0 for seconds in left))} left")
        yield Row("all stores", self._ended, self._stores, " · ".join(parts))
        for line in lines:
            yield line.row()


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


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
