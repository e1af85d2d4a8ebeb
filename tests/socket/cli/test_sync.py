"""`sync`: a database kept in sync."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sqlite3
from contextlib import closing, suppress
from decimal import Decimal
from pathlib import Path

import pytest
from yarl import URL

from b2b_payments import AlreadyRunningError
from b2b_payments._tables.columns import PAYMENTS
from b2b_payments.export import sink_for
from b2b_payments.export._database import opened
from b2b_payments.export._file import Lock
from b2b_payments.export._reading import DATABASES
from b2b_payments.sandbox import Fault, Rules, Sandbox
from tests.socket.cli.fleet import write
from tests.support.program import WITHOUT_PROGRESS, finished, invoke, sentence, start, stop_when_done
from tests.support.synced import ENDINGS, held_in, versions_of


@pytest.mark.parametrize("ending", ENDINGS)
def test_first_changes_sweep(service: Sandbox, tmp_path: Path, ending: str) -> None:
    """The summary says what changed, and exit code 0 that the copy is in sync."""
    path = tmp_path / f"copy.{ending}"
    first = invoke(service, "sync", "--to", str(path))
    assert (first.exit_code, first.stdout) == (0, "")
    requests = service.request_count
    done, _, seconds = first.stderr.rpartition(", ")
    assert done == f"{path}: in sync: 300 inserted, 0 updated, 0 deleted, 0 unchanged, {requests} requests"
    assert seconds.endswith(" s.\n")
    service.store.advance(86_400)
    service.store.update(5, payerName="new")
    service.store.delete(7)
    new = service.store.insert()
    second = invoke(service, "sync", "--to", str(path), "--overlap", "45")
    assert second.stderr.startswith(f"{path}: in sync: 1 inserted, 1 updated, deletions not checked, ")
    assert " unchanged, 1 request, " in second.stderr
    third = invoke(service, "sync", "--to", str(path), "--sweep", "--quota", "100/10")
    assert "0 inserted, 0 updated, 1 deleted, 300 unchanged" in third.stderr
    assert held_in(path) == versions_of(service.store)
    assert new in held_in(path)
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("ending", ENDINGS)
def test_verify_checks_a_copy(service: Sandbox, tmp_path: Path, ending: str) -> None:
    """`verify` adds up a copy, alone or beside exports, and reports what no sync can have left."""
    path, exported = tmp_path / f"copy.{ending}", tmp_path / "payments.jsonl"
    invoke(service, "sync", "--to", str(path))
    invoke(service, "export", "--output", str(exported))
    verified = invoke(None, "verify", str(path), str(exported))
    assert verified.exit_code == 0, verified.output
    assert verified.stdout.startswith(f"{path}: a copy, complete: 300 payments, ")
    files = json.loads(invoke(None, "verify", str(path), str(exported), "--report", "json").stdout)["files"]
    copied, whole = ({currency: Decimal(total) for currency, total in one["totals"].items()} for one in files)
    assert (copied, files[0]["copy"], files[1]["copy"]) == (whole, True, False)
    with opened(DATABASES[ending], path) as database:
        database.remove(PAYMENTS, [7])
    lost = sentence(invoke(None, "verify", str(path)), 1)
    assert lost.startswith(f"Error: {path} was changed: ")
    assert lost.endswith(" of its line items belong to no payment.")
    with opened(DATABASES[ending], path) as database:
        database.execute(f"UPDATE {database.schema}.b2b_payments_sync SET state = '{{'")  # noqa: S608
    assert "is damaged, or was written by another version" in sentence(invoke(None, "verify", str(path)), 1)


def test_verify_of_another_database(tmp_path: Path) -> None:
    """A database that is neither a copy nor an export has nothing to verify, and the message says so."""
    path = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE mine (x INTEGER)")
    assert "manifest" in sentence(invoke(None, "verify", str(path)), 1)


@pytest.mark.slow
def test_list_that_contradicts_the_copy(service: Sandbox, tmp_path: Path) -> None:
    """Exit code 1 and a remedy while the list contradicts the copy, and 0 once that is resolved."""
    path = tmp_path / "copy.sqlite"
    command = "sync", "--to", str(path), "--quota", "10000/1"
    service.rules = Rules(quota=False)
    invoke(service, *command)
    for payment_id in range(1, 101):
        service.store.delete(payment_id)
    for sweep in ("--sweep",), ():
        result = invoke(service, *command, *sweep)
        assert result.exit_code == 1
        assert "not in sync yet: 0 inserted, 0 updated, 0 deleted" in result.stderr
        assert "sweep again, with mass deletion allowed (--allow-mass-deletion)" in result.stderr
    options = "--allow-mass-deletion", "--most-lookups", "60"
    first, second = (invoke(service, *command, *options) for _ in range(2))
    assert (first.exit_code, second.exit_code) == (1, 0)
    assert "the list contradicts 40 more: sync again to look up the rest" in first.stderr
    assert held_in(path) == versions_of(service.store)


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        ((), 2, "Missing option '--to'"),
        (("--to", "."), 2, ". cannot be written: it is a folder; name a file in it."),
        (("--to", "copy.csv"), 2, "or an address such as postgresql://host/database."),
        (("--to", "nowhere/copy.db"), 2, "nowhere is not a folder"),
        (("--to", "copy.db", "--overlap", "-1"), 2, "-1"),
        (("--to", "copy.db", "--most-lookups", "0"), 2, "give a whole number, 1 or more, not '0'."),
        (("--to", "copy.db", "--overlap", "soon"), 2, "give a number from 0 to 527,040, not 'soon'."),
        (("--to", "copy.db", "--to", "other.db"), 2, "--to was given 2 times"),
    ],
)
def test_usage(
    service: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    args: tuple[str, ...],
    code: int,
    says: str,
) -> None:
    """Wrong usage is refused in one sentence, without any request, and leaves no file."""
    monkeypatch.chdir(tmp_path)
    assert says in sentence(invoke(service, "sync", *args), code)
    assert service.request_count == 0
    assert os.listdir(tmp_path) == []


def test_sandbox_whose_port_is_taken(service: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """If another program has the sandbox's usual port, `--sandbox` uses a free one."""
    monkeypatch.setattr("b2b_payments._cli.connection._PORT", URL(service.base_url).port)
    listed = invoke(None, "list", "--sandbox", "--limit", "1")
    assert json.loads(listed.stdout)["id"] == 1
    assert service.request_count == 0


@pytest.mark.slow
def test_sandbox_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--sandbox` needs no credential, and a second sync of the same copy finds the same store."""
    with socket.create_server(("127.0.0.1", 0)) as free:  # another test may be using the default port
        monkeypatch.setattr("b2b_payments._cli.connection._PORT", free.getsockname()[1])
    target = str(tmp_path / "copy.sqlite")
    first = invoke(None, "sync", "--to", target, "--sandbox", "--quota", "none")
    assert "in sync: 10,000 inserted" in first.stderr, first.output
    assert "in sync: 0 inserted" in invoke(None, "sync", "--to", target, "--sandbox").stderr
    listed = invoke(None, "list", "--sandbox", "--limit", "2")
    assert [json.loads(line)["id"] for line in listed.stdout.splitlines()] == [1, 2]


def test_no_credential(tmp_path: Path) -> None:
    """Without a credential, one sentence says which variables to set."""
    result = invoke(None, "sync", "--to", str(tmp_path / "copy.db"))
    assert "No credential: set B2B_PAYMENTS_STORE_HASH" in sentence(result, 2)
    assert os.listdir(tmp_path) == []


def test_wrong_token(service: Sandbox, tmp_path: Path) -> None:
    """A wrong token is reported in one sentence, and leaves no file."""
    variables = {"B2B_PAYMENTS_ACCESS_TOKEN": "marked"}
    result = invoke(service, "sync", "--to", str(tmp_path / "copy.db"), variables=variables)
    text = sentence(result, 1)
    assert "rejected the credential" in text
    assert "marked" not in text
    assert os.listdir(tmp_path) == []


def test_failure_leaves_the_copy(service: Sandbox, tmp_path: Path) -> None:
    """If a later sync fails, the message says that the copy is kept; with --every it is not repeated."""
    path = tmp_path / "copy.sqlite"
    assert invoke(service, "sync", "--to", str(path)).exit_code == 0
    variables = {"B2B_PAYMENTS_ACCESS_TOKEN": "marked"}
    for more in ((), ("--every", "1")):
        text = sentence(invoke(service, "sync", "--to", str(path), *more, variables=variables), 1)
        assert "rejected the credential" in text
        assert text.endswith(f". The copy in {path} is kept, and the next sync continues it.")
    assert held_in(path) == versions_of(service.store)


def test_stopped_after_the_end(service: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C after a sync has ended changes nothing: the summary is printed, and the exit code is 0."""
    path = tmp_path / "copy.sqlite"
    stop_when_done(monkeypatch)
    result = invoke(service, "sync", "--to", str(path))
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith(f"{path}: in sync: 300 inserted")


def test_another_store(service: Sandbox, tmp_path: Path) -> None:
    """A copy of another store is refused in one sentence, and stays unchanged."""
    path = tmp_path / "copy.sqlite"
    assert invoke(service, "sync", "--to", str(path)).exit_code == 0
    result = invoke(service, "sync", "--to", str(path), variables={"B2B_PAYMENTS_STORE_HASH": "other"})
    assert "is a copy of another store" in (message := sentence(result, 2))
    assert "next sync" not in message
    assert held_in(path) == versions_of(service.store)


@pytest.mark.parametrize("ending", ENDINGS)
def test_export_and_sync(service: Sandbox, tmp_path: Path, ending: str) -> None:
    """An export does not replace a copy, and a sync does not continue an export."""
    path = tmp_path / f"copy.{ending}"
    sink = sink_for(path, ending)
    sink.open()
    sink.close(complete=True)
    assert "that was not made by a sync" in sentence(invoke(service, "sync", "--to", str(path)), 2)
    path.unlink()
    assert invoke(service, "sync", "--to", str(path)).exit_code == 0
    for more in ((), ("--resume",)):
        result = invoke(service, "export", "--output", str(path), *more)
        assert "holds a synced copy" in sentence(result, 2)
    assert held_in(path) == versions_of(service.store)


def _wait_for_a_commit(path: Path) -> None:
    """Wait until a sync that runs in another process has committed payments."""
    kept = 0
    while not kept:
        # The tables do not exist yet, or are locked.
        with suppress(sqlite3.OperationalError), closing(sqlite3.connect(path)) as database:
            ((kept,),) = database.execute("SELECT count(*) FROM payments")


@pytest.mark.slow
async def test_stopped(tmp_path: Path) -> None:
    """After Ctrl-C, the message says what is left, and the next sync continues."""
    path = tmp_path / "copy.sqlite"
    async with Sandbox(payments=10_000, rules=Rules(quota=False)) as sandbox:
        arrived = asyncio.Event()

        def hang(_: object) -> None:
            # The next request hangs.
            if sandbox.request_count == last:
                sandbox.order(Fault.HANG_BEFORE, share=1)
            if sandbox.request_count == last + 1:
                arrived.set()

        sandbox.answer_with(hang)
        # Before anything was read; then after a commit, since at most 16 pages are prefetched.
        for last, left in (
            (0, f"{path} was not written"),
            (33, f"the copy in {path} is kept, and the next sync continues it"),
        ):
            arrived.clear()
            if not last:
                sandbox.order(Fault.HANG_BEFORE, share=1)
            process = await start(sandbox, "sync", "--to", str(path), constants=WITHOUT_PROGRESS)
            await arrived.wait()
            if last:
                await asyncio.to_thread(_wait_for_a_commit, path)
            process.send_signal(signal.SIGINT)
            assert await finished(process) == (130, "", f"Stopped by Ctrl-C: {left}.\n")
            assert os.listdir(tmp_path) == ([path.name] if last else [])
            sandbox.clear_faults()
        kept = len(held_in(path))
        assert kept >= 2_000
        before = sandbox.request_count
        code, _, err = await finished(await start(sandbox, "sync", "--to", str(path)))
        assert code == 0, err
        assert sandbox.request_count - before < 45 - kept // 250
        assert held_in(path) == versions_of(sandbox.store)


@pytest.mark.slow
async def test_sync_every(tmp_path: Path) -> None:
    """With --every it syncs repeatedly, skips a round while another sync runs, and stops on a signal."""
    path = tmp_path / "copy.sqlite"
    async with Sandbox(payments=30) as sandbox:
        process = await start(sandbox, "sync", "--to", str(path), "--every", "1")
        assert process.stderr is not None

        async def next_line() -> str:
            assert process.stderr is not None
            return (await asyncio.wait_for(process.stderr.readline(), 30)).decode()

        assert "in sync: 30 inserted" in await next_line()
        sandbox.store.update(5, payerName="new")
        line = await next_line()
        while "1 updated" not in line:
            assert "in sync: 0 inserted, 0 updated" in line
            line = await next_line()
        lock = Lock(path)
        while not lock.held:
            with suppress(AlreadyRunningError):
                lock.acquire()
        while "not synced this time" not in line:
            line = await next_line()
        lock.release()
        while "in sync" not in line:
            line = await next_line()
        process.terminate()
        rest = (await process.communicate())[1].decode()
    assert process.returncode == 143
    assert rest.endswith(f"Stopped by SIGTERM: the copy in {path} is kept, and the next sync continues it.\n")


@pytest.mark.slow
async def test_sync_every_of_stores_stopped(tmp_path: Path) -> None:
    """If --every is stopped during a later round, the count is said to be of that round."""
    async with Sandbox(payments=30) as sandbox:
        stores = write(tmp_path, {"north": sandbox})
        command = ("sync", "--stores", stores, "--to", f"{tmp_path}/{{name}}.sqlite", "--every", "1")
        process = await start(None, *command, terminal={"GOOD_TOKEN": str(sandbox.auth.access_token)})
        assert process.stderr is not None
        arrived = asyncio.Event()
        assert await process.stderr.readline() == b"1 of 1 store complete.\n"
        sandbox.order(Fault.HANG_BEFORE, share=1)
        sandbox.answer_with(lambda _: arrived.set())
        await arrived.wait()
        process.terminate()
        code, _, err = await finished(process)
    assert code == 143
    assert err.endswith(
        "Stopped by SIGTERM: 0 of 1 store complete in this round. The payments read so far are kept. "
        "To continue, run the same command again.\n"
    )


def test_copy_that_is_being_synced(service: Sandbox, tmp_path: Path) -> None:
    """If another sync of the copy is running, the exit code is 4, which a cron job can ignore."""
    path = tmp_path / "copy.sqlite"
    lock = Lock(path)
    lock.acquire()
    try:
        assert "wait until it has ended" in sentence(invoke(service, "sync", "--to", str(path)), 4)
    finally:
        lock.release()
    assert service.request_count == 0
