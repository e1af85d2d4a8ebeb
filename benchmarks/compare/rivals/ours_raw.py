"""This library without objects: the service's own dicts, one by one."""

from __future__ import annotations

import asyncio

from benchmarks.compare.contender import Visit, Where
from benchmarks.compare.rivals.floor import line, payment_id
from benchmarks.compare.rivals.ours import client_of

__all__ = ["line", "payment_id", "read"]


def read(where: Where, visit: Visit) -> None:
    """Call `visit` with every payment, a dict."""
    asyncio.run(_read(where, visit))


async def _read(where: Where, visit: Visit) -> None:
    async with client_of(where) as client:
        walk = client.payments.list(page_size=where.page_size, concurrency=where.in_flight)
        async for row in walk.raw():
            visit(row)
