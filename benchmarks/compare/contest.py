"""Runs one contender on one piece of work in this process, and prints the figures as JSON.

Started by `job`: ``python -m benchmarks.compare.contest KEY WORK WHERE``.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.compare.contender import Contender, Where, load

_STATUS = Path("/proc/self/status")

Figures = dict[str, Any]


class _EnoughError(Exception):
    """Raised by a visit to end a walk after its first payment."""


def walk(contender: Contender, where: Where) -> Figures:
    """Read everything and keep nothing. Returns CPU and wall seconds, and the process's peak memory.

    A first payment is read before, so that imports are not counted, but not under a quota, to spend nothing.
    """
    if where.quota is None:
        first(contender, where)
    # Implemented in C: what is the same for all contenders should cost next to nothing.
    visit = deque[object](maxlen=0).append
    wall, cpu = time.perf_counter(), time.process_time()
    contender.read(where, visit)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {"cpu": cpu, "wall": wall, "peak": _peak()}


def ids(contender: Contender, where: Where) -> Figures:
    """Read everything and keep the ids."""
    found: list[int] = []
    contender.read(where, lambda payment: found.append(contender.payment_id(payment)))
    return {"ids": found}


def first(contender: Contender, where: Where) -> Figures:
    """Read the first payment and stop."""

    def enough(_: object) -> None:
        raise _EnoughError

    try:
        contender.read(where, enough)
    except _EnoughError:
        return {}
    raise AssertionError("no payment was read")


def lines(contender: Contender, where: Where) -> Figures:
    """Write a line of JSON for each payment. This library's own export is in `exports`."""
    path = Path(where.generated, "lines.jsonl")
    wall, cpu = time.perf_counter(), time.process_time()
    with path.open("wb") as file:
        contender.read(where, lambda payment: file.write(contender.line(payment)))
    figures = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
    path.unlink()
    return figures


def _peak() -> int:
    # ru_maxrss includes the parent's memory, from before exec.
    if _STATUS.exists():
        text = _STATUS.read_text(encoding="utf-8")
        return int(text.partition("VmHWM:")[2].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


WORK: dict[str, Callable[[Contender, Where], Figures]] = {
    "walk": walk,
    "ids": ids,
    "first": first,
    "lines": lines,
}


def main() -> None:
    """Run the job that the arguments name."""
    key, work, where = sys.argv[1:]
    if key.startswith("export_"):
        from benchmarks.compare import exports  # noqa: PLC0415  # only exports load sinks

        figures = exports.export(key.removeprefix("export_"), Where(**json.loads(where)))
    else:
        figures = WORK[work](load(key), Where(**json.loads(where)))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
