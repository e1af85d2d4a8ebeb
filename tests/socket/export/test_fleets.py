"""The benchmark of many stores, at a small size."""

from __future__ import annotations

import argparse

import pytest

from benchmarks import fleets
from benchmarks.fleets_service import TOKEN, VARIABLE

pytestmark = pytest.mark.slow


async def test_one_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A process with few file handles exports all stores, and no target is missed."""
    monkeypatch.setenv(VARIABLE, TOKEN)
    options = argparse.Namespace(
        stores=12, payments=50, latency=0.0, at_once=[50], handles=128, format="sqlite"
    )
    assert not await fleets.one_process(options)
    assert "| 50 | True |" in capsys.readouterr().out
