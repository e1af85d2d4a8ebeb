"""Logs that are damaged, forged, or from an earlier version: none is resumed or published."""

from __future__ import annotations

from pathlib import Path

import pytest

from b2b_payments.export import ExportError, JSONLSink, SQLiteSink, sink_for
from b2b_payments.export._log import LogFolder
from tests.support.exporting import ONE, TWO, interrupted, lines, names


@pytest.mark.parametrize(
    "head",
    [
        b"", b"{", b"[]", b"\xff\n", b'{"version":9}\n', b'{"version":2}\n', b"[" * 100_000,
        b'{"version":4,"format":"jsonl","sizes":"x","crc32":[0],"before":0}\n',
        b'{"version":4,"format":"jsonl","sizes":[0],"crc32":[0],"before":0,"checkpoint":[]}\n',
    ],
)  # fmt: skip
def test_unreadable_segment(tmp_path: Path, head: bytes) -> None:
    """An unreadable segment raises one clear error, and is left unchanged."""
    path = tmp_path / "payments.jsonl"
    segment = interrupted(path, ONE) / "00000001"
    segment.write_bytes(head)
    for _ in range(2):
        sink = JSONLSink(path)
        with pytest.raises(ExportError, match=r"export to .* cannot be used: .*\. Start again"):
            sink.resume()
        sink.close(complete=False)
    assert segment.read_bytes() == head


@pytest.mark.parametrize("damage", ["shorter", "longer", "first shorter", "missing", "another format"])
def test_damaged_segments(tmp_path: Path, damage: str) -> None:
    """Segments that another program changed are not resumed."""
    path = tmp_path / "payments.jsonl"
    folder = interrupted(path, ONE, TWO)
    first, last = folder / "00000001", folder / "00000002"
    match damage:
        case "shorter" | "longer":
            last.write_bytes(last.read_bytes()[:-1] if damage == "shorter" else last.read_bytes() + b"x")
        case "first shorter":
            first.write_bytes(first.read_bytes()[:-1])
        case "missing":
            first.unlink()
    sink = sink_for(path, "csv" if damage == "another format" else "jsonl")
    says = "has the format jsonl, not csv" if damage == "another format" else "cannot be used: a segment "
    with pytest.raises(ExportError, match=says):
        sink.resume()
    sink.close(complete=False)
    assert sink.kept


@pytest.mark.parametrize("damage", ["shorter", "changed", "missing"])
@pytest.mark.parametrize("format_", ["jsonl", "csv", "sqlite"])
def test_segments_changed_while_exporting(tmp_path: Path, damage: str, format_: str) -> None:
    """Segments that another program changed while the export ran are not published."""
    path = tmp_path / "payments"
    payment = {"id": 1, "createdAt": 1, "updatedAt": 1, "customerId": "1", "processingStatus": 1}
    payment |= {"appliedStatus": 1, "fundingStatus": 1, "total": {"code": "USD", "value": "1"}}
    sink = sink_for(path, format_)
    sink.open()
    for number in (1, 2):
        sink.write([payment | {"id": number}])
        sink.commit({"at": number})
    segment = tmp_path / ".payments.export" / "00000001"
    text = segment.read_bytes()
    if damage == "missing":
        segment.unlink()
    else:
        segment.write_bytes(text[:-1] if damage == "shorter" else text[:-2] + b"?\n")
    with pytest.raises(ExportError, match="cannot be used"):
        sink.close(complete=True)
    if format_ == "sqlite":
        SQLiteSink(path).check(path)  # no half-filled table is left
    else:
        assert not path.exists()


def test_interrupted_export_of_the_first_version(tmp_path: Path) -> None:
    """An export of the first version is neither resumed nor ignored: the error names its file."""
    path, left = tmp_path / "p.jsonl", tmp_path / ".p.jsonl.checkpoint"
    left.write_text("{}")
    sink = JSONLSink(path)
    with pytest.raises(ExportError, match=r"by an earlier version and .*: remove .*\.p\.jsonl\.checkpoint"):
        sink.resume()
    sink.close(complete=False)
    sink.open()
    sink.close(complete=True)
    assert names(tmp_path) == {left.name, "p.jsonl"}


@pytest.mark.parametrize("name", [".p.jsonl.export", ".p.jsonl.lock", ".p.jsonl.export.old"])
def test_planted_links(tmp_path: Path, name: str) -> None:
    """Symbolic links at the hidden names are never followed for writing or removing."""
    secret = tmp_path / "home"
    secret.mkdir()
    (secret / "00000001").write_text("precious")
    (tmp_path / name).symlink_to(secret if "export" in name else secret / "00000001")
    sink = JSONLSink(tmp_path / "p.jsonl")
    try:
        sink.open()
        sink.write([ONE])
        sink.commit({"at": 1})
        sink.close(complete=True)
    except ExportError as error:
        assert "p.jsonl" in str(error)  # noqa: PT017
        sink.close(complete=False)
    assert (secret / "00000001").read_text() == "precious"
    assert names(secret) == {"00000001"}


def test_planted_links_in_the_log(tmp_path: Path) -> None:
    """Symbolic links in the hidden folder are never followed for writing."""
    secret = tmp_path / "secret"
    secret.write_text("precious")
    sink = JSONLSink(tmp_path / "p.jsonl")
    sink.open()
    folder = tmp_path / ".p.jsonl.export"
    folder.mkdir()
    for name in ("00000001.new", "made0", "manifest.new", "manifest"):
        (folder / name).symlink_to(secret)
    sink.write([ONE])
    sink.commit({"at": 1, "account": {}})
    sink.close(complete=True)
    assert secret.read_text() == "precious"
    assert lines(tmp_path / "p.jsonl") == [ONE]
    assert not (tmp_path / "p.jsonl").is_symlink()


def test_segment_is_written_once(tmp_path: Path) -> None:
    """A segment cannot be written twice."""
    folder = LogFolder(tmp_path / "log")
    folder.put(1, [[b"o", b"ne"], [b"its items"]])
    with pytest.raises(FileExistsError):
        folder.put(1, [[b"two"], [b""]])
    assert (folder.get(1), folder.get(1, 1)) == (b"one", b"its items")
    assert folder.sizes() == {1: 12}
