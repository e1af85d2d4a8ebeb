"""How many stores are exported at once."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator

import pytest

from b2b_payments import ConfigurationError
from b2b_payments.export._stores import batch, limits
from b2b_payments.export._stores.limits import fitting


@pytest.fixture
def handles() -> Iterator[Callable[[int], None]]:
    """Yield a function that limits how many more files this process may open, for the test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def set_limit(number: int) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + number, hard))

    yield set_limit
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_file_handles(handles: Callable[[int], None]) -> None:
    """The limit of open files limits the stores at once, by their requests in flight, with the reason."""
    handles(245)
    many = fitting(50, 8)
    # Twelve handles a store, besides those of the writing steps.
    assert 15 <= many.stores <= 20
    assert "may open 245 more files (ulimit -n), and a store needs 12" in many.why
    assert (fitting(5, 8).stores, fitting(5, 8).why) == (5, "")
    assert fitting(50, 1).stores == (245 - 16 - 4 * 8) // 5
    handles(40)
    with pytest.raises(ConfigurationError, match="No store can be started: this process may open"):
        fitting(1, 8)


def test_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """So does the memory left: the smaller of the machine's and the container's."""
    monkeypatch.setattr(limits, "_machine_memory", lambda: 800 * 2**20)
    monkeypatch.setattr(limits, "_container_memory", lambda: 161 * 2**20)
    assert fitting(50, 8).stores == 20
    assert "161 MiB of memory are left, and a store needs 8" in fitting(50, 8).why
    monkeypatch.setattr(limits, "_container_memory", lambda: 2**20)
    with pytest.raises(ConfigurationError, match="No store can be started: 1 MiB of memory"):
        fitting(1, 8)


@pytest.mark.parametrize("at_once", [0, -1, True, 2.5, "8"])
def test_invalid_at_once(at_once: int) -> None:
    """Anything but a whole number of 1 or more is refused."""
    with pytest.raises(ConfigurationError, match="at_once must be a whole number of stores"):
        fitting(at_once, 8)


def test_unknown_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """If neither the limit of open files nor the memory left is known, all stores fit."""
    unlimited = resource.RLIM_INFINITY
    monkeypatch.setattr(resource, "getrlimit", lambda _: (unlimited, unlimited))
    for name in ("_machine_memory", "_container_memory"):
        monkeypatch.setattr(limits, name, lambda: int("max"))
    assert (fitting(50, 8).stores, fitting(50, 8).why) == (50, "")


def test_worker_without_room(handles: Callable[[int], None]) -> None:
    """A worker in which not even one store fits exports one at a time: the run was started already."""
    handles(40)
    assert batch._worker_share.__wrapped__("worker", "run", 8, 8).slots.value == 1
