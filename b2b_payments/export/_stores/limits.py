"""How many stores this process can export at once: each needs file handles and memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from b2b_payments._errors import ConfigurationError
from b2b_payments._printable import counted, frozen
from b2b_payments.events import logger
from b2b_payments.export._worker import STEPS_AT_ONCE

_FIXED_HANDLES = 4
"""File handles of a store besides its requests: its lock, its log, its quota's file, and its DNS lookups."""
_HANDLES_PER_STEP = 8
"""File handles of a step that projects a log: a database, the files beside it, the segment being read."""
_SPARE_HANDLES = 16
_MEMORY_PER_STORE = 8 * 2**20
"""Bytes. Measured: 4 to 5 MiB with 8 pages of 250 payments in flight."""


@frozen
class AtOnce:
    """How many stores run at once, and why not more. `why` is empty if that is the requested number."""

    stores: int
    why: str = ""


def checked_at_once(at_once: int) -> AtOnce:
    """Return the requested number. Raises ConfigurationError if it is not a whole number of 1 or more."""
    value: object = at_once
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError("at_once must be a whole number of stores, 1 or more.")
    return AtOnce(at_once)


def fitting(at_once: int, concurrency: int) -> AtOnce:
    """Return how many stores fit at once, at most `at_once`, each with `concurrency` requests in flight.

    Raises ConfigurationError if not even one fits.
    """
    bounds = [checked_at_once(at_once)]
    if (handles := _handles_left()) is not None:
        each = concurrency + _FIXED_HANDLES
        most = (handles - _SPARE_HANDLES - STEPS_AT_ONCE * _HANDLES_PER_STEP) // each
        why = f"this process may open {counted(handles, 'more file')} (ulimit -n), and a store needs {each}"
        bounds.append(AtOnce(most, why))
    if (memory := min(_memory_left(), default=None)) is not None:
        why = f"{memory // 2**20:,} MiB of memory are left, and a store needs {_MEMORY_PER_STORE // 2**20}"
        bounds.append(AtOnce(memory // _MEMORY_PER_STORE, why))
    tightest = min(bounds, key=lambda bound: bound.stores)
    if tightest.stores < 1:
        raise ConfigurationError(f"No store can be started: {tightest.why}. Raise that limit.")
    return tightest


def fitting_with_warning(at_once: int, concurrency: int, stores: int) -> AtOnce:
    """Do the same, and log a warning if fewer stores fit than were requested."""
    fit = fitting(at_once, concurrency)
    if fit.why and fit.stores < stores:
        logger.warning("%d stores at once, not %d: %s", fit.stores, at_once, fit.why)
    return fit


def _handles_left() -> int | None:
    try:
        import resource  # noqa: PLC0415
    except ImportError:  # not a POSIX system
        return None
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY:
        return None
    with suppress(OSError):
        return most - len(os.listdir("/dev/fd"))
    return most


def _memory_left() -> Iterator[int]:
    """Yield the memory left under each known limit, in bytes."""
    for read in (_machine_memory, _container_memory):
        with suppress(OSError, ValueError, LookupError):
            yield read()


def _machine_memory() -> int:
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    sizes = dict(line.split(":") for line in lines)
    return int(sizes["MemAvailable"].split()[0]) * 1024


def _container_memory() -> int:
    group = Path("/sys/fs/cgroup")
    read: Callable[[str], int] = lambda name: int((group / name).read_text(encoding="ascii"))  # noqa: E731
    return read("memory.max") - read("memory.current")
