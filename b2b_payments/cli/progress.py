"""The progress display: on standard error, and only where that is a terminal."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task
from rich.progress import Progress as Display
from rich.text import Text

from b2b_payments.cli.connection import patience
from b2b_payments.cli.pace import Pace
from b2b_payments.events import Event, PageJoined, RetryScheduled
from b2b_payments.quota import Quota
from b2b_payments.walk.report import WalkReport


class Progress:
    """Shows how an export goes, as long as it is entered; silent where there is no terminal."""

    def __init__(self, quota: Quota | None) -> None:
        self._pace = Pace(quota or Quota())
        self._words = _Words(self._pace)
        self._display: Display | None = None
        if sys.stderr.isatty():
            self._display = Display(BarColumn(), self._words, console=Console(stderr=True), transient=True)
            self._task = self._display.add_task("export", total=None)

    def __enter__(self) -> Self:
        if self._display is not None:
            self._display.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._display is not None:
            self._display.stop()

    def listen(self, event: Event) -> None:
        """Take in what the client does."""
        self._pace.listen(event)
        if isinstance(event, RetryScheduled):
            self._words.trouble = patience(event)
        elif isinstance(event, PageJoined):
            self._words.trouble = None

    def advance(self, report: WalkReport) -> None:
        """Take in how far the walk is."""
        self._pace.advance(report)
        if self._display is not None:
            self._display.update(self._task, completed=report.rows, total=report.total_last)


class _Words(ProgressColumn):
    """What the bar does not say."""

    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self._pace = pace
        self.trouble: str | None = None

    def render(self, task: Task) -> Text:
        pace = self._pace
        of = "" if task.total is None else f" of {task.total:,.0f}"
        parts = [f"{task.completed:,.0f}{of} payments", f"{pace.pages:,} pages", f"{pace.rate:,.0f}/s"]
        if (left := pace.seconds_left) is not None:
            parts.append(f"{_duration(left)} left")
        if pace.waiting >= 1 and left != 0:
            parts.append(f"waiting {pace.waiting:.0f} s for the store's quota")
        if self.trouble is not None:
            parts.append(self.trouble)
        return Text(" · ".join(parts))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
