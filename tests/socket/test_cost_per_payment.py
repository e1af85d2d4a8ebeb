"""What a payment costs this process, counted in calls: no stopwatch, so it means the same on any machine."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import FrameType

import b2b_payments
from b2b_payments import PaymentsClient
from b2b_payments.sandbox import Rules, Sandbox
from tests.clients import client_of

_PACKAGE = str(Path(b2b_payments.__file__).parent)
_SANDBOX = str(Path(_PACKAGE, "sandbox"))
_SHORT, _LONG = 500, 1_500


def _ours(frame: FrameType) -> bool:
    name = frame.f_code.co_filename
    generated = name.startswith(("<b2b_payments", "<attrs generated methods b2b_payments"))
    return generated or (name.startswith(_PACKAGE) and not name.startswith(_SANDBOX))


async def _calls(payments: int, read: Callable[[PaymentsClient], Awaitable[int]]) -> int:
    """Count the calls that the library makes, of Python's functions and of C's, for a whole walk."""
    counts: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _: object) -> None:
        if event in {"call", "c_call"} and _ours(frame):
            counts[event] += 1

    async with (
        Sandbox(payments=payments, rules=Rules(quota=False)) as sandbox,
        client_of(sandbox) as client,
    ):
        before = sys.getprofile()
        sys.setprofile(count)
        try:
            came = await read(client)
        finally:
            sys.setprofile(before)
    assert came == payments
    return counts["call"] + counts["c_call"]


async def _each(read: Callable[[PaymentsClient], Awaitable[int]]) -> float:
    """Give the calls that one more payment costs: what a walk costs once drops out."""
    return (await _calls(_LONG, read) - await _calls(_SHORT, read)) / (_LONG - _SHORT)


async def _typed(client: PaymentsClient) -> int:
    return len([payment.id async for payment in client.payments.list()])


async def _raw(client: PaymentsClient) -> int:
    return sum([len(page.items) async for page in client.payments.list().raw_pages()])


async def test_a_typed_payment_costs_ninety_five_calls_at_most() -> None:
    """Streaming typed payments costs at most 95 calls for each, of Python's functions and C's together."""
    assert await _each(_typed) <= 95


async def test_a_raw_payment_costs_nine_calls_at_most() -> None:
    """A payment in a raw page costs at most 9 calls: nothing is converted, and no model is made."""
    assert await _each(_raw) <= 9
