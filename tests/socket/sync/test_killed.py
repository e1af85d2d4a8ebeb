"""Syncs that are killed at any step."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.synced import KINDS

SYNCS = {"first": 50, "changes": 20, "sweep": 50}
"""The kinds of syncs, and how many statements each executes at least."""

# At some of the statements that a sync executes, spread over all of them, a forked child exits, as if killed;
# then a second child exits one step later, and a third one finishes. All of them serve the same payments on
# the same port. One process forks them for each kind of sync, since importing everything takes longer.
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

database, kinds, folder, port, server = sys.argv[1:]
kinds, folder, port = kinds.split(), Path(folder), int(port)
readings.BATCH_ROWS, settle._BATCH = 10, 3
left, taken, kind = 0, 0, ""
# Loaded once, not in each child.
for module in ("b2b_payments._client", "anyio._backends._asyncio"):
    import_module(module)
store_in(database, folder, server)

def stepped(real):
    def step(*args):
        global left, taken
        taken += 1
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

def child(steps, copy, changed=None, seconds=None):
    global left, taken
    changed = kind != "first" if changed is None else changed
    pid = os.fork()
    if not pid:
        left, taken, code = steps, 0, 1
        try:
            asyncio.run(work(copy, changed, kind == "sweep" and changed))
            code = 0
            (folder / "taken").write_text(str(taken))
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
        if database == "postgres" or not base.exists():
            assert child(0, copy, changed=False) == 0
            if database != "postgres":
                shutil.copy(copy.path, base)
        else:
            shutil.copy(base, copy.path)
    elif database != "postgres":
        copy.path.unlink(missing_ok=True)
    return copy

KILLS = {"first": 1, "changes": 1, "sweep": 3}
draw = random.Random(database)
for kind in kinds:
    copy = initial_copy()
    begun = time.monotonic()
    assert child(0, copy) == 0
    took = time.monotonic() - begun
    steps = int((folder / "taken").read_text())
    # A sync may take a few statements less than the counted one, so the last ones may not be reached.
    ended = []
    for part in range(KILLS[kind]):
        step = 1 + int((part + draw.random()) / KILLS[kind] * (steps - 1))
        copy = initial_copy()
        ended += [child(step, copy), child(step + 1, copy)]
        assert child(0, copy) == 0, (kind, step)
    assert {*ended} <= {0, 9}, (kind, ended)
    assert 9 in ended, (kind, ended)
    print(kind, steps)
    if kind != "sweep":  # which also reads and writes all that the others do
        continue

    # Killed from outside, at random times.
    copy = initial_copy()
    killed = [child(0, copy, seconds=draw.uniform(0, 0.8 * took)) for _ in range(3)]
    assert {*killed} <= {0, -9}, killed
    assert -9 in killed
    assert child(0, copy) == 0
"""


@pytest.mark.slow
@pytest.mark.parametrize("database", KINDS)
def test_killed_at_any_step(request: pytest.FixtureRequest, tmp_path: Path, database: str) -> None:
    """After kills at any step or time, one undisturbed sync brings the copy in sync."""
    server = request.getfixturevalue("postgres") if database == "postgres" else ""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, database, " ".join(SYNCS), str(tmp_path), str(port), server],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    steps = dict(line.split() for line in done.stdout.splitlines())
    assert steps.keys() == SYNCS.keys()
    assert all(int(steps[kind]) > least for kind, least in SYNCS.items()), steps
