"""`export --stores`, stopped, killed and resumed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

from b2b_payments.export import read_stores
from b2b_payments.export._stores.places import places_of
from b2b_payments.export._stores.run import open_run
from b2b_payments.sandbox import Drift, Fault, Rules, Sandbox
from tests.socket.cli.fleet import FAST, Fleet, after, export, hidden, rows, write
from tests.support.export_reading import ids_in
from tests.support.program import finished, invoke, sentence, start

pytestmark = pytest.mark.usefixtures("tokens")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "format_"), [(signal.SIGINT, "jsonl"), (signal.SIGKILL, "sqlite")])
async def test_stopped_and_resumed(tmp_path: Path, number: signal.Signals, format_: str) -> None:
    """After a stop or a kill, `--resume` finishes the other stores, and skips finished ones."""
    async with (
        Sandbox(payments=300, rules=FAST) as done,
        Sandbox(payments=6_000, seed=6, rules=Rules(quota=False, latency=0.02)) as half,
        Sandbox(payments=300, seed=8, rules=FAST) as waiting,
    ):
        stop = asyncio.Event()
        path = write(tmp_path, {"done": done, "half": half, "waiting": waiting})
        out = tmp_path / "out"
        arguments = ("--format", format_, "--at-once", "1", "--concurrency", "1")
        half.answer_with(after(18, stop.set))
        process = await start(None, "export", "--stores", path, "--output", str(out), *arguments)
        await stop.wait()
        process.send_signal(number)
        code, _, output = await finished(process)
        assert ids_in(out / f"done.{format_}", format_) == list(done.store.ids())
        assert not (out / f"half.{format_}.manifest.json").exists()
        assert ".stores.toml.run" in hidden(out)
        if number != signal.SIGKILL:
            assert code == 128 + number
            table = rows(output)
            assert [row[0] for row in table.values()] == ["complete", "stopped", "not begun"]
            assert 2_000 <= int(table["half"][1].replace(",", "")) < 18 * 250
            assert output.splitlines()[-1].endswith(
                ": 1 of 3 stores complete. The payments read so far are kept. "
                "To export what is missing, run the same command with --resume."
            )
        half.answer_with(None)
        asked, before = done.request_count, half.request_count
        code, output = await export(path, out, *arguments, "--resume")
        assert code == 0, output
        assert done.request_count == asked
        assert half.request_count - before < 20
        table = rows(output)
        assert table["done"] == ["complete already", "300", "0", f"{out}/done.{format_}"]
        assert table["half"][:2] == ["complete", "6,000"]
        for name, sandbox in (("done", done), ("half", half), ("waiting", waiting)):
            assert ids_in(out / f"{name}.{format_}", format_) == list(sandbox.store.ids())
        assert hidden(out) == []


@pytest.mark.slow
async def test_killed_repeatedly(fleet: Fleet, tmp_path: Path) -> None:
    """Killed at random times while payments change, every file ends up with each payment once."""
    draw = random.Random(3)
    drifts = {}
    before = {name: set(sandbox.store.ids()) for name, sandbox in fleet.items()}
    for place, (name, sandbox) in enumerate(fleet.items()):
        drifts[name] = sandbox.before_list = Drift(place, rate=0.5)
    path = write(tmp_path, fleet)
    out = tmp_path / "out"
    arguments = ("--format", "jsonl", "--page-size", "10", "--resume")
    for _ in range(3):
        kill = asyncio.Event()
        for sandbox in fleet.values():
            sandbox.answer_with(after(draw.randint(5, 60), kill.set))
        process = await start(None, "export", "--stores", path, "--output", str(out), *arguments)
        ended = asyncio.create_task(process.wait())
        waiting = asyncio.create_task(kill.wait())
        await asyncio.wait({ended, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if process.returncode is None:
            process.kill()
        await finished(process)
        await ended
    for sandbox in fleet.values():
        sandbox.answer_with(None)
    code, output = await export(path, out, *arguments)
    assert code == 0, output
    for name in fleet:
        ids = ids_in(out / f"{name}.jsonl", "jsonl")
        assert len(ids) == len(set(ids))
        assert drifts[name].lasting(before[name]) <= set(ids)
        assert invoke(None, "verify", str(out / f"{name}.jsonl")).exit_code == 0
    assert hidden(out) == []


@pytest.mark.slow
async def test_stopped_before_anything_was_received(fleet: Fleet, tmp_path: Path) -> None:
    """If nothing was received before the stop, no file is left, and the last line says so."""
    asked = asyncio.Event()
    for sandbox in fleet.values():
        sandbox.order(Fault.HANG_BEFORE, share=1)
        sandbox.answer_with(lambda _: asked.set())
    process = await start(
        None, "export", "--stores", write(tmp_path, fleet), "--output", str(tmp_path / "out/{name}.csv")
    )
    await asked.wait()
    process.send_signal(signal.SIGINT)
    code, _, output = await finished(process)
    assert code == 130
    assert output.splitlines()[-1] == ("Stopped by Ctrl-C: 0 of 3 stores complete. No partial file is left.")
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.slow
async def test_two_runs_at_once(fleet: Fleet, tmp_path: Path) -> None:
    """A second run of the same stores into the same folder is refused before it sends anything."""
    path = write(tmp_path, fleet)
    asked = asyncio.Event()
    reached: set[str] = set()

    def record(name: str) -> None:
        reached.add(name)
        if reached == set(fleet):
            asked.set()

    for name, sandbox in fleet.items():
        sandbox.order(Fault.HANG_BEFORE, share=1)
        sandbox.answer_with(after(1, partial(record, name)))
    first = await start(None, "export", "--stores", path, "--output", str(tmp_path / "{name}.csv"))
    await asked.wait()
    counts = [sandbox.request_count for sandbox in fleet.values()]
    code, output = await export(path, tmp_path / "{name}.csv")
    assert code == 4
    assert output.startswith("Error: Another export or sync is writing ")
    assert [sandbox.request_count for sandbox in fleet.values()] == counts
    first.kill()
    await finished(first)


@pytest.fixture
def interrupted(service: Sandbox, tmp_path: Path) -> Iterator[tuple[Sandbox, Path]]:
    """Yield a store whose file was finished before its run was interrupted, and the folder."""
    path = write(tmp_path, {"only": service})
    (tmp_path / "out").mkdir()
    file = tmp_path / "out/only.csv"
    stores = read_stores(path)
    # A file from before the run does not count as finished.
    assert invoke(service, "export", "--output", str(file), "--q", "a").exit_code == 0
    begun = open_run(stores, places_of(str(tmp_path / "out"), "csv"), "stores.toml", resume=False)
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(begun) as run:
        assert run.finished(stores[0], {"q": "a"}) is None
        assert invoke(service, "export", "--output", str(file)).exit_code == 0
        assert run.finished(stores[0], {}) == 300
    service.requests.clear()
    yield service, tmp_path
    assert hidden(tmp_path / "out") == []


def _resumed(folder: Path, *args: str, output: str = "") -> str:
    result = invoke(
        None,
        *("export", "--stores", str(folder / "stores.toml"), "--output", output or str(folder / "out")),
        *("--format", "csv", "--resume", *args),
    )
    assert result.exit_code == 0, result.output
    return result.stderr


def test_finished_store_is_skipped(interrupted: tuple[Sandbox, Path]) -> None:
    """A store that the interrupted run had finished is reported as such, without a request."""
    service, folder = interrupted
    assert rows(_resumed(folder))["only"] == ["complete already", "300", "0", f"{folder}/out/only.csv"]
    assert not service.requests
    # The resumed run ended, so the next one exports again.
    assert rows(_resumed(folder))["only"][0] == "complete"


def test_finished_store_by_another_path(
    interrupted: tuple[Sandbox, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that the run finished is skipped whether paths are absolute, as with Dask, or relative."""
    service, folder = interrupted
    monkeypatch.chdir(folder)
    assert rows(_resumed(folder, output="out"))["only"][0] == "complete already"
    assert not service.requests


def test_finished_store_with_another_filter(interrupted: tuple[Sandbox, Path]) -> None:
    """With another filter, a finished store is exported again."""
    service, folder = interrupted
    assert rows(_resumed(folder, "--status", "completed"))["only"][0] == "complete"
    assert service.requests


@pytest.mark.slow
@pytest.mark.parametrize("change", ["store", "file", "run_file", "manifest", "alone"])
def test_when_a_finished_store_is_not_skipped(interrupted: tuple[Sandbox, Path], change: str) -> None:
    """Another store, a missing file or run file, a damaged manifest and `--only` lead to a new export."""
    service, folder = interrupted
    if change == "store":
        text = f'[[stores]]\nname = "only"\nbase_url = "{service.base_url}"\nauth_token_env = "OLD_TOKEN"\n'
        (folder / "stores.toml").write_text(text)
    elif change == "file":
        (folder / "out/only.csv").unlink()
    elif change == "run_file":
        (folder / "out/.stores.toml.run").unlink()
    elif change == "manifest":
        (folder / "out/only.csv.manifest.json").write_text('{"x":')
    output = _resumed(folder, *(("--only", "only") if change == "alone" else ()))
    assert rows(output)["only"][0] == "complete"
    assert service.requests
    if change == "alone":
        (folder / "out/.stores.toml.run").unlink()


@pytest.mark.parametrize(
    "run_file",
    [
        "", "[]", '{"version": 9}', '{"version": 1}', '{"version": 1, "stores": {"one": 5}}', "\xff",
        '{"version": 1, "x": ' + "[" * 100_000,
        '{"version": 1, "stores": {"one": {"store": "", "file": "", "manifest": []}}}',
    ],
)  # fmt: skip
def test_damaged_run_file(service: Sandbox, tmp_path: Path, run_file: str) -> None:
    """An unreadable run file is an error with a remedy, and the remedy works."""
    path = write(tmp_path, {"one": service})
    (tmp_path / ".stores.toml.run").write_text(run_file, encoding="latin-1")
    arguments = ("export", "--stores", path, "--output", str(tmp_path / "{name}.csv"))
    output = sentence(invoke(None, *arguments, "--resume"), 1)
    assert output.endswith(
        "the run file of the interrupted run, cannot be read: start again, without resuming."
    )
    assert service.request_count == 0
    assert invoke(None, *arguments).exit_code == 0
