"""A sandbox of 200 payments, 20 a page, its client, and stores for copies of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from b2b_payments import PaymentsClient
from b2b_payments.sandbox import Rules, Sandbox
from b2b_payments.sync import SQLiteStore, Store
from tests.support.clients import NEVER, client_of
from tests.support.synced import ENDINGS, KINDS, store_in

RULES = Rules(quota=False, max_limit=20, equals="shuffled")


@pytest.fixture(params=ENDINGS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return the path of a copy, for each database that is a file."""
    return tmp_path / f"copy.{request.param}"


@pytest.fixture(params=KINDS)
def any_copy(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Return a store for a copy, for each kind of database."""
    server = request.getfixturevalue("postgres") if request.param == "postgres" else ""
    return store_in(request.param, tmp_path, server)


@pytest.fixture
def copy(tmp_path: Path) -> SQLiteStore:
    """Return a store for a copy in SQLite."""
    return SQLiteStore(tmp_path / "copy.sqlite")


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Yield a sandbox of 200 payments, 20 a page."""
    async with Sandbox(payments=200, rules=RULES) as sandbox:
        yield sandbox


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[PaymentsClient]:
    """Yield a client of the sandbox."""
    async with client_of(sandbox, retry=NEVER) as client:
        yield client


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the tokens that stores files name, including a wrong one."""
    monkeypatch.setenv("BAD_TOKEN", "wrong")
    monkeypatch.setenv("GOOD_TOKEN", str(Sandbox(0).auth.access_token))
