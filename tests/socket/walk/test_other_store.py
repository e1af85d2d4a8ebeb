"""Payments of another store: mixed-up answers, or a service that names its stores differently."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from b2b_payments import AnswerMismatchError, OutcomeUnknownError
from b2b_payments.sandbox import Fault, Rules, Sandbox, SeenRequest
from tests.support.clients import client_of

BOTH_CREDENTIALS = pytest.mark.parametrize("legacy", [False, True], ids=["store", "legacy"])


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Yield a sandbox of a few pages."""
    async with Sandbox(300, rules=Rules(quota=False, max_limit=50)) as one:
        yield one


@BOTH_CREDENTIALS
@pytest.mark.parametrize("order", ["ASC", "DESC"])
async def test_a_page_of_another_store_is_requested_again(sandbox: Sandbox, legacy: bool, order: str) -> None:
    """Whichever page is another store's, a walk returns this store's payments, all of them."""
    auth = sandbox.legacy_auth if legacy else sandbox.auth
    wanted = sorted(sandbox.store.ids())
    for page in range(1, 6):
        async with client_of(sandbox, auth=auth) as client:
            walk, ids = client.payments.list(order_by=order, page_size=50), []
            async for one in walk.pages():
                ids += [payment.id for payment in one.items]
                if walk.report.pages == page:
                    sandbox.order(Fault.OTHER_STORE, times=1)
            assert sorted(ids) == wanted
            assert walk.report.complete
            assert not walk.report.ignored_filters
        sandbox.clear_faults()  # a fault ordered too late for the last page


@BOTH_CREDENTIALS
async def test_a_payment_of_another_store_is_requested_again(sandbox: Sandbox, legacy: bool) -> None:
    """A payment with the right id but of another store is not returned."""
    async with client_of(sandbox, auth=sandbox.legacy_auth if legacy else sandbox.auth) as client:
        for payment_id in (5, 6, 7):
            assert (await client.payments.get(payment_id)).store_hash == sandbox.auth.store_hash
            sandbox.order(Fault.OTHER_STORE, times=1)
        assert (await client.payments.get(7)).store_hash == sandbox.auth.store_hash
        sandbox.order(Fault.OTHER_STORE, share=1)
        with pytest.raises(AnswerMismatchError, match="another store's"):
            await client.payments.get(8)


async def test_a_service_that_always_names_another_store_is_believed(sandbox: Sandbox) -> None:
    """If no hash is ever the credential's it proves nothing: walks and gets work, and the report says so."""
    sandbox.order(Fault.OTHER_STORE, share=1)
    async with client_of(sandbox) as client:
        walk = client.payments.list(page_size=50)
        assert len(await walk.collect()) == 300
        assert walk.report.ignored_filters == {"storeHash"}
        assert "the payments name another store than the credential does" in str(walk.report)
        before = sandbox.request_count
        assert (await client.payments.get(7)).store_hash == "another1"
        assert sandbox.request_count == before + 1


async def test_the_first_answer_to_a_legacy_credential_may_be_wrong(sandbox: Sandbox) -> None:
    """The store named by the first answer is discarded if the next ones name another."""
    sandbox.order(Fault.OTHER_STORE, times=1)
    async with client_of(sandbox, auth=sandbox.legacy_auth) as client:
        walk = client.payments.list(page_size=50)
        with pytest.raises(AnswerMismatchError):
            await walk.collect()
        assert not walk.report.complete
        assert sorted([one.id async for one in client.payments.list(page_size=50)]) == sorted(
            sandbox.store.ids()
        )


async def test_an_answer_of_another_store_does_not_prove_a_write(sandbox: Sandbox) -> None:
    """An answer about another store's payment does not say that a write was carried out."""
    async with client_of(sandbox) as client:
        before = sandbox.store.wire(7)["processingStatus"]

        def other(seen: SeenRequest) -> web.Response | None:
            if seen.method != "PUT":
                return None
            data = {"id": 7, "storeHash": "another1"}
            return web.json_response({"code": 200, "data": data, "meta": {"message": "…"}})

        sandbox.answer_with(other)
        with pytest.raises(OutcomeUnknownError):
            await client.payments.update_processing_status(7, 1 if before != 1 else 2)
