"""A planted credential is looked for in all that the library gives off, under every fault of the service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from b2b_payments import B2BPaymentsError, ConfigurationError, OutcomeUnknownError, PaymentsClient
from b2b_payments.sandbox import Fault, Rules, Sandbox
from tests.clients import NEVER, client_of

# A single call to one payment gets its own answer all the same.
HARMLESS = {
    *(Fault.BYTE_ORDER_MARK, Fault.DUPLICATE_IDS, Fault.EMPTY_LIST),
    *(Fault.STRAY, Fault.DOUBLED, Fault.SWAPPED),
}
FAULTS: list[tuple[Fault, Callable[[PaymentsClient], Awaitable[object]]]] = [
    (fault, call)
    for fault in Fault
    if fault not in HARMLESS | {Fault.HUGE, Fault.GZIP_BOMB}
    for call in (
        lambda client: client.payments.get(1),
        lambda client: client.payments.perform_operation(1, 0),
    )
]


@pytest.mark.parametrize(("fault", "call"), FAULTS)
async def test_no_fault_shows_the_credential(
    fault: Fault, call: Callable[[PaymentsClient], Awaitable[object]], caplog: pytest.LogCaptureFixture
) -> None:
    """Under every fault of the service, error, log and events hold no credential, and no error is chained."""
    events: list[object] = []
    caplog.set_level("DEBUG")
    rules = Rules(drip_interval=1.0)
    async with Sandbox(3, rules=rules) as sandbox:
        sandbox.order(fault, share=1)
        token = str(sandbox.auth.access_token)
        async with client_of(sandbox, retry=NEVER, timeout=0.2, on_event=events.append) as client:
            with pytest.raises(B2BPaymentsError) as caught:
                await call(client)
        assert not isinstance(caught.value, ConfigurationError)
        assert caught.value.__cause__ is None
        assert token not in f"{caught.value} {caught.value!r} {vars(caught.value)}"
        records = [f"{record.getMessage()} {vars(record)}" for record in caplog.records]
        assert records
        assert not [text for text in [*records, *map(repr, events)] if token in text]


async def test_an_unknown_outcome_shows_no_credential() -> None:
    """Where a write's outcome stays unknown, its error says what to look for, and holds no credential."""
    async with Sandbox(3) as sandbox, client_of(sandbox, retry=NEVER) as client:
        sandbox.order(Fault.RESET_BEFORE, share=1)
        with pytest.raises(OutcomeUnknownError) as caught:
            await client.payments.perform_operation(1, 0)
        assert caught.value.look_for == {"id": 1}
        assert str(sandbox.auth.access_token) not in f"{caught.value} {vars(caught.value)}"
