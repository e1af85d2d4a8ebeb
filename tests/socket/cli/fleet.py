"""Several stores, each served on its own port, and helpers to export them all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from aiohttp import web
from anyio.from_thread import start_blocking_portal

from b2b_payments.sandbox import Rules, Sandbox
from b2b_payments.sandbox._faults import SeenRequest
from tests.support.program import finished, invoke, start

Fleet = dict[str, Sandbox]
FAST = Rules(quota=False)


def three_stores() -> Fleet:
    """Return three stores of different sizes."""
    sizes = {"north": 300, "east": 700, "south": 500}
    return {name: Sandbox(payments=size, seed=size, rules=FAST) for name, size in sizes.items()}


@contextmanager
def serving(fleet: Fleet) -> Iterator[Fleet]:
    """Serve stores from another thread, for commands that run in this process."""
    with start_blocking_portal() as portal, ExitStack() as stack:
        for sandbox in fleet.values():
            stack.enter_context(portal.wrap_async_context_manager(sandbox))
        yield fleet


def write(folder: Path, fleet: Mapping[str, Sandbox], **more: str) -> str:
    """Write the file of stores. `more` has further lines by store, which may name another credential."""
    text = ""
    for name, sandbox in fleet.items():
        text += f'[[stores]]\nname = "{name}"\nbase_url = "{sandbox.base_url}"\n{more.get(name, "")}\n'
        if "_env" not in more.get(name, ""):
            text += f'store_hash = "{sandbox.auth.store_hash}"\naccess_token_env = "GOOD_TOKEN"\n'
    path = folder / "stores.toml"
    path.write_text(text)
    return str(path)


def lines(path: Path) -> list[object]:
    """Read a file of JSON lines."""
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def rows(text: str) -> dict[str, list[str]]:
    """Parse the table of results: state, payments, requests and the last column, by store."""
    heading, *table = [line for line in text.splitlines() if "  " in line]
    assert heading.split() == ["store", "state", "payments", "requests", "seconds", "file", "or", "error"]
    ends = [heading.index(name) for name in ("state", "file")]
    read = {}
    for line in table:
        *state, payments, requests, _seconds = line[ends[0] : ends[1]].split()
        read[line[: ends[0]].strip()] = [" ".join(state), payments, requests, line[ends[1] :]]
    return read


def hidden(folder: Path) -> list[str]:
    """Return the names of hidden files in a folder."""
    return sorted(name for name in os.listdir(folder) if name.startswith("."))


def after(requests: int, then: Callable[[], object]) -> Callable[[SeenRequest], web.Response | None]:
    """Return a hook that calls `then` once, at the given request, and leaves all answers to the service."""
    left = [requests]

    def answer(_: SeenRequest) -> None:
        left[0] -= 1
        if left[0] == 0:
            then()

    return answer


def here(path: str, out: Path | str, *args: str) -> tuple[int, str]:
    """Run the command in this process; return its exit code and standard error."""
    result = invoke(None, "export", "--stores", path, "--output", str(out), *args)
    assert result.stdout == ""
    return result.exit_code, result.stderr


async def export(path: str, out: Path | str, *args: str) -> tuple[int | None, str]:
    """Run the command in a process; return its exit code and standard error."""
    process = await start(None, "export", "--stores", path, "--output", str(out), *args)
    code, printed, stderr = await finished(process)
    assert printed == ""
    return code, stderr
