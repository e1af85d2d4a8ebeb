"""`export` to every format, `--resume`, and `verify`."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections import Counter
from pathlib import Path

import pytest

from b2b_payments.sandbox import Drift, Rules, Sandbox
from benchmarks.kills_state import Output, Stage, left_by
from tests.support.export_reading import FORMATS, ids_in
from tests.support.program import finished, invoke, sentence, start


@pytest.mark.parametrize("ending", ["jsonl", "ndjson", "csv", "parquet", "sqlite", "sqlite3", "db", "duckdb"])
def test_format_by_ending(service: Sandbox, tmp_path: Path, ending: str) -> None:
    """Each ending selects its format: the file has every payment and a correct manifest."""
    path = tmp_path / f"payments.{ending}"
    result = invoke(service, "export", "--output", str(path), "--status", "completed")
    assert result.exit_code == 0, result.output
    expected = [row["id"] for row in service.store.all_wire() if row["processingStatus"] == 3]
    format_ = {"ndjson": "jsonl", "sqlite3": "sqlite", "db": "sqlite"}.get(ending, ending)
    assert ids_in(path, format_) == expected
    manifest = json.loads(path.with_name(f"{path.name}.manifest.json").read_bytes())
    assert (manifest["format"], manifest["rows"], manifest["complete"]) == (format_, len(expected), True)
    assert manifest["query"] == {"processing_status": 3}
    verified = invoke(None, "verify", str(path))
    assert verified.exit_code == 0, verified.output
    assert f"as exported, complete: {len(expected)} payments, " in verified.stdout


def test_format_beats_ending(service: Sandbox, tmp_path: Path) -> None:
    """`--format` is used if the file has no known ending."""
    path = tmp_path / "payments.dat"
    assert invoke(service, "export", "--output", str(path), "--format", "sqlite").exit_code == 0
    assert len(ids_in(path, "sqlite")) == 300


@pytest.mark.parametrize("format_", FORMATS)
def test_replaced_file_fails_verification(service: Sandbox, tmp_path: Path, format_: str) -> None:
    """A file that was replaced by another one fails verification in one sentence, with exit code 1."""
    first, second = tmp_path / f"first.{format_}", tmp_path / f"second.{format_}"
    for path, status in ((first, "completed"), (second, "refunded")):
        assert invoke(service, "export", "--output", str(path), "--status", status).exit_code == 0
    second.replace(first)
    assert " was changed after the export (its SHA-256 is " in sentence(invoke(None, "verify", str(first)), 1)


def test_nothing_to_verify(tmp_path: Path) -> None:
    """A folder without exports, and a file that does not exist or has no manifest, are refused."""
    path = tmp_path / "payments.csv"
    (tmp_path / "empty").mkdir()
    folder = sentence(invoke(None, "verify", str(tmp_path / "empty")), 1)
    assert folder == f"Error: {tmp_path}/empty contains no export: there is no manifest in it."
    assert f"Error: {path} does not exist: name a" in sentence(invoke(None, "verify", str(path)), 1)
    path.touch()
    assert f"Error: {path} has no manifest" in sentence(invoke(None, "verify", str(path)), 1)


def test_resume_with_nothing_to_resume(service: Sandbox, tmp_path: Path) -> None:
    """`--resume` without an interrupted export starts a new one and says so: one command for every night."""
    path = tmp_path / "payments.csv"
    result = invoke(service, "export", "--output", str(path), "--resume")
    assert result.exit_code == 0, result.output
    assert result.stderr.endswith("There was nothing to resume: the export started from the first payment.\n")


@pytest.mark.slow
async def test_killed_again_and_again(tmp_path: Path) -> None:
    """Killed five times while payments change, and resumed, an export has each payment once."""
    format_ = "duckdb"  # all formats are built from the same log; this one in the most steps
    draw = random.Random(format_)
    path = tmp_path / f"payments.{format_}"
    command = ("export", "--output", str(path), "--resume", "--page-size", "100", "--concurrency", "2")
    stages: Counter[Stage] = Counter()
    committed = [0]
    async with Sandbox(payments=9_000, rules=Rules(quota=False, equals="shuffled")) as sandbox:
        before = set(sandbox.store.ids())
        drift = sandbox.before_list = Drift(11, rate=0.5)
        for _ in range(5):
            seen = asyncio.Event()
            # A commit has 20 pages of 100: most kills come after one more commit, two before it.
            left = draw.randint(8, 15) if len(committed) in {1, 4} else draw.randint(30, 40)

            def count(_: object, seen: asyncio.Event = seen, lasts: list[int] = [left]) -> None:  # noqa: B006
                lasts[0] -= 1
                if lasts[0] <= 0:
                    seen.set()

            sandbox.answer_with(count)
            process = await start(sandbox, *command)
            ended = asyncio.create_task(process.wait())
            waiting = asyncio.create_task(seen.wait())
            await asyncio.wait({ended, waiting}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            assert process.returncode is None
            process.kill()
            await finished(process)
            await ended
            was = left_by(Output(path))
            stages[was.stage] += 1
            committed.append(was.rows)
        code, _, err = await finished(await start(sandbox, *command))
        assert code == 0, err
    # Committed rows only grow, and at least three kills left something to resume from.
    assert committed == sorted(committed)
    assert stages[Stage.MIDWAY] >= 3
    assert len(set(committed)) >= 3
    ids = ids_in(path, format_)
    assert len(ids) == len(set(ids))
    assert drift.lasting(before) <= set(ids)
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]
    verified = invoke(None, "verify", str(path))
    assert verified.exit_code == 0, verified.output
