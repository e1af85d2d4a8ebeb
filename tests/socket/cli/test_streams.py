"""Standard streams that are closed, full, or a terminal."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import shlex
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from aiohttp import web

from b2b_payments._cli.program import program
from b2b_payments.sandbox import Fault, Sandbox
from tests.socket.cli.test_export import read_terminal
from tests.support.program import environment, finished, invoke

STEERING = "\x1b]52;c;cm0gLXJm\x07 \x9b2J \x7f \u202eesrever \u2028"
CLOSED = "Error: Standard output is closed, so the result cannot be printed: send it to a file.\n"
FULL = "Error: Standard output could not be written: No space left on device.\n"


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Yield a sandbox for commands that run in a separate process."""
    async with Sandbox(payments=30) as sandbox:
        yield sandbox


class Streams:
    """Runs commands in this process, with the standard streams that a test sets."""

    def __init__(self, patch: pytest.MonkeyPatch, service: Sandbox) -> None:
        self._patch = patch
        patch.setenv("COLUMNS", "200")
        for name, value in environment(service).items():
            if value is None:
                patch.delenv(name, raising=False)
            else:
                patch.setenv(name, value)

    def run(self, *args: str, **streams: Any) -> tuple[int, str]:
        """Run a command; return its exit code and, unless a `stderr` is given, its standard error."""
        errors = io.TextIOWrapper(io.BytesIO(), "utf-8")
        with self._patch.context() as patch:
            for name, stream in {"stderr": errors, **streams}.items():
                patch.setattr(sys, name, stream)
            with pytest.raises(SystemExit) as ended:
                program.main(args, prog_name="b2b-payments")
        assert isinstance(ended.value.code, int)
        return ended.value.code, errors.buffer.getvalue().decode()


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch, service: Sandbox) -> Streams:
    """Return a runner of commands against the sandbox."""
    return Streams(monkeypatch, service)


async def _in_shell(sandbox: Sandbox, arguments: str, redirections: str) -> tuple[int | None, str, str]:
    """Run a command with redirections, in a shell; return exit code, standard output and error."""
    variables = os.environ | {name: value for name, value in environment(sandbox).items() if value}
    command = f"{shlex.quote(sys.executable)} -W error -m b2b_payments {arguments} {redirections}"
    process = await asyncio.create_subprocess_shell(
        command,
        env=variables,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    return await finished(process)


@pytest.mark.slow
async def test_streams_of_a_shell(sandbox: Sandbox, tmp_path: Path) -> None:
    """With closed or full streams, commands work, or say in one sentence why they cannot."""
    path = tmp_path / "payments.jsonl"
    closed, exported, full = await asyncio.gather(
        _in_shell(sandbox, "delete 4 --yes", ">&-"),
        _in_shell(sandbox, f"export --output {shlex.quote(str(path))}", ">&- 2>&- <&-"),
        _in_shell(sandbox, "delete 3 --yes", ">/dev/full"),
    )
    assert closed == (1, "", CLOSED)
    assert 4 in sandbox.store
    assert exported == (0, "", "")
    assert {29, 30} <= {json.loads(line)["id"] for line in path.read_bytes().splitlines()}
    message = "Error: Payment 3 was deleted, but standard output failed: No space left on device.\n"
    assert full == (1, "", message)
    assert 3 not in sandbox.store


def test_closed_streams(streams: Streams, service: Sandbox, tmp_path: Path) -> None:
    """If output is closed, commands that print a result fail before any request; all others work."""
    for args in (("get", "1"), ("list",), ("channels",), ("export", "--output", "-"), ("sandbox",)):
        assert streams.run(*args, stdout=None) == (1, CLOSED)
        assert streams.run(*args, stdout=None, stderr=None, stdin=None) == (1, "")
    assert service.request_count == 0
    path = str(tmp_path / "payments.jsonl")
    nothing: dict[str, Any] = {"stdin": None, "stdout": None, "stderr": None}
    for args in (("export", "--output", path), ("verify", path), ("--help",), ("--version",)):
        assert streams.run(*args, **nothing) == (0, "")
    empty = "Error: --json /dev/null: the file is empty.\n"
    assert streams.run("create-offline", "--json", "-", stdin=None) == (2, empty)
    code, message = streams.run("delete", "7", stdin=None)
    assert code == 2
    assert message.endswith(
        "Error: There is no terminal to ask for confirmation: give --yes to delete payment 7.\n"
    )


def test_full_streams(streams: Streams, service: Sandbox, tmp_path: Path) -> None:
    """A command reports that standard output is full; a full standard error changes nothing."""
    path = str(tmp_path / "payments.jsonl")
    for args in (("--help",), ("--version",), ("get", "1"), ("sandbox",)):
        with open("/dev/full", "w") as full:
            assert streams.run(*args, stdout=full) == (1, FULL)
    with open("/dev/full", "w") as full:
        assert streams.run("export", "--output", path, stderr=full) == (0, "")
        assert streams.run("get", "999", stderr=full) == (1, "")
    with open("/dev/full", "w") as full:
        code, message = streams.run("create-offline", *OFFLINE, stdout=full)
    new = max(row["id"] for row in service.store.all_wire())
    assert code == 1
    assert message.startswith(f"Error: Payment {new} was recorded, but standard output failed: No space left")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_report_in_any_encoding(streams: Streams, service: Sandbox, tmp_path: Path, encoding: str) -> None:
    """A report is printed whatever characters the output can hold; a full output is one sentence."""
    path = str(tmp_path / "payments.jsonl")
    assert invoke(service, "export", "--output", path).exit_code == 0
    output = io.TextIOWrapper(io.BytesIO(), encoding)
    assert streams.run("report", path, stdout=output) == (0, "")
    assert b"Payments" in output.buffer.getvalue()
    with open("/dev/full", "w", encoding=encoding) as full:
        assert streams.run("report", path, stdout=full) == (1, FULL)


def test_report_whose_reader_has_gone(streams: Streams, service: Sandbox, tmp_path: Path) -> None:
    """If the reader of a report closes the pipe, the command ends quietly."""
    path = str(tmp_path / "payments.csv")
    assert invoke(service, "export", "--output", path).exit_code == 0
    read_end, write_end = os.pipe()
    os.close(read_end)
    with open(write_end, "w") as pipe:
        assert streams.run("report", path, stdout=pipe) == (0, "")


OFFLINE = ("--customer-id", "113", "--currency", "USD", "--line", "13=20.00")


def _refuse(_: object) -> web.Response:
    body = {"code": 422, "data": {"errMsg": STEERING, STEERING: [STEERING]}, "meta": {"message": STEERING}}
    return web.json_response(body, status=422)


def test_control_characters_in_messages_are_escaped(service: Sandbox, tmp_path: Path) -> None:
    """Error texts, fields, file names and arguments are printed with control characters escaped."""
    service.answer_with(_refuse)
    for args in (("get", "1"), ("list",), ("channels",), ("delete", "1", "--yes"), ("operations", "1")):
        result = invoke(service, *args)
        assert result.exit_code == 1
        assert result.stderr.removesuffix("\n").isprintable()
        assert result.stderr.count(r"\x1b]52;c;cm0gLXJm\x07 \x9b2J") == 3
    service.answer_with(None)
    path = tmp_path / "no\x1b]2J\u202e.jsonl"
    result = invoke(service, "export", "--output", str(path))
    assert result.stderr.startswith(rf"{tmp_path}/no\x1b]2J\u202e.jsonl: complete")
    assert path.exists()
    for args in (("verify", f"{path}.no"), ("no\x1b]2J",), ("get", "--no\x1b]2J"), ("get", "\x1b]2J")):
        result = invoke(service, *args)
        assert result.exit_code in {1, 2}
        assert "\x1b" not in result.output
        assert r"\x1b]2J" in result.output


def test_control_characters_in_json_are_escaped(streams: Streams, service: Sandbox) -> None:
    """On a terminal, JSON has control characters as JSON escapes; in a pipe it is as the service sent it."""
    service.store.update(1, payerName=STEERING)
    for args in (("get", "1"), ("list", "--limit", "1"), ("export", "--output", "-", "--invoice", "1")):
        main_end, other_end = os.openpty()
        with open(other_end, "w") as terminal:
            code, _ = streams.run(*args, stdout=terminal)
        screen = read_terminal(main_end)
        assert code == 0
        assert screen.replace("\r\n", "").isprintable()
        assert args[0] == "export" or json.loads(screen) == service.store.wire(1)
    assert STEERING[17:] in invoke(service, "export", "--output", "-").stdout


@pytest.mark.slow
def test_wait_that_the_service_asks_for_is_shown(streams: Streams, service: Sandbox, tmp_path: Path) -> None:
    """A wait that the service asks for is shown: as a plain line, or counting down on a terminal."""
    export = ("export", "--output", str(tmp_path / "payments.jsonl"))
    service.rules = attrs.evolve(service.rules, refusal_headers=("retry-after",), refusal_wait=1.0)
    service.order(Fault.RATE_LIMITED, times=1)
    code, message = streams.run(*export)
    assert code == 0
    assert message.startswith("The service asks to wait 1 s, 1.")
    service.rules = attrs.evolve(service.rules, refusal_headers=("rate-limit",), refusal_wait=0.6)
    for args in (("list", "--limit", "1"), export):
        service.order(Fault.RATE_LIMITED, times=1)
        main_end, other_end = os.openpty()
        with open(other_end, "w") as terminal, open(os.devnull, "w") as nowhere:
            code, _ = streams.run(*args, stdout=nowhere, stderr=terminal)
        screen = read_terminal(main_end)
        assert code == 0
        counted = re.findall(r"he service asks to wait 1 s, (\d\.\d) s left", screen)
        assert len(set(counted)) > 2
        assert counted == sorted(counted, reverse=True)
