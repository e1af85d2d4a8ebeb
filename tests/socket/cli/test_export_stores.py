"""`export --stores`: many stores at once, each into its own file."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import resource
import signal
from decimal import Decimal
from pathlib import Path

import pytest
from aiohttp import web

from b2b_payments import LegacyAuth, PaymentsClient
from b2b_payments._cli.progress import StoresProgress
from b2b_payments.export import Store, StoreReport
from b2b_payments.export._selection import Begin, Selection
from b2b_payments.sandbox import Rules, Sandbox
from tests.socket.cli.fleet import FAST, Fleet, export, hidden, lines, rows, run_here, serving, write
from tests.socket.cli.test_export import read_terminal
from tests.support.export_reading import ids_in
from tests.support.program import invoke, sentence, start

pytestmark = pytest.mark.usefixtures("tokens")


def test_every_store(served: Fleet, tmp_path: Path) -> None:
    """With either kind of credential, each store's file equals its list and verifies; a table lists all."""
    path = write(tmp_path, served, east='auth_token_env = "OLD_TOKEN"', south="channels = [3, 1]")
    out = tmp_path / "out"
    code, output = run_here(path, out, "--format", "jsonl")
    assert code == 0, output
    south = [row for row in served["south"].store.all_wire() if row["channelId"] in {"1", "3"}]
    assert lines(out / "north.jsonl") == list(served["north"].store.all_wire())
    assert lines(out / "east.jsonl") == list(served["east"].store.all_wire())
    assert lines(out / "south.jsonl") == sorted(south, key=lambda row: -int(row["channelId"]))
    assert rows(output) == {
        "north": ["complete", "300", str(served["north"].request_count), f"{out}/north.jsonl"],
        "east": ["complete", "700", str(served["east"].request_count), f"{out}/east.jsonl"],
        "south": ["complete", f"{len(south)}", str(served["south"].request_count), f"{out}/south.jsonl"],
    }
    assert output.splitlines()[-1] == "3 of 3 stores complete."
    assert hidden(out) == []
    for name in served:
        assert invoke(None, "verify", str(out / f"{name}.jsonl")).exit_code == 0
    manifest = json.loads((out / "south.jsonl.manifest.json").read_bytes())
    assert manifest["query"] == {"channel_ids": [3, 1]}


def test_pattern_and_filter(served: Fleet, tmp_path: Path) -> None:
    """A pattern sets each store's file and format, and a filter applies to all stores."""
    pattern = str(tmp_path / "{name}/completed.parquet")
    code, output = run_here(write(tmp_path, served), pattern, "--status", "completed")
    assert code == 0, output
    for name, sandbox in served.items():
        expected = [row["id"] for row in sandbox.store.all_wire() if row["processingStatus"] == 3]
        assert ids_in(tmp_path / name / "completed.parquet", "parquet") == expected


@pytest.mark.slow
async def test_failures_do_not_stop_the_others(tmp_path: Path) -> None:
    """A wrong token, an error half-way and an unknown channel do not stop another, slow store."""
    async with (
        Sandbox(payments=3_000, rules=Rules(quota=False, latency=0.05)) as slow,
        Sandbox(payments=300) as refused,
        Sandbox(payments=5_000, seed=5, rules=FAST) as broken,
        Sandbox(payments=300) as channels,
    ):
        broken.answer_with(lambda _: web.json_response({}, status=400) if broken.request_count > 15 else None)
        fleet = {"slow": slow, "refused": refused, "broken": broken, "channels": channels}
        path = write(
            tmp_path,
            fleet,
            refused='store_hash = "abc123"\naccess_token_env = "BAD_TOKEN"',
            channels="channels = [77]",
        )
        out = tmp_path / "out"
        code, output = await export(path, out, "--format", "jsonl", "--concurrency", "1")
        assert code == 1
        table = rows(output)
        assert {name: row[0] for name, row in table.items()} == {
            "slow": "complete",
            "refused": "failed",
            "broken": "failed",
            "channels": "failed",
        }
        assert lines(out / "slow.jsonl") == list(slow.store.all_wire())
        assert "Check the store's hash, and the token in BAD_TOKEN" in table["refused"][3]
        assert "marked" not in output
        assert "The store has no channel 77; it has 1 (" in table["channels"][3]
        assert " 400 " in table["broken"][3]
        assert table["refused"][1:3] == ["0", "1"]
        # Fifteen pages were received, and two batches of them are kept.
        kept = int(table["broken"][1].replace(",", ""))
        assert 2_000 <= kept < 15 * 250
        assert hidden(out) == [".broken.jsonl.export"]
        assert output.splitlines()[-1] == (
            "Error: 1 of 4 stores complete. To export what is missing, run the same command with --resume, "
            "adding --only refused --only broken --only channels."
        )
        broken.answer_with(None)
        before = broken.request_count
        again = ("--format", "jsonl", "--resume", "--only", "broken")
        code, output = await export(path, out, *again)
        assert code == 0, output
        assert rows(output)["broken"][:2] == ["complete", "5,000"]
        assert broken.request_count - before < 15
        assert lines(out / "broken.jsonl") == list(broken.store.all_wire())
        assert hidden(out) == []


def test_at_once(served: Fleet, tmp_path: Path) -> None:
    """All stores are exported at once; with `--at-once 1` one after the other, in the file's order."""
    path = write(tmp_path, served)
    out = str(tmp_path / "{name}.jsonl")
    for sandbox in served.values():
        sandbox.rules = Rules(quota=False, latency=0.3)
    assert (run_here(path, out))[0] == 0
    spans = [_span(sandbox) for sandbox in served.values()]
    assert max(first for first, _ in spans) < min(last for _, last in spans)
    for sandbox in served.values():
        sandbox.requests.clear()
        sandbox.rules = FAST
    assert (run_here(path, out, "--at-once", "1"))[0] == 0
    spans = [_span(sandbox) for sandbox in served.values()]
    assert all(one[1] < other[0] for one, other in itertools.pairwise(spans))


def _span(sandbox: Sandbox) -> tuple[float, float]:
    times = [seen.at for seen in sandbox.requests]
    return times[0], times[-1]


@pytest.mark.slow
def test_each_store_has_its_own_quota(tmp_path: Path) -> None:
    """A store with a small quota keeps to it, and does not slow down another store."""
    rules = Rules(requests=4, per=1.0, quota_headers=False)
    small, large = Sandbox(payments=130, rules=rules), Sandbox(payments=300)
    with serving({"small": small, "large": large}) as fleet:
        path = write(tmp_path, fleet, small='quota = "4/1"')
        code, output = run_here(path, tmp_path / "{name}.jsonl", "--page-size", "30")
        assert code == 0, output
        assert 429 not in {seen.status for seen in small.requests}
        seconds = {line.split()[0]: float(line.split()[4]) for line in output.splitlines()[1:3]}
        assert seconds["large"] < 1.4 < seconds["small"]


def test_tokens_of_other_stores_are_not_needed(served: Fleet, tmp_path: Path) -> None:
    """Tokens of stores that `--only` or `--shard` leaves out may be missing."""
    absent = {name: f'store_hash = "{name}"\naccess_token_env = "NO_TOKEN"' for name in ("east", "south")}
    path = write(tmp_path, served, **absent)
    code, output = run_here(path, tmp_path / "{name}.jsonl", "--only", "north")
    assert (code, list(rows(output))) == (0, ["north"])
    shards = [of for of in range(1, 60) if _is_alone_in_its_shard("north", served, of)]
    part = next(number for number in range(1, shards[0] + 1) if _store("north").in_shard(number, shards[0]))
    code, output = run_here(path, tmp_path / "{name}.jsonl", "--shard", f"{part}/{shards[0]}")
    assert (code, list(rows(output))) == (0, ["north"])
    code, output = run_here(path, tmp_path / "{name}.jsonl")
    assert code == 2
    assert output.startswith("Error: store 'east': the environment variable NO_TOKEN is not set")
    assert sum(sandbox.request_count for sandbox in served.values()) == served["north"].request_count


def _store(name: str) -> Store:
    return Store(name, LegacyAuth("token"))


def _is_alone_in_its_shard(name: str, fleet: Fleet, of: int) -> bool:
    parts = {one: [_store(one).in_shard(number, of) for number in range(1, of + 1)] for one in fleet}
    return all(parts[one] != parts[name] for one in fleet if one != name)


def test_report_as_json(served: Fleet, tmp_path: Path) -> None:
    """`--report json` prints the report as a line of JSON instead of the table, with the same exit code."""
    path = write(tmp_path, served, south='store_hash = "abc123"\naccess_token_env = "BAD_TOKEN"')
    arguments = ("export", "--stores", path, "--output", str(tmp_path / "{name}.jsonl"), "--report", "json")
    result = invoke(None, *arguments)
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert report["complete"] is False
    assert [(one["name"], one["state"], one["payments"]) for one in report["stores"]] == [
        ("north", "complete", 300),
        ("east", "complete", 700),
        ("south", "failed", 0),
    ]
    assert "401" in report["stores"][2]["error"]
    assert result.stderr.splitlines()[-1].startswith("Error: 2 of 3 stores complete.")
    result = invoke(served["north"], "export", "--output", str(tmp_path / "p.csv"), "--report", "json")
    assert result.exit_code == 0
    one = json.loads(result.stdout)
    assert (one["complete"], one["payments"], one["walk"]["rows"]) == (True, 300, 300)
    assert result.stderr == ""


def test_quiet(service: Sandbox, tmp_path: Path) -> None:
    """With --quiet, complete stores are not mentioned, and incomplete ones are."""
    path, out = write(tmp_path, {"one": service}), tmp_path / "{name}.jsonl"
    assert run_here(path, out, "--quiet") == (0, "")
    service.answer_with(lambda _: web.json_response({}, status=400))
    code, output = run_here(path, out, "--quiet")
    assert (code, rows(output)["one"][0]) == (1, "failed")


def test_stopped_after_the_last_store(
    service: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C after the last store has ended changes nothing: its exit code is 0, as without it."""
    advance = StoresProgress.advance

    def stop(progress: StoresProgress, report: StoreReport) -> None:
        advance(progress, report)
        if report.complete:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(StoresProgress, "advance", stop)
    code, output = run_here(write(tmp_path, {"one": service}), tmp_path / "{name}.jsonl")
    assert (code, rows(output)["one"][0]) == (0, "complete")
    assert output.endswith("\n1 of 1 store complete.\n")


def test_few_file_handles(served: Fleet, tmp_path: Path) -> None:
    """If the limit of open files allows fewer stores at once, a note says so, and all are exported."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    path = write(tmp_path, served)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + 80, hard))
    try:
        code, output = run_here(path, tmp_path / "{name}.jsonl")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert code == 0, output
    assert re.match(r"Note: [12] stores? at once, not 8: this process may open \d+ more files", output)


def test_verify_a_folder(served: Fleet, tmp_path: Path) -> None:
    """`verify` of a folder checks every export in it, and names each that was changed."""
    assert run_here(write(tmp_path, served), tmp_path / "out/{name}/all.csv")[0] == 0
    files = [f"{tmp_path}/out/{name}/all.csv" for name in sorted(served)]
    result = invoke(None, "verify", str(tmp_path / "out"))
    assert result.exit_code == 0
    state = "as exported, complete"
    assert [line.split(": ")[:2] for line in result.stdout.splitlines()] == [[one, state] for one in files]
    with Path(files[1]).open("a", encoding="utf-8") as file:
        file.write("x")
    result = invoke(None, "verify", *files)
    assert result.exit_code == 1
    assert [line.partition(": ")[0] for line in result.stdout.splitlines()] == [files[0], files[2]]
    changed, last = result.stderr.splitlines()
    assert changed.startswith(f"{files[1]} is not what was exported: all.csv was changed")
    assert last == "Error: 1 of 3 files are not as exported, or cannot be read."
    report = json.loads(invoke(None, "verify", "--report", "json", *files).stdout)
    assert report["as_exported"] is False
    assert [one["payments"] for one in report["files"]] == [700, None, 500]
    assert all(Decimal(total) > 1_000 for total in report["files"][0]["totals"].values())


@pytest.mark.slow
def test_verify_in_several_processes(served: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several processes that check large files find the same as one."""
    assert run_here(write(tmp_path, served), tmp_path / "{name}.csv")[0] == 0
    alone = invoke(None, "verify", str(tmp_path))
    monkeypatch.setattr("b2b_payments._cli.verify._WORTH_A_PROCESS", 1)
    assert invoke(None, "verify", str(tmp_path)).stdout == alone.stdout


def test_unwritable_file(service: Sandbox, tmp_path: Path) -> None:
    """A file that cannot be written is refused before anything is sent."""
    (tmp_path / "one.csv").mkdir()
    arguments = ("--stores", write(tmp_path, {"one": service}), "--output", str(tmp_path / "{name}.csv"))
    assert "it is a folder; name a file in it." in sentence(invoke(None, "export", *arguments), 2)
    assert service.request_count == 0
    assert hidden(tmp_path) == []


def test_not_complete(service: Sandbox, tmp_path: Path) -> None:
    """A store whose list cannot be proven complete is reported as not complete, with exit code 1."""
    moment = service.store.advance()
    for _ in range(60):
        service.store.insert(created_at=moment, processingStatus=3)
    service.rules = Rules(quota=False, equals="shuffled", max_limit=20)
    arguments = ("--stores", write(tmp_path, {"one": service}), "--output", str(tmp_path / "{name}.jsonl"))
    result = invoke(None, "export", *arguments, "--status", "completed", "--page-size", "20")
    assert result.exit_code == 1
    state, payments, _, remark = rows(result.stderr)["one"]
    assert state == "not complete"
    assert int(payments) == len(lines(tmp_path / "one.jsonl")) > 60
    assert remark == f"{tmp_path}/one.jsonl: the pages read from both ends of the list stop before they meet."
    assert result.stderr.splitlines()[-1] == (
        "Error: 0 of 1 store complete. To export what is missing, run the same command with --resume."
    )


def test_unexpected_error(service: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected error in one store is raised only after the others have ended."""
    calls = []

    source = Selection.source

    async def broken_once(selection: Selection, client: PaymentsClient) -> Begin:
        calls.append(selection)
        if len(calls) == 1:
            raise ZeroDivisionError
        return await source(selection, client)

    monkeypatch.setattr(Selection, "source", broken_once)
    path = write(tmp_path, {"one": service, "two": service}, two='auth_token_env = "OLD_TOKEN"')
    result = invoke(
        None, "export", "--stores", path, "--output", str(tmp_path / "{name}.jsonl"), "--at-once", "1"
    )
    assert isinstance(result.exception, ZeroDivisionError)
    table = rows(result.stderr)
    assert table["one"][0] == "failed"
    assert table["one"][3] == "ZeroDivisionError, see below."
    assert table["two"][0] == "complete"


@pytest.mark.slow
async def test_progress_on_a_terminal(tmp_path: Path) -> None:
    """A terminal shows a line for all stores and one for each running store, then the table."""
    slow = Rules(requests=4, per=1.0, quota_headers=False)
    async with Sandbox(payments=130, rules=slow) as north, Sandbox(payments=90, rules=slow) as south:
        path = write(tmp_path, {"north": north, "south": south})
        screen = await _on_a_terminal(
            *("--stores", path, "--output", str(tmp_path / "{name}.jsonl"), "--page-size", "30"),
            *("--quota", "4/1"),
        )
    for words in ("all stores", "0 of 2 stores · ", "1 of 2 stores · ", "north", "south", " of 130 payments"):
        assert words in screen
    assert " pages" in screen
    assert "2 of 2 stores complete." in screen.splitlines()[-1]


@pytest.mark.slow
async def test_a_line_for_each_channel(tmp_path: Path) -> None:
    """With several channels, a terminal shows a line for each running one, and one for all."""
    async with Sandbox(payments=600, rules=Rules(quota=False, latency=0.1)) as sandbox:
        path = str(tmp_path / "p.jsonl")
        channels = ("--channel", "1", "--channel", "2", "--page-size", "20")
        screen = await _on_a_terminal("--output", path, *channels, sandbox=sandbox)
    for words in ("all ", "channel 1", "channel 2", " payments · "):
        assert words in screen
    assert "channel 3" not in screen


async def _on_a_terminal(*args: str, sandbox: Sandbox | None = None) -> str:
    main_end, other_end = os.openpty()
    process = await start(sandbox, "export", *args, stdout=other_end, stderr=other_end)
    os.close(other_end)
    screen = await asyncio.to_thread(read_terminal, main_end)
    assert await process.wait() == 0, screen
    return screen
