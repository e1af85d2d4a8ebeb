"""A run whose first request fails: the likely cause is named, and an outage is still survived."""

from __future__ import annotations

import pytest

from b2b_payments import LegacyAuth, PaymentsClient, RetryPolicy, ServerError, StoreAuth
from b2b_payments.events import Event, RetryScheduled
from b2b_payments.sandbox import Fault, Sandbox
from tests.support.clients import NEVER, client_of

HINT = (
    "no request has succeeded yet, and a wrong store hash causes this error, too: check store_hash "
    "(B2B_PAYMENTS_STORE_HASH)"
)


async def test_wrong_store_hash_is_named() -> None:
    """A store hash that the service answers with 500 is named in each wait and in the final error."""
    events: list[Event] = []
    async with Sandbox(3) as sandbox:
        auth = StoreAuth("wrong1", str(sandbox.auth.access_token))
        async with client_of(sandbox, auth=auth, on_event=events.append) as client:
            with pytest.raises(ServerError) as caught:
                await client.payments.list().collect()
    assert f"500 Something went wrong; {HINT}" in str(caught.value)
    waits = [event.why for event in events if isinstance(event, RetryScheduled)]
    assert waits == [f"500 Internal Server Error; {HINT}"] * 4


@pytest.mark.parametrize("fault", [Fault.HTML_502, Fault.ERROR_503, Fault.OK_WITH_CODE_500, Fault.ERROR_500])
async def test_other_errors_do_not_blame_the_store_hash(fault: Fault) -> None:
    """A gateway's error, one after a success, and one for a token without a hash do not blame the hash."""
    async with Sandbox(3) as sandbox:

        async def said(client: PaymentsClient, *, answered: bool) -> str:
            sandbox.clear_faults()
            async with client:
                if answered:
                    await client.payments.get(1)
                sandbox.order(fault, share=1)
                with pytest.raises(ServerError) as caught:
                    await client.payments.get(1)
            return str(caught.value)

        is_500 = fault in {Fault.OK_WITH_CODE_500, Fault.ERROR_500}
        assert (HINT in await said(client_of(sandbox, retry=NEVER), answered=False)) is is_500
        assert HINT not in await said(client_of(sandbox, retry=NEVER), answered=True)
        legacy = LegacyAuth(str(sandbox.legacy_auth.auth_token))
        assert HINT not in await said(client_of(sandbox, auth=legacy, retry=NEVER), answered=False)


async def test_first_request_survives_an_outage() -> None:
    """A run that begins in an outage keeps trying, and is complete when the service is back."""
    retry = RetryPolicy(attempts=2, base_delay=0.001, max_delay=0.01, outage=30.0)
    async with Sandbox(3) as sandbox, client_of(sandbox, retry=retry) as client:
        sandbox.order(Fault.ERROR_500, times=20)
        walk = client.payments.list()
        assert len(await walk.collect()) == 3
        assert walk.report.complete
