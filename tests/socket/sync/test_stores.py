"""`sync --stores` and `sync_stores`: the copies of many stores."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from b2b_payments import AlreadyRunningError, ConfigurationError, LegacyAuth
from b2b_payments.export import Store
from b2b_payments.export._file import Lock
from b2b_payments.sandbox import Sandbox
from b2b_payments.sync import sync_stores
from tests.socket.cli.fleet import FAST, Fleet, rows, serving, three_stores, write
from tests.support.export_reading import ids_in
from tests.support.program import invoke, start


def run_sync(path: str, to: str, *args: str) -> tuple[int, str]:
    """Run the command in this process. Returns its exit code and standard error."""
    result = invoke(None, "sync", "--stores", path, "--to", to, *args)
    return result.exit_code, result.stderr


@pytest.mark.usefixtures("tokens")
def test_copies_of_many_stores(tmp_path: Path) -> None:
    """Each store has its own copy, in sync; an error of one store does not stop the others."""
    with serving(three_stores()) as fleet:
        path, to = write(tmp_path, fleet), str(tmp_path / "copies/{name}.sqlite")
        code, output = run_sync(path, to)
        assert code == 0, output
        assert {name: row[:2] for name, row in rows(output).items()} == {
            "north": ["complete", "300"],
            "east": ["complete", "700"],
            "south": ["complete", "500"],
        }
        added = fleet["east"].store.insert(processingStatus=3)
        code, output = run_sync(path, to, "--only", "east")
        assert code == 0, output
        assert rows(output)["east"][:2] == ["complete", "1"]
        assert added in ids_in(tmp_path / "copies/east.sqlite", "sqlite")
        bad = _with_a_wrong_token(tmp_path, fleet)
        code, output = run_sync(bad, to)
        assert code == 1
        assert [row[0] for row in rows(output).values()] == ["failed", "complete", "complete"]
        assert output.splitlines()[-1] == (
            "Error: 2 of 3 stores complete. To continue, run the same command again, adding --only north."
        )


@pytest.mark.slow
@pytest.mark.usefixtures("tokens")
async def test_sync_every(tmp_path: Path) -> None:
    """With --every, all stores are synced repeatedly; a failing one is reported, and tried again."""
    async with Sandbox(payments=30, rules=FAST) as east, Sandbox(payments=40, seed=2, rules=FAST) as west:
        path, to = write(tmp_path, {"east": east, "west": west}), tmp_path / "{name}.sqlite"
        process = await start(None, "sync", "--stores", path, "--to", str(to), "--every", "1")
        assert process.stderr is not None

        async def next_line() -> str:
            assert process.stderr is not None
            return (await asyncio.wait_for(process.stderr.readline(), 60)).decode()

        assert await next_line() == "2 of 2 stores complete.\n"
        added = west.store.insert()
        while added not in ids_in(tmp_path / "west.sqlite", "sqlite"):
            assert await next_line() == "2 of 2 stores complete.\n"
        lock = Lock(tmp_path / "east.sqlite")
        while not lock.held:
            with suppress(AlreadyRunningError):
                lock.acquire()
        while (line := await next_line()) == "2 of 2 stores complete.\n":
            pass
        while "east" not in line:
            line = await next_line()
        assert "Another export or sync is writing" in line
        assert await next_line() == "1 of 2 stores complete.\n"
        lock.release()
        while await next_line() != "2 of 2 stores complete.\n":
            pass
        process.terminate()
        rest = (await process.communicate())[1].decode()
    assert process.returncode == 143
    assert "Stopped by SIGTERM: 2 of 2 stores complete in this round." in rest


def _with_a_wrong_token(folder: Path, fleet: Fleet) -> str:
    return write(folder, fleet, north='auth_token_env = "BAD_TOKEN"')


async def test_invalid_arguments(tmp_path: Path) -> None:
    """A store with channels, and a file that is not a database, are refused before anything is sent."""
    store = Store("a", LegacyAuth("token"), channel_ids=[1])
    with pytest.raises(ConfigurationError, match="a copy is always of the whole store"):
        await sync_stores([store], tmp_path / "{name}.sqlite")
    with pytest.raises(ConfigurationError, match="is unknown: use one of the extensions"):
        await sync_stores([Store("a", LegacyAuth("token"))], tmp_path / "{name}.csv")
