"""Logs that are damaged, forged, or from an earlier version: none is resumed or published."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from b2b_payments.export import (
    CSVSink,
    ExportError,
    JSONLSink,
    SQLiteSink,
    VerificationError,
    sink_for,
    verify,
)
from b2b_payments.export._account import Account
from b2b_payments.export._location import location_of
from b2b_payments.export._log import LogFolder
from tests.support.export_reading import account_of
from tests.support.exporting import ONE, ROWS, TWO, exported, interrupted, lines, names, written


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
    says = "has the format 'jsonl', not 'csv'" if damage == "another format" else "cannot be used: a segment "
    with pytest.raises(ExportError, match=says):
        sink.resume()
    sink.close(complete=False)
    assert sink.kept


def test_any_changed_byte_of_a_header(tmp_path: Path) -> None:
    """A header in which any byte was changed is not resumed, unless all of its fields are as they were."""
    path = tmp_path / "payments.jsonl"
    segment = interrupted(path, ONE, TWO) / "00000002"
    before = segment.read_bytes()
    refused = 0
    for place in range(before.index(b"\n") + 1):
        segment.write_bytes(before[:place] + bytes([before[place] ^ 1]) + before[place + 1 :])
        sink = JSONLSink(path)
        try:
            assert sink.resume() == {"at": 2}
        except ExportError as error:
            assert "cannot be used" in str(error)  # noqa: PT017
            refused += 1
        sink.close(complete=False)
    assert refused > 100


def test_header_without_a_checksum(tmp_path: Path) -> None:
    """An export that was interrupted before headers had a checksum of themselves is resumed."""
    path = tmp_path / "payments.jsonl"
    folder = interrupted(path, ONE, TWO)
    first, last = folder / "00000001", folder / "00000002"
    for segment in (first, last):
        header, _, rows = segment.read_bytes().partition(b"\n")
        older = msgspec.json.decode(header)
        del older["own_crc32"]
        older["before"] = first.stat().st_size if segment is last else 0
        segment.write_bytes(msgspec.json.encode(older) + b"\n" + rows)
    sink = JSONLSink(path)
    assert sink.resume() == {"at": 2}
    sink.close(complete=True)
    assert lines(path) == [ONE, TWO]


@pytest.mark.parametrize("total", ["1E+500", "1E-500", "1E+999999999", "9" * 500, "NaN", "Infinity"])
@pytest.mark.parametrize("of_all", [True, False])
def test_totals_that_are_no_sums(total: str, *, of_all: bool) -> None:
    """An account with a total that no payments add up to is refused, before anything is added to it."""
    packed = account_of(ROWS)
    assert Account.unpack(packed).pack() == packed
    (packed if of_all else next(iter(packed["statuses"].values())))["totals"]["USD"] = total
    with pytest.raises(ValueError, match="total"):
        Account.unpack(packed)


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


@pytest.mark.parametrize("begin", [JSONLSink.open, JSONLSink.resume])
@pytest.mark.parametrize("folder", [".p.jsonl.export", ".p.jsonl.export.old"])
@pytest.mark.parametrize(
    ("name", "create"),
    [
        ("notes.txt", Path.touch),
        ("00000001", Path.mkdir),
        ("00000001", os.mkfifo),
        ("manifest.new", lambda path: path.symlink_to("/dev/zero")),
        (".", lambda path: (path.rmdir(), path.write_text("mine"))),
    ],
)
def test_planted_in_the_place_of_the_log(
    tmp_path: Path,
    begin: Callable[[JSONLSink], object],
    folder: str,
    name: str,
    create: Callable[[Path], object],
) -> None:
    """If the place of the log holds anything that no export creates, it is refused at once, and stays."""
    (tmp_path / folder).mkdir()
    create(tmp_path / folder / name)
    kind = stat.S_IFMT((tmp_path / folder / name).lstat().st_mode)
    says = rf"{folder} (holds '{name}', which no export created: move|was not created by an export: remove)"
    sink = JSONLSink(tmp_path / "p.jsonl")
    with pytest.raises(ExportError, match=says):
        begin(sink)
    sink.close(complete=False)
    with pytest.raises(ExportError, match=says):
        location_of(tmp_path / "p.jsonl").clean()
    assert stat.S_IFMT((tmp_path / folder / name).lstat().st_mode) == kind


def test_link_in_place_of_the_old_log(tmp_path: Path) -> None:
    """A link that appears where the log is moved at the end keeps its target's files, and the export ends."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for name in ("manifest", "00000001"):
        (theirs / name).touch()
    sink = JSONLSink(tmp_path / "p.jsonl")
    sink.open()
    sink.write([ONE])
    sink.commit({"at": 1})
    (tmp_path / ".p.jsonl.export.old").symlink_to(theirs)
    sink.close(complete=True)
    assert lines(tmp_path / "p.jsonl") == [ONE]
    assert names(theirs) == {"manifest", "00000001"}
    assert names(tmp_path) == {"p.jsonl", "theirs", ".p.jsonl.export.old"}


def test_hidden_files_in_the_log(tmp_path: Path) -> None:
    """Hidden files, which operating systems put into any folder, do not prevent an export."""
    for round_ in range(2):
        interrupted(tmp_path / "p.jsonl", ONE)
        (tmp_path / ".p.jsonl.export" / ".DS_Store").touch()
        (tmp_path / ".p.jsonl.export" / ".nfs0001").touch()
        sink = JSONLSink(tmp_path / "p.jsonl")
        assert sink.resume() == {"at": 1}, round_
        sink.write([TWO])
        sink.close(complete=True)
        assert lines(tmp_path / "p.jsonl") == [ONE, TWO]
        assert not JSONLSink(tmp_path / "p.jsonl").kept


@pytest.mark.parametrize("format_", ["csv", "parquet", "duckdb"])
def test_files_of_a_kill_while_publishing(tmp_path: Path, format_: str) -> None:
    """Half-made files that a kill left in the log do not prevent resuming."""
    path = tmp_path / f"p.{format_}"
    sink = sink_for(path)
    written(sink, ROWS[:8])
    sink.close(complete=False)
    for name in ("made0", "made1", "tmp_made0", "manifest", "manifest.new", "00000009.1.new"):
        (tmp_path / f".p.{format_}.export" / name).write_bytes(b"half")
    exported(sink_for(path), resume=True)
    assert verify(path).account.sums.whole.rows == len(ROWS)
    assert not [one for one in names(tmp_path) if one.startswith(".")]


def test_foreign_file_arrives_during_an_export(tmp_path: Path) -> None:
    """A file that a user puts into the log's folder during the export stays, and the export is published."""
    sink = JSONLSink(tmp_path / "p.jsonl")
    sink.open()
    sink.write([ONE])
    sink.commit({"at": 1})
    (tmp_path / ".p.jsonl.export" / "notes.txt").touch()
    sink.close(complete=True)
    assert names(tmp_path) == {"p.jsonl", ".p.jsonl.export.old"}
    assert names(tmp_path / ".p.jsonl.export.old") == {"notes.txt"}


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give files away")
@pytest.mark.parametrize("begin", [JSONLSink.open, JSONLSink.resume])
def test_log_of_another_user(tmp_path: Path, begin: Callable[[JSONLSink], object]) -> None:
    """The log of another user, who may have forged it, is neither resumed nor removed."""
    path = tmp_path / "p.jsonl"
    folder = interrupted(path, ONE)
    os.chown(folder, 12345, 12345)
    sink = JSONLSink(path)
    assert not sink.kept
    with pytest.raises(ExportError, match=r"belongs to another user: export as that user, or remove it\."):
        begin(sink)
    sink.close(complete=False)
    assert names(folder) == {"00000001"}


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give files away")
def test_log_of_another_user_planted_after_the_start(tmp_path: Path) -> None:
    """Nothing is written into a folder that another user creates in the log's place during the export."""
    folder = tmp_path / ".p.jsonl.export"
    sink = JSONLSink(tmp_path / "p.jsonl")
    sink.open()
    folder.mkdir(0o777)
    os.chown(folder, 12345, 12345)
    sink.write([ONE])
    with pytest.raises(ExportError, match="belongs to another user"):
        sink.commit({"at": 1})
    sink.close(complete=False)
    assert not any(tmp_path.rglob("0*"))


def test_log_on_a_file_system_with_one_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that gives all files to one user does not make a log that of another user."""
    path = tmp_path / "p.jsonl"
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    interrupted(path, ONE)
    sink = JSONLSink(path)
    assert sink.resume() == {"at": 1}
    sink.close(complete=True)
    assert lines(path) == [ONE]


def test_fifo_in_place_of_a_file(tmp_path: Path) -> None:
    """A FIFO in place of a file that is read is refused at once, instead of being waited for."""
    path, manifest = tmp_path / "p.csv", tmp_path / "p.csv.manifest.json"
    exported(CSVSink(path))
    (tmp_path / "p.line_items.csv").unlink()
    os.mkfifo(tmp_path / "p.line_items.csv")
    with pytest.raises(VerificationError, match=r"p\.line_items\.csv could not be read: it is not a regular"):
        verify(path)
    manifest.unlink()
    os.mkfifo(manifest)
    with pytest.raises(ExportError, match=r"could not be read: it is not a regular file\."):
        verify(path)
    (tmp_path / "p.line_items.csv").unlink()
    exported(CSVSink(tmp_path / "p"))


@pytest.mark.parametrize("total", ["9" * 100, "0." + "9" * 100], ids=["whole", "fraction"])
@pytest.mark.parametrize("status", [True, False])
def test_messages_are_short(tmp_path: Path, total: str, *, status: bool) -> None:
    """A difference is stated in one short sentence, however long the amounts in the manifest are."""
    path, manifest = tmp_path / "p.jsonl", tmp_path / "p.jsonl.manifest.json"
    exported(JSONLSink(path))
    packed = msgspec.json.decode(manifest.read_bytes())
    (next(iter(packed["statuses"].values())) if status else packed)["totals"]["USD"] = total
    manifest.write_bytes(msgspec.json.encode(packed))
    with pytest.raises(VerificationError, match=r"now .*, but .* when it was exported\.") as caught:
        verify(path)
    assert len(str(caught.value)) < 400 + len(str(path))


def test_segment_is_written_once(tmp_path: Path) -> None:
    """A segment cannot be written twice."""
    folder = LogFolder(tmp_path / "log")
    folder.put(1, [[b"o", b"ne"], [b"its items"]])
    with pytest.raises(FileExistsError):
        folder.put(1, [[b"two"], [b""]])
    assert (folder.get(1), folder.get(1, 1)) == (b"one", b"its items")
    assert folder.sizes() == {1: 12}
