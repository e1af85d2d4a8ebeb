"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, cast

import pytest
from aiohttp import ClientResponse, StreamReader
from aioresponses import aioresponses as fake_aiohttp
from aioresponses import core
from hypothesis import settings

from b2b_payments._quota.backends import forget_all
from b2b_payments._resources.turns import TURNS

# Where a run decides over a change, the same examples are drawn each time; elsewhere always new ones.
# No example has a deadline: what a busy machine takes says nothing.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("here", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "here")


class _Idle:
    """Stands for what a played response has no use for: a request's writer, a connection's parser."""

    output_size = 0

    def pause_reading(self) -> None:
        """Do nothing: all of a played body is there already."""


class _PlayedResponse(ClientResponse):
    """A response that also does without the `stream_writer` that aiohttp 3.14 asks for."""

    def __init__(self, *args: Any, **about: Any) -> None:
        super().__init__(*args, **{"stream_writer": _Idle(), **about})


_core: Any = core
_make_reader = _core.stream_reader_factory


def _reader(loop: Any = None) -> StreamReader:
    reader: Any = _make_reader(loop)
    # A body of more than 128 KiB makes the reader pause its connection, which pauses its parser.
    reader._protocol._parser = _Idle()
    return cast("StreamReader", reader)


# aioresponses 0.7.9 knows aiohttp 3.13; tests/unit/test_played.py holds the canary.
_core.ClientResponse = _PlayedResponse
_core.stream_reader_factory = _reader


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave slow tests out of what is covered: tracing doubles their time, and the others cover as much."""
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker("no_cover")


@pytest.fixture
def played() -> Iterator[fake_aiohttp]:
    """Give a stand-in for the network, in which answers are played."""
    with fake_aiohttp() as answers:
        yield answers


@pytest.fixture(autouse=True)
def no_coverage_of_slow_processes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the processes that slow tests start out of what is covered, too."""
    if request.node.get_closest_marker("slow"):
        monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


@pytest.fixture(autouse=True)
def nothing_of_another_test() -> None:
    """Forget the quotas and creates of the stores of other tests: one of them may have had the same port."""
    forget_all()
    TURNS.forget()
