"""A sandbox beside commands that run in this process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from anyio.from_thread import start_blocking_portal

from b2b_payments.sandbox import Sandbox


@pytest.fixture
def service() -> Iterator[Sandbox]:
    """Give a sandbox that serves from another thread, since a command has an event loop of its own."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Sandbox(payments=300)) as sandbox,
    ):
        yield sandbox
