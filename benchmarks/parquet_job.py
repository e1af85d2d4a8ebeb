"""One export into Parquet in this process, ours or a bare loop; the figures go to standard output as JSON.

Started by `benchmarks.parquet`: ``python -m benchmarks.parquet_job ours|bare WHERE FILE``.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pyarrow
from pyarrow import parquet

from b2b_payments.export.parquet import ParquetSink, schema
from benchmarks.compare.contender import Where

_BATCH = 2_000
_SAMPLE = 0.25  # seconds
_STATUS = Path("/proc/self/status")

Export = Callable[[Where, Path], Coroutine[Any, Any, None]]


def memory(name: str) -> int:
    """Give VmRSS, what this process has in memory now, or VmHWM, the most it ever had, in bytes."""
    text = _STATUS.read_text(encoding="utf-8")
    return int(text.partition(f"{name}:")[2].split()[0]) * 1024


def ours() -> Export:
    """Give the library's export: exact, with checkpoints, a manifest, and fsync at each commit."""
    from b2b_payments.export import export  # noqa: PLC0415  # the bare loop is not to pay for it
    from benchmarks.compare.rivals.ours import client_of  # noqa: PLC0415

    async def run(where: Where, path: Path) -> None:
        async with client_of(where) as client:
            walk = client.payments.list(page_size=where.page_size, concurrency=where.in_flight)
            await export(walk, ParquetSink(path))

    return run


async def bare(where: Where, path: Path) -> None:
    """Write what plain offsets give: nothing is checked, and nothing can be resumed."""
    wanted, held = schema(), []
    async with aiohttp.ClientSession(headers=dict(where.headers)) as session:
        with parquet.ParquetWriter(path, wanted, compression="zstd") as writer:
            async for rows in _pages(session, where):
                held += rows
                if len(held) >= _BATCH:
                    writer.write_batch(pyarrow.RecordBatch.from_pylist(list(map(_record, held)), wanted))
                    held = []
            if held:
                writer.write_batch(pyarrow.RecordBatch.from_pylist(list(map(_record, held)), wanted))


async def _pages(session: aiohttp.ClientSession, where: Where) -> AsyncIterator[list[dict[str, Any]]]:
    async def page(offset: int) -> Any:
        query: dict[str, int | str] = {
            "offset": offset,
            "limit": where.page_size,
            "sortBy": "createdAt",
            "orderBy": "ASC",
        }
        async with session.get(f"{where.base_url}/ip/payments", params=query) as response:
            return msgspec.json.decode(await response.read())

    first = await page(0)
    offsets = range(where.page_size, first["meta"]["pagination"]["totalCount"], where.page_size)
    left = iter(offsets[where.in_flight :])
    ahead = deque(asyncio.create_task(page(offset)) for offset in offsets[: where.in_flight])
    yield first["data"]
    while ahead:
        body = await ahead.popleft()
        if (offset := next(left, None)) is not None:
            ahead.append(asyncio.create_task(page(offset)))
        yield body["data"]


_encode = msgspec.json.Encoder(decimal_format="number").encode
_NAMES = {
    "id": "id", "storeHash": "store_hash", "customerId": "customer_id", "externalId": "external_id",
    "externalCustomerId": "external_customer_id", "payerName": "payer_name",
    "payerCustomerId": "payer_customer_id", "moduleName": "module_name",
    "processingStatus": "processing_status", "appliedStatus": "applied_status",
    "fundingStatus": "funding_status", "customerName": "customer_name", "channelName": "channel_name",
}  # fmt: skip
_JSON = {"details": "details", "fees": "fees", "moduleData": "module_data"}
_CODES = {"allowedOperations": "allowed_operations", "allowedStatuses": "allowed_statuses"}
_KNOWN = {*_NAMES, *_JSON, *_CODES, "createdAt", "updatedAt", "total", "lineItems", "channelId"}


def _record(row: dict[str, Any]) -> dict[str, Any]:
    record: dict[str, Any] = {column: row.get(name) for name, column in _NAMES.items()}
    record |= {column: _encode(row[name]).decode() for name, column in _JSON.items()}
    record |= {column: _encode(list(map(int, row[name]))).decode() for name, column in _CODES.items()}
    channel = row.get("channelId")
    return record | {
        "created_at": datetime.fromtimestamp(row["createdAt"], UTC),
        "updated_at": datetime.fromtimestamp(row["updatedAt"], UTC),
        "total": Decimal(row["total"]["value"]),
        "currency": row["total"]["code"],
        "channel_id": None if channel is None else int(channel),
        "extra": _encode({name: row[name] for name in row if name not in _KNOWN}).decode(),
        "line_items": [
            {
                "invoice_id": line["invoiceId"],
                "invoice_number": line["invoiceNumber"],
                "amount": Decimal(line["amount"]["value"]),
                "currency": line["amount"]["code"],
                "extra": "{}",
            }
            for line in row["lineItems"]
        ],
    }


async def _sampled(samples: list[int]) -> None:
    while True:
        samples.append(memory("VmRSS"))
        await asyncio.sleep(_SAMPLE)


async def _measured(key: str, where: Where, path: Path) -> dict[str, Any]:
    samples: list[int] = []
    export = ours() if key == "ours" else bare
    sampling = asyncio.create_task(_sampled(samples))
    wall, cpu = time.perf_counter(), time.process_time()
    await export(where, path)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    sampling.cancel()
    with parquet.ParquetFile(path) as file:
        rows, groups = file.metadata.num_rows, file.metadata.num_row_groups
    return {
        "cpu": cpu,
        "wall": wall,
        "rows": rows,
        "groups": groups,
        "samples": samples,
        "pool": pyarrow.default_memory_pool().max_memory(),
        "peak": memory("VmHWM"),
    }


def main() -> None:
    """Do what the command line says."""
    key, where, path = sys.argv[1:]
    print(json.dumps(asyncio.run(_measured(key, Where(**json.loads(where)), Path(path)))))


if __name__ == "__main__":
    main()
