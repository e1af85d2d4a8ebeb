"""How many pages are in flight at once, measured on virtual time."""

from __future__ import annotations

import math

import anyio
import pytest

from b2b_payments import PaymentsClient
from b2b_payments.sandbox import Rules, Sandbox
from tests.support.virtual_time import run


@pytest.mark.parametrize("concurrency", [1, 4, 16])
def test_100_pages_take_the_first_and_then_full_rounds(concurrency: int) -> None:
    """100 pages of 100 ms take at most 1.25 × the first page and the rounds after it."""

    async def seconds() -> float:
        rules = Rules(quota=False, latency=0.1)
        async with (
            Sandbox(payments=100 * 21, channels=(1,), seed=7, rules=rules) as sandbox,
            PaymentsClient(sandbox.auth, base_url=sandbox.base_url, quota=None) as client,
        ):
            begun = anyio.current_time()
            walk = client.payments.list(page_size=25, concurrency=concurrency)
            async for _ in walk.raw_pages():
                pass
            assert walk.report.rows == 2_100
            rounds = 1 + math.ceil((walk.report.requests - 1) / concurrency)
            return (anyio.current_time() - begun) / (0.1 * rounds)

    assert run(seconds()) <= 1.25
