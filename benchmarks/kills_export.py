"""Exports that are killed again and again, and what became of them."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import attrs

from b2b_payments.export._export import BATCH_ROWS
from b2b_payments.export._manifest import manifest_path
from b2b_payments.sandbox import Sandbox
from benchmarks.compare.job import ROOT
from benchmarks.kills_check import Check
from benchmarks.kills_service import Service, Size, changing_service
from benchmarks.kills_state import Left, Stage, kept_of, left_by
from benchmarks.user_databases import FORMATS as DATABASES
from benchmarks.user_databases import NAMES, UserDatabase

_LAST_KILLS = 2  # of an export: they wait for its end
_KILLS_AN_EXPORT = (5, 10)
_MOST_EXPORTS = 5  # for each kill
_POLL = 0.001
_OURS = {"payments", "line_items"}
_NOT_OURS = [name for name in NAMES if name not in _OURS and not name.startswith("b2b_payments_sync")]
_LONGEST = 120.0  # seconds for one process

Say = Callable[[str], object]


class StuckError(Exception):
    """A process did not do what it was to do; the text says what it said."""


@attrs.define
class Account:
    """What became of the exports to one format."""

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
        """How many processes were killed."""
        return self.stages.total()

    def counted(self, *, projections: bool) -> int:
        """How many of the kills count: all, or those while the files were being made."""
        return self.stages[Stage.PUBLISHING] if projections else self.kills

    @property
    def clean(self) -> bool:
        """Whether nothing was lost, nothing came twice, and every file passed."""
        return not (self.lost or self.twice or self.untrue or self.failed)


@attrs.frozen
class Pace:
    """How long a process takes to its first request, from there to its end, and to publish, in seconds."""

    starting: float
    whole: float
    publishing: float


def killed(
    format_: str, kills: int, seed: int, folder: Path, size: Size, say: Say, *, projections: bool = False
) -> Account:
    """Export to a format until so many processes were killed; each export goes on until it is complete.

    If `projections`, all kills are aimed at the making of files, and those alone count. Databases are the
    user's, drawn at random, and nothing of the user's may change.
    """
    begun = time.perf_counter()
    draw = random.Random(f"{seed} {format_}")
    account, check = Account(format_), Check(size.payments, format_)
    user_payments = list(Sandbox(payments=30).store.all_wire())
    with changing_service(size, draw.randrange(2**32)) as service:
        pace = _pace(format_, folder, service)
        say(f"{format_}: {pace.whole:.2f} s, of them {pace.publishing:.3f} s to publish")
        aim = True
        while account.counted(projections=projections) < kills:
            path = folder / f"{format_}-{account.exports}" / f"payments.{format_}"
            path.parent.mkdir()
            user = UserDatabase(path, format_, draw, _NOT_OURS) if format_ in DATABASES else None
            if user is not None:
                user.fill(user_payments)
            held = user and user.state()
            before = service.ids()
            killing = _Killing(path, format_, service, pace, draw, payments=size.payments, aim=aim)
            killing.last_kills = _KILLS_AN_EXPORT[-1] if projections else _LAST_KILLS
            most = min(draw.randint(*_KILLS_AN_EXPORT), kills - account.counted(projections=projections))
            stages = killing.until_complete(most)
            account.stages.update(stages)
            account.exports += 1
            # Where publishing is too quick to be met, the next export is met on its way.
            aim = bool(stages) or projections
            if account.exports > _MOST_EXPORTS * kills:
                raise StuckError(f"{format_}: only {account.kills} kills in {account.exports} exports.")
            _judge(account, check, path, before, service)
            if user is not None and user.state() != held:
                account.failed.append(f"something of the user's changed in {path}")
            say(f"{format_}: {account.kills} of {kills} kills, {account.exports} exports")
    account.seconds = time.perf_counter() - begun
    return account


def _judge(account: Account, check: Check, path: Path, before: set[int], service: Service) -> None:
    found = check.found(path, before, service.changes())
    account.rows += found.rows
    account.lasting += found.lasting
    account.lost += found.lost
    account.twice += found.twice
    account.untrue += found.untrue
    verified = _start(["verify", str(path)], service)
    _, error = verified.communicate(timeout=_LONGEST)
    hidden = [one.name for one in path.parent.iterdir() if one.name.startswith(".")]
    if verified.returncode or hidden:
        account.failed.append(error.strip() or f"left behind: {', '.join(hidden)}")


def _pace(format_: str, folder: Path, service: Service) -> Pace:
    path = folder / f"{format_}-quiet" / f"payments.{format_}"
    path.parent.mkdir()
    service.expect()
    started = time.monotonic()
    process = _export(path, service)
    published = 0.0
    finished = finished_since(path)
    while process.poll() is None:
        if finished() and not published and path.exists() and manifest_path(path).exists():
            published = time.monotonic()
        time.sleep(_POLL)
    ended = time.monotonic()
    _, error = process.communicate()
    if process.returncode:
        raise StuckError(f"An export that nobody killed failed: {error}")
    starting = service.first - started
    return Pace(starting, ended - service.first, max((published or ended) - finished(), _POLL))


def finished_since(path: Path) -> Callable[[], float]:
    """Give what tells since when an export has all its rows; 0 while it has not."""
    seen = 0.0

    def since() -> float:
        nonlocal seen
        if not seen and (kept_of(path) or {}).get("finished"):
            seen = time.monotonic()
        return seen

    return since


class _Killing:
    """One export: its processes are killed at random instants, and then it is left to complete."""

    def __init__(
        self,
        path: Path,
        format_: str,
        service: Service,
        pace: Pace,
        draw: random.Random,
        *,
        payments: int,
        aim: bool,
    ) -> None:
        self._path = path
        self._format = format_
        self._service = service
        self._pace = pace
        self._draw = draw
        self._aim = aim  # the last kills at publishing
        self._payments = payments
        self.last_kills = _LAST_KILLS

    def until_complete(self, most: int) -> Counter[Stage]:
        """Kill so many processes at most; give how far the export had come at each kill."""
        stages: Counter[Stage] = Counter()
        left = Left(Stage.BEFORE)
        while True:
            killing = stages.total() < most
            self._service.expect()
            process = _export(self._path, self._service)
            if killing:
                self._kill(process, left, 1 - left.rows / self._payments, most - stages.total())
            _, error = process.communicate(timeout=_LONGEST)
            if process.returncode == 0:
                return stages
            if process.returncode > 0 or not killing:
                raise StuckError(f"{self._path.name}: exit code {process.returncode}: {error}")
            # Without a request it may still have been starting: that proves nothing.
            counts = self._service.first or left.stage is Stage.PUBLISHING
            left = left_by(self._path)
            if counts:
                stages[left.stage] += 1

    def _kill(self, process: subprocess.Popen[str], left: Left, share: float, kills: int) -> None:
        """Kill at a random instant: within twice the fair share of what is left, or, at last, at the end."""
        pace, service, started = self._pace, self._service, time.monotonic()

        def first() -> float:
            # One that has all pages asks for none: by then it has been started.
            return started + pace.starting if left.stage is Stage.PUBLISHING else service.first

        since: Callable[[], float] = first
        # Wide enough for a commit to be likely, or one kill after another would come before the first.
        part = max(min(1.0, 2 / kills) * share, min(1.0, 2 * BATCH_ROWS / self._payments))
        spread = part * (pace.whole - pace.publishing) + pace.publishing
        if left.stage is Stage.PUBLISHING:
            spread = 2 * pace.publishing
        elif kills <= self.last_kills and self._aim:
            since, spread = finished_since(self._path), pace.publishing
        delay = self._draw.uniform(0, spread)
        while process.poll() is None:
            asked = since()
            if asked and time.monotonic() >= asked + delay:
                process.kill()
                return
            time.sleep(_POLL)


def _export(path: Path, service: Service) -> subprocess.Popen[str]:
    reading = ("--resume", "--quota", "1000000/1", "--page-size", "250", "--concurrency", "4")
    return _start(["export", "--output", str(path), *reading], service)


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
