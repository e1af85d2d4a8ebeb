"""What is different on a terminal."""

from __future__ import annotations

import asyncio
import os

import pytest

from b2b_payments.sandbox import Fault, Sandbox
from tests.support.program import start


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "gone"), [("y\n", True), ("n\n", False)])
async def test_delete_asks(answer: str, *, gone: bool) -> None:
    """`delete` asks first, and deletes on a yes alone; JSON is indented, and a retry is told of."""
    async with Sandbox(payments=10) as sandbox:
        sandbox.order(Fault.ERROR_503, times=1)
        main_end, other_end = os.openpty()
        process = await start(sandbox, "delete", "7", stdin=other_end, stdout=other_end, stderr=other_end)
        os.close(other_end)
        screen = b""
        while b"[y/N]: " not in screen:
            screen += await asyncio.to_thread(os.read, main_end, 4096)
        assert screen.startswith(b"Delete payment 7?")
        assert sandbox.request_count == 0
        os.write(main_end, answer.encode())
        # Its few words fit into the terminal's buffer, so nobody has to read while it runs.
        assert await process.wait() == (0 if gone else 1)
        screen = await asyncio.to_thread(os.read, main_end, 4096)
        os.close(main_end)
        assert (7 not in sandbox.store) is gone
    assert (b'{\r\n  "id": 7\r\n}\r\n' in screen) is gone
    assert (b"Attempt 1 failed (503 Service Unavailable), the next in " in screen) is gone
