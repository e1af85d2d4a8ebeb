"""Exports that are killed repeatedly, and their outcomes."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import attrs

from b2b_payments.export._pages import BATCH_ROWS
from b2b_payments.sandbox import Sandbox
from benchmarks.compare.job import ROOT
from benchmarks.kills_check import Check
from benchmarks.kills_service import Service, Size, changing_service
from benchmarks.kills_state import Left, Output, S3Output, Stage, left_by
from benchmarks.user_databases import FORMATS as DATABASES
from benchmarks.user_databases import NAMES, UserDatabase

_LAST_KILLS = 2  # of an export: aimed at its end
_KILLS_AN_EXPORT = (5, 10)
_MAX_EXPORTS = 5  # for each kill
_OURS = {"payments", "line_items"}
_NOT_OURS = [name for name in NAMES if name not in _OURS and not name.startswith("b2b_payments_sync")]
_LONGEST = 120.0  # seconds for one process

Say = Callable[[str], object]


class StuckError(Exception):
    """A process did not do what it should; the message is its output."""


@attrs.define
class Account:
    """The outcomes of the exports to one format."""

    format: str
    stages: Counter[Stage] = attrs.field(factory=Counter)
    exports: int = 0
    rows: int = 0
    lasting: int = 0
    lost: int = 0
    twice: int = 0
    untrue: int = 0
    failed: list[str] = attrs.field(factory=list)
    seconds: float = 0.0

    @property
    def kills(self) -> int:
        """The number of killed processes."""
        return self.stages.total()

    def counted(self, *, projections: bool) -> int:
        """The number of kills that count: all, or only those during publishing."""
        return self.stages[Stage.PUBLISHING] if projections else self.kills

    @property
    def clean(self) -> bool:
        """Whether nothing was lost or duplicated, and every file passed."""
        return not (self.lost or self.twice or self.untrue or self.failed)


@attrs.frozen
class Pace:
    """Seconds that a process takes to its first request, from there to its end, and to publish."""

    starting: float
    whole: float
    publishing: float


def killed(
    format_: str,
    kills: int,
    seed: int,
    folder: Path,
    size: Size,
    say: Say,
    *,
    projections: bool = False,
    bucket: str = "",
) -> Account:
    """Export to a format until `kills` processes were killed; each export is resumed until it is complete.

    If `projections`, all kills are aimed at publishing, and only those count. Databases are random ones of a
    user, in which nothing of the user's may change. If `bucket`, exports go there, and databases are new.
    """
    begun = time.perf_counter()
    draw = random.Random(f"{seed} {format_}")
    account, check = Account(format_), Check(size.payments, format_)
    user_payments = list(Sandbox(payments=30).store.all_wire())
    with changing_service(size, draw.randrange(2**32)) as service:
        output: Callable[[Path], Output] = partial(S3Output, bucket) if bucket else Output
        pace = _pace(output(folder / f"{format_}-quiet" / f"payments.{format_}"), service)
        say(f"{format_}: {pace.whole:.2f} s, of which {pace.publishing:.3f} s to publish")
        aim = True
        while account.counted(projections=projections) < kills:
            path = folder / f"{format_}-{account.exports}" / f"payments.{format_}"
            path.parent.mkdir()
            databases = format_ in DATABASES and not bucket
            user = UserDatabase(path, format_, draw, _NOT_OURS) if databases else None
            if user is not None:
                user.fill(user_payments)
            held = user and user.state()
            before = service.ids()
            place = output(path)
            killing = _Killing(place, service, pace, draw, payments=size.payments, aim=aim)
            killing.last_kills = _KILLS_AN_EXPORT[-1] if projections else _LAST_KILLS
            most = min(draw.randint(*_KILLS_AN_EXPORT), kills - account.counted(projections=projections))
            stages = killing.until_complete(most)
            account.stages.update(stages)
            account.exports += 1
            # If publishing is too fast to be hit, aim at the next export before its end.
            aim = bool(stages) or projections
            if account.exports > _MAX_EXPORTS * kills:
                raise StuckError(f"{format_}: only {account.kills} kills in {account.exports} exports.")
            _judge(account, check, place, before, service)
            if user is not None and user.state() != held:
                account.failed.append(f"something of the user's changed in {path}")
            say(f"{format_}: {account.kills} of {kills} kills, {account.exports} exports")
    account.seconds = time.perf_counter() - begun
    return account


def _judge(account: Account, check: Check, output: Output, before: set[int], service: Service) -> None:
    found = check.found(output.data(), before, service.changes())
    account.rows += found.rows
    account.lasting += found.lasting
    account.lost += found.lost
    account.twice += found.twice
    account.untrue += found.untrue
    verified = _start(["verify", output.name], service)
    _, error = verified.communicate(timeout=_LONGEST)
    left = output.left_behind()
    if verified.returncode or left:
        account.failed.append(error.strip() or f"left behind: {', '.join(left)}")
    if isinstance(output, S3Output):
        output.remove()


def _pace(output: Output, service: Service) -> Pace:
    output.path.parent.mkdir()
    service.expect()
    started = time.monotonic()
    process = _export(output, service)
    published = 0.0
    finished = finished_since(output)
    while process.poll() is None:
        if finished() and not published and output.is_there():
            published = time.monotonic()
        time.sleep(output.poll)
    ended = time.monotonic()
    _, error = process.communicate()
    if process.returncode:
        raise StuckError(f"An export that was not killed failed: {error}")
    starting = service.first - started
    return Pace(starting, ended - service.first, max((published or ended) - finished(), 0.001))


def finished_since(output: Output) -> Callable[[], float]:
    """Return a function that returns when an export first had all its rows; 0 while it has not."""
    seen = 0.0

    def since() -> float:
        nonlocal seen
        if not seen and (output.kept() or {}).get("finished"):
            seen = time.monotonic()
        return seen

    return since


class _Killing:
    """One export: its processes are killed at random times, and then it may complete."""

    def __init__(
        self,
        output: Output,
        service: Service,
        pace: Pace,
        draw: random.Random,
        *,
        payments: int,
        aim: bool,
    ) -> None:
        self._output = output
        self._service = service
        self._pace = pace
        self._draw = draw
        self._aim = aim  # aim the last kills at publishing
        self._payments = payments
        self.last_kills = _LAST_KILLS

    def until_complete(self, most: int) -> Counter[Stage]:
        """Kill up to `most` processes. Returns how far the export had come at each kill."""
        stages: Counter[Stage] = Counter()
        left = Left(Stage.BEFORE)
        while True:
            killing = stages.total() < most
            self._service.expect()
            process = _export(self._output, self._service)
            if killing:
                self._kill(process, left, 1 - left.rows / self._payments, most - stages.total())
            _, error = process.communicate(timeout=_LONGEST)
            if process.returncode == 0:
                return stages
            if process.returncode > 0 or not killing:
                raise StuckError(f"{self._output.name}: exit code {process.returncode}: {error}")
            # Without a request it may have been starting still, which proves nothing.
            counts = self._service.first or left.stage is Stage.PUBLISHING
            left = left_by(self._output)
            if counts:
                stages[left.stage] += 1

    def _kill(self, process: subprocess.Popen[str], left: Left, share: float, kills: int) -> None:
        """Kill at a random time: within twice the fair share of the remaining work, or finally at the end."""
        pace, service, started = self._pace, self._service, time.monotonic()

        def first() -> float:
            # An export that has all pages sends no requests: use the time at which it must have started.
            return started + pace.starting if left.stage is Stage.PUBLISHING else service.first

        since: Callable[[], float] = first
        # Wide enough for a commit to be likely; otherwise all kills might precede the first commit.
        part = max(min(1.0, 2 / kills) * share, min(1.0, 2 * BATCH_ROWS / self._payments))
        spread = part * (pace.whole - pace.publishing) + pace.publishing
        if left.stage is Stage.PUBLISHING:
            spread = 2 * pace.publishing
        elif kills <= self.last_kills and self._aim:
            since, spread = finished_since(self._output), pace.publishing
        delay = self._draw.uniform(0, spread)
        while process.poll() is None:
            asked = since()
            if asked and time.monotonic() >= asked + delay:
                process.kill()
                return
            time.sleep(self._output.poll)


def _export(output: Output, service: Service) -> subprocess.Popen[str]:
    reading = ("--resume", "--quota", "1000000/1", "--page-size", "250", "--concurrency", "4")
    return _start(["export", "--output", output.name, *reading], service)


def _start(arguments: list[str], service: Service) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "b2b_payments", *arguments],
        cwd=ROOT,
        env={**os.environ, **service.variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
