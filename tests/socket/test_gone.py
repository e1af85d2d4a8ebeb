"""A DELETE with an unknown outcome: which 404 proves that the payment is gone."""

from __future__ import annotations

import pytest
from aiohttp import web

from b2b_payments import OutcomeUnknownError
from b2b_payments.sandbox import Fault, Sandbox, SeenRequest
from tests.support.clients import client_of

OWN_404 = {"code": 404, "data": {"errMsg": "Payment not found"}, "meta": {"message": "Not Found"}}


@pytest.mark.parametrize("way", ["gateway", "scope", "empty list", "another's"])
async def test_an_ambiguous_404_leaves_the_outcome_unknown(way: str) -> None:
    """A gateway's 404, a missing scope's, or one that is not repeated does not prove a DELETE."""
    hidden = 1 if way == "another's" else 100

    def not_found(seen: SeenRequest) -> web.Response | None:
        nonlocal hidden
        is_hidden = seen.path.endswith("/7") or (way == "scope" and seen.path[-1].isdigit())
        if seen.method != "GET" or not is_hidden or not hidden:
            return None
        hidden -= 1
        return web.json_response(OWN_404, status=404)

    async with Sandbox(9) as sandbox, client_of(sandbox) as client:
        sandbox.order(Fault.ERROR_500, share=1, methods=["DELETE"])
        if way == "gateway":
            sandbox.order(Fault.HTML_404, share=1, path=r"/payments/7$")
        else:
            sandbox.answer_with(not_found)
        if way == "empty list":
            sandbox.order(Fault.EMPTY_LIST, share=1)
        with pytest.raises(OutcomeUnknownError):
            await client.payments.delete(7)
        assert 7 in sandbox.store


async def test_a_lagging_list_may_still_show_a_deleted_payment() -> None:
    """A list that lags and still shows deleted payments does not leave the outcome unknown."""
    async with Sandbox(9) as sandbox, client_of(sandbox) as client:
        first = next(iter([payment.id async for payment in client.payments.list()]))

        def not_found(seen: SeenRequest) -> web.Response | None:
            is_hidden = seen.method == "GET" and seen.path.endswith(("/7", f"/{first}"))
            return web.json_response(OWN_404, status=404) if is_hidden else None

        sandbox.answer_with(not_found)
        sandbox.order(Fault.ERROR_500, share=1, methods=["DELETE"])
        await client.payments.delete(7)
