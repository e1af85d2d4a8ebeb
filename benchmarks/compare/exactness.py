"""Lost payments: a list from which one payment is deleted before the reader's position at each request."""

from __future__ import annotations

from functools import partial

from b2b_payments.sandbox import Rules
from benchmarks.compare.contender import ALL, RAW, TYPED, Entry, Where
from benchmarks.compare.job import contest, named, rounds
from benchmarks.compare.service import service
from benchmarks.compare.table import Bar, Table

_PAYMENTS, _PAGE = 3_000, 50


def lost(generated: str) -> Table:
    """Count payments that existed all the time and were not read, and those that were read twice."""

    def read(in_flight: int, entry: Entry) -> tuple[int, int, int]:
        with service(_PAYMENTS, Rules(quota=False), deleting=True) as here:
            where = Where(here.base_url, here.headers, _PAGE, in_flight, generated=generated)
            ids: list[int] = contest(entry.key, "ids", where)["ids"]
            requests, _, _ = here.seen()
            return requests, len(set(here.ids()) - set(ids)), len(ids) - len(set(ids))

    table = Table(
        f"One payment deleted before the reader's position at each request, {_PAYMENTS:,} payments, "
        f"{_PAGE} per page",
        ("reader", "in flight", "requests", "lost", "twice"),
        chart_unit="lost",
    )
    wrong: int | None = None
    for in_flight in (1, 16):
        entries = [entry for entry in ALL if entry.ahead or in_flight == 1]
        found, failed = rounds(entries, partial(read, in_flight), 1)
        table.failures |= named(failed)
        for entry, ((requests, missing, twice),) in found.items():
            table.rows.append([entry.name, str(in_flight), str(requests), str(missing), str(twice)])
            if in_flight == 1:
                table.chart[entry.name] = missing
            if entry in {TYPED, RAW}:
                wrong = (wrong or 0) + missing + twice
    table.bars = [Bar("lost or duplicated while payments are deleted", wrong, 0, "payments")]
    return table
