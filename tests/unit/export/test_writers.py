"""Several writers of one export in an object store, paused and killed before any request to it."""

from __future__ import annotations

import os
import random
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import pytest

from b2b_payments.export import ExportError, PlacedSink, sink_for, verify
from b2b_payments.export._bucket import Bucket, bucket_and_name
from tests.support.export_reading import account_of
from tests.support.exporting import ROWS, exported, written
from tests.unit.export.conftest import AtStep, OnRequest

pytestmark = [pytest.mark.usefixtures("bucket"), pytest.mark.slow]

FOLDER = "memory://bucket/exports"
OVERTAKEN = re.compile(
    r"Another export to memory://bucket/exports/p\.\w+ has (taken over: this one stops|ended meanwhile)"
    r"|The log of the export to .* or another export has taken over\."
)


class _KilledError(BaseException):
    """A process ends here."""


def killed() -> None:
    """End the process."""
    raise _KilledError


def bucket_of_step(monkeypatch: pytest.MonkeyPatch, number: int) -> Bucket:
    """Return another bucket for each step."""
    monkeypatch.setenv("AWS_TEST", f"{os.environ['AWS_TEST'].partition('#')[0]}#{number}")
    return bucket_and_name(f"{FOLDER}/p")[0]


@pytest.mark.parametrize(("format_", "again"), [("jsonl", True), ("csv", False), ("sqlite", True)])
def test_killed_at_any_step(
    at_step: AtStep, monkeypatch: pytest.MonkeyPatch, format_: str, *, again: bool
) -> None:
    """Killed before any request, and resumed or begun again, an export is complete, and nothing is left."""
    url = f"{FOLDER}/p.{format_}"
    number, ended = 0, False
    while not ended:
        number += 1
        bucket = bucket_of_step(monkeypatch, number)
        at_step(0, killed)
        exported(sink_for(url), ROWS[:3])
        at_step(number, killed)
        try:
            written(sink := sink_for(url))
            sink.close(complete=True)
            ended = True
        except _KilledError:
            # The process is gone: nothing is closed.
            assert verify(url).account.sums.whole.rows in {3, len(ROWS)}
        at_step(0, killed)
        exported(sink_for(url), resume=again)
        assert verify(url).account.sums.whole.rows == len(ROWS)
        found = [*bucket.sizes(f"exports/p.{format_}")]
        assert not [name for name in found if name.startswith("_log")]
        # That which it took the place of stays for one export.
        assert len(found) <= (4 if format_ == "csv" else 2)
    assert number > 15


@pytest.mark.parametrize(
    ("resumed", "other_resumes", "other_finishes"),
    [
        (True, True, True),
        (False, False, True),
        (True, True, False),
        (False, True, False),
        (True, False, False),
    ],
)
def test_two_writers(
    at_step: AtStep,
    monkeypatch: pytest.MonkeyPatch,
    *,
    resumed: bool,
    other_resumes: bool,
    other_finishes: bool,
) -> None:
    """Paused before any request while another begins or ends: one is there, and who stops says why."""
    url = f"{FOLDER}/p.csv"
    number, others = 0, [sink_for(url)]
    while others:
        number += 1
        bucket_of_step(monkeypatch, number)
        others.clear()
        at_step(0, killed)
        if resumed:
            written(sink_for(url), ROWS[:4])

        def take_over() -> None:
            others.append(sink_for(url))
            written(others[0], ROWS if other_finishes else ROWS[:8], resume=other_resumes)
            if other_finishes:
                others[0].close(complete=True)

        at_step(number, take_over)
        first_stopped = stops(lambda: exported(sink_for(url), resume=resumed))
        if others and not other_finishes:
            # It goes on where the first one stopped, or begins behind its manifest.
            stopped = stops(lambda: finish(others[0]))
            assert not (first_stopped and stopped)
            assert stopped or first_stopped or verify(url).number == 2
        assert verify(url).account.sums.whole.rows == len(ROWS)
    assert number > 15


def stops(export: Callable[[], object]) -> bool:
    """Whether an export says that another one has taken over, or was faster."""
    try:
        export()
    except ExportError as error:
        said = str(error)
    else:
        return False
    assert OVERTAKEN.match(said), said
    return True


def finish(sink: PlacedSink) -> None:
    """Finish an export that has 8 rows."""
    done = False
    try:
        sink.write(ROWS[8:])
        sink.commit({"account": account_of(ROWS)})
        done = True
    finally:
        sink.close(complete=done)


class Turns:
    """Lets one thread go on at a time, another one drawn before each request, and kills one now and then."""

    def __init__(self, threads: int, seed: int) -> None:
        self._draw = random.Random(seed)
        self._changed = threading.Condition()
        self._here = threading.Barrier(threads, self._next)
        self._running: list[int] = []
        self._turn = 0

    def begin(self) -> None:
        """Take part."""
        self._running.append(threading.get_ident())
        self._here.wait()

    def step(self) -> None:
        """Wait for a turn."""
        me = threading.get_ident()
        if me not in self._running:
            return
        with self._changed:
            self._next()
            self._changed.wait_for(lambda: self._turn == me)
            if self._draw.random() < 0.02:
                raise _KilledError

    def end(self) -> None:
        """Take part no more."""
        with self._changed:
            self._running.remove(threading.get_ident())
            self._next()

    def _next(self) -> None:
        if self._running:
            self._turn = self._draw.choice(self._running)
            with self._changed:
                self._changed.notify_all()


@pytest.mark.parametrize("seed", range(8))
def test_many_writers(on_request: OnRequest, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """However three writers take turns and are killed, whoever looks sees a whole export."""
    url = f"{FOLDER}/p.csv"
    bucket, turns, draw = bucket_of_step(monkeypatch, seed), Turns(3, seed), random.Random(seed)
    on_request(turns.step)
    wrong: list[BaseException] = []

    def write(plan: list[bool]) -> None:
        turns.begin()
        try:
            for again in plan:
                with suppress(_KilledError):
                    stops(partial(closed, url, resume=again))
                    if bucket.version("exports/p.csv.manifest.json") is not None:
                        assert verify(url).account.sums.whole.rows == len(ROWS)
        except BaseException as error:  # noqa: BLE001 - for the test's own thread
            wrong.append(error)
        turns.end()

    plans = [[draw.random() < 0.5 for _ in range(3)] for _ in range(3)]
    threads = [threading.Thread(target=write, args=(plan,), daemon=True) for plan in plans]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    exported(sink_for(url), resume=True)
    assert verify(url).account.sums.whole.rows == len(ROWS)
    assert not [name for name in bucket.sizes("exports/p.csv") if name.startswith("_log")]


def closed(url: str, *, resume: bool) -> None:
    """Export, and close nothing where that is killed."""
    sink = sink_for(url)
    written(sink, resume=resume)
    sink.close(complete=True)
