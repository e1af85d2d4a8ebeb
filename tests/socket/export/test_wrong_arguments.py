"""Wrong arguments to exports, copies and sandboxes are refused before anything is sent or written."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from b2b_payments import ConfigurationError, PaymentsClient
from b2b_payments.export import JSONLSink, export, read_stores, resume, sink_for, verify
from b2b_payments.sandbox import Rules, Sandbox
from b2b_payments.sync import SQLiteStore, sync

Use = Callable[[PaymentsClient, Path], Any]
WRONG: Any = 5
NOTHING: Any = None
TEXT: Any = "5"


def _any(value: Any) -> Any:
    return value


USES: dict[str, tuple[str, Use]] = {
    "no walk": ("source is int", lambda _, path: export(WRONG, JSONLSink(path))),
    "a path for a sink": (
        "sink is PosixPath",
        lambda client, path: export(client.payments.list(), _any(path)),
    ),
    "no sink": ("sink is NoneType", lambda client, _: export(client.payments.list(), NOTHING)),
    "no query": (
        "query is int",
        lambda client, path: export(client.payments.list(), JSONLSink(path), query=WRONG),
    ),
    "a walk to resume": (
        "begin is Walk",
        lambda client, path: resume(_any(client.payments.list()), JSONLSink(path)),
    ),
    "no listener": (
        "on_progress is int",
        lambda client, path: export(client.payments.list(), JSONLSink(path), on_progress=WRONG),
    ),
    "a path for a store": ("store is PosixPath", lambda client, path: sync(client, _any(path))),
    "no client": ("client is NoneType", lambda _, path: sync(NOTHING, SQLiteStore(path))),
    "no change listener": (
        "on_change is int",
        lambda client, path: sync(client, SQLiteStore(path), on_change=WRONG),
    ),
    "no rules": ("rules is int", lambda *_: Sandbox(rules=WRONG)),
    "incomplete rules": ("rules is incomplete", lambda *_: Sandbox(rules=Rules.__new__(Rules))),
    "payments as text": ("payments must be a number", lambda *_: Sandbox(payments=TEXT)),
    "one channel": ("channels is int", lambda *_: Sandbox(channels=WRONG)),
    "a port as text": ("port must be a whole number", lambda *_: Sandbox(port=TEXT)),
    "no file": ("path is int", lambda *_: JSONLSink(WRONG)),
    "no database": ("path is int", lambda *_: SQLiteStore(WRONG)),
    "nothing to make a sink for": ("path is int", lambda *_: sink_for(WRONG)),
    "nothing to verify": ("path is NoneType", lambda *_: verify(NOTHING)),
    "no file of stores": ("path is int", lambda *_: read_stores(WRONG)),
}


@pytest.mark.parametrize("use", USES)
async def test_wrong_arguments_are_refused(
    use: str, sandbox: Sandbox, client: PaymentsClient, tmp_path: Path
) -> None:
    """The error names the argument; no request is sent, and no file is made."""
    message, wrong = USES[use]

    async def call() -> None:
        result = wrong(client, tmp_path / "payments.sqlite")
        if isinstance(result, Awaitable):
            await result

    with pytest.raises(ConfigurationError, match=message):
        await call()
    assert (sandbox.request_count, os.listdir(tmp_path)) == (0, [])


def test_sink_for_a_path(tmp_path: Path) -> None:
    """The extension is enough; the format may also be given, before or after the path."""
    sinks = [
        sink_for(tmp_path / "p.csv"),
        sink_for("csv", str(tmp_path / "p")),
        sink_for(tmp_path / "q", "sqlite"),
    ]
    assert [type(one).__name__ for one in sinks] == ["CSVSink", "CSVSink", "SQLiteSink"]
    with pytest.raises(ConfigurationError, match="is unknown: pass a format"):
        sink_for(tmp_path / "p")
