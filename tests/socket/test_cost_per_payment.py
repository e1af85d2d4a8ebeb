"""What a payment costs this process, counted in calls: no stopwatch, so it means the same on any machine."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import b2b_payments
from b2b_payments import PaymentsClient
from b2b_payments._converter import structuring
from b2b_payments._converter.rows import RowReader
from b2b_payments._protocol.answer import Answer
from b2b_payments._protocol.request import Request
from b2b_payments.export import JSONLSink, export
from b2b_payments.sandbox import Rules, Sandbox
from tests.support.clients import client_of

_PACKAGE = str(Path(b2b_payments.__file__).parent)
_SANDBOX = str(Path(_PACKAGE, "sandbox"))
_SHORT, _LONG = 500, 1_500


def _ours(frame: FrameType) -> bool:
    name = frame.f_code.co_filename
    generated = name.startswith(("<b2b_payments", "<attrs generated methods b2b_payments"))
    generated = generated and "b2b_payments.sandbox" not in name
    return generated or (name.startswith(_PACKAGE) and not name.startswith(_SANDBOX))


# One for all: a worker's thread keeps the function that it began with.
_counts: Counter[str] = Counter()


def _count(frame: FrameType, event: str, _: object) -> None:
    if event in {"call", "c_call"} and _ours(frame):
        _counts[event] += 1


async def _calls(payments: int, read: Callable[[PaymentsClient], Awaitable[int]]) -> int:
    """Count the calls that the library makes, of Python's functions and of C's, for a whole walk.

    The answers have come before: into how many pieces a network cuts them is a matter of its load.
    """
    answers: dict[Request, Answer] = {}
    async with (
        Sandbox(payments=payments, rules=Rules(quota=False)) as sandbox,
        client_of(sandbox) as client,
    ):
        send = client._transport.send

        async def send_once(request: Request, credential: Mapping[str, str], **settings: Any) -> Answer:
            if request not in answers:
                answers[request] = await send(request, credential, **settings)
            return answers[request]

        client._transport.send = send_once  # type: ignore[method-assign]
        before, before_in_threads = sys.getprofile(), threading.getprofile()
        sys.setprofile(_count)
        threading.setprofile(_count)  # an export starts threads of its own
        try:
            for _ in range(2):  # these walks learn unusual fields and encodings
                await read(client)
            known = len(answers)
            _counts.clear()
            came = await read(client)
        finally:
            sys.setprofile(before)
            threading.setprofile(before_in_threads)
    assert (came, len(answers)) == (payments, known)
    return _counts.total()


async def _each(read: Callable[[PaymentsClient], Awaitable[int]]) -> float:
    """Return the calls that one more payment costs, without the fixed cost of a walk or a process."""
    return (await _calls(_LONG, read) - await _calls(_SHORT, read)) / (_LONG - _SHORT)


@pytest.fixture(autouse=True)
def a_reader_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what was learned from other tests' unusual payments: the cost of rows depends on it."""
    monkeypatch.setattr(structuring, "_row_reader", RowReader())


async def _typed(client: PaymentsClient) -> int:
    return len([payment.id async for payment in client.payments.list()])


async def _raw(client: PaymentsClient) -> int:
    return len([payment["id"] async for payment in client.payments.list().raw()])


async def _raw_pages(client: PaymentsClient) -> int:
    return sum([len(page.items) async for page in client.payments.list().raw_pages()])


async def test_typed_payment_costs_at_most_seven_calls() -> None:
    """Streaming typed payments costs at most 7 calls for each, of Python's functions and C's together."""
    assert await _each(_typed) <= 7


async def test_raw_payment_costs_at_most_six_calls() -> None:
    """Streaming the service's own objects costs at most 6 calls for each: nothing is converted."""
    assert await _each(_raw) <= 6


async def test_payment_in_a_raw_page_costs_at_most_three_calls() -> None:
    """A payment in a raw page costs at most 3 calls: pages are decoded whole."""
    assert await _each(_raw_pages) <= 3


async def test_exported_line_costs_at_most_five_calls(tmp_path: Path) -> None:
    """A payment that is exported as a line of JSON costs at most 5 calls: it is never decoded whole."""

    async def export_lines(client: PaymentsClient) -> int:
        return (await export(client.payments.list(), JSONLSink(tmp_path / "payments.jsonl"))).rows

    assert await _each(export_lines) <= 5
