"""The floor: bare aiohttp and orjson, without objects; the minimum that visits each payment."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import orjson

from benchmarks.compare.contender import Visit, Where


def read(where: Where, visit: Visit) -> None:
    """Call `visit` with every payment, a dict."""
    asyncio.run(_read(where, visit))


async def _read(where: Where, visit: Visit) -> None:
    async with aiohttp.ClientSession(headers=dict(where.headers)) as session:

        async def page(offset: int) -> dict[str, Any]:
            query: dict[str, int | str] = {
                "offset": offset,
                "limit": where.page_size,
                "sortBy": "createdAt",
                "orderBy": "ASC",
            }
            while True:
                async with session.get(f"{where.base_url}/ip/payments", params=query) as response:
                    if response.status == 429:
                        await asyncio.sleep(1)
                        continue
                    body: dict[str, Any] = orjson.loads(await response.read())
                    return body

        first = await page(0)
        for row in first["data"]:
            visit(row)
        offsets = iter(range(len(first["data"]), first["meta"]["pagination"]["totalCount"], where.page_size))

        async def lane() -> None:
            for offset in offsets:
                for row in (await page(offset))["data"]:
                    visit(row)

        await asyncio.gather(*[lane() for _ in range(where.in_flight)])


def payment_id(payment: Any) -> int:
    """Return a payment's id."""
    return int(payment["id"])


def line(payment: Any) -> bytes:
    """Return a payment as a line of JSON."""
    return bytes(orjson.dumps(payment)) + b"\n"
