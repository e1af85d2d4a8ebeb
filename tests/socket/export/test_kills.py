"""The benchmark that kills exports: its checks find errors, and a few real kills."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from b2b_payments.export import sink_for
from b2b_payments.sandbox import Store
from benchmarks.kills_check import Check, Found
from benchmarks.kills_export import killed
from benchmarks.kills_service import CHANNELS, SEED, Size
from benchmarks.kills_state import Left, Output, Stage, left_by
from tests.support.export_reading import FORMATS

PAYMENTS = 30
ROWS: list[dict[str, Any]] = list(Store(PAYMENTS, CHANNELS, SEED).all_wire())
IDS = {row["id"] for row in ROWS}


def exported(path: Path, format_: str, rows: list[dict[str, Any]], *, complete: bool = True) -> None:
    """Export rows, and commit them."""
    sink = sink_for(path, format_)
    sink.open()
    sink.write(rows)
    sink.commit({"finished": False, "account": {"rows": len(rows)} | account()})
    sink.close(complete=complete)


def account() -> dict[str, Any]:
    """Return the fields of a manifest that matter here."""
    return {"query": {}, "complete": True}


def without_first(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Remove a payment."""
    return rows[1:]


def with_a_stranger(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add a payment that never existed."""
    return [*rows, {**rows[0], "id": 999}]


def with_another_total(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Change the total of a payment."""
    return [{**rows[0], "total": {**rows[0]["total"], "value": "0.0001"}}, *rows[1:]]


def without_an_item(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Remove a line item."""
    return [{**rows[0], "lineItems": rows[0]["lineItems"][1:]}, *rows[1:]]


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize(
    ("change", "lost", "untrue"),
    [
        (list, 0, 0),
        (without_first, 1, 0),
        (with_a_stranger, 0, 1),
        (with_another_total, 0, 1),
        (without_an_item, 0, 1),
    ],
)
def test_errors_are_found(
    tmp_path: Path,
    format_: str,
    change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]],
    lost: int,
    untrue: int,
) -> None:
    """A payment that is missing, never existed, or never had these values is counted, in every format."""
    path, rows = tmp_path / f"payments.{format_}", change(ROWS)
    exported(path, format_, rows)
    found = Check(PAYMENTS, format_).found(path, IDS, ({}, set()))
    assert found == Found(rows=len(rows), lasting=PAYMENTS, lost=lost, twice=0, untrue=untrue)


def test_twice(tmp_path: Path) -> None:
    """A payment that occurs twice is counted."""
    path = tmp_path / "payments.jsonl"
    exported(path, "jsonl", [*ROWS, ROWS[3]])
    found = Check(PAYMENTS, "jsonl").found(path, IDS, ({}, set()))
    assert (found.lost, found.twice, found.untrue) == (0, 1, 0)


def test_versions(tmp_path: Path) -> None:
    """A changed payment may be in any of its versions; a deleted one may be missing."""
    path = tmp_path / "payments.csv"
    newer = {**ROWS[0], "payerName": "Another"}
    exported(path, "csv", [newer, *ROWS[2:]])
    check = Check(PAYMENTS, "csv")
    found = check.found(path, IDS, ({ROWS[0]["id"]: [ROWS[0], newer]}, {ROWS[1]["id"]}))
    assert found == Found(rows=PAYMENTS - 1, lasting=PAYMENTS - 1, lost=0, twice=0, untrue=0)


@pytest.mark.parametrize("format_", FORMATS)
def test_stages(tmp_path: Path, format_: str) -> None:
    """The files that are left show how far an export was, and what it had committed."""
    path = tmp_path / f"payments.{format_}"
    assert left_by(Output(path)) == Left(Stage.BEFORE)
    exported(path, format_, ROWS, complete=False)
    assert left_by(Output(path)) == Left(Stage.MIDWAY, PAYMENTS)
    exported(path, format_, ROWS)
    assert left_by(Output(path)) == Left(Stage.AFTER)
    assert json.loads((tmp_path / f"{path.name}.manifest.json").read_bytes())["rows"] == PAYMENTS


@pytest.mark.slow
def test_a_few_kills(tmp_path: Path) -> None:
    """Exports killed at random times can be resumed, and are correct at the end."""
    messages: list[str] = []
    outcome = killed("jsonl", 1, 5, tmp_path, Size(2_500, 0.02), messages.append)
    assert outcome.kills == 1
    assert outcome.exports
    assert outcome.lasting > 2_000
    assert outcome.clean, outcome
    assert messages[-1].startswith("jsonl: 1 of 1 kills")
