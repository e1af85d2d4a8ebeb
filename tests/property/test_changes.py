"""Feeds, killed at random, that follow stores which change at every request, lag, fail and are restored."""

from __future__ import annotations

import pytest

from tests.support.followed import Life, life, naive_loop
from tests.support.virtual_time import run


def lives(seeds: range) -> Life:
    """Follow a store per seed, and add up what their followers were given."""
    total = Life()
    for seed in seeds:
        one = run(life(seed))
        assert (one.missing, one.twice, one.never) == (0, 0, 0), f"seed {seed}: {one}"
        total += one
    return total


@pytest.mark.slow
def test_each_lasting_version_is_yielded_once() -> None:
    """Every version that was shown during a whole poll is yielded exactly once, and no others."""
    total = lives(range(9))
    assert total.lasting > 180
    assert total.kills > 18


def test_a_naive_loop_loses_versions() -> None:
    """On the same stores, reading newest first down to a watermark loses some versions and repeats others."""
    total = Life()
    for seed in range(4):
        total += run(life(seed, naive_loop))
    assert total.missing > total.lasting / 10
