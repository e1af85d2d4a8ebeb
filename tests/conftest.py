"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from aioresponses import aioresponses
from hypothesis import settings

from b2b_payments._quota.backends import forget_all
from b2b_payments._resources.turns import TURNS
from tests.support.postgres_server import postgres_server

# Where a run decides over a change, the same examples are drawn each time; elsewhere always new ones.
# No example has a deadline: what a busy machine takes says nothing.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("here", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "here")


@pytest.fixture
def played(payments_aioresponses: aioresponses) -> aioresponses:
    """Give a stand-in for the network, in which answers are played."""
    return payments_aioresponses


@pytest.fixture(autouse=True)
def nothing_of_another_test() -> None:
    """Forget the quotas and creates of the stores of other tests: one of them may have had the same port."""
    forget_all()
    TURNS.forget()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Give the address of a PostgreSQL server, one for all tests of a process."""
    with postgres_server() as address:
        yield address
