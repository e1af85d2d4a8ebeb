"""Several writers of one export in an object store, paused or killed before any request."""

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
from b2b_payments.export._location import location_of
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
    """The process is killed here."""


def killed() -> None:
    """Kill the process."""
    raise _KilledError


def bucket_of_step(monkeypatch: pytest.MonkeyPatch, number: int) -> Bucket:
    """Return a new bucket for each step."""
    monkeypatch.setenv("AWS_TEST", f"{os.environ['AWS_TEST'].partition('#')[0]}#{number}")
    return bucket_and_name(f"{FOLDER}/p")[0]


@pytest.mark.parametrize(("format_", "again"), [("jsonl", True), ("csv", False), ("sqlite", True)])
def test_killed_at_any_step(
    at_step: AtStep, monkeypatch: pytest.MonkeyPatch, format_: str, *, again: bool
) -> None:
    """Killed before any request, then resumed or restarted, an export is complete and leaves nothing."""
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
            # The process is gone, so nothing is closed.
            assert verify(url).account.sums.whole.rows in {3, len(ROWS)}
        at_step(0, killed)
        exported(sink_for(url), resume=again)
        assert verify(url).account.sums.whole.rows == len(ROWS)
        found = [*bucket.sizes(f"exports/p.{format_}")]
        assert not [name for name in found if name.startswith("_log")]
        # Replaced data stays for one export.
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
    """Of two exports, one paused at any request, one is published, and the one that stops says why."""
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
            # It continues where the first one stopped, or starts after its manifest.
            stopped = stops(lambda: finish(others[0]))
            assert not (first_stopped and stopped)
            assert stopped or first_stopped or verify(url).number == 2
        assert verify(url).account.sums.whole.rows == len(ROWS)
    assert number > 15


@pytest.mark.parametrize("resumed", [True, False])
def test_cleaned_at_any_step(at_step: AtStep, monkeypatch: pytest.MonkeyPatch, *, resumed: bool) -> None:
    """Cleaned before any request, the first export is published whole, or stops and says why."""
    url = f"{FOLDER}/p.csv"
    number, removed = 0, [1]
    while removed:
        number += 1
        bucket_of_step(monkeypatch, number)
        removed.clear()
        at_step(0, killed)
        if resumed:
            written(sink_for(url), ROWS[:4])
        at_step(number, lambda: removed.append(location_of(url).clean()))
        if not stops(lambda: exported(sink_for(url), resume=resumed)):
            assert verify(url).account.sums.whole.rows == len(ROWS)
        at_step(0, killed)
        exported(sink_for(url), resume=True)
        assert verify(url).account.sums.whole.rows == len(ROWS)
    assert number > 15


def resume_later(url: str) -> PlacedSink:
    """Commit 8 rows, and resume that in another sink, which has to read them from the store at the end."""
    written(sink_for(url), ROWS[:8])
    resumed = sink_for(url)
    resumed.resume()
    return resumed


def fail_at_once(url: str) -> None:
    """Start an export again, which fails before its first commit."""
    sink = sink_for(url)
    sink.open()
    sink.write(ROWS[:1])
    sink.close(complete=False)


def start_and_be_killed(url: str) -> None:
    """Start an export again, which is killed before its first commit."""
    sink_for(url).open()


def end_elsewhere(url: str) -> None:
    """Resume an export, whose walk turns out to be incomplete, beside the older one."""
    assert exported(sink_for(url), resume=True, complete=False).instead is not None


def clean(url: str) -> None:
    """Clean."""
    assert location_of(url).clean() > 0


@pytest.mark.parametrize(
    ("other", "first"), [(clean, True), (clean, False), (fail_at_once, True), (end_elsewhere, False)]
)
def test_three_writers(other: Callable[[str], None], *, first: bool) -> None:
    """Of two exports, each publishes its own payments only, whatever a third one has removed before."""
    url = f"{FOLDER}/p.csv"
    if not first:
        exported(sink_for(url), ROWS[:3])
    one = resumed_in_another_process(url)
    other(url)
    two = sink_for(url)
    written(two, [row | {"externalId": "of-two"} for row in ROWS])
    assert stops(lambda: finish(one))
    two.close(complete=True)
    data, _ = bucket_and_name(url)[0].get(f"exports/{verify(url).files[0]}")
    assert data.count(b"of-two") == len(ROWS)


@pytest.mark.parametrize("other", [fail_at_once, start_and_be_killed])
def test_resumed_after_another_began(other: Callable[[str], None]) -> None:
    """An export that starts again and then fails or is killed before its first commit changes nothing."""
    url = f"{FOLDER}/p.csv"
    written(sink_for(url), ROWS[:8])
    other(url)
    sink = sink_for(url)
    assert resumed_rows(sink) == 8
    finish(sink)
    assert verify(url).account.sums.whole.rows == len(ROWS)


@pytest.mark.parametrize("crashed", [True, False])
def test_goes_on_after_another_failed(*, crashed: bool) -> None:
    """If another export starts again and fails between two commits, this one goes on, and can be resumed."""
    url = f"{FOLDER}/p.csv"
    sink = resumed_in_another_process(url)
    fail_at_once(url)
    if crashed:
        sink.commit({"account": account_of(ROWS[:8])})
        sink = sink_for(url)
        assert resumed_rows(sink) == 8
    finish(sink)
    assert verify(url).account.sums.whole.rows == len(ROWS)


def resumed_in_another_process(url: str) -> PlacedSink:
    """Commit 8 rows, and resume that in another sink, which reads them from the store only at the end."""
    written(sink_for(url), ROWS[:8])
    sink = sink_for(url)
    assert resumed_rows(sink) == 8
    return sink


def resumed_rows(sink: PlacedSink) -> int:
    """Resume an export. Returns the number of rows that were committed."""
    earlier = sink.resume()
    return 0 if earlier is None else int(earlier["account"]["rows"])


def stops(export: Callable[[], object]) -> bool:
    """Return whether an export stops because another one has taken over or was faster."""
    try:
        export()
    except ExportError as error:
        message = str(error)
    else:
        return False
    assert OVERTAKEN.match(message), message
    return True


def finish(sink: PlacedSink) -> None:
    """Finish an export that has written 8 rows."""
    done = False
    try:
        sink.write(ROWS[8:])
        sink.commit({"account": account_of(ROWS)})
        done = True
    finally:
        sink.close(complete=done)


class Turns:
    """Runs one thread at a time, chosen at random before each request, and kills one now and then."""

    def __init__(self, threads: int, seed: int) -> None:
        self._draw = random.Random(seed)
        self._changed = threading.Condition()
        self._here = threading.Barrier(threads, self._next)
        self._running: list[int] = []
        self._turn = 0

    def begin(self) -> None:
        """Add the current thread."""
        self._running.append(threading.get_ident())
        self._here.wait()

    def step(self) -> None:
        """Wait for the thread's turn."""
        me = threading.get_ident()
        if me not in self._running:
            return
        with self._changed:
            self._next()
            self._changed.wait_for(lambda: self._turn == me)
            if self._draw.random() < 0.02:
                raise _KilledError

    def end(self) -> None:
        """Remove the current thread."""
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
    """With three writers that interleave and are killed, readers always see a whole export."""
    url = f"{FOLDER}/p.csv"
    bucket, turns, draw = bucket_of_step(monkeypatch, seed), Turns(3, seed), random.Random(seed)
    on_request(turns.step)
    errors: list[BaseException] = []

    def write(plan: list[bool]) -> None:
        turns.begin()
        try:
            for again in plan:
                with suppress(_KilledError):
                    stops(partial(export_and_close, url, resume=again))
                    if bucket.version("exports/p.csv.manifest.json") is not None:
                        assert verify(url).account.sums.whole.rows == len(ROWS)
        except BaseException as error:  # noqa: BLE001 - checked in the test's own thread
            errors.append(error)
        turns.end()

    plans = [[draw.random() < 0.5 for _ in range(3)] for _ in range(3)]
    threads = [threading.Thread(target=write, args=(plan,), daemon=True) for plan in plans]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    exported(sink_for(url), resume=True)
    assert verify(url).account.sums.whole.rows == len(ROWS)
    assert not [name for name in bucket.sizes("exports/p.csv") if name.startswith("_log")]


def export_and_close(url: str, *, resume: bool) -> None:
    """Export and close; if killed, nothing is closed."""
    sink = sink_for(url)
    written(sink, resume=resume)
    sink.close(complete=True)
