"""Fixtures and settings of all tests."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Callable, Generator, Iterator, Mapping

import pytest
from aioresponses import aioresponses
from hypothesis import settings

from b2b_payments._quota.backends import forget_all
from b2b_payments._resources.turns import TURNS
from tests.support.postgres_server import postgres_server
from tests.support.virtual_time import VirtualTimeLoop

# CI draws the same examples each time; elsewhere they are always new. No example has a deadline: how long one
# takes on a busy machine says nothing.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("here", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "here")


def pytest_xdist_auto_num_workers() -> int:
    """Run one and a half workers per core: many tests wait for processes and servers."""
    return ((os.cpu_count() or 1) * 3 + 1) // 2


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect no garbage until all tests are known: almost nothing that is made for them is garbage."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    """Exclude what is loaded by now from garbage collection: it is much, and many tests collect."""
    gc.collect()
    gc.freeze()


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run tests marked `virtual_time`, and their fixtures, on a loop that jumps over waits."""
    if item.get_closest_marker("virtual_time"):
        return {"virtual": VirtualTimeLoop}
    return {"real": asyncio.new_event_loop}


@pytest.fixture
def played(payments_aioresponses: aioresponses) -> aioresponses:
    """Return a stand-in for the network that plays prepared answers."""
    return payments_aioresponses


@pytest.fixture(autouse=True)
def nothing_of_another_test() -> None:
    """Forget the quotas and creates of other tests' stores: one may have had the same port."""
    forget_all()
    TURNS.forget()


@pytest.fixture(autouse=True)
def signal_handlers() -> Iterator[None]:
    """Restore the handlers that a command in this process has replaced, since it expects to be its last."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Yield the address of a PostgreSQL server, shared by all tests of a process."""
    with postgres_server() as address:
        yield address
