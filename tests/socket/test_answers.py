"""A part of the answers suite: random schedules of stray, swapped, duplicated and late answers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from b2b_payments import _mixups as mixups
from b2b_payments._protocol import answer, listing
from b2b_payments._protocol.query import FilterEvidence
from b2b_payments._transport.connections import Exchange
from benchmarks.answers import MIX_UPS, MixUp, main, schedule
from benchmarks.answers_work import Account
from benchmarks.faults_account import Report
from tests.support.virtual_time import run

_SEED = 3
"""In the schedules of this seed, a wrong result shows if any of the checks is disabled."""
_MAX_SCHEDULES = 20
BY_NAME = {mix_up.name: mix_up for mix_up in MIX_UPS}


def account_of(mix_up: MixUp) -> Account:
    """Return the account of schedules until an answer went astray."""
    total = Account()
    for seed in range(_SEED, _SEED + _MAX_SCHEDULES):
        if total.mixed_up:
            break
        total.add(run(schedule(mix_up, seed)))
    return total


@pytest.mark.slow
@pytest.mark.parametrize("mix_up", MIX_UPS, ids=lambda mix_up: mix_up.name)
def test_no_result_belongs_to_another_request(mix_up: MixUp) -> None:
    """Whatever answers go astray, each result is the requested one, and no write is reported wrong."""
    account = account_of(mix_up)
    assert account.wrong == 0
    assert account.mixed_up > 0
    assert account.reads.right > 5 * account.reads.failed
    assert account.writes.done > 3 * account.writes.unknown


def skip_content_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable the check of what answers name."""
    for module, name in ((answer, "check_envelope"), (listing, "check_page"), (mixups, "check_proof")):
        monkeypatch.setattr(module, name, lambda *_: None)


def skip_filter_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable the check of rows against their list's filters."""
    monkeypatch.setattr(listing, "check_filters", lambda *_: FilterEvidence())


def skip_connection_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable the check of the connection: any can be reused."""

    async def take_any(*_: object) -> None:
        return

    monkeypatch.setattr(Exchange, "_look_at", take_any)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "without"),
    [
        ("a stray answer on an idle connection", [skip_content_checks, skip_connection_checks]),
        ("a stray answer before the next", [skip_content_checks]),
        ("an answer twice, before the next", [skip_content_checks, skip_connection_checks]),
        ("answers swapped", [skip_content_checks]),
        ("pages swapped", [skip_filter_checks]),
        ("all of these", [skip_connection_checks]),
    ],
)
def test_suite_detects_a_disabled_check(
    monkeypatch: pytest.MonkeyPatch, name: str, without: list[Callable[[pytest.MonkeyPatch], None]]
) -> None:
    """With a check disabled, results belong to other requests, or writes are reported wrong."""
    for take_out in without:
        take_out(monkeypatch)
    for seed in range(40):
        if run(schedule(BY_NAME[name], seed)).wrong:
            return
    pytest.fail("nothing was wrong")


def test_wrong_results_are_counted() -> None:
    """A read of something else and a write reported wrong are both counted, and add up."""
    account, other = Account(), Account()
    account.reads.judge(right=False)
    other.reads.judge(right=True)
    other.writes.judge(Report.FAILED, 1)
    account.add(other)
    assert (account.wrong, account.reads.right, account.writes.failed) == (2, 1, 1)


@pytest.mark.slow
def test_command_prints_a_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints a line for each kind of mix-up, and exits with 0 if nothing is wrong."""
    monkeypatch.setattr("sys.argv", ["answers", "--schedules", "1"])
    assert main() == 0
    head, _, *lines = capsys.readouterr().out.splitlines()
    assert {line.count("|") for line in lines[: len(MIX_UPS)]} == {head.count("|")}
    assert lines[-1].endswith(" 0 wrong.")
