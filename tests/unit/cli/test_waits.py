"""The text shown while a command waits."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from b2b_payments._cli.waits import Notice, PlainLines, Waits, wait_of
from b2b_payments.events import (
    CallEnded,
    Event,
    PageJoined,
    QuotaWait,
    QuotaWaitEnded,
    RequestEnded,
    RequestStarted,
    RetryScheduled,
)
from tests.support.virtual_time import run

ASKED = RetryScheduled("payments.list", 1, 55.4, "refused", 7, asked=55.0)
FAILED = RetryScheduled(
    "payments.list", 2, 30.0, "failed", 8, why="500 Internal Server Error", patience=270.0
)
STARTED = RequestStarted("payments.list", "GET", "/ip/payments", 2, 7)


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (
            RetryScheduled("payments.get", 2, 1.26, "ambiguous"),
            "attempt 2 failed (ambiguous), next attempt in 1.3 s",
        ),
        (RetryScheduled("payments.get", 2, 0.0, "mixed up"), None),
        (ASKED, "the service asks to wait 55 s, 55 s left"),
        (QuotaWait(12.4, "closed"), "waiting 12 s for the store's quota"),
        (QuotaWait(3.0, "window"), "waiting 3.0 s for the store's quota"),
        (QuotaWait(3.0, "in flight"), None),
        (PageJoined(0, 250, 250, 1000), None),
    ],
)
def test_text_of_a_wait(event: Event, words: str | None) -> None:
    """A wait has a reason and a duration. Waits for an answer in flight and retries at once are not shown."""
    wait = wait_of(event, 100.0)
    assert (None if wait is None else wait.text(100.0)) == words


def test_the_longest_wait_counts_down() -> None:
    """Of several waits, the one that ends last is shown with the seconds left, until all have ended."""
    now = [0.0]
    waits = Waits(lambda: now[0])

    def words() -> str | None:
        return waits.text

    assert words() is None
    waits.listen(ASKED)
    waits.listen(FAILED)
    assert words() == "the service asks to wait 55 s, 55 s left"
    now[0] = 46.0
    assert words() == "the service asks to wait 55 s, 9.4 s left"
    waits.listen(STARTED)
    failed = "attempt 2 failed (500 Internal Server Error), next attempt in "
    endless = "; retrying for up to 270 s more (--outage 0 fails at once)"
    assert words() == f"{failed}0.0 s{endless}"  # it is about to be made
    waits.listen(FAILED)
    assert words() == f"{failed}30 s{endless}"
    waits.listen(RequestEnded("payments.list", "GET", "/ip/payments", 1, 0.1, 200, None, 9))
    assert words() == f"{failed}30 s"
    waits.listen(CallEnded("payments.list", 1.0, None, 8))
    assert words() is None
    waits.listen(QuotaWait(20.0, "closed", 9))
    assert words() == "waiting 20 s for the store's quota"
    waits.listen(QuotaWaitEnded(1.0, 9))
    assert words() is None


def test_joined_page_ends_waits_for_retries() -> None:
    """Once pages arrive again, a pending retry is not shown; a wait that the service asks for still is."""
    waits = Waits()
    waits.listen(FAILED)
    waits.listen(ASKED)
    waits.listen(PageJoined(0, 250, 250, 1000))
    assert [wait.asked for wait in waits._waits.values()] == [True]


def test_notice_is_one_line() -> None:
    """The line of a terminal shows the longest of several waits, until all have ended."""
    with Notice() as notice:
        shown = []
        for event in (FAILED, ASKED, STARTED, CallEnded("payments.list", 1.0, None, 8)):
            notice.listen(event)
            shown.append(str(notice._text())[:20] if notice._live is not None else "")
    assert shown == ["Attempt 2 failed (50", "The service asks to ", "Attempt 2 failed (50", ""]


def test_plain_lines_show_a_failing_first_request(capsys: pytest.CaptureFixture[str]) -> None:
    """The first failure of the first request is printed at once, later ones if the wait is five seconds."""

    async def fail() -> None:
        lines = PlainLines(clock=asyncio.get_running_loop().time)
        for delay in (0.4, 0.9, 1.8, 7.0):
            why = "no connection to 127.0.0.1: Connection refused"
            scheduled = RetryScheduled("payments.list", 1, delay, "not sent", 7, why=why, patience=300.0)
            lines.listen(scheduled)
            await anyio.sleep(delay)
            lines.listen(RequestStarted("payments.list", "GET", "/ip/payments", 2, 7))

    run(fail())
    words = "Attempt 1 failed (no connection to 127.0.0.1: Connection refused), next attempt in {} s; "
    rest = "retrying for up to 300 s more (--outage 0 fails at once)."
    assert capsys.readouterr().err.splitlines() == [words.format(delay) + rest for delay in (0.4, 7.0)]


def test_plain_lines_repeat_a_wait(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal, a wait is printed when it begins and every 15 s; simultaneous ones are not."""

    async def wait() -> None:
        lines = PlainLines("north", clock=asyncio.get_running_loop().time)
        lines.listen(ASKED)
        lines.listen(RetryScheduled("payments.list", 1, 55.4, "refused", 8, asked=55.0))  # refused with it
        lines.listen(QuotaWait(55.4, "closed", 9))  # waits for the same gate
        await anyio.sleep(55.3)
        for call_id in (7, 8, 9):
            lines.listen(RequestStarted("payments.list", "GET", "/ip/payments", 2, call_id))
        await anyio.sleep(60)
        lines.listen(RetryScheduled("payments.list", 1, 0.5, "failed", patience=300.0))
        lines.listen(RetryScheduled("payments.get", 1, 0.5, "refused", asked=0.5))
        lines.listen(QuotaWait(50.0, "window"))
        lines.listen(CallEnded("payments.get", 1.0, None))

    run(wait())
    lines = [f"north: The service asks to wait 55 s, {left} s left." for left in (55, 40, 25, 10)]
    assert capsys.readouterr().err.splitlines() == lines
