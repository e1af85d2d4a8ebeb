"""Walking: pages fetched ahead, offered to the join in line, gaps read anew."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import attrs

from b2b_payments.events import Events, GapRepaired, PageJoined
from b2b_payments.walk.ahead import Ahead
from b2b_payments.walk.join import Join, Step
from b2b_payments.walk.page import KeyedPage
from b2b_payments.walk.report import WalkReport


@attrs.frozen
class JoinedPage:
    """The new rows of one page, and the page's place."""

    rows: Sequence[dict[str, Any]]
    offset: int
    limit: int
    total: int | None


class Stride:
    """How far apart the pages ahead are asked for: what a page really holds, less an overlap.

    The overlap is one row plus the run of equals that usually stands at a page's end, plus a little for
    rows deleted between two requests. One long run is an outlier, two in eight pages are a habit.
    """

    def __init__(self, page_size: int) -> None:
        self._lengths: deque[int] = deque([page_size], maxlen=3)
        self._tails: deque[int] = deque([0, 0], maxlen=8)

    @property
    def length(self) -> int:
        """The rows that a page is expected to hold."""
        return max(self._lengths)

    @property
    def rows(self) -> int:
        """The distance between two pages ahead."""
        spare = min(4, 2 + self.length // 100)
        usual = sorted(self._tails)[-2]
        return max(1, self.length - max(2, min(max(spare, usual), self.length // 2)))

    def learn(self, page: KeyedPage, resume_at: int, *, first: bool) -> None:
        """Take in how a joined page turned out."""
        if not page.reaches_total:
            if first:
                self._lengths.clear()
            self._lengths.append(len(page.rows))
        self._tails.append(page.end - resume_at)


async def joined_pages(
    ahead: Ahead, join: Join, stride: Stride, report: WalkReport, events: Events
) -> AsyncGenerator[JoinedPage, None]:
    """Give the new rows, page by page, in the order of the list; ends where the join knows the end."""
    last_asked = 0
    readable_end: int | None = None  # no row stands here or further on, whatever the total says
    held: KeyedPage | None = None  # a page in line that left a gap, until the gap is closed
    in_line = True
    page = await ahead.now(join.resume_at, wide=False)
    report.total_first = page.total
    while True:
        step = join.offer(page)
        _account(report, events, page, step, in_line=in_line)
        if step.rows:
            yield JoinedPage([page.rows[index] for index in step.rows], page.offset, page.limit, page.total)
        if join.end is not None:
            report.complete, report.ending = report.exact, join.end.value
            return
        if not page.rows:
            readable_end = min(page.offset, page.offset if readable_end is None else readable_end)
        elif in_line and step.joined:
            stride.learn(page, join.resume_at, first=report.pages == 1)
        elif in_line:
            held = page
        end = min(page.total or 0, page.total or 0 if readable_end is None else readable_end)
        settled = step.read_at is None and held is None
        while not ahead.full and (
            (ahead.empty and settled) or (not ahead.empty and last_asked + stride.length < end)
        ):
            last_asked = join.resume_at if ahead.empty else last_asked + stride.rows
            ahead.ask(last_asked)
        if step.read_at is not None:
            page, in_line = await ahead.now(step.read_at, wide=step.wide), False
        elif held is not None:
            page, held, in_line = held, None, True
        else:
            page, in_line = await ahead.next(), True


def _account(report: WalkReport, events: Events, page: KeyedPage, step: Step, *, in_line: bool) -> None:
    report.total_last = page.total
    report.duplicates += step.duplicates
    if step.joined:
        report.pages += 1
        report.rows += len(step.rows)
        events.emit(PageJoined(page.offset, len(page.rows), len(step.rows), page.total))
    elif page.rows and in_line:
        report.gaps += 1
        events.emit(GapRepaired(step.read_at or 0))
