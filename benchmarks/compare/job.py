"""Starts contenders, each in a fresh process, and reads their figures."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs

from benchmarks.compare.contender import Entry, Where

ROOT = Path(__file__).resolve().parents[2]
_LONGEST = 600.0  # seconds
_BYTECODE = tempfile.TemporaryDirectory(prefix="bytecode-")

T = TypeVar("T")


class CannotRunError(Exception):
    """A contender is not installed, or failed; the message says why."""


def contest(key: str, work: str, where: Where) -> dict[str, Any]:
    """Run a contender on a piece of work. Returns its figures. Raises CannotRunError."""
    _, out = _run(["-m", "benchmarks.compare.contest", key, work, json.dumps(attrs.asdict(where))])
    figures: dict[str, Any] = json.loads(out.splitlines()[-1])
    return figures


def seconds(arguments: Sequence[str]) -> tuple[float, float]:
    """Run Python with these arguments. Returns the CPU and wall seconds of the whole process."""
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    _run(arguments)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, time.perf_counter() - begun


def rounds(
    entries: Iterable[Entry], measure: Callable[[Entry], T], times: int
) -> tuple[dict[Entry, list[T]], dict[Entry, str]]:
    """Measure all in turn, `times` times. Returns the results, and why some entries failed.

    They take turns so that other work on the machine affects all alike.
    """
    results: dict[Entry, list[T]] = {entry: [] for entry in entries}
    failures: dict[Entry, str] = {}
    for _ in range(times):
        for entry, found in results.items():
            if entry in failures:
                continue
            try:
                found.append(measure(entry))
            except CannotRunError as error:
                failures[entry] = str(error)
    measured = {entry: found for entry, found in results.items() if entry not in failures}
    return measured, failures


def named(failures: Mapping[Entry, str]) -> dict[str, str]:
    """Return failures by the contenders' names."""
    return {entry.name: why for entry, why in failures.items()}


def ratio(results: Mapping[Entry, Sequence[float]], entry: Entry, base: Entry) -> float | None:
    """Return the median of an entry's figures, each as a multiple of the base's in the same round."""
    if entry not in results or base not in results:
        return None
    pairs = zip(results[entry], results[base], strict=True)
    return statistics.median(one / other for one, other in pairs)


def _environment() -> dict[str, str]:
    # An installed package has bytecode; code from a checkout is compiled into this folder at its first run.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**inherited, "PYTHONPYCACHEPREFIX": _BYTECODE.name, "RUNTIME__DLTHUB_TELEMETRY": "false"}


def _run(arguments: Sequence[str]) -> tuple[str, str]:
    try:
        done = subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            timeout=_LONGEST,
            check=False,
            cwd=ROOT,
            env=_environment(),
        )
    except subprocess.TimeoutExpired:
        raise CannotRunError(f"took more than {_LONGEST:.0f} s") from None
    if done.returncode:
        last = done.stderr.strip().splitlines()
        raise CannotRunError(last[-1][:200] if last else f"exit code {done.returncode}")
    return done.stderr, done.stdout
