"""`export` of a single store."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from aiohttp import web

from b2b_payments import _retry
from b2b_payments.export import JSONLSink
from b2b_payments.export._account import Account
from b2b_payments.sandbox import Fault, Rules, Sandbox
from tests.socket.cli.fleet import FAST, serving
from tests.support.program import WITHOUT_PROGRESS, finished, invoke, sentence, start, stop_when_done


def _lines(path: Path) -> list[object]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def _names(folder: Path) -> list[str]:
    return sorted(found.name for found in folder.iterdir())


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Yield a sandbox for commands that run in a separate process."""
    async with Sandbox(payments=300) as sandbox:
        yield sandbox


@pytest.mark.slow
async def test_readme_command(tmp_path: Path) -> None:
    """`export --sandbox` needs nothing else, writes 10,000 payments, and prints only the summary."""
    path = tmp_path / "payments.jsonl"
    command = ("export", "--sandbox", "--output", str(path))
    code, out, err = await finished(await start(None, *command, constants=WITHOUT_PROGRESS))
    assert (code, out) == (0, "")
    assert re.fullmatch(r".*payments\.jsonl: complete: 10,000 payments, 41 requests, [0-9.:]+( s)?\.\n", err)
    assert _lines(path) == list(Sandbox(payments=10_000).store.all_wire())
    assert _names(tmp_path) == ["payments.jsonl", "payments.jsonl.manifest.json"]


def test_every_payment(service: Sandbox, tmp_path: Path) -> None:
    """An existing file is replaced by one with every payment of the store."""
    path = tmp_path / "payments.jsonl"
    path.write_text("last night's")
    result = invoke(service, "export", "--output", str(path))
    assert (result.exit_code, result.stdout) == (0, "")
    assert _lines(path) == list(service.store.all_wire())


def test_since_and_until(service: Sandbox, tmp_path: Path) -> None:
    """--since and --until select the payments created between them, and are in the manifest."""
    path, store = tmp_path / "payments.jsonl", service.store
    since, until = (datetime.fromtimestamp(store.created(one), UTC).isoformat() for one in (100, 150))
    command = ["export", "--output", str(path), "--since", since, "--until", until]
    done = invoke(service, *command)
    assert (done.exit_code, done.stdout) == (0, "")
    inside = [one for one in store.ids() if store.created(100) <= store.created(one) < store.created(150)]
    assert [json.loads(line)["id"] for line in path.read_bytes().splitlines()] == inside
    manifest = json.loads(path.with_name(f"{path.name}.manifest.json").read_text())
    assert manifest["query"] == {"created_from": since, "created_to": until}
    assert invoke(service, "list", "--since", since, "--until", until).stdout.count("\n") == len(inside)
    assert "must be before --until" in sentence(invoke(service, *command[:-2], "--until", since), 2)


def test_older_export_is_kept(service: Sandbox, tmp_path: Path) -> None:
    """An export that is not proven complete is written beside an older one, which stays; exit code 1."""
    path = tmp_path / "payments.jsonl"
    arguments = ("export", "--output", str(path), "--status", "completed", "--page-size", "20")
    assert invoke(service, *arguments).exit_code == 0
    older = path.read_bytes()
    created = service.store.advance()
    for _ in range(60):
        service.store.insert(created_at=created, processingStatus=3)
    service.rules = Rules(quota=False, equals="shuffled", max_limit=20)
    result = invoke(service, *arguments)
    assert result.exit_code == 1
    assert result.stderr.endswith(
        "The existing export was kept; this one, not proven complete, is in "
        f"{tmp_path}/payments.incomplete.jsonl.\n"
    )
    assert path.read_bytes() == older
    assert len(_lines(tmp_path / "payments.incomplete.jsonl")) > 60


def test_resumed_with_other_filters(service: Sandbox, tmp_path: Path) -> None:
    """Resuming with other filters is refused, with the differences, named as the options are."""
    target = tmp_path / "p.jsonl"
    sink = JSONLSink(target)
    sink.open()
    account = Account({"processing_status": 3, "customer_name": "a"}).pack()
    sink.commit({"version": 1, "finished": False, "walk": None, "account": account})
    sink.close(complete=False)
    other = ("--status", "refunded", "--channel", "2")
    message = sentence(invoke(service, "export", "--output", str(target), "--resume", *other), 2)
    assert "--status was 3 and is now 4" in message
    assert "--customer-name was 'a' and is now not set" in message
    assert "--channel was not set and is now [2]" in message
    assert message.endswith("Resume it with the same filters, or start again without resuming.")


def test_channels(service: Sandbox, tmp_path: Path) -> None:
    """Channels are exported in turn, one channel per request, into the same file every time."""
    rows = [row for row in service.store.all_wire() if row["channelId"] in {"1", "3"}]
    files = []
    for name in ("first.ndjson", "second.ndjson"):
        result = invoke(
            service, "export", "--output", str(tmp_path / name), "--channel", "3", "--channel", "1"
        )
        assert result.exit_code == 0
        assert f"complete: {len(rows):,} payments" in result.stderr
        files.append(_lines(tmp_path / name))
    assert files[0] == files[1] == sorted(rows, key=lambda row: -int(row["channelId"]))
    queries = [dict(seen.query) for seen in service.requests if seen.path.endswith("/payments")]
    assert {one["channelIds"] for one in queries} == {"1", "3"}


def test_ignored_channels(service: Sandbox, tmp_path: Path) -> None:
    """If payments name no channel and the service ignores the filter, the summary and the report say so."""
    service.rules = Rules(channel_encoding=(), payment_channels="absent")
    path = str(tmp_path / "payments.jsonl")
    result = invoke(service, "export", "--output", path, "--channel", "3")
    assert result.exit_code == 0
    assert "; the service may ignore a filter: some payments may not match channelIds" in result.stderr
    result = invoke(service, "export", "--output", path, "--channel", "3", "--report", "json")
    assert json.loads(result.stdout)["walk"]["ignored_filters"] == ["channelIds"]


def test_filters(service: Sandbox, tmp_path: Path) -> None:
    """A filter selects the payments that the service selects."""
    path = tmp_path / "payments.jsonl"
    assert invoke(service, "export", "--output", str(path), "--status", "completed").exit_code == 0
    assert _lines(path) == [row for row in service.store.all_wire() if row["processingStatus"] == 3]


def test_standard_output(service: Sandbox) -> None:
    """`--output -` prints the payments to standard output, and the summary to standard error."""
    result = invoke(service, "export", "--output", "-")
    assert [json.loads(line) for line in result.stdout.splitlines()] == list(service.store.all_wire())
    assert result.stderr.startswith("Standard output: complete: 300 payments")


@pytest.mark.slow
def test_empty_store(tmp_path: Path) -> None:
    """A store without payments gives a complete, empty file."""
    path = tmp_path / "payments.jsonl"
    with_nothing = invoke(None, "export", "--sandbox", "--q", "nobody pays this", "--output", str(path))
    assert with_nothing.exit_code == 0, with_nothing.output
    assert path.read_bytes() == b""


def test_unknown_channel(service: Sandbox, tmp_path: Path) -> None:
    """A channel that the store does not have is refused with those that it has; nothing is written."""
    result = invoke(
        service,
        "export",
        "--output",
        str(tmp_path / "p.jsonl"),
        "--channel",
        "2",
        "--channel",
        "9",
        "--channel",
        "8",
    )
    text = sentence(result, 1)
    assert "The store has no channel 9, 8; it has 1 (" in text
    assert all(f"{number} ({service.store.channel_name(number)})" in text for number in (1, 2, 3))
    assert list(tmp_path.iterdir()) == []


def test_channel_of_a_single_storefront(service: Sandbox, tmp_path: Path) -> None:
    """A store without several storefronts has no channels."""
    service.rules = Rules(multi_storefront=False)
    result = invoke(service, "export", "--output", str(tmp_path / "p.jsonl"), "--channel", "1")
    assert "has no channel 1; it has none." in sentence(result, 1)


def test_wrong_token(service: Sandbox, tmp_path: Path) -> None:
    """A wrong token is reported in one sentence; no file is left, and the existing one stays."""
    path = tmp_path / "payments.jsonl"
    path.write_text("last night's")
    result = invoke(
        service, "export", "--output", str(path), variables={"B2B_PAYMENTS_ACCESS_TOKEN": "marked"}
    )
    assert "rejected the credential" in sentence(result, 1)
    assert [found.read_text() for found in tmp_path.iterdir()] == ["last night's"]


@pytest.mark.slow
def test_no_network(service: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unreachable service is reported in one sentence that names the host, without long retries."""
    monkeypatch.setattr(_retry, "RetryPolicy", partial(_retry.RetryPolicy, base_delay=0.01))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    begun = time.monotonic()
    result = invoke(
        *(service, "export", "--output", str(tmp_path / "p.jsonl")),
        *("--base-url", f"http://127.0.0.1:{port}", "--outage", "0"),
    )
    assert time.monotonic() - begun < 15
    assert "no connection to 127.0.0.1" in sentence(result, 1)
    assert list(tmp_path.iterdir()) == []


def test_sandbox_ignores_the_environment(service: Sandbox, tmp_path: Path) -> None:
    """`--sandbox` uses its own service, even if the environment names another."""
    result = invoke(service, "export", "--sandbox", "--output", str(tmp_path / "p.jsonl"))
    assert result.exit_code == 0
    assert service.request_count == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "name", "code"), [(signal.SIGINT, "Ctrl-C", 130), (signal.SIGTERM, "SIGTERM", 143)]
)
async def test_stopped(
    sandbox: Sandbox, tmp_path: Path, number: signal.Signals, name: str, code: int
) -> None:
    """Stopped midway, an export says so; the existing file stays, and no partial file is left."""
    path = tmp_path / "payments.jsonl"
    path.write_text("last night's")
    arrived = asyncio.Event()
    sandbox.order(Fault.HANG_BEFORE, share=1, path="offset=|payments$")
    sandbox.answer_with(lambda _: arrived.set())
    process = await start(sandbox, "export", "--output", str(path))
    await arrived.wait()
    *hidden, _ = _names(tmp_path)
    assert hidden == [".payments.jsonl.lock"]
    process.send_signal(number)
    assert await finished(process) == (
        code,
        "",
        f"Stopped by {name}: {path} was not written, and no partial file is left.\n",
    )
    assert _names(tmp_path) == ["payments.jsonl"]
    assert path.read_text() == "last night's"


def test_stopped_before_the_first_page(service: Sandbox, tmp_path: Path) -> None:
    """Ctrl-C while the channels are being requested ends in the same way."""
    path = tmp_path / "payments.jsonl"
    service.order(Fault.HANG_BEFORE, share=1)
    service.answer_with(lambda _: os.kill(os.getpid(), signal.SIGINT))
    result = invoke(service, "export", "--output", str(path), "--channel", "1")
    assert result.exit_code == 130
    assert result.stderr == f"Stopped by Ctrl-C: {path} was not written, and no partial file is left.\n"
    assert _names(tmp_path) == []


def test_stopped_after_the_end(service: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C after the file was written changes nothing: the summary is printed, and the exit code is 0."""
    path = tmp_path / "payments.jsonl"
    stop_when_done(monkeypatch)
    result = invoke(service, "export", "--output", str(path))
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith(f"{path}: complete: 300 payments, ")
    assert _lines(path) == list(service.store.all_wire())


def test_failed_midway(tmp_path: Path) -> None:
    """If the service fails midway, the message says that the payments read so far are kept, and they are."""
    path = tmp_path / "payments.jsonl"
    with serving({"one": Sandbox(payments=5_000, rules=FAST)}) as fleet:
        service = fleet["one"]
        service.answer_with(
            lambda _: web.json_response({}, status=400) if service.request_count > 15 else None
        )
        message = sentence(invoke(service, "export", "--output", str(path)), 1)
        assert ": 400 Bad Request. The payments read so far are kept: run the same command" in message
        service.answer_with(None)
        before = service.request_count
        resumed = invoke(service, "export", "--output", str(path), "--resume")
        assert resumed.stderr.endswith(" Together with the interrupted run: 5,000 payments.\n")
        assert service.request_count - before < 15
        assert _lines(path) == list(service.store.all_wire())


def test_resumed_from_a_damaged_log(service: Sandbox, tmp_path: Path) -> None:
    """If the interrupted export cannot be resumed, the message says to start again, and nothing else."""
    path = tmp_path / "p.jsonl"
    sink = JSONLSink(path)
    sink.open()
    sink.commit({"version": 1, "finished": False, "walk": None, "account": {}})
    sink.close(complete=False)
    message = sentence(invoke(service, "export", "--output", str(path), "--resume"), 1)
    assert message == "Error: The export's checkpoint is damaged: start again without resuming."
    segment = tmp_path / ".p.jsonl.export" / "00000001"
    segment.write_bytes(segment.read_bytes().replace(b"jsonl", b"jsonk"))
    message = sentence(invoke(service, "export", "--output", str(path), "--resume"), 1)
    assert message.endswith("cannot be used: a segment was changed. Start again without resuming.")
    assert service.request_count == 0
    assert invoke(service, "export", "--output", str(path)).exit_code == 0


@pytest.mark.slow
async def test_stopped_in_a_pipe(sandbox: Sandbox) -> None:
    """A stopped export to standard output says that the printed output is not complete."""
    arrived = asyncio.Event()
    sandbox.order(Fault.HANG_BEFORE, share=1)
    sandbox.answer_with(lambda _: arrived.set())
    process = await start(sandbox, "export", "--output", "-")
    await arrived.wait()
    process.send_signal(signal.SIGINT)
    assert await finished(process) == (130, "", "Stopped by Ctrl-C: the printed output is not complete.\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "code"),
    [(("export", "--output", "-"), 1), (("list", "--page-size", "10"), 0), (("channels",), 0)],
)
async def test_reader_that_closes_the_pipe(sandbox: Sandbox, args: tuple[str, ...], code: int) -> None:
    """If the reader closes the pipe, the command ends quietly, but a truncated export fails."""
    read_end, write_end = os.pipe()
    process = await start(sandbox, *args, stdout=write_end)
    os.close(write_end)
    os.close(read_end)
    assert await finished(process) == (code, "", "")


@pytest.mark.slow
@pytest.mark.parametrize("args", [("export", "--output", "-"), ("list",)])
async def test_full_output(sandbox: Sandbox, args: tuple[str, ...]) -> None:
    """A full standard output is reported in one sentence."""
    full = os.open("/dev/full", os.O_WRONLY)
    code, _, err = await finished(await start(sandbox, *args, stdout=full))
    os.close(full)
    assert code == 1
    assert err.splitlines()[0].endswith("could not be written: No space left on device.")
    assert "Traceback" not in err


@pytest.mark.slow
async def test_progress_on_a_terminal(tmp_path: Path) -> None:
    """A terminal shows payments, pages, rate, time left, retries and quota waits; then the summary."""
    async with Sandbox(payments=300, rules=Rules(requests=4, per=2.0)) as sandbox:
        sandbox.order(Fault.ERROR_503, times=1)
        main_end, other_end = os.openpty()
        process = await start(
            sandbox,
            *("export", "--output", str(tmp_path / "p.jsonl"), "--page-size", "60", "--quota", "4/2"),
            stdout=other_end,
            stderr=other_end,
        )
        os.close(other_end)
        screen = await asyncio.to_thread(read_terminal, main_end)
        assert await process.wait() == 0
    for words in (
        " of 300 payments",
        " pages",
        "/s",
        "0:00:0",
        " left",
        " s for the store's quota",
        "attempt 1 failed",
    ):
        assert words in screen
    assert "p.jsonl: complete: 300 payments" in screen.splitlines()[-1]


def read_terminal(descriptor: int) -> str:
    """Read everything written to a terminal until its last writer closes it."""
    screen = b""
    try:
        while chunk := os.read(descriptor, 4096):
            screen += chunk
    except OSError:
        pass  # this is how a terminal ends on Linux
    finally:
        os.close(descriptor)
    return screen.decode()
