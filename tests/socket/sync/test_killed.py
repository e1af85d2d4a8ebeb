"""A kill at any step of a sync."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

# Forks a child for each statement that a sync executes, and ends it there, as a kill would; ends a second one
# a step further on, and lets a third one finish. Each runs a sandbox with the same payments at the same port.
SCRIPT = """
import asyncio, os, shutil, sys
from importlib import import_module
from pathlib import Path
from b2b_payments.export._database import Database
from b2b_payments.export._duckdb import DuckDBDatabase
from b2b_payments.export._sqlite import SQLiteDatabase
from b2b_payments.sandbox import Rules, Sandbox
from b2b_payments.sync import _readings as readings, _settle as settle, store_for, sync
from tests.support.clients import client_of
from tests.support.synced import held_in, versions_of

ending, kind, *_ = sys.argv[1:]
stride, folder, port = int(sys.argv[3]), Path(sys.argv[4]), int(sys.argv[5])
readings.BATCH_ROWS, settle._BATCH = 10, 3
left = 0
import_module("b2b_payments._client")
store_for(folder / f"loaded.{ending}")

def stepped(real):
    def step(*args):
        global left
        if left:
            left -= 1
            if not left:
                os._exit(9)
        return real(*args)
    return step

Database.execute = stepped(Database.execute)
SQLiteDatabase.upsert = stepped(SQLiteDatabase.upsert)
DuckDBDatabase.upsert = stepped(DuckDBDatabase.upsert)

def change(store):
    store.clock += 86_400
    for payment_id in range(2, 27):
        store.update(payment_id, payerName="it's\\n“new”", lineItems=store.wire(payment_id)["lineItems"][:1])
    for payment_id in (1, 9, 20, 40):
        store.delete(payment_id)
    for payment_id in (28, 31, 33) if kind == "sweep" else ():  # as a backup has them
        store.update(payment_id, payerName="older", updatedAt=store.wire(payment_id)["updatedAt"] - 60)
    # Too late for one overlap to reach back to the changes above.
    store.clock += 86_400
    for _ in range(12):
        store.insert()

async def work(path, changed, sweep):
    rules = Rules(quota=False, max_limit=10)
    async with Sandbox(payments=40, rules=rules, port=port) as sandbox, client_of(sandbox) as client:
        known = {*versions_of(sandbox.store).items()}
        if changed:
            change(sandbox.store)
        now = versions_of(sandbox.store)
        if path.exists() and not left:
            try:
                held = {*held_in(path).items()}
            except Exception as error:
                assert "payments" in str(error), error  # not even the tables are there yet
                held = set()
            assert held <= known | {*now.items()}, "held what the service never had"
        report = await sync(client, store_for(path), sweep=sweep)
        assert report.complete
        if not changed or kind == "sweep":
            assert held_in(path) == now
        else:
            assert {*now.items()} <= {*held_in(path).items()} <= known | {*now.items()}

def child(steps, path, changed=True, sweep=kind == "sweep"):
    global left
    pid = os.fork()
    if not pid:
        left = steps
        code = 1
        try:
            asyncio.run(work(path, changed, sweep))
            code = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

base = folder / f"base.{ending}"
if kind != "first":
    assert child(0, base, changed=False) == 0
steps, code = 0, 9
while code == 9:
    steps += stride
    path = folder / f"{steps}.{ending}"
    if base.exists():
        shutil.copy(base, path)
    code = child(steps, path, changed=kind != "first")
    if code == 9:
        assert child(steps + 1, path, changed=kind != "first") in (0, 9)
        assert child(0, path, changed=kind != "first") == 0, steps
assert code == 0
print(steps)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ending", "kind", "stride", "least"),
    [
        ("sqlite", "first", 17, 50),
        ("sqlite", "changes", 5, 20),
        ("sqlite", "sweep", 27, 50),
        ("duckdb", "first", 45, 50),
        ("duckdb", "changes", 17, 20),
        ("duckdb", "sweep", 67, 50),
    ],
)
def test_a_kill_at_any_step(tmp_path: Path, ending: str, kind: str, stride: int, least: int) -> None:
    """Killed at a step, and again in the next sync, the copy is in step after one that nobody killed."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, ending, kind, str(stride), str(tmp_path), str(port)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > least
