"""Sandboxes for commands, and the tokens for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest
from anyio.from_thread import start_blocking_portal

from b2b_payments.sandbox import Sandbox
from tests.socket.cli.fleet import Fleet, serving, three_stores


@pytest.fixture
def service() -> Iterator[Sandbox]:
    """Yield a sandbox that serves from another thread, since a command has its own event loop."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Sandbox(payments=300)) as sandbox,
    ):
        yield sandbox


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the tokens that the files of stores name: a valid one, a wrong one, a legacy one."""
    sandbox = Sandbox(payments=0)
    monkeypatch.setenv("GOOD_TOKEN", str(sandbox.auth.access_token))
    monkeypatch.setenv("BAD_TOKEN", "marked")
    monkeypatch.setenv("OLD_TOKEN", str(sandbox.legacy_auth.auth_token))


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    """Yield three stores, each on its own port, for commands that run in a separate process."""
    async with AsyncExitStack() as stack:
        yield {name: await stack.enter_async_context(sandbox) for name, sandbox in three_stores().items()}


@pytest.fixture
def served() -> Iterator[Fleet]:
    """Yield the same stores, served from another thread."""
    with serving(three_stores()) as fleet:
        yield fleet
