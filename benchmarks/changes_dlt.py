"""dlt's incremental cursor as a follower of changes: newest first, down to the latest `updatedAt` it has had.

Its state is kept as dlt keeps it, and is there again after a kill. `lag` is dlt's own: so many seconds are
read again, and dlt leaves out nothing of them, since it is made for tables into which rows are merged.
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
    """Poll for ever."""
    loop = asyncio.get_running_loop()
    kept.checkpoint = kept.checkpoint or {}
    while True:
        began = loop.time()
        try:
            pages = await _pages(direct, _remembered(kept.checkpoint, "last_value"), lag or 0.0)
        except TransportError:
            pass
        else:
            rows = _taken(kept.checkpoint, pages, lag) if any(pages) else []
            kept.given += [(int(row["id"]), version_of(row)) for row in rows]
            kept.polls.append((began, loop.time()))
        await asyncio.sleep(interval)


def _remembered(state: dict[str, Any], what: str) -> float | None:
    """Return an `updatedAt` that dlt remembers: its `initial_value`, or its `last_value`."""
    for source in state.get("sources", {}).values():
        found: float = source["resources"]["payments"]["incremental"]["updatedAt"][what]
        return found
    return None


async def _pages(direct: Direct, latest: float | None, lag: float) -> list[Page]:
    """Read the pages that dlt asks for, the one with the first row that is too old included."""
    pages: list[Page] = []
    while True:
        offset = sum(map(len, pages))
        query = (("sortBy", "updatedAt"), ("orderBy", "DESC"), ("offset", str(offset)), ("limit", "250"))
        page = await direct.read(list_payments(query), partial(read_listing, offset=offset), tally=Spent())
        pages.append(page.objects())
        if latest is None or not pages[-1] or pages[-1][-1]["updatedAt"] < latest - lag:
            return pages


def _taken(state: dict[str, Any], pages: Sequence[Page], lag: float | None) -> Page:
    """Return what dlt takes of the pages; it begins at the first row that it ever sees."""
    begun = _remembered(state, "initial_value") or next(row for page in pages for row in page)["updatedAt"]

    cursor = dlt.sources.incremental(
        "updatedAt", initial_value=begun, row_order=None if lag else "desc", lag=lag
    )

    @dlt.resource(name="payments")  # type: ignore[untyped-decorator]
    def payments(_updated: Any = cursor) -> Iterator[Page]:
        yield from pages

    with Container().injectable_context(StateInjectableContext(state=state)):
        return list(payments())
