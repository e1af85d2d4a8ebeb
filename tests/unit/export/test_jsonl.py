"""JSON lines."""

from __future__ import annotations

import io
import json
import os
from decimal import Decimal
from pathlib import Path

import pytest

from b2b_payments._protocol.json import decode
from b2b_payments.export import ExportError, JSONLSink
from b2b_payments.export._reading import read_payments
from tests.support.exporting import ROWS

_ROWS = [
    {"id": 1, "customerName": "Zoë, “Ltd”\n\u2028", "fees": [{"amount": 0.1}], "externalId": None},
    {"id": 2**70, "details": {}, "fees": [{"amount": Decimal("0.12345678901234567890")}]},
]


def test_one_object_a_line(tmp_path: Path) -> None:
    """Each payment is one line of UTF-8, with all fields and all digits as received."""
    path = tmp_path / "payments.jsonl"
    sink = JSONLSink(path)
    sink.open()
    sink.write(_ROWS)
    sink.commit(None)
    sink.write([])
    sink.close(complete=True)
    lines = path.read_bytes().split(b"\n")
    assert lines.pop() == b""
    assert [decode(line) for line in lines] == _ROWS
    assert b"0.12345678901234567890" in lines[1]
    assert "Zoë".encode() in lines[0]


def test_not_complete(tmp_path: Path) -> None:
    """A sink that is closed early, or was never opened, leaves nothing."""
    sink = JSONLSink(tmp_path / "payments.jsonl")
    sink.open()
    sink.write(_ROWS)
    sink.close(complete=False)
    JSONLSink(tmp_path / "other.jsonl").close(complete=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("complete", [True, False])
def test_stream(*, complete: bool) -> None:
    """A stream receives each batch immediately, and is not closed."""
    stream = io.BytesIO()
    sink = JSONLSink(stream)
    sink.open()
    sink.write([{"id": 1}])
    assert json.loads(stream.getvalue()) == {"id": 1}
    sink.close(complete=complete)
    assert not stream.closed


def test_full_stream() -> None:
    """A full stream raises ExportError."""
    with Path("/dev/full").open("wb", buffering=0) as full:
        sink = JSONLSink(full)
        with pytest.raises(ExportError, match="The output could not be written: No space left on device"):
            sink.write([{"id": 1}])


def test_reader_gone() -> None:
    """If the reader closes the pipe, BrokenPipeError passes unchanged."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "wb", buffering=0) as pipe, pytest.raises(BrokenPipeError):
        JSONLSink(pipe).write([{"id": 1}])


def test_channel_in_another_format(tmp_path: Path) -> None:
    """A payment's channel is the number that other formats have, or none if it is not a number."""
    path = tmp_path / "p.jsonl"
    channels = ("x1", "7", "", "007", "9" * 39)
    rows = [{**row, "channelId": channel} for row, channel in zip(ROWS, channels, strict=False)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    read = list(read_payments(path, "jsonl"))
    assert [(one.id, one.channel_id) for one in read] == list(enumerate(["", "7", "", "7", ""], start=1))
    assert [one.amount for one in read] == [Decimal(row["total"]["value"]) for row in rows]
