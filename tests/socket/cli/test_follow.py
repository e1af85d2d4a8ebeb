"""`follow`: changes as lines of JSON."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import select
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from b2b_payments._cli.command import CommandError
from b2b_payments._cli.follow import State
from b2b_payments.sandbox import Fault, Rules, Sandbox
from tests.support.program import finished, invoke, sentence, start


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Yield a sandbox for commands that run in a separate process."""
    async with Sandbox(payments=30, rules=Rules(quota=False)) as sandbox:
        yield sandbox


class Polls:
    """Waits for polls that a sandbox answers."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._polled = asyncio.Event()
        sandbox.before_list = lambda *_: self._polled.set()

    async def next(self) -> None:
        """Wait for a poll that begins from now on."""
        self._polled.clear()
        await asyncio.wait_for(self._polled.wait(), 30)


async def lines(process: asyncio.subprocess.Process, count: int) -> list[Any]:
    """Read `count` lines."""
    assert process.stdout is not None
    return [json.loads(await asyncio.wait_for(process.stdout.readline(), 30)) for _ in range(count)]


@pytest.mark.slow
async def test_each_change_is_printed_once_over_all_runs(sandbox: Sandbox, tmp_path: Path) -> None:
    """Changes are printed as they happen; the next run continues from the state file."""
    state, polls = tmp_path / "state.json", Polls(sandbox)
    command = ("follow", "--state", str(state), "--interval", "0.1")
    first = await start(sandbox, *command)
    await polls.next()
    await polls.next()
    assert json.loads(state.read_text())["given"]
    sandbox.store.update(5, payerName="new")
    sandbox.store.update(6, payerName="new")
    changes = await lines(first, 2)
    assert [one["id"] for one in changes] == [5, 6]
    assert changes[1] == sandbox.store.wire(6)
    await polls.next()
    await polls.next()
    first.send_signal(signal.SIGINT)
    code, rest, errors = await finished(first)
    assert (code, rest, errors) == (130, "", f"Stopped by Ctrl-C: the next run continues from {state}.\n")
    sandbox.store.update(7, payerName="new")
    second = await start(sandbox, *command)
    assert [one["id"] for one in await lines(second, 1)] == [7]
    third = await finished(await start(sandbox, *command))
    assert third[0] == 4
    assert "wait until it has ended" in third[2]
    second.send_signal(signal.SIGTERM)
    assert (await finished(second))[0] == 143


@pytest.mark.slow
async def test_ends_when_its_reader_ends(sandbox: Sandbox) -> None:
    """As soon as the reader closes the pipe it ends, even if nothing changes."""
    process = await start(sandbox, "follow", "--since", "2000-01-01", "--interval", "60")
    await lines(process, 3)
    process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
    assert process.stderr is not None
    errors = await asyncio.wait_for(process.stderr.read(), 30)
    assert (await process.wait(), errors) == (0, b"")


@pytest.mark.slow
async def test_lines_that_a_reader_left_in_the_pipe_are_printed_again(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    """The state is that of the lines which the reader took, so the next run prints the others."""
    command = ("follow", "--since", "2000-01-01", "--state", str(tmp_path / "state.json"))
    reading, writing = os.pipe()
    with io.FileIO(reading) as reader:  # takes no byte more than it returns
        process = await start(sandbox, *command, stdout=writing)
        os.close(writing)
        taken = [json.loads(await asyncio.to_thread(reader.readline)) for _ in range(3)]
        await asyncio.to_thread(select.select, [reader], [], [])  # the fourth line is there
    code, _, errors = await finished(process)
    assert (code, errors) == (0, "")
    second = await start(sandbox, *command)
    taken += await lines(second, 27)
    assert [one["id"] for one in taken] == list(sandbox.store.ids())
    second.send_signal(signal.SIGINT)
    await finished(second)


@pytest.mark.slow
async def test_failed_poll_is_reported_and_repeated(sandbox: Sandbox, tmp_path: Path) -> None:
    """A failed poll is reported with the time of the next one, and the lines of later ones go to a file."""
    printed = tmp_path / "changes.jsonl"
    polls = Polls(sandbox)
    sandbox.order(Fault.ERROR_503, share=1)
    with printed.open("wb") as file:
        process = await start(
            sandbox, "follow", "--since", "2000-01-01", "--interval", "0.1", "--outage", "0", stdout=file
        )
        assert process.stderr is not None
        while b"trying again" not in (line := await asyncio.wait_for(process.stderr.readline(), 30)):
            assert line
        assert re.fullmatch(rb".*503.*; trying again in \d+ s\.\n", line)
        sandbox.clear_faults()
        while printed.read_bytes().count(b"\n") < 30:
            await polls.next()
        process.send_signal(signal.SIGINT)
        assert (await finished(process))[0] == 130
    assert [json.loads(line)["id"] for line in printed.read_bytes().splitlines()] == list(sandbox.store.ids())


def test_state_that_cannot_be_written(tmp_path: Path) -> None:
    """A state file that cannot be written, since its folder is gone, is reported in one sentence."""
    path = tmp_path / "gone/state.json"
    with pytest.raises(CommandError) as caught:
        State(path).write({"at": 1})
    assert str(caught.value) == f"{path} could not be written: No such file or directory."


def test_invalid_time_and_state(service: Sandbox, tmp_path: Path) -> None:
    """An invalid time, an invalid state file, and one in use are refused in one sentence."""
    state = tmp_path / "state.json"
    assert "2026-11-28" in sentence(invoke(service, "follow", "--since", "yesterday"), 2)
    state.write_text("[]")
    refused = sentence(invoke(service, "follow", "--state", str(state)), 2)
    assert f"{state} is not a checkpoint of changes" in refused
    for text in ("nothing", "null", "", "[" * 10_000):
        state.write_text(text)
        assert "not a state file of follow" in sentence(invoke(service, "follow", "--state", str(state)), 1)
    with State(state).locked():
        assert "Another follow" in sentence(invoke(service, "follow", "--state", str(state)), 4)
    assert service.request_count == 0


def test_state_is_not_written_through_a_symlink(tmp_path: Path) -> None:
    """A symlink at the path of the temporary state file is replaced, and its target stays."""
    precious = tmp_path / "precious"
    precious.write_text("kept")
    (tmp_path / "state.json.new").symlink_to(precious)
    kept = State(tmp_path / "state.json")
    kept.write({"at": 1})
    assert State(tmp_path / "state.json").read() == {"at": 1}
    assert precious.read_text() == "kept"
    assert [one.name for one in tmp_path.iterdir() if one.is_symlink()] == []
