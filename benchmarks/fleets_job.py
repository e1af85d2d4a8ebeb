"""One process that exports many stores, and prints what it took."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from b2b_payments import Quota, StoreAuth
from b2b_payments.export import Store, TokenFromEnv, export_stores
from benchmarks.exports_job import memory
from benchmarks.fleets_service import VARIABLE, names


def stores_at(url: str, stores: int, quota: Quota | None = None) -> Sequence[Store]:
    """Return the stores of a service."""
    return [
        Store(
            name,
            StoreAuth(name, TokenFromEnv(VARIABLE)),
            base_url=f"{url}/{name}",
            quota=quota or Quota(),
        )
        for name in names(stores)
    ]


async def _export(settings: Mapping[str, Any]) -> None:
    if limit := settings["handles"]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    quota = Quota(shared=True) if settings.get("shared") else None
    stores = stores_at(settings["url"], settings["stores"], quota)
    before, most = _cpu(), _handles()

    def look(_: object) -> None:
        nonlocal most
        most = max(most, _handles())

    report = await export_stores(
        stores, settings["folder"], format=settings["format"], at_once=settings["at_once"], on_progress=look
    )
    outcome = {
        "complete": report.complete,
        "rows": sum(one.rows for one in report.stores),
        "cpu": _cpu() - before,
        "memory": memory("VmHWM") / 2**20,
        "handles": most,
        "errors": sorted({str(one.error) for one in report.stores if one.error})[:3],
    }
    print(json.dumps(outcome), flush=True)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _handles() -> int:
    return len(os.listdir("/proc/self/fd"))


if __name__ == "__main__":
    asyncio.run(_export(json.loads(sys.argv[1])))
