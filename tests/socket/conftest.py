"""A sandbox and its client, for tests of single calls."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from b2b_payments import PaymentsClient
from b2b_payments.sandbox import Sandbox
from tests.support.clients import client_of


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Yield a sandbox of 60 payments."""
    async with Sandbox(60) as one:
        yield one


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[PaymentsClient]:
    """Yield a client of the sandbox."""
    async with client_of(sandbox) as one:
        yield one
