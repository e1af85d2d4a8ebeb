"""A week of changes, synced every night, at a small size."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from b2b_payments.sandbox import Rules, Sandbox
from b2b_payments.sync import store_for, sync
from benchmarks.sync import week
from tests.support.clients import client_of
from tests.support.synced import KINDS, LivingStore, Wrong, uneven_lag
from tests.support.virtual_time import run


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_week(kind: str, request: pytest.FixtureRequest) -> None:
    """After each sync nothing older than the list's lag is wrong; after a sweep nothing deleted is left."""
    server = request.getfixturevalue("postgres") if kind == "postgres" else ""
    outcome = run(week(kind, 3, 250, 12, server))
    assert outcome.wrong == outcome.quiet == Wrong()
    assert outcome.differing == 0
    assert outcome.changed > 80
    assert sum(outcome.nights) < outcome.exports


async def _syncs_every_ten_minutes(path: Path, seed: int, *, overlap: float) -> Wrong:
    """Sync every ten minutes, while payments change all the time and lists lag twenty minutes."""
    rules = Rules(quota=False, list_lag=uneven_lag(seed), equals="shuffled", latency=0.1, max_limit=12)
    wrong = Wrong()
    async with Sandbox(payments=120, seed=seed, rules=rules) as sandbox, client_of(sandbox) as client:
        living = LivingStore(sandbox, seed, during=0.3, many=8)
        loop_time = sandbox._time
        for _ in range(12):
            begun = loop_time()
            report = await sync(client, store_for(path), overlap=overlap)
            assert report.complete
            wrong += living.wrong(path, begun=begun, swept=report.swept)
            await _pass_minutes(living, 10)
    return wrong


async def _pass_minutes(living: LivingStore, minutes: int) -> None:
    for _ in range(minutes):
        await asyncio.sleep(60)
        living.change()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_syncs_more_frequent_than_the_lag(tmp_path: Path, seed: int) -> None:
    """If syncs are more frequent than the list's lag, the copy misses no write for longer than the lag."""
    assert run(_syncs_every_ten_minutes(tmp_path / "copy.sqlite", seed, overlap=1800)) == Wrong()


@pytest.mark.slow
def test_overlap_is_needed(tmp_path: Path) -> None:
    """Without the overlap, the same changes leave stale payments in the copy."""
    wrong = run(_syncs_every_ten_minutes(tmp_path / "copy.sqlite", 0, overlap=0))
    assert wrong.stale > 0
    assert wrong.never == wrong.left == 0
