"""Killing a process at any step of an export."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# For each step that touches the file system or the database, forks a child and ends it there, as a kill
# would. Another child finishes the export, and the result is compared with that of an uninterrupted child.
SCRIPT = """
import os, sys
from pathlib import Path
from b2b_payments.export import sink_for, verify
from b2b_payments.export._database import Database
from b2b_payments.sandbox import Sandbox
from tests.support.export_reading import account_of

format_, stride, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
complete = sys.argv[4] == "complete"
# Loaded once, not in each child.
sink_for(folder / "p", format_)
rows = list(Sandbox(payments=40).store.all_wire())
left = 0

def step():
    global left
    if left:
        left -= 1
        if not left:
            os._exit(9)

def hook(event, args):
    if event in ("open", "os.rename", "os.remove", "os.truncate"):
        step()

def execute(self, *args, real=Database.execute):
    step()
    return real(self, *args)

sys.addaudithook(hook)
Database.execute = execute

def export(path, resume):
    sink = sink_for(path, format_)
    earlier = sink.resume() if resume else sink.open()
    account = earlier["account"] if earlier else account_of([])
    while account["rows"] < len(rows):
        batch = rows[account["rows"] :][:10]
        sink.write(batch)
        account = account_of(batch, account) | {"complete": complete}
        sink.commit({"account": account})
    sink.close(complete=True)
    assert verify(path).account.sums.whole.rows == len(rows)

def child(steps, path, resume):
    global left
    pid = os.fork()
    if not pid:
        left = steps
        export(path, resume)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def content(place):
    names = {path.name: path for path in place.iterdir() if not path.name.endswith(".json")}
    return {name: file and path.read_bytes() for name, path in names.items()}

file = format_ in ("jsonl", "csv", "parquet")
whole = folder / "whole"
whole.mkdir()
assert child(0, whole / f"p.{format_}", False) == 0
steps, code = 0, 9
while code == 9:
    steps += stride
    place = folder / str(steps)
    place.mkdir()
    path = place / f"p.{format_}"
    # An older file exists, so that there is something to replace.
    if file and complete:
        path.write_text("last night's")
    code = child(steps, path, False)
    if code == 9:
        assert child(steps + 1, path, True) in (0, 9)
        assert child(0, path, True) == 0, steps
    assert content(place) == content(whole), (steps, sorted(content(place)))
assert code == 0
print(steps)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("format_", "stride", "walk"),
    [
        ("jsonl", 5, "complete"),
        ("csv", 13, "complete"),
        ("parquet", 19, "complete"),
        ("sqlite", 17, "complete"),
        ("duckdb", 31, "complete"),
        ("jsonl", 9, "unproven"),
        ("sqlite", 19, "unproven"),
    ],
)
def test_a_kill_at_any_step(tmp_path: Path, format_: str, stride: int, walk: str) -> None:
    """Killed at a step, and again while resuming, the finished export equals an uninterrupted one."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, format_, str(stride), str(tmp_path), walk],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20
