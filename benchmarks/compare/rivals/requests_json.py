"""requests: a session, a loop over offsets, dicts."""

from __future__ import annotations

import json
import time
from typing import Any

import requests

from benchmarks.compare.contender import Visit, Where
from benchmarks.compare.rivals.floor import payment_id

__all__ = ["line", "payment_id", "read"]


def read(where: Where, visit: Visit) -> None:
    """Call `visit` with every payment, a dict."""
    with requests.Session() as session:
        session.headers.update(where.headers)
        offset, total = 0, 1
        while offset < total:
            query: dict[str, int | str] = {
                "offset": offset,
                "limit": where.page_size,
                "sortBy": "createdAt",
                "orderBy": "ASC",
            }
            response = session.get(f"{where.base_url}/ip/payments", params=query, timeout=30)
            if response.status_code == 429:
                time.sleep(1)
                continue
            response.raise_for_status()
            body = response.json()
            for row in body["data"]:
                visit(row)
            offset += where.page_size
            total = body["meta"]["pagination"]["totalCount"]


def line(payment: Any) -> bytes:
    """Return a payment as a line of JSON."""
    return json.dumps(payment, ensure_ascii=False).encode() + b"\n"
