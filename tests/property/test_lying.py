"""Walks, streams, exports and sweeps over services that lie; `benchmarks.lies` draws thousands more."""

from __future__ import annotations

import pytest

from b2b_payments._walk.totals import Totals
from tests.support.lied_to import Outcome, action_of, lied_to
from tests.support.lying import drawn
from tests.support.virtual_time import run

SERVICES = 200
PARTS = 10
MOST = 80
"""Payments of a store at the most: two pages tell as much as twenty, and sooner."""


def _tried(seed: int) -> Outcome:
    return run(lied_to(drawn(seed, most=MOST), action_of(seed)))


@pytest.mark.parametrize("part", range(PARTS))
def test_no_lie_is_believed(part: int) -> None:
    """What says that it is complete gave every lasting payment, once; a sweep deletes only what is gone."""
    faults = {
        seed: (one.action, one.kinds, one.faults)
        for seed in range(part, SERVICES, PARTS)
        if (one := _tried(seed)).faults
    }
    assert faults == {}


def test_the_lies_bite(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the proof by the other end, walks over the same services say complete where they are not."""
    monkeypatch.setattr(Totals, "vouch_for", lambda *_: True)
    lost = [seed for seed in range(SERVICES // 5) if _tried(seed).lost]
    assert len(lost) >= 3
