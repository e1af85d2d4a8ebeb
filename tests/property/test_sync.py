"""Copies of stores that change at every request, fail at times, and show writes late and out of order."""

from __future__ import annotations

import asyncio
import random
import tempfile
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from b2b_payments._errors import B2BPaymentsError, TransportError
from b2b_payments.sandbox import Rules
from b2b_payments.sync import Store, store_for, sync
from b2b_payments.sync import _readings as readings
from tests.support.living import living_store
from tests.support.synced import LAG, Wrong, held_in, store_in
from tests.support.virtual_time import run


def lie(draw: random.Random, rules: Rules) -> Rules:
    """Make the lists contradict the store, in up to two ways."""
    hides = draw.choice([2, 5, 20])
    lies: dict[str, Any] = {
        "total_count": draw.choice(["page", "wandering", "absent"]),
        "total_cap": draw.choice([0, 5, 50]),
        "paging_window": draw.choice([1, 10, 30, 100]),
        "shown": draw.choice([0, 1, 10, 30]),
        "hidden": lambda row: int(row["id"]) % hides == 0,
        "ignores": draw.sample(["orderBy", "sortBy", "offset", "limit"], 1),
    }
    return attrs.evolve(rules, **{name: lies[name] for name in draw.sample(list(lies), draw.randint(0, 2))})


async def lied_to(seed: int, path: Path) -> tuple[int, bool]:
    """Sync with a service that contradicts itself, and again when it no longer does.

    Returns how many payments the lists contradicted, and whether the copy is equal to the store in the end.
    """
    draw, copy, contradicted = random.Random(seed), store_for(path), 0
    async with living_store(seed, draw) as (sandbox, living, direct, client):
        honest = sandbox.rules
        await sync(client, copy)
        for _ in range(draw.randint(1, 4)):
            for _step in range(draw.randint(0, 3)):
                await asyncio.sleep(draw.choice([1, 60, 600]))
                living.change(draw.randint(1, 3))
            held = held_in(path)
            rules = sandbox.rules = lie(draw, honest)
            direct.fails, direct.empty, direct.gateway = (draw.choice([0, 0, 0.1, 0.5]) for _ in range(3))
            try:
                report = await sync(
                    client,
                    copy,
                    sweep=draw.random() < 0.7,
                    most_lookups=draw.choice([1, 20, 500]),
                    allow_mass_deletion=draw.random() < 0.5,
                )
            except B2BPaymentsError:
                pass
            else:
                contradicted += report.looked_up + report.candidates
            now = held_in(path)
            hides: Any = rules.hidden
            for gone in held.keys() - now.keys():
                assert gone in living.deleted or hides(sandbox.store.wire(gone))
            assert all(version in living.had[one] for one, version in now.items())
        sandbox.rules = honest
        living.during = direct.fails = direct.empty = direct.gateway = 0
        await asyncio.sleep(2 * LAG)
        await sync(client, copy, allow_mass_deletion=True)
        report = await sync(client, copy, sweep=True, allow_mass_deletion=True)
        # If one second has more payments than a page, and there is no total, the end cannot be proven.
        unproven = "stop before they meet" in str(report.caveat)
        return contradicted, unproven or (report.complete and held_in(path) == living.now_versions)


async def life(seed: int, copy: Store) -> tuple[Wrong, int, bool]:
    """Sync a changing store several times.

    Returns what was wrong, how many syncs failed, and whether the copy is equal to the store in the end.
    """
    draw = random.Random(seed)
    wrong, failed, swept_from = Wrong(), 0, None
    loop = asyncio.get_running_loop()
    async with living_store(seed, draw) as (sandbox, living, direct, client):
        backup = living.back_up()
        for _ in range(draw.randint(2, 7)):
            begun, before = loop.time(), direct.requests
            direct.fails = draw.choice([0, 0, 0.05, 0.3])
            try:
                report = await sync(client, copy, sweep=draw.random() < 0.3, allow_mass_deletion=True)
            except TransportError:
                failed += 1
                swept_from = begun if swept_from is None else swept_from
            else:
                assert direct.requests - before == report.requests
                # A lagging list may show only payments that are already deleted: then no 404 is believed.
                # And a list that gets its first payments during the read may show no end.
                assert report.complete == (report.caveat is None)
                swept = report.swept and report.complete
                if swept and report.resumed:
                    # The first of the failed syncs may have started this full read.
                    begun_sweep = begun if swept_from is None else swept_from
                    wrong += living.wrong(copy, begun=begun_sweep, swept=True)
                wrong += living.wrong(copy, begun=begun, swept=swept and not report.resumed)
                swept_from = None
            for _step in range(draw.randint(0, 6)):
                await asyncio.sleep(draw.choice([1, 60, 600]))
                living.change(draw.randint(1, 3))
            if draw.random() < 0.3:
                backup = living.back_up()
        living.during, direct.fails = 0, 0
        if backup.versions and draw.random() < 0.5:
            living.restore(backup)
        await asyncio.sleep(2 * LAG)
        await sync(client, copy, allow_mass_deletion=True)
        report = await sync(client, copy, sweep=True, allow_mass_deletion=True)
        assert not report.resumed
        # Payments of a single second show no order: without a total, nothing proves the list's end.
        seconds = {living.store.wire(one)["createdAt"] for one in living.now_versions}
        assert report.complete or (len(seconds) == 1 and sandbox.rules.total_count == "absent")
        equal = not report.complete or held_in(copy) == living.now_versions
    return wrong, failed, equal


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "examples"), [("sqlite", 6), ("duckdb", 2), ("postgres", 4)])
def test_copy_is_never_wrong(
    kind: str, examples: int, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Despite changes, errors and lag, payments not written recently are right, and none is invented."""
    monkeypatch.setattr(readings, "BATCH_ROWS", 25)
    server = request.getfixturevalue("postgres") if kind == "postgres" else ""

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(seed=st.integers(0, 2**32))
    def check(seed: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            wrong, _, equal = run(life(seed, store_in(kind, Path(folder), server)))
        assert wrong == Wrong()
        assert equal

    check()


@pytest.mark.slow
def test_lists_alone_delete_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever lists show or hide, only payments that GET by id does not find are deleted."""
    monkeypatch.setattr(readings, "BATCH_ROWS", 25)
    contradicted = 0

    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    @given(seed=st.integers(0, 2**32))
    def check(seed: int) -> None:
        nonlocal contradicted
        with tempfile.TemporaryDirectory() as folder:
            count, equal = run(lied_to(seed, Path(folder) / "copy.sqlite"))
        contradicted += count
        assert equal

    check()
    assert contradicted > 0


@pytest.mark.slow
def test_some_syncs_fail() -> None:
    """In the runs of `life` some syncs do fail, and are resumed."""
    with tempfile.TemporaryDirectory() as folder:
        assert sum(run(life(seed, store_for(Path(folder, f"{seed}.sqlite"))))[1] for seed in range(4)) > 0
