"""Tracebacks of errors about rows show no row: programs that report errors report local variables, too."""

from __future__ import annotations

import json
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from b2b_payments import PaymentsClient, StoreAuth
from b2b_payments._errors import ExportError, ResponseDecodeError
from b2b_payments.export import export, sink_for
from b2b_payments.sync import SQLiteStore, sync
from tests.support.examples import LISTED_PAYMENT, listed
from tests.support.raw_server import Connection, RawServer

Act = Callable[[PaymentsClient, Path], Awaitable[object]]


def exported(format_: str) -> Act:
    """Return a function that exports to this format."""
    return lambda client, folder: export(client.payments.list(), sink_for(folder / f"payments.{format_}"))


async def each(client: PaymentsClient, _: Path) -> None:
    """Read all payments one by one."""
    async for payment in client.payments.list():
        del payment


ACTS: dict[str, Act] = {
    "each": each,
    "arrow": lambda client, _: client.payments.list().to_arrow(),
    "sync": lambda client, folder: sync(client, SQLiteStore(folder / "copy.sqlite")),
    **{format_: exported(format_) for format_ in ("jsonl", "csv", "parquet", "sqlite", "duckdb")},
}


@pytest.mark.parametrize(
    ("act", "broken"),
    [
        *[(act, {"total": "30 USD"}) for act in ("each", "arrow", "sync", "csv", "parquet")],
        *[(act, {"payerName": "~"}) for act in ("each", "arrow", "sync", "jsonl", "csv")],
        *[(act, {"lineItems": [{"invoiceId": 10**30}]}) for act in ("arrow", "sync", "sqlite", "duckdb")],
        *[(act, {"total": {"value": "9" * 60}}) for act in ("arrow", "parquet", "duckdb")],
    ],
)
async def test_a_traceback_shows_no_row(tmp_path: Path, act: str, broken: dict[str, Any]) -> None:
    """If a row cannot be read or written, no frame of this library has any row among its local variables."""
    rows = [{**LISTED_PAYMENT, "id": number, "customerName": "Secret"} for number in range(1, 5)]
    rows[2] |= broken
    body = json.dumps(listed(*rows)).encode().replace(b"~", b"\xff")

    async def play(connection: Connection) -> None:
        await connection.answer(body)

    async with (
        RawServer(play) as server,
        PaymentsClient(
            StoreAuth(store_hash="jexy81vb0h", access_token="token"), base_url=server.base_url
        ) as client,
    ):
        with pytest.raises((ResponseDecodeError, ExportError), match="payment 3") as caught:
            await ACTS[act](client, tmp_path)
    shown = [traceback.TracebackException.from_exception(caught.value, capture_locals=True)]
    shown += filter(None, (shown[0].__context__, shown[0].__cause__))
    frames = [frame for one in shown for frame in one.stack if "/b2b_payments/" in frame.filename]
    assert frames
    assert not [
        (frame.name, name)
        for frame in frames
        for name, text in (frame.locals or {}).items()
        if "Secret" in text
    ]
