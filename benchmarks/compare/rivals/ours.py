"""This library: every payment as an object, one by one."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from b2b_payments import Payment, PaymentsClient, Quota, StoreAuth, to_wire
from benchmarks.compare.contender import Visit, Where


def client_of(where: Where) -> PaymentsClient:
    """Return a client of the service, with the given quota."""
    auth = StoreAuth(where.headers["X-Store-Hash"], where.headers["X-Auth-Token"])
    quota = None
    if where.quota is not None:
        requests, per = where.quota
        # The default margin is half a second per minute; scale it with the window.
        quota = Quota(requests, per, margin=per / 120)
    return PaymentsClient(auth, base_url=where.base_url, quota=quota)


def read(where: Where, visit: Visit) -> None:
    """Call `visit` with every payment, a `Payment`."""
    asyncio.run(_read(where, visit))


async def _read(where: Where, visit: Visit) -> None:
    async with client_of(where) as client:
        async for payment in client.payments.list(page_size=where.page_size, concurrency=where.in_flight):
            visit(payment)


def payment_id(payment: Payment) -> int:
    """Return a payment's id."""
    return payment.id


def line(payment: Any) -> bytes:
    """Return a payment as a line of JSON."""
    return msgspec.json.encode(to_wire(payment)) + b"\n"
