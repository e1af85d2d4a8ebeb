"""The lines of the progress display."""

from __future__ import annotations

import anyio
import pytest
from rich.console import Console

from b2b_payments import Quota, WalkReport
from b2b_payments._cli.options import Verbosity, with_duration
from b2b_payments._cli.progress import ExportLine, Progress, Row, Screen, StoresProgress
from b2b_payments.events import PageJoined, QuotaWait, RetryScheduled
from b2b_payments.export import StoreReport, StoreState
from b2b_payments.export._pace import Pace, PaceReading
from tests.support.virtual_time import run


def _words(row: Row) -> list[str]:
    return row.text.split(" · ")


def test_export_line() -> None:
    """A line shows payments, pages, rate, time left, and current waits."""
    now = 0.0
    line, pace = ExportLine("north"), Pace(Quota(), lambda: now)
    assert _words(line.row(pace.reading())) == ["0 payments", "0/s", "0 pages"]
    now = 5.0
    pace.advance(WalkReport(rows=1_500, pages=6, total_last=3_000))
    for event in (
        RetryScheduled("payments.list", 1, 2.0, "failed", why="503 Service Unavailable"),
        QuotaWait(70.0, "closed"),
    ):
        pace.listen(event)
        line.listen(event)
    row = line.row(pace.reading())
    assert (row.label, row.done, row.total) == ("north", 1_500, 3_000)
    payments, rate, left, waiting, trouble, pages = _words(row)
    assert (payments, pages) == ("1,500 of 3,000 payments", "6 pages")
    assert (rate, left) == ("300/s", "0:00:05 left")
    assert waiting == "waiting 70 s for the store's quota"
    assert trouble == "attempt 1 failed (503 Service Unavailable), next attempt in 2.0 s"
    line.listen(PageJoined(0, 250, 250, 3_000))
    assert trouble not in _words(line.row(pace.reading()))


def test_line_of_a_resumed_export() -> None:
    """The payments that the interrupted export had kept count as done."""
    row = ExportLine("north").row(PaceReading(before=2_000, rows=500, pages=2, total=3_000))
    assert row.done == 2_500
    assert _words(row)[0] == "2,500 of 3,000 payments"


def test_lines_of_stores() -> None:
    """The first line counts all stores; then comes one for each store in progress, none for ended ones."""
    progress = StoresProgress(Verbosity())

    def advance(name: str, state: StoreState, pace: PaceReading) -> None:
        progress.advance(StoreReport(name, f"{name}.csv", state, pace=pace))

    for name in ("before", "north", "south", "west"):
        advance(name, StoreState.NOT_BEGUN, PaceReading())
    advance("before", StoreState.ALREADY_COMPLETE, PaceReading())
    for name in ("north", "south"):
        advance(name, StoreState.RUNNING, PaceReading())
    north = PaceReading(rows=1_000, pages=4, total=5_000, seconds_left=9.0)
    advance("north", StoreState.RUNNING, north)
    whole, *rest = progress._rows()
    assert (whole.label, whole.done, whole.total) == ("all stores", 1, 4)
    assert _words(whole)[:2] == ["1 of 4 stores", "1,000 payments"]
    # No time left while a store has not begun.
    assert len(_words(whole)) == 3
    assert [row.label for row in rest] == ["north", "south"]
    advance("south", StoreState.COMPLETE, PaceReading(before=50))
    advance("west", StoreState.RUNNING, PaceReading(rows=10, pages=1, total=10, seconds_left=0.0))
    whole, *rest = progress._rows()
    assert _words(whole)[:2] == ["2 of 4 stores", "1,060 payments"]
    assert _words(whole)[3] == "0:00:09 left"
    assert [row.label for row in rest] == ["north", "west"]


class _Fixed(Screen):
    """A screen of rows that do not change."""

    def __init__(self, rows: list[Row]) -> None:
        super().__init__(Verbosity())
        self._fixed = rows

    def _rows(self) -> list[Row]:
        return self._fixed


def test_many_rows_are_cut_to_a_dozen() -> None:
    """The first row and a dozen others are shown, each cut to one line."""
    rows = [Row(f"store {place} {'x' * 40}", place, 100, "word " * 80) for place in range(50)]
    screen = _Fixed(rows)
    console = Console(width=80)
    with console.capture() as shown:
        console.print(screen._table(80))
    lines = shown.get().splitlines()
    assert len(lines) == 13
    assert all(line.startswith(f"store {place} xxx") for place, line in enumerate(lines))
    assert all("… " in line and "word word" in line and line.endswith("…") for line in lines)
    with console.capture() as shown:
        console.print(_Fixed(rows[:1])._table(80))
    assert shown.get().count("word") == 80


@pytest.mark.parametrize("many", [False, True])
def test_sixty_columns(*, many: bool) -> None:
    """A narrow terminal shows all figures of a single export, or one line per store, within its width."""
    rows = [Row(f"store number {place}", 500, 1_000, _BUSY) for place in range(1 + 9 * many)]
    console = Console(width=60)
    with console.capture() as shown:
        console.print(_Fixed(rows)._table(60))
    lines = shown.get().splitlines()
    assert max(map(len, lines)) <= 60
    if many:
        assert len(lines) == 10
        assert all("500 of 1,000 payments" in line for line in lines)
    else:
        assert _BUSY.split() == " ".join(lines[1:]).split()


_BUSY = "500 of 1,000 payments · 300/s · 0:00:05 left · waiting 70 s for the store's quota · 6 pages"


@pytest.mark.parametrize(
    ("verbosity", "expected"),
    [
        (Verbosity(), ["0 payments · 0/s · 0 pages."] * 3),
        (Verbosity(quiet=True), []),
        (Verbosity(log=True), None),
    ],
)
def test_a_line_every_ten_seconds(
    capsys: pytest.CaptureFixture[str], verbosity: Verbosity, expected: list[str] | None
) -> None:
    """Without a display, progress is printed every ten seconds, and never when quiet."""

    async def export() -> None:
        with Progress(None, verbosity):
            await anyio.sleep(35)

    run(export())
    lines = capsys.readouterr().err.splitlines()
    assert lines == (["0 payments · 0/s · 0 pages."] * 3 if expected is None else expected)


def test_wait_is_said_once_beside_the_lines_of_progress(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal, a wait is printed as it begins; while it lasts, the lines of progress have it."""

    async def wait() -> None:
        with Progress(Quota(), Verbosity()) as progress:
            progress.listen(RetryScheduled("payments.list", 1, 45.0, "failed", why="503 Busy"))
            await anyio.sleep(40.5)

    run(wait())
    begins, *lines = capsys.readouterr().err.splitlines()
    assert begins == "Attempt 1 failed (503 Busy), next attempt in 45 s."
    assert [line.startswith("0 payments") and "503 Busy" in line for line in lines] == [True] * 4


def test_total_of_remaining_channels_is_not_shown() -> None:
    """A total smaller than the payments done covers only the remaining channels, so it is not shown."""
    row = ExportLine("north").row(PaceReading(before=3_000, rows=200, pages=1, total=1_000))
    assert (row.done, row.total) == (3_200, None)
    assert _words(row)[0] == "3,200 payments"


@pytest.mark.parametrize(
    ("report", "seconds", "words"),
    [
        (WalkReport(rows=300, requests=3, complete=True), 4.25, "complete: 300 payments, 3 requests, 4.2 s"),
        (WalkReport(complete=True), 3_723.4, "complete: 0 payments, 0 requests, 1:02:03"),
    ],
)
def test_summary_with_duration(report: WalkReport, seconds: float, words: str) -> None:
    """The summary has the duration before any caveat, in seconds or as hours:minutes:seconds."""
    assert with_duration(report, seconds) == words
    report.ignored_filters = frozenset({"invoiceId"})
    assert with_duration(report, seconds).startswith(f"{words}; the service may ignore a filter")
