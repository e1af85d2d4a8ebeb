"""A week of changes, synced every night, in little."""

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
    """After each night nothing older than the list's lag is wrong, after a sweep nothing deleted is left."""
    server = request.getfixturevalue("postgres") if kind == "postgres" else ""
    lived = run(week(kind, 3, 250, 12, server))
    assert lived.wrong == lived.quiet == Wrong()
    assert lived.differing == 0
    assert lived.changed > 80
    assert sum(lived.nights) < lived.exports


async def _hour_by_hour(path: Path, seed: int, *, overlap: float) -> Wrong:
    """Sync every ten minutes, while changes come all the time and lists lag twenty."""
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
def test_syncs_closer_than_the_lag(tmp_path: Path, seed: int) -> None:
    """Synced more often than the list takes to show a write, the copy misses none for longer than that."""
    assert run(_hour_by_hour(tmp_path / "copy.sqlite", seed, overlap=1800)) == Wrong()


@pytest.mark.slow
def test_the_schedules_bite(tmp_path: Path) -> None:
    """Without the overlap, the same changes leave payments in the copy as they were."""
    wrong = run(_hour_by_hour(tmp_path / "copy.sqlite", 0, overlap=0))
    assert wrong.stale > 0
    assert wrong.never == wrong.left == 0
