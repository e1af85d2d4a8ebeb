"""A client that openapi-python-client generates from `openapi.yaml` when the benchmark runs."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from typing import Any

from benchmarks.compare.contender import Visit, Where

PACKAGE = "payments_client"
"""The generated package's name."""


def read(where: Where, visit: Visit) -> None:
    """Call `visit` with every payment, a generated attrs class."""
    sys.path.insert(0, where.generated)
    asyncio.run(_read(where, visit))


async def _read(where: Where, visit: Visit) -> None:
    package: Any = importlib.import_module(PACKAGE)
    get_payments: Any = importlib.import_module(f"{PACKAGE}.api.payments.get_payments")
    models: Any = importlib.import_module(f"{PACKAGE}.models")
    order = {
        "sort_by": models.GetPaymentsSortBy.CREATEDAT,
        "order_by": models.GetPaymentsOrderBy.ASC,
    }
    async with package.Client(where.base_url, headers=dict(where.headers)) as client:

        async def page(offset: int) -> Any:
            while True:
                answer = await get_payments.asyncio_detailed(
                    client=client, offset=offset, limit=where.page_size, **order
                )
                if answer.status_code != 429:
                    return answer.parsed
                await asyncio.sleep(1)

        first = await page(0)
        for payment in first.data:
            visit(payment)
        offsets = iter(range(len(first.data), first.meta.pagination.total_count, where.page_size))

        async def lane() -> None:
            for offset in offsets:
                for payment in (await page(offset)).data:
                    visit(payment)

        await asyncio.gather(*[lane() for _ in range(where.in_flight)])


def payment_id(payment: Any) -> int:
    """Return a payment's id."""
    return int(payment.id)


def line(payment: Any) -> bytes:
    """Return a payment as a line of JSON."""
    return json.dumps(payment.to_dict(), ensure_ascii=False).encode() + b"\n"
