"""This library without objects: the service's own dicts, one by one."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from benchmarks.compare.contender import Visit, Where
from benchmarks.compare.rivals.floor import payment_id
from benchmarks.compare.rivals.ours import client_of

__all__ = ["line", "payment_id", "read"]

_encode = msgspec.json.Encoder(decimal_format="number").encode


def read(where: Where, visit: Visit) -> None:
    """Call `visit` with every payment, a dict."""
    asyncio.run(_read(where, visit))


async def _read(where: Where, visit: Visit) -> None:
    async with client_of(where) as client:
        walk = client.payments.list(page_size=where.page_size, concurrency=where.in_flight)
        async for row in walk.raw():
            visit(row)


def line(payment: Any) -> bytes:
    """Return a payment as a line of JSON."""
    return _encode(payment) + b"\n"
