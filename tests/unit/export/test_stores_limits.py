"""The limit on stores that are exported at once."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator

import pytest

from b2b_payments import ConfigurationError
from b2b_payments.export._stores import limits
from b2b_payments.export._stores.limits import fitting


@pytest.fixture
def handles() -> Iterator[Callable[[int], None]]:
    """Yield a function that limits how many more files this process may open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def leave(number: int) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + number, hard))

    yield leave
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_file_handles(handles: Callable[[int], None]) -> None:
    """The limit of open files bounds the stores at once, given their requests in flight, and is named."""
    handles(245)
    many = fitting(50, 8)
    # Twelve handles per store, besides those for output.
    assert 15 <= many.stores <= 20
    assert "may open 245 more files (ulimit -n), and a store needs 12" in many.why
    assert (fitting(5, 8).stores, fitting(5, 8).why) == (5, "")
    assert fitting(50, 1).stores == (245 - 16 - 4 * 8) // 5
    handles(40)
    with pytest.raises(ConfigurationError, match="No store can be exported: this process may open"):
        fitting(1, 8)


def test_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Free memory bounds them, too: the smaller of the machine's and the container's."""
    monkeypatch.setattr(limits, "_of_the_machine", lambda: 800 * 2**20)
    monkeypatch.setattr(limits, "_of_the_container", lambda: 161 * 2**20)
    assert fitting(50, 8).stores == 20
    assert "161 MiB of memory are left, and a store needs 8" in fitting(50, 8).why
    monkeypatch.setattr(limits, "_of_the_container", lambda: 2**20)
    with pytest.raises(ConfigurationError, match="No store can be exported: 1 MiB of memory"):
        fitting(1, 8)


@pytest.mark.parametrize("at_once", [0, -1, True, 2.5, "8"])
def test_invalid_number_of_stores(at_once: int) -> None:
    """Anything but a positive whole number of stores is refused."""
    with pytest.raises(ConfigurationError, match="at_once must be a whole number of stores"):
        fitting(at_once, 8)
