"""Commands on a terminal: questions, the progress display, and Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from b2b_payments.sandbox import Fault, Rules, Sandbox
from tests.support.program import finished, invoke, start, whole_environment


async def respond(sandbox: Sandbox, answer: str, *command: str) -> tuple[bytes, int, int | None, bytes]:
    """Answer a command's question; return that, the requests before it, the exit code, and the rest."""
    main_end, other_end = os.openpty()
    process = await start(sandbox, *command, stdin=other_end, stdout=other_end, stderr=other_end)
    os.close(other_end)
    question = b""
    while b"[y/N]: " not in question:
        question += await asyncio.to_thread(os.read, main_end, 4096)
    before = sandbox.request_count
    os.write(main_end, answer.encode())
    # The output fits into the terminal's buffer, so it can be read after the command has ended.
    code = await process.wait()
    screen = await asyncio.to_thread(os.read, main_end, 4096)
    os.close(main_end)
    return question, before, code, screen


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "gone"), [("y\n", True), ("n\n", False)])
async def test_delete_asks(answer: str, *, gone: bool) -> None:
    """`delete` asks first, and deletes only on yes; JSON is indented, and a retry is shown."""
    async with Sandbox(payments=10) as sandbox:
        sandbox.order(Fault.ERROR_503, times=1)
        question, before, code, screen = await respond(sandbox, answer, "delete", "7")
        assert question.startswith(b"Delete payment 7?")
        assert (before, code) == (0, 0 if gone else 1)
        assert (7 not in sandbox.store) is gone
    assert (b'{\r\n  "id": 7\r\n}\r\n' in screen) is gone
    assert (b"Attempt 1 failed (503 Service Unavailable), next attempt in " in screen) is gone


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "payments"), [("y\n", 12), ("n\n", 11)])
async def test_create_offline_asks_if_the_external_id_is_taken(answer: str, payments: int) -> None:
    """`create-offline` asks before it records a second payment with the same external id."""
    command = ["create-offline", "--customer-id", "1", "--currency", "USD", "--line", "13=2"]
    async with Sandbox(payments=10) as sandbox:
        taken = sandbox.store.insert(externalId="A-1", total={"code": "USD", "value": "3.0000"})
        question, _, code, _ = await respond(sandbox, answer, *command, "--external-id", "A-1")
        prompt = f"Payment {taken} (3.0000 USD) has externalId A-1 already. Record another? [y/N]: "
        assert question.decode() == prompt
        assert (code, sandbox.store.payments) == (0 if payments == 12 else 1, payments)


async def _on_terminal(
    sandbox: Sandbox, *args: str, kind: str = "xterm", stopped_at: str = ""
) -> tuple[int, str]:
    """Run a command on 60 columns, with Ctrl-C once it shows a text; return exit code and output."""
    main_end, other_end = os.openpty()
    terminal = {"TERM": kind, "COLUMNS": "60"}
    process = await start(sandbox, *args, stdout=other_end, stderr=other_end, terminal=terminal)
    os.close(other_end)
    screen = b""
    while chunk := await asyncio.to_thread(_read, main_end):
        screen += chunk
        if stopped_at and stopped_at.encode() in screen:
            stopped_at = ""
            process.send_signal(signal.SIGINT)
    os.close(main_end)
    return await process.wait(), screen.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""  # this is how a terminal ends on Linux


def _lines(screen: str) -> list[str]:
    """Return the lines that were drawn, without escape sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen).replace("\r", "\n").split("\n")


@pytest.mark.slow
async def test_sixty_columns(tmp_path: Path) -> None:
    """On 60 columns, no line exceeds the width, a wait counts down, and the summary comes last."""
    async with Sandbox(payments=300, rules=Rules(requests=3, per=2.0)) as sandbox:
        args = ("export", "--output", str(tmp_path / "p.jsonl"), "--page-size", "60", "--quota", "3/2")
        code, screen = await _on_terminal(sandbox, *args)
    assert code == 0
    *drawn, last = filter(str.strip, _lines(screen))
    assert max(map(len, drawn)) <= 60
    assert any(" of 300 payments · " in line for line in drawn)
    seconds = [int(found[1]) for line in drawn if (found := re.search(r"waiting ([0-9]+) s", line))]
    assert len({*seconds}) > 1
    assert "p.jsonl: complete: 300 payments, " in last


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["xterm", "dumb"])
async def test_ctrl_c_leaves_no_half_line(tmp_path: Path, kind: str) -> None:
    """Stopped on a terminal, a command ends with one whole sentence at the start of a line."""
    async with Sandbox(payments=300, rules=Rules(requests=2, per=60.0)) as sandbox:
        args = ("export", "--output", str(tmp_path / "p.jsonl"), "--page-size", "60", "--log-level", "info")
        arguments = args if kind == "dumb" else args[:-2]
        begun = "QuotaWait" if kind == "dumb" else "waiting"
        code, screen = await _on_terminal(sandbox, *arguments, kind=kind, stopped_at=begun)
    assert code == 130
    assert screen.endswith("\rStopped by Ctrl-C: " + screen.rpartition("Stopped by Ctrl-C: ")[2])
    assert screen.endswith("is left.\r\n")
    assert ("\x1b" in screen) is (kind == "xterm")


@pytest.mark.slow
async def test_verbosity(tmp_path: Path) -> None:
    """`--quiet` prints nothing on success, `--verbose` adds details, `--log-level` logs each request."""
    async with Sandbox(payments=300) as sandbox:

        async def stderr_of(*options: str) -> str:
            process = await start(sandbox, "export", "--output", str(tmp_path / "p.jsonl"), *options)
            code, _, err = await finished(process)
            assert code == 0
            return err

        assert await stderr_of("--quiet") == ""
        verbose = await stderr_of("--verbose")
        assert "2 pages" in verbose
        assert "the pages read from both ends of the list meet" in verbose
        assert "DEBUG RequestStarted call=payments.list" in await stderr_of("-q", "--log-level", "debug")
    contradiction = invoke(None, "export", "--output", "p.jsonl", "--quiet", "--verbose")
    assert (contradiction.exit_code, "contradict each other" in contradiction.stderr) == (2, True)


@pytest.mark.slow
@pytest.mark.parametrize("at", ["threading._register_atexit", "atexit.register"])
async def test_interrupted_while_python_ends(tmp_path: Path, at: str) -> None:
    """Ctrl-C and SIGTERM while the interpreter ends change neither output nor exit code."""
    program = f"""
import atexit, os, signal, threading
from b2b_payments.cli import main
for number in (signal.SIGINT, signal.SIGTERM):
    {at}(os.kill, os.getpid(), number)
main()
"""
    command = ("-c", program, "export", "--output", str(tmp_path / "payments.jsonl"), "--quiet")
    async with Sandbox(payments=10) as sandbox:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, env=whole_environment(sandbox), stdout=PIPE, stderr=PIPE
        )
        assert await finished(process) == (0, "", "")


@pytest.mark.slow
async def test_stopped_while_it_waits_for_a_pipe(tmp_path: Path) -> None:
    """A stores file may be a pipe, such as `<(command)`; a signal ends the wait for its writer."""
    stores = tmp_path / "stores.toml"
    os.mkfifo(stores)
    command = ("export", "--output", f"{tmp_path}/{{name}}.jsonl", "--stores", str(stores))
    process = await start(None, *command)
    writer = await asyncio.to_thread(open, stores, "w", encoding="utf-8")  # once the command has opened it
    process.terminate()
    assert await finished(process) == (-signal.SIGTERM, "", "")
    writer.close()


@pytest.mark.slow
async def test_ctrl_c_ignored(tmp_path: Path) -> None:
    """Ctrl-C that is ignored where the command is started, as in a script's background, stays ignored."""
    stores = tmp_path / "stores.toml"
    os.mkfifo(stores)
    command = ("export", "--output", f"{tmp_path}/{{name}}.jsonl", "--stores", str(stores))
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which a started process inherits
    try:
        process = await start(None, *command)
    finally:
        signal.signal(signal.SIGINT, before)
    writer = await asyncio.to_thread(open, stores, "w", encoding="utf-8")  # once the command has opened it
    process.send_signal(signal.SIGINT)
    writer.close()
    code, _, errors = await finished(process)
    assert (code, "stores.toml" in errors) == (2, True)


@pytest.mark.slow
async def test_stopped_at_a_question() -> None:
    """Ctrl-C at a question ends the command as anywhere else, although its search had ended."""
    command = ["create-offline", "--customer-id", "1", "--currency", "USD", "--line", "13=2"]
    async with Sandbox(payments=10) as sandbox:
        sandbox.store.insert(externalId="A-1")
        main_end, other_end = os.openpty()
        process = await start(sandbox, *command, "--external-id", "A-1", stdin=other_end, stderr=other_end)
        os.close(other_end)
        question = b""
        while b"[y/N]: " not in question:
            question += await asyncio.to_thread(os.read, main_end, 4096)
        process.send_signal(signal.SIGINT)
        assert await process.wait() == -signal.SIGINT
        os.close(main_end)
        assert sandbox.store.payments == 11
