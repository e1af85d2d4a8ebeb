"""A plugin of pytest's, for a run of its own: every event loop is uvloop's."""

from __future__ import annotations

import asyncio

import uvloop

asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())


def pytest_report_header() -> str:
    """Say which event loops there are."""
    loop = asyncio.new_event_loop()
    loop.close()
    return f"event loop: {type(loop).__module__}"
