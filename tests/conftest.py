"""What all tests share."""

from __future__ import annotations

import os

import pytest
from aioresponses import aioresponses
from hypothesis import settings

from b2b_payments._quota.backends import forget_all
from b2b_payments._resources.turns import TURNS

# Where a run decides over a change, the same examples are drawn each time; elsewhere always new ones.
# No example has a deadline: what a busy machine takes says nothing.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("here", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "here")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave slow tests out of what is covered: tracing doubles their time, and the others cover as much."""
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker("no_cover")


@pytest.fixture
def played(payments_aioresponses: aioresponses) -> aioresponses:
    """Give a stand-in for the network, in which answers are played."""
    return payments_aioresponses


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
