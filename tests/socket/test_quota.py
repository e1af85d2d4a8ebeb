"""The quota end to end: whole walks over real sockets, on virtual time, against a service that counts."""

from __future__ import annotations

import anyio
import msgspec
import pytest
from aiohttp import web

from b2b_payments import PaymentsClient, Quota, RateLimitError
from b2b_payments.sandbox import Fault, Rules, Sandbox
from benchmarks.quota import OTHERS, PAYMENTS, REQUESTS, WINDOWS, Window, pages_before_a_call, walks
from tests.support.clients import NEVER
from tests.support.virtual_time import run

either_window = pytest.mark.parametrize("window", ["sliding", "fixed"])


@pytest.mark.slow
@pytest.mark.parametrize("window", WINDOWS)
def test_300_pages_are_read_in_two_windows_without_a_refusal(window: Window) -> None:
    """A walk of 300 pages at 150 requests a minute takes at most 5 % more than the minimum, unrefused."""
    spent = run(walks(window))
    assert (spent.rows, spent.refused) == (PAYMENTS, [])
    assert 2 * REQUESTS - 5 < spent.requests <= 2 * REQUESTS
    assert spent.bound <= spent.seconds <= 1.05 * spent.bound


@pytest.mark.slow
@either_window
def test_two_clients_of_a_store_share_its_quota(window: Window) -> None:
    """Two concurrent clients together send no more than one may, and are never refused."""
    spent = run(walks(window, clients=2))
    assert spent.refused == []
    assert spent.requests > REQUESTS
    assert spent.bound <= spent.seconds <= 1.05 * spent.bound


@pytest.mark.slow
@pytest.mark.parametrize(
    ("window", "start"),
    [("sliding", 20.0), ("sliding", 90.0), ("fixed", 20.0), ("leaky", 43.0)],  # others: test_simulation.py
)
def test_another_integration_causes_one_refusal_a_window_at_most(window: Window, start: float) -> None:
    """If another integration spends two thirds of the quota, the walk is complete, and hardly refused."""
    spent = run(walks(window, others=OTHERS, start=start))
    assert spent.rows == PAYMENTS
    assert spent.most_refused <= 1


@pytest.mark.slow
@either_window
def test_call_goes_before_pages(window: Window) -> None:
    """A payment requested while a walk waits for the quota is the next request sent."""
    assert run(pages_before_a_call(window)) == 0


@pytest.mark.slow
@either_window
def test_without_a_quota_the_same_walk_is_refused(window: Window) -> None:
    """A client without a quota is refused: the service does count."""
    assert run(walks(window, quota=None)).most_refused > 1


def test_refusal_in_the_body_closes_the_gate() -> None:
    """HTTP 200 with code 429 is a refusal like any other: the next call waits for the stated time."""

    async def main() -> float:
        body = msgspec.json.encode({"code": 429, "data": {"errMsg": "Too many"}, "meta": {}})
        headers = {"X-Request-Window-Resets-After": "5 s"}
        async with Sandbox(payments=1) as sandbox:
            sandbox.answer_with(
                lambda _: web.Response(body=body, headers=headers) if sandbox.request_count == 1 else None
            )
            async with PaymentsClient(sandbox.auth, base_url=sandbox.base_url, retry=NEVER) as client:
                with pytest.raises(RateLimitError) as caught:
                    await client.payments.get(1)
                assert caught.value.retry_after == 5
                refused = anyio.current_time()
                await client.payments.get(1)
                return sandbox.requests[-1].at - refused

    assert 5 <= run(main()) <= 5.5


def test_count_does_not_wait_for_a_page_without_permit() -> None:
    """A page that waits for its permit holds back no call whose answer looks like its own."""

    async def main() -> float:
        async with Sandbox(payments=20, rules=Rules(quota=False, quota_headers=False)) as sandbox:
            quota = Quota(3, 60, margin=0, reserve=2)
            async with PaymentsClient(sandbox.auth, base_url=sandbox.base_url, quota=quota) as client:
                await anext(client.payments.list(page_size=5).pages())  # all that is left to pages
                begun = anyio.current_time()
                async with anyio.create_task_group() as group:
                    group.start_soon(client.payments.list(page_size=5).collect)
                    await anyio.wait_all_tasks_blocked()
                    await client.payments.list(invoice_id=13).count()
                    seconds = anyio.current_time() - begun
                    group.cancel_scope.cancel()
                return seconds

    assert run(main()) < 10


@pytest.mark.parametrize("headers", [True, False])
def test_refused_walk_waits_and_continues(headers: bool) -> None:
    """A walk survives more refusals in a row than a call's attempts, and waits as long as asked."""

    async def main() -> tuple[int, float]:
        said = {"documented", "retry-after"} if headers else set()
        rules = Rules(quota_headers=headers, refusal_headers=said, refusal_wait=30)
        async with Sandbox(payments=60, rules=rules) as sandbox:
            sandbox.order(Fault.RATE_LIMITED, times=12)
            async with PaymentsClient(sandbox.auth, base_url=sandbox.base_url) as client:
                rows = await client.payments.list(page_size=20).collect()
            return len(rows), sandbox.requests[11].at - sandbox.requests[0].at

    rows, seconds = run(main())
    assert rows == 60
    assert seconds >= 11 * (30 if headers else 3)
