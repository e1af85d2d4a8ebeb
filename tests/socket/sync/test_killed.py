"""Syncs that are killed at any step."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

# For each statement that a sync executes, forks a child that exits there, as if killed; then a second child
# that exits one step later, and a third that finishes. Each serves the same payments on the same port.
SCRIPT = """
import asyncio, os, random, shutil, sys, time
from importlib import import_module
from pathlib import Path
from b2b_payments.export._database import Database
from b2b_payments.export._duckdb import DuckDBDatabase
from b2b_payments.export._postgres import PostgresDatabase
from b2b_payments.export._sqlite import SQLiteDatabase
from b2b_payments.sandbox import Rules, Sandbox
from b2b_payments.sync import _readings as readings, _settle as settle, sync
from tests.support.clients import client_of
from tests.support.synced import held_in, store_in, versions_of

database, kind, *_ = sys.argv[1:]
stride, folder, port, server = int(sys.argv[3]), Path(sys.argv[4]), int(sys.argv[5]), sys.argv[6]
readings.BATCH_ROWS, settle._BATCH = 10, 3
left = 0
import_module("b2b_payments._client")
store_in(database, folder, server)

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
PostgresDatabase.execute = stepped(PostgresDatabase.execute)
SQLiteDatabase.upsert = stepped(SQLiteDatabase.upsert)
DuckDBDatabase.upsert = stepped(DuckDBDatabase.upsert)

def change(store):
    store.clock += 86_400
    for payment_id in range(2, 27):
        store.update(payment_id, payerName="it's\\n“new”", lineItems=store.wire(payment_id)["lineItems"][:1])
    for payment_id in (1, 9, 20, 40):
        store.delete(payment_id)
    for payment_id in (28, 31, 33) if kind == "sweep" else ():  # as a restored backup has them
        store.update(payment_id, payerName="older", updatedAt=store.wire(payment_id)["updatedAt"] - 60)
    # So late that the overlap does not reach back to the changes above.
    store.clock += 86_400
    for _ in range(12):
        store.insert()

async def work(copy, changed, sweep):
    rules = Rules(quota=False, max_limit=10)
    async with Sandbox(payments=40, rules=rules, port=port) as sandbox, client_of(sandbox) as client:
        known = {*versions_of(sandbox.store).items()}
        if changed:
            change(sandbox.store)
        now = versions_of(sandbox.store)
        if copy.exists and not left:
            try:
                held = {*held_in(copy).items()}
            except Exception as error:
                assert "payments" in str(error), error  # the tables do not exist yet
                held = set()
            assert held <= known | {*now.items()}, "the copy holds a version that the service never had"
        report = await sync(client, copy, sweep=sweep)
        assert report.complete
        if not changed or kind == "sweep":
            assert held_in(copy) == now
        else:
            assert {*now.items()} <= {*held_in(copy).items()} <= known | {*now.items()}

def child(steps, copy, changed=True, sweep=kind == "sweep", seconds=None):
    global left
    pid = os.fork()
    if not pid:
        left = steps
        code = 1
        try:
            asyncio.run(work(copy, changed, sweep))
            code = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            os._exit(code)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(pid, 9)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

# Returns the copy to start from: one that is in sync, or none for the first sync.
def initial_copy():
    copy = store_in(database, folder, server)
    if kind != "first":
        base = folder / f"base.{database}"
        if not base.exists():
            assert child(0, copy, changed=False) == 0
            if database != "postgres":
                shutil.copy(copy.path, base)
        else:
            shutil.copy(base, copy.path)
    elif database != "postgres":
        copy.path.unlink(missing_ok=True)
    return copy

steps, code = 0, 9
while code == 9:
    steps += stride
    copy = initial_copy()
    code = child(steps, copy, changed=kind != "first")
    if code == 9:
        assert child(steps + 1, copy, changed=kind != "first") in (0, 9)
        assert child(0, copy, changed=kind != "first") == 0, steps
assert code == 0

# Killed from outside, at random times.
begun = time.monotonic()
assert child(0, initial_copy(), changed=kind != "first") == 0
took = time.monotonic() - begun
draw, copy = random.Random(stride), initial_copy()
killed = [child(0, copy, changed=kind != "first", seconds=draw.uniform(0, 0.8 * took)) for _ in range(6)]
assert {*killed} <= {0, -9}, killed
assert -9 in killed
assert child(0, copy, changed=kind != "first") == 0
print(steps)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("database", "kind", "stride", "least"),
    [
        ("sqlite", "first", 97, 50),
        ("sqlite", "changes", 31, 20),
        ("sqlite", "sweep", 97, 50),
        ("duckdb", "first", 131, 50),
        ("duckdb", "changes", 31, 20),
        ("duckdb", "sweep", 199, 50),
        ("postgres", "first", 131, 50),
        ("postgres", "sweep", 199, 50),
    ],
)
def test_killed_at_any_step(
    request: pytest.FixtureRequest, tmp_path: Path, database: str, kind: str, stride: int, least: int
) -> None:
    """After kills at any step or time, one undisturbed sync brings the copy in sync."""
    server = request.getfixturevalue("postgres") if database == "postgres" else ""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, database, kind, str(stride), str(tmp_path), str(port), server],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > least
