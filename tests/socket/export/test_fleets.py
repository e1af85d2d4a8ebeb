"""The benchmark of many stores, at a small size, and workers in processes of their own."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pytest
from distributed import Client, LocalCluster

from b2b_payments import StoreAuth
from b2b_payments.export import Store, TokenFromEnv, export_stores, verify
from b2b_payments.sandbox import Sandbox
from benchmarks import fleets
from benchmarks.fleets_service import TOKEN, VARIABLE

pytestmark = pytest.mark.slow


async def test_dask_workers_in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path is relative to the caller's folder, whichever folder the workers were started in."""
    sandbox = Sandbox(300)
    monkeypatch.setenv(VARIABLE, str(sandbox.auth.access_token))
    monkeypatch.chdir(tmp_path)
    async with (
        sandbox,
        LocalCluster(n_workers=1, dashboard_address="127.0.0.1:0", asynchronous=True) as cluster,
        Client(cluster, asynchronous=True, set_as_default=False) as client,
    ):
        await client.run(os.chdir, "/")
        store = Store(
            "north", StoreAuth(sandbox.auth.store_hash, TokenFromEnv(VARIABLE)), base_url=sandbox.base_url
        )
        report = await export_stores([store], "exports", format="jsonl", dask=client)
    assert report.complete, report.stores
    assert verify(tmp_path / "exports" / "north.jsonl").account.complete


async def test_one_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A process with few file handles exports all its stores, and misses no target."""
    monkeypatch.setenv(VARIABLE, TOKEN)
    options = argparse.Namespace(
        stores=12, payments=50, latency=0.0, at_once=[50], handles=128, format="sqlite"
    )
    assert not await fleets.one_process(options)
    assert "| 50 | True |" in capsys.readouterr().out
