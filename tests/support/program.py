"""Runs the command line for tests: in this process if that is enough, otherwise as a real process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping
from typing import Any

import anyio
import pytest
from click.testing import CliRunner, Result

from b2b_payments import PaymentsClient
from b2b_payments._cli.program import program
from b2b_payments.sandbox import Sandbox

VARIABLES = (
    "B2B_PAYMENTS_BASE_URL",
    "B2B_PAYMENTS_STORE_HASH",
    "B2B_PAYMENTS_ACCESS_TOKEN",
    "B2B_PAYMENTS_AUTH_TOKEN",
)
_NONE: Mapping[str, str | None] = {}
_TERMINAL: Mapping[str, str] = {"TERM": "xterm", "COLUMNS": "160"}
_NO_CONSTANTS: Mapping[str, float] = {}
WITHOUT_PROGRESS: Mapping[str, float] = {"b2b_payments._cli.progress._LINE_INTERVAL": 3_600.0}
"""Constants of a command that prints no lines of progress, however long it takes on a busy machine."""
_WITH_CONSTANTS = """
import json, sys
from importlib import import_module

from b2b_payments.cli import main

for place, value in json.loads(sys.argv.pop(1)).items():
    module, _, name = place.rpartition(".")
    owner = import_module(module)
    assert isinstance(getattr(owner, name), float), place
    setattr(owner, name, value)
main()
"""


def environment(sandbox: Sandbox | None) -> dict[str, str | None]:
    """Return the variables for a sandbox, None for those that must not be set."""
    variables: dict[str, str | None] = dict.fromkeys(VARIABLES)
    if sandbox is not None:
        values = (sandbox.base_url, sandbox.auth.store_hash, str(sandbox.auth.access_token))
        variables |= dict(zip(VARIABLES, values, strict=False))
    return variables


def whole_environment(sandbox: Sandbox | None, **more: str) -> dict[str, str]:
    """Return the environment of a process that talks to a sandbox."""
    variables = {**os.environ, **environment(sandbox), **more}
    return {name: value for name, value in variables.items() if value is not None}


def invoke(
    sandbox: Sandbox | None, *args: str, stdin: str | bytes = "", variables: Mapping[str, str | None] = _NONE
) -> Result:
    """Run a command in this process, with pipes as standard streams; `variables` override the others."""
    return CliRunner().invoke(program, args, input=stdin, env={**environment(sandbox), **variables})


def sentence(result: Result, code: int) -> str:
    """Check that a command failed with one sentence and this exit code. Returns the sentence."""
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    *usage, last = result.stderr.splitlines()
    assert not usage or usage[0].startswith("Usage: ")
    assert last.startswith("Error: ")
    assert last.endswith((".", ")"))
    return last


def stop_when_done(patch: pytest.MonkeyPatch) -> None:
    """Let a command in this process receive SIGINT when it has done its work, and closes its client."""
    close = PaymentsClient.aclose

    async def aclose(client: PaymentsClient) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await anyio.sleep_forever()
        finally:
            await close(client)

    patch.setattr(PaymentsClient, "aclose", aclose)


async def start(
    sandbox: Sandbox | None,
    *args: str,
    terminal: Mapping[str, str] = _TERMINAL,
    constants: Mapping[str, float] = _NO_CONSTANTS,
    **pipes: Any,
) -> Process:
    """Start a command as a process; `terminal` are the variables that describe the terminal.

    `constants` are seconds that the program waits, by module and name, to use instead of its own.
    """
    program = ("-c", _WITH_CONSTANTS, json.dumps({**constants})) if constants else ("-m", "b2b_payments")
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", *program, *args),
        env=whole_environment(sandbox, **terminal),
        **{"stdin": DEVNULL, "stdout": PIPE, "stderr": PIPE, **pipes},
    )


async def finished(process: Process) -> tuple[int | None, str, str]:
    """Wait for its end. Returns the exit code, standard output and standard error."""
    out, err = await process.communicate()
    return process.returncode, (out or b"").decode(), (err or b"").decode()
