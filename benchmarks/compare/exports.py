"""The library's own export, to some of its formats."""

from __future__ import annotations

import asyncio
import importlib
import time
from pathlib import Path
from typing import Any

from b2b_payments.export import export as run
from benchmarks.compare.contender import Where
from benchmarks.compare.rivals.ours import client_of

_SINKS = {"jsonl": ("jsonl", "JSONLSink"), "parquet": ("parquet", "ParquetSink")}


def export(format_: str, where: Where) -> dict[str, Any]:
    """Export everything. Returns CPU and wall seconds, and the bytes written."""
    module, name = _SINKS[format_]
    sink_class: Any = getattr(importlib.import_module(f"b2b_payments.export._{module}"), name)
    path = Path(where.generated, f"payments.{format_}")
    figures = asyncio.run(_export(sink_class(path), where))
    return figures | {"bytes": path.stat().st_size}


async def _export(sink: Any, where: Where) -> dict[str, Any]:
    async with client_of(where) as client:
        wall, cpu = time.perf_counter(), time.process_time()
        await run(client.payments.list(page_size=where.page_size, concurrency=where.in_flight), sink)
        return {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
