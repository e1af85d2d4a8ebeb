"""httpx and pydantic v2, written by hand: models with Decimal amounts, aware times, and unknown fields."""

from __future__ import annotations

import asyncio
from datetime import datetime
from decimal import Decimal
from typing import Any

import httpx
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from benchmarks.compare.contender import Visit, Where


class _Model(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="allow", frozen=True)


class Money(_Model):
    """An amount in a currency."""

    code: str
    value: Decimal


class LineItem(_Model):
    """The part of a payment that goes to one invoice."""

    payment_id: int | None = None
    invoice_id: int | None = None
    invoice_number: str = ""
    amount: Money | None = None


class Fee(_Model):
    """A fee on a payment."""

    type: str = ""
    description: str = ""
    amount: Decimal | None = None


class Payment(_Model):
    """A payment."""

    id: int
    created_at: datetime
    updated_at: datetime
    store_hash: str = ""
    customer_id: str
    external_id: str | None = None
    external_customer_id: str | None = None
    payer_name: str = ""
    payer_customer_id: str = ""
    details: dict[str, Any] = {}
    module_name: str = ""
    fees: list[Fee] = []
    module_data: dict[str, Any] = {}
    processing_status: int
    applied_status: int
    funding_status: int
    total: Money
    line_items: list[LineItem] = []
    customer_name: str = ""
    allowed_operations: list[int] = []
    allowed_statuses: list[int] = []
    channel_id: int | None = None
    channel_name: str | None = None


class Pagination(_Model):
    """The position of a page in its list."""

    total_count: int


class Meta(_Model):
    """The metadata of an answer."""

    pagination: Pagination


class Answer(_Model):
    """The answer with a page."""

    data: list[Payment]
    meta: Meta


def read(where: Where, visit: Visit) -> None:
    """Call `visit` with every payment, a `Payment`."""
    asyncio.run(_read(where, visit))


async def _read(where: Where, visit: Visit) -> None:
    async with httpx.AsyncClient(headers=dict(where.headers), timeout=30) as client:

        async def page(offset: int) -> Answer:
            query = {"offset": offset, "limit": where.page_size, "sortBy": "createdAt", "orderBy": "ASC"}
            while True:
                response = await client.get(f"{where.base_url}/ip/payments", params=query)
                if response.status_code == 429:
                    await asyncio.sleep(1)
                    continue
                response.raise_for_status()
                answer: Answer = Answer.model_validate_json(response.content)
                return answer

        first = await page(0)
        for payment in first.data:
            visit(payment)
        offsets = iter(range(len(first.data), first.meta.pagination.total_count, where.page_size))

        async def lane() -> None:
            for offset in offsets:
                for payment in (await page(offset)).data:
                    visit(payment)

        await asyncio.gather(*[lane() for _ in range(where.in_flight)])


def payment_id(payment: Payment) -> int:
    """Return a payment's id."""
    return payment.id


def line(payment: Payment) -> bytes:
    """Return a payment as a line of JSON."""
    text: str = payment.model_dump_json(by_alias=True)
    return text.encode() + b"\n"
