"""dlt's incremental cursor as a follower of changes: newest first, down to the latest `updatedAt` seen.

Its state is stored as dlt stores it, and is restored after a kill. `lag` is dlt's own option: that many
seconds are read again, and dlt drops none of those rows, because it is made for tables into which rows are
merged.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import dlt
from dlt.common.configuration.container import Container
from dlt.common.pipeline import StateInjectableContext

from b2b_payments._call import Spent
from b2b_payments._errors import TransportError
from b2b_payments._protocol.listing import read_listing
from b2b_payments._protocol.request import list_payments
from tests.support.followed import Kept
from tests.support.living import Direct
from tests.support.synced import version_of

Page = Sequence[dict[str, Any]]


async def follow(
    _client: Any, direct: Direct, kept: Kept, interval: float, _draw: random.Random, *, lag: float | None
) -> None:
    """Poll forever."""
    loop = asyncio.get_running_loop()
    kept.checkpoint = kept.checkpoint or {}
    while True:
        began = loop.time()
        try:
            pages = await _pages(direct, _state_value(kept.checkpoint, "last_value"), lag or 0.0)
        except TransportError:
            pass
        else:
            rows = _yielded(kept.checkpoint, pages, lag) if any(pages) else []
            kept.given += [(int(row["id"]), version_of(row)) for row in rows]
            kept.polls.append((began, loop.time()))
        await asyncio.sleep(interval)


def _state_value(state: dict[str, Any], what: str) -> float | None:
    """Return an `updatedAt` from dlt's state: its `initial_value`, or its `last_value`."""
    for source in state.get("sources", {}).values():
        found: float = source["resources"]["payments"]["incremental"]["updatedAt"][what]
        return found
    return None


async def _pages(direct: Direct, latest: float | None, lag: float) -> list[Page]:
    """Read pages as dlt does, up to and including the one with the first row that is too old."""
    pages: list[Page] = []
    while True:
        offset = sum(map(len, pages))
        query = (("sortBy", "updatedAt"), ("orderBy", "DESC"), ("offset", str(offset)), ("limit", "250"))
        page = await direct.read(list_payments(query), partial(read_listing, offset=offset), tally=Spent())
        pages.append(page.objects())
        if latest is None or not pages[-1] or pages[-1][-1]["updatedAt"] < latest - lag:
            return pages


def _yielded(state: dict[str, Any], pages: Sequence[Page], lag: float | None) -> Page:
    """Return the rows that dlt yields from the pages; it starts at the first row that it ever sees."""
    begun = _state_value(state, "initial_value") or next(row for page in pages for row in page)["updatedAt"]

    cursor = dlt.sources.incremental(
        "updatedAt", initial_value=begun, row_order=None if lag else "desc", lag=lag
    )

    @dlt.resource(name="payments")  # type: ignore[untyped-decorator]
    def payments(_updated: Any = cursor) -> Iterator[Page]:
        yield from pages

    with Container().injectable_context(StateInjectableContext(state=state)):
        return list(payments())
