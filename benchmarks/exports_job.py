"""One export in this process, a first copy, or the floor; prints the figures as JSON.

Started by `benchmarks.exports` as ``python -m benchmarks.exports_job FORMAT WHERE FILE SERVER``, and by
`benchmarks.copies` with ``copy-`` before the name of a database. The floor, ``bare``, reads plain offsets
with aiohttp and writes the pages as they arrive: it checks nothing, and cannot be resumed.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import deque
from collections.abc import Awaitable
from importlib import import_module
from pathlib import Path
from typing import Any

import aiohttp
import anyio.lowlevel
import msgspec

from benchmarks.compare.contender import Where

_SAMPLE = 0.25  # seconds
_STATUS = Path("/proc/self/status")


def memory(name: str) -> int:
    """Return this process's current memory (VmRSS) or its peak (VmHWM), in bytes."""
    text = _STATUS.read_text(encoding="utf-8")
    return int(text.partition(f"{name}:")[2].split()[0]) * 1024


async def ours(format_: str, where: Where, path: Path) -> int | None:
    """Export with the library: exact, with checkpoints, a manifest, and fsync at each commit."""
    from b2b_payments.export import export, sink_for  # noqa: PLC0415  # not part of the floor
    from benchmarks.compare.rivals.ours import client_of  # noqa: PLC0415

    async with client_of(where) as client:
        walk = client.payments.list(page_size=where.page_size, concurrency=where.in_flight)
        return (await export(walk, sink_for(path, format_))).rows


async def copied(kind: str, where: Where, path: Path, server: str) -> int:
    """Make a first copy of everything."""
    from b2b_payments.sync import sync  # noqa: PLC0415
    from benchmarks.compare.rivals.ours import client_of  # noqa: PLC0415
    from tests.support.synced import store_in  # noqa: PLC0415

    async with client_of(where) as client:
        return (await sync(client, store_in(kind, path.parent, server))).inserted


async def bare(where: Where, path: Path) -> int:
    """Write the pages as they arrive."""
    rows = 0
    async with aiohttp.ClientSession(headers=dict(where.headers)) as session:

        async def page(offset: int) -> bytes:
            query: dict[str, int | str] = {
                "offset": offset,
                "limit": where.page_size,
                "sortBy": "createdAt",
                "orderBy": "ASC",
            }
            async with session.get(f"{where.base_url}/ip/payments", params=query) as response:
                return await response.read()

        first = await page(0)
        total = msgspec.json.decode(first)["meta"]["pagination"]["totalCount"]
        left = iter(range(where.page_size, total, where.page_size))
        ahead = deque(
            asyncio.create_task(page(offset)) for _, offset in zip(range(where.in_flight), left, strict=False)
        )
        with path.open("wb") as file:
            file.write(first)
            rows = where.page_size
            while ahead:
                file.write(await ahead.popleft())
                rows += where.page_size
                if (offset := next(left, None)) is not None:
                    ahead.append(asyncio.create_task(page(offset)))
    return rows


async def _sampled(samples: list[int]) -> None:
    while True:
        samples.append(memory("VmRSS"))
        await asyncio.sleep(_SAMPLE)


async def _measured(format_: str, where: Where, path: Path, server: str) -> dict[str, Any]:
    used = (
        ("b2b_payments.sync", "tests.support.synced")
        if format_.startswith("copy-")
        else ("b2b_payments.export",)
    )
    if format_ != "bare":  # exclude the cost of imports
        imports = {"parquet": ["duckdb"], "duckdb": ["duckdb"], "copy-duckdb": ["duckdb"]}.get(format_, [])
        for name in (*used, *imports, "benchmarks.compare.rivals.ours"):
            import_module(name)
        await anyio.lowlevel.checkpoint()  # imports anyio's backend for this event loop
    samples: list[int] = []
    run: Awaitable[int | None]
    if format_.startswith("copy-"):
        run = copied(format_.removeprefix("copy-"), where, path, server)
    else:
        run = bare(where, path) if format_ == "bare" else ours(format_, where, path)
    sampling = asyncio.create_task(_sampled(samples))
    wall, cpu = time.perf_counter(), time.process_time()
    rows = await run
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    sampling.cancel()
    return {"cpu": cpu, "wall": wall, "rows": rows, "samples": samples, "peak": memory("VmHWM")}


def main() -> None:
    """Run the job that the arguments name."""
    format_, where, path, server = sys.argv[1:]
    print(json.dumps(asyncio.run(_measured(format_, Where(**json.loads(where)), Path(path), server))))


if __name__ == "__main__":
    main()
