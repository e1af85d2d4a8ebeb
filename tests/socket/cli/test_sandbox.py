"""`sandbox`: the service on this machine."""

from __future__ import annotations

import signal
import socket
from typing import Any

import pytest

from b2b_payments import PaymentsClient, StoreAuth
from b2b_payments._cli.sandbox import _refusal
from tests.support.program import finished, invoke, sentence, start


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_serves_until_stopped(number: signal.Signals) -> None:
    """It prints the variables for it, serves the requested store, and exits with 0 on a signal."""
    process = await start(None, "sandbox", "--payments", "30", "--channels", "2", "--seed", "5")
    lines = [(await _line(process)) for _ in range(4)]
    assert lines[0].startswith("# 30 payments at http://127.0.0.1:")
    variables = dict(line.removeprefix("export ").split("=", 1) for line in lines[1:])
    assert list(variables) == [
        "B2B_PAYMENTS_BASE_URL",
        "B2B_PAYMENTS_STORE_HASH",
        "B2B_PAYMENTS_ACCESS_TOKEN",
    ]
    url, store_hash, token = variables.values()
    async with PaymentsClient(StoreAuth(store_hash, token), base_url=url) as client:
        assert await client.payments.list().count() == 30
        assert [channel.channel_id for channel in await client.channels.list()] == [1, 2]
    process.send_signal(number)
    assert await finished(process) == (0, "", "The sandbox was stopped.\n")


async def _line(process: Any) -> str:
    line: bytes = await process.stdout.readline()
    return line.decode().rstrip("\n")


def test_port_in_use() -> None:
    """A port in use is reported in one sentence that names it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        text = sentence(invoke(None, "sandbox", "--port", port, "--payments", "1"), 1)
    assert text == f"Error: Port {port} is in use: give another port, or --port 0 for any free one."


def test_port_not_allowed() -> None:
    """A port that cannot be used is reported in one sentence with the reason."""
    text = _refusal(80, PermissionError(13, "Permission denied"))
    assert (
        text == "Port 80 cannot be used (Permission denied): give another port, or --port 0 for any free one."
    )
