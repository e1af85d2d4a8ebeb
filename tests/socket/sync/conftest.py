"""A sandbox of 200 payments, 20 a page, its client, and places for copies of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from b2b_payments import PaymentsClient
from b2b_payments.sandbox import Rules, Sandbox
from b2b_payments.sync import SQLiteStore
from tests.support.clients import NEVER, client_of
from tests.support.synced import ENDINGS

RULES = Rules(quota=False, max_limit=20, equals="shuffled")


@pytest.fixture(params=ENDINGS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Give the place of a copy in each of the databases."""
    return tmp_path / f"copy.{request.param}"


@pytest.fixture
def copy(tmp_path: Path) -> SQLiteStore:
    """Give a place for a copy."""
    return SQLiteStore(tmp_path / "copy.sqlite")


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Give a store of 200 payments, 20 a page."""
    async with Sandbox(payments=200, rules=RULES) as sandbox:
        yield sandbox


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[PaymentsClient]:
    """Give its client."""
    async with client_of(sandbox, retry=NEVER) as client:
        yield client
