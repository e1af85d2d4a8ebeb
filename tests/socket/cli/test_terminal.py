"""What is different on a terminal."""

from __future__ import annotations

import asyncio
import os

import pytest

from b2b_payments.sandbox import Fault, Sandbox
from tests.support.program import start


async def asked(sandbox: Sandbox, answer: str, *command: str) -> tuple[bytes, int, int | None, bytes]:
    """Answer what a command asks: give its question, the requests until then, its exit code, and the rest."""
    main_end, other_end = os.openpty()
    process = await start(sandbox, *command, stdin=other_end, stdout=other_end, stderr=other_end)
    os.close(other_end)
    question = b""
    while b"[y/N]: " not in question:
        question += await asyncio.to_thread(os.read, main_end, 4096)
    before = sandbox.request_count
    os.write(main_end, answer.encode())
    # Its few words fit into the terminal's buffer, so nobody has to read while it runs.
    code = await process.wait()
    screen = await asyncio.to_thread(os.read, main_end, 4096)
    os.close(main_end)
    return question, before, code, screen


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "gone"), [("y\n", True), ("n\n", False)])
async def test_delete_asks(answer: str, *, gone: bool) -> None:
    """`delete` asks first, and deletes on a yes alone; JSON is indented, and a retry is told of."""
    async with Sandbox(payments=10) as sandbox:
        sandbox.order(Fault.ERROR_503, times=1)
        question, before, code, screen = await asked(sandbox, answer, "delete", "7")
        assert question.startswith(b"Delete payment 7?")
        assert (before, code) == (0, 0 if gone else 1)
        assert (7 not in sandbox.store) is gone
    assert (b'{\r\n  "id": 7\r\n}\r\n' in screen) is gone
    assert (b"Attempt 1 failed (503 Service Unavailable), the next in " in screen) is gone


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "payments"), [("y\n", 12), ("n\n", 11)])
async def test_create_offline_asks_where_the_external_id_is_taken(answer: str, payments: int) -> None:
    """`create-offline` asks before it records a second payment of one external id."""
    command = ["create-offline", "--customer-id", "1", "--currency", "USD", "--line", "13=2"]
    async with Sandbox(payments=10) as sandbox:
        taken = sandbox.store.insert(externalId="A-1", total={"code": "USD", "value": "3.0000"})
        question, _, code, _ = await asked(sandbox, answer, *command, "--external-id", "A-1")
        said = f"Payment {taken} (3.0000 USD) has externalId A-1 already. Record another? [y/N]: "
        assert question.decode() == said
        assert (code, sandbox.store.payments) == (0 if payments == 12 else 1, payments)
