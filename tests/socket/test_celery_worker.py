"""The Celery worker of docs/recipes.md, with a real Redis."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from b2b_payments.sandbox import Rules, Sandbox
from tests.support.program import whole_environment
from tests.support.redis_server import RedisServer

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"
CALLER = """
from books import mark_processing

print(mark_processing.delay(8).get(timeout=60))
try:
    mark_processing.delay(999).get(timeout=60)
except Exception as error:
    print(type(error).__name__, "Payment not found" in str(error))
"""


@asynccontextmanager
async def worker(folder: Path, environment: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the worker and its schedule, with all their processes in a separate group."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "celery", "-A", "books", "worker", "--beat", "--concurrency", "2"),
        cwd=folder,
        env=environment,
        stdout=DEVNULL,
        stderr=DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("", ["Exception", "True"]),
        (
            '\napp.conf.update(result_serializer="pickle", result_accept_content=["pickle"])\n',
            ["NotFoundError", "True"],
        ),
    ],
    ids=["JSON", "pickle"],
)
async def test_documented_worker(tmp_path: Path, settings: str, expected: list[str]) -> None:
    """It processes what its schedule and a caller request, reports failures, and stops on request."""
    (code,) = re.findall(r"```python\n(# books\.py\n.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert code.count('"schedule": 900.0') == 1
    (tmp_path / "books.py").write_text(code.replace("900.0", "1.0") + settings, encoding="utf-8")
    (tmp_path / "caller.py").write_text(CALLER, encoding="utf-8")
    with RedisServer() as redis:
        async with Sandbox(payments=30, rules=Rules(quota=False)) as sandbox:
            environment = whole_environment(sandbox, REDIS_URL=f"redis+socket://{redis.socket}")
            marked = asyncio.Event()
            sandbox.answer_with(
                lambda seen: marked.set() if (seen.method, seen.path[-2:]) == ("GET", "/7") else None
            )
            async with worker(tmp_path, environment) as process:
                await asyncio.wait_for(marked.wait(), 60)
                caller = await asyncio.create_subprocess_exec(
                    sys.executable, "caller.py", cwd=tmp_path, env=environment, stdout=PIPE, stderr=DEVNULL
                )
                said, _ = await asyncio.wait_for(caller.communicate(), 60)
                process.terminate()
                assert await asyncio.wait_for(process.wait(), 60) == 0
            assert said.decode().split() == ["PROCESSING", *expected]
            assert [sandbox.store.wire(one)["processingStatus"] for one in (7, 8)] == [2, 2]
