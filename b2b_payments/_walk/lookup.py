"""Asking for one payment by its id, to check what a list shows, or does not show."""

from __future__ import annotations

from functools import partial
from typing import Any

import attrs

from b2b_payments._call import Caller, Tally
from b2b_payments._protocol.lookup import read_lookup
from b2b_payments._protocol.request import get_payment
from b2b_payments._quota import Priority


async def look_up(
    caller: Caller,
    payment_id: int,
    *,
    priority: Priority = Priority.PAGE,
    until: float | None = None,
    tally: Tally | None = None,
) -> dict[str, Any] | None:
    """Give the payment as the service sends it, None where the service itself says that there is none.

    GET by id does not lag, as lists do [seen]. Unless `priority` says otherwise, it gives way to calls that
    somebody waits for. Raises as `read_lookup` does: NotFoundError for a 404 that is not the service's own.
    """
    return await caller.read(
        # A 404 does not say whose it is: this one came on no kept connection.
        attrs.evolve(get_payment(payment_id), reuse=False),
        partial(read_lookup, payment_id=payment_id),
        priority=priority,
        until=until,
        tally=tally,
    )
