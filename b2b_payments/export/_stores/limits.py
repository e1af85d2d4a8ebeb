"""How many stores this process can export at once: each needs file handles and memory."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from b2b_payments._errors import ConfigurationError
from b2b_payments._printable import counted, frozen
from b2b_payments.events import logger
from b2b_payments.export._worker import STEPS_AT_ONCE

if sys.platform != "win32":
    import resource

_HANDLES_BESIDE_REQUESTS = 4
"""Of a store: its lock, its log, its quota's file, and what looks up its host."""
_HANDLES_OF_A_STEP = 8
"""Of what is being made of a log: a database, what it keeps beside itself, the segment that is read."""
_SPARE = 16
_MEMORY = 8 * 2**20
"""Bytes of a store: measured 4 to 5 MiB with 8 pages of 250 payments on their way."""


@frozen
class AtOnce:
    """So many stores at once, and why no more: empty where it is what was asked for."""

    stores: int
    why: str = ""


def asked(at_once: int) -> AtOnce:
    """Return what was asked for. Raises ConfigurationError for what is no number of stores."""
    given: object = at_once
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise ConfigurationError("at_once must be a whole number of stores, 1 or more.")
    return AtOnce(at_once)


def fitting(at_once: int, concurrency: int) -> AtOnce:
    """Return how many stores fit at once, `at_once` at most, each with so many requests in flight.

    Raises ConfigurationError where not one does.
    """
    bounds = [asked(at_once)]
    if (handles := _handles_left()) is not None:
        each = concurrency + _HANDLES_BESIDE_REQUESTS
        most = (handles - _SPARE - STEPS_AT_ONCE * _HANDLES_OF_A_STEP) // each
        why = f"this process may open {counted(handles, 'more file')} (ulimit -n), and a store needs {each}"
        bounds.append(AtOnce(most, why))
    if (memory := min(_memory_left(), default=None)) is not None:
        why = f"{memory // 2**20:,} MiB of memory are left, and a store needs {_MEMORY // 2**20}"
        bounds.append(AtOnce(memory // _MEMORY, why))
    tightest = min(bounds, key=lambda bound: bound.stores)
    if tightest.stores < 1:
        raise ConfigurationError(
            f"No store can be exported: {tightest.why}. Raise that, or lower `concurrency`."
        )
    return tightest


def limited(at_once: int, concurrency: int, stores: int) -> AtOnce:
    """Do the same, with a warning in the log where those are fewer than were asked for."""
    fit = fitting(at_once, concurrency)
    if fit.why and fit.stores < stores:
        logger.warning("%d stores at once, not %d: %s", fit.stores, at_once, fit.why)
    return fit


def _handles_left() -> int | None:
    if sys.platform == "win32":
        return None
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY:
        return None
    with suppress(OSError):
        return most - len(os.listdir("/dev/fd"))
    return most


def _memory_left() -> Iterator[int]:
    """Yield what each limit of this process leaves, in bytes."""
    for read in (_of_the_machine, _of_the_container):
        with suppress(OSError, ValueError, LookupError):
            yield read()


def _of_the_machine() -> int:
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    sizes = dict(line.split(":") for line in lines)
    return int(sizes["MemAvailable"].split()[0]) * 1024


def _of_the_container() -> int:
    group = Path("/sys/fs/cgroup")
    read: Callable[[str], int] = lambda name: int((group / name).read_text(encoding="ascii"))  # noqa: E731
    return read("memory.max") - read("memory.current")
