"""Followers of stores that change at every request, lag, fail and are restored; they are killed at random."""

from __future__ import annotations

import pytest

from tests.support.followed import Life, life, naive_loop
from tests.support.virtual_time import run


def lives(seeds: range) -> Life:
    """Follow so many stores, and add up what their followers were given."""
    total = Life()
    for seed in seeds:
        one = run(life(seed))
        assert (one.missing, one.twice, one.never) == (0, 0, 0), f"seed {seed}: {one}"
        total += one
    return total


@pytest.mark.slow
def test_each_lasting_version_comes_once() -> None:
    """Every version that was shown during a whole poll is given exactly once; none is made up."""
    total = lives(range(9))
    assert total.lasting > 180
    assert total.kills > 18


def test_the_loop_that_everyone_writes_loses_some() -> None:
    """In the same lives, newest first down to a watermark loses a part, and gives some twice."""
    total = Life()
    for seed in range(4):
        total += run(life(seed, naive_loop))
    assert total.missing > total.lasting / 10
