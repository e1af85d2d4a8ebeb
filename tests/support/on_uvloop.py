"""A pytest plugin for a separate run, in which every event loop is uvloop's."""

from __future__ import annotations

import asyncio

import uvloop

asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())


def pytest_report_header() -> str:
    """Name the event loop in the report."""
    loop = asyncio.new_event_loop()
    loop.close()
    return f"event loop: {type(loop).__module__}"
