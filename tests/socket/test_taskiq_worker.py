"""The taskiq worker of docs/changes.md, with a real Redis."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from b2b_payments.sandbox import Rules, Sandbox
from tests.support.program import environment
from tests.support.redis_server import RedisServer

PAGE = Path(__file__).parents[2] / "docs" / "changes.md"


@asynccontextmanager
async def worker(folder: Path, sandbox: Sandbox, redis: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the worker, with all its processes in a separate group, and wait for its first request."""
    asked = asyncio.Event()
    sandbox.before_list = lambda *_: asked.set()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "taskiq", "worker", "--workers", "1", "worker:broker"),
        cwd=folder,
        env={**os.environ, "REDIS_URL": redis, **{k: v for k, v in environment(sandbox).items() if v}},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        await asyncio.wait_for(asked.wait(), 60)
        yield process
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


@pytest.mark.slow
async def test_documented_worker(tmp_path: Path) -> None:
    """It books each change once, also those made while it was down, and stops on request."""
    (code,) = re.findall(r"```python\n(# worker\.py\n.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert code.count("interval=60.0") == 1
    (tmp_path / "worker.py").write_text(code.replace("interval=60.0", "interval=0.1"), encoding="utf-8")
    with RedisServer() as server:
        books = Redis.from_url(server.url, decode_responses=True)
        async with books, Sandbox(payments=30, rules=Rules(quota=False)) as sandbox:

            async def booked(count: int) -> list[int]:
                came = [await books.blpop(["to_report"], timeout=60) for _ in range(count)]
                return sorted(int(one[1]) for one in came if one is not None)

            store = sandbox.store
            async with worker(tmp_path, sandbox, server.url):
                store.advance(60)
                for payment_id in (3, 4):
                    store.update(payment_id, payerName="new")
                assert await booked(2) == [3, 4]
            # It was killed.
            store.update(4, payerName="newer")
            new = store.insert()
            async with worker(tmp_path, sandbox, server.url) as process:
                assert await booked(2) == [4, new]
                process.terminate()
                assert await asyncio.wait_for(process.wait(), 60) == 0
            assert await books.hlen("booked") == 4
            assert await books.llen("to_report") == 0
