"""Walks, streams, exports and sweeps over services that lie. `benchmarks.lies` tries thousands more."""

from __future__ import annotations

from typing import Any

import pytest

from b2b_payments import NotFoundError
from b2b_payments._resources.payments import Payments
from b2b_payments._walk.service_limits import Totals
from b2b_payments.sync._settle import Settling
from tests.support.lied_to import WINDOWS, Outcome, action_of, lied_to
from tests.support.lying import Service, drawn
from tests.support.virtual_time import run

SERVICES = 54
PARTS = 6
MOST = 80
"""The most payments of a store: two pages show as much as twenty, and take less time."""


def _tried(seed: int) -> Outcome:
    return run(lied_to(drawn(seed, most=MOST), action_of(seed)))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_no_lie_is_believed(part: int) -> None:
    """A complete walk has every lasting payment once; a sweep deletes only payments that are gone."""
    faults = {
        seed: (one.action, one.kinds, one.faults)
        for seed in range(part, SERVICES, PARTS)
        if (one := _tried(seed)).faults
    }
    assert faults == {}


@pytest.mark.slow
@pytest.mark.parametrize("action", WINDOWS)
def test_no_lie_about_a_period_is_believed(action: str) -> None:
    """A walk over a period that is complete has returned all of its payments once, and no others."""
    tried = {seed: run(lied_to(drawn(seed, most=MOST), action)) for seed in (*range(10), 178, 1133)}
    assert {seed: (one.kinds, one.faults) for seed, one in tried.items() if one.faults} == {}
    assert sum(one.complete for one in tried.values()) > 5


@pytest.mark.slow
def test_lies_are_believed_without_the_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the proof by the other end, walks over the same services report complete when they are not."""
    monkeypatch.setattr(Totals, "vouch_for", lambda *_: True)
    lost = [seed for seed in range(40) if _tried(seed).lost]
    assert len(lost) >= 3


async def _any_404(payments: Payments, payment_id: int, *, tally: Any = None) -> Any:
    """Look up a payment, and believe any 404."""
    try:
        return await _look_up(payments, payment_id, tally=tally)
    except NotFoundError:
        return None


async def _nothing(*_: object) -> bool:
    return True


_look_up = Payments.look_up_text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("checked", "instead", "lie"),
    [
        ((Payments, "look_up_text"), _any_404, {"unseen_in_html": 0.5}),
        ((Settling, "_control_succeeds"), _nothing, {"out_of_scope": True}),
    ],
    ids=["the service's own 404", "a payment that is shown"],
)
def test_each_check_of_deletions_is_needed(
    monkeypatch: pytest.MonkeyPatch, checked: tuple[type, str], instead: Any, lie: dict[str, Any]
) -> None:
    """Without one of the checks, a sweep of a list that hides payments deletes some that still exist."""

    def swept() -> int:
        service = Service(seed=7, payments=60, lies={"shown": 52}, **lie)
        return run(lied_to(service, "sweep")).deleted

    assert swept() == 0
    monkeypatch.setattr(*checked, instead)
    assert swept() > 0
