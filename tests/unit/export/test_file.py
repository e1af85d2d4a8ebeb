"""Files that appear only when they are complete, and the log that they are made from."""

from __future__ import annotations

import errno
import gc
import json
import os
import resource
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from b2b_payments import B2BPaymentsError, ConfigurationError
from b2b_payments.export import CSVSink, ExportError, JSONLSink, SQLiteSink, sink_for, verify
from tests.support.exporting import ONE, ROWS, TWO, exported, interrupted, lines, names

_NOBODY = 65534


@contextmanager
def _largest_file(size: int) -> Iterator[None]:
    """Limit the size of files that this process writes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def _without_privileges() -> Iterator[None]:
    """Run as nobody if the tests run as root, who may write everywhere."""
    root = os.getuid() == 0
    if root:
        os.setresuid(_NOBODY, _NOBODY, 0)
    try:
        yield
    finally:
        if root:
            os.setresuid(0, 0, 0)


@pytest.fixture
def shared() -> Iterator[Path]:
    """Yield a folder that all users may enter."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def test_appears_whole(tmp_path: Path) -> None:
    """Until the export is complete there are only hidden files, which no other user may read."""
    path = tmp_path / "payments.jsonl"
    sink = JSONLSink(path)
    assert names(tmp_path) == set()
    sink.open()
    sink.write([ONE])
    sink.commit({"at": 1})
    assert names(tmp_path) == {".payments.jsonl.export", ".payments.jsonl.lock"}
    assert stat.S_IMODE((tmp_path / ".payments.jsonl.export").stat().st_mode) == 0o700
    sink.write([TWO])
    sink.close(complete=True)
    assert names(tmp_path) == {"payments.jsonl"}
    assert lines(path) == [ONE, TWO]


def test_closing_keeps_the_older_file(tmp_path: Path) -> None:
    """Closing removes what was not committed, and keeps the older file. Closing again does nothing."""
    target = tmp_path / "payments.jsonl"
    target.write_text("last night's")
    sink = JSONLSink(target)
    sink.open()
    sink.write([ONE])
    sink.close(complete=False)
    sink.close(complete=False)
    assert names(tmp_path) == {"payments.jsonl"}
    assert target.read_text() == "last night's"


def test_symbolic_link_stays(tmp_path: Path) -> None:
    """A symbolic link stays, and the file that it points to is replaced."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "payments.jsonl").write_text("old")
    link = tmp_path / "latest.jsonl"
    link.symlink_to("data/payments.jsonl")
    sink = JSONLSink(link)
    sink.open()
    sink.write([ONE])
    sink.close(complete=True)
    assert link.is_symlink()
    assert lines(tmp_path / "data" / "payments.jsonl") == [ONE]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "folder; name a file in it"),
        ("nowhere/payments.jsonl", "nowhere is not a folder"),
        ("fifo", "not a plain file"),
        ("file/payments.jsonl", "file is not a folder"),
        (f"{'n' * 300}.jsonl", "name too long"),
        (f"{'n' * 244}.jsonl", "name too long"),  # with the manifest's suffix
        ("caf\udce9.jsonl", "not UTF-8"),
        ("zero\0.jsonl", "not a valid file name"),
        ("loop", "its symbolic links form a loop"),
        ("loop/payments.jsonl", "loop is not a folder"),
    ],
)
@pytest.mark.parametrize("sink", [JSONLSink, CSVSink, SQLiteSink])
def test_unwritable_path(tmp_path: Path, name: str, problem: str, sink: Any) -> None:
    """A path that is not writable is refused at once, with an error that names the path and the reason."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("another")
    (tmp_path / "another").symlink_to("loop")
    with pytest.raises(ConfigurationError, match="cannot be written") as caught:
        sink(tmp_path / name)
    assert str(tmp_path) in str(caught.value)
    assert problem in str(caught.value).replace("File name", "name")
    str(caught.value).encode()


@pytest.mark.parametrize(("format_", "extra"), [("jsonl", 25), ("csv", 28), ("sqlite", 25)])
def test_longest_names(tmp_path: Path, format_: str, extra: int) -> None:
    """An export is refused at once if an incomplete one beside an older one would have too long a name."""
    longest = 255 - extra - len(f".{format_}")
    for length, problem in (
        (longest, None),
        (longest + 1, r"incomplete.* cannot be written: File name too long"),
    ):
        path = tmp_path / f"{'n' * length}.{format_}"
        exported(sink_for(path))
        sink = sink_for(path)
        if problem is None:
            assert exported(sink, ROWS[:2], complete=False).instead is not None
            continue
        with pytest.raises(ConfigurationError, match=problem):
            sink.open()
        sink.close(complete=False)
        assert verify(path).account.complete


@pytest.mark.parametrize(
    "name", ["p.jsonl.manifest.json", "p.incomplete.jsonl", "p.incomplete.jsonl.manifest.json"]
)
def test_folder_in_place_of_a_file(tmp_path: Path, name: str) -> None:
    """A folder in place of a file that the export may have to write is refused at once."""
    path = tmp_path / "p.jsonl"
    if "incomplete" in name:
        exported(JSONLSink(path))
    (tmp_path / name).mkdir()
    with pytest.raises(ConfigurationError, match=f"{name} cannot be written: it is a folder"):
        JSONLSink(path).open()


def test_lock_with_content_stays(tmp_path: Path) -> None:
    """A user's file at the name of the lock is refused, and stays."""
    lock = tmp_path / ".p.jsonl.lock"
    lock.write_text("mine")
    with pytest.raises(
        ExportError, match=r"\.p\.jsonl\.lock is not the lock of an export: move it elsewhere"
    ):
        exported(JSONLSink(tmp_path / "p.jsonl"))
    assert lock.read_text() == "mine"


def test_no_permission(shared: Path) -> None:
    """A write-protected folder or file is refused at once."""
    (shared / "payments.jsonl").touch(mode=0o444)
    with _without_privileges():
        if os.getuid() != _NOBODY:
            shared.chmod(0o555)
        with pytest.raises(ConfigurationError, match="write-protected"):
            JSONLSink(shared / "payments.jsonl")
        with pytest.raises(ConfigurationError, match=r"the folder .* is write-protected"):
            JSONLSink(shared / "other.jsonl")
    shared.chmod(0o755)


def test_folder_gone(tmp_path: Path) -> None:
    """A folder that is removed after the check raises ExportError, one of the library's errors."""
    folder = tmp_path / "folder"
    folder.mkdir()
    sink = JSONLSink(folder / "payments.jsonl")
    folder.rmdir()
    with pytest.raises(ExportError, match="could not be written: No such file or directory"):
        sink.open()
    sink.close(complete=False)
    assert issubclass(ExportError, B2BPaymentsError)


@pytest.mark.parametrize("complete", [True, False])
def test_disk_full(tmp_path: Path, *, complete: bool) -> None:
    """A full disk raises a clear error, at a commit or at the end, and nothing is left."""
    sink = JSONLSink(tmp_path / "payments.jsonl")
    sink.open()
    sink.write([{"id": 1, "text": "x" * 100_000}])
    with _largest_file(1000):
        with pytest.raises(ExportError, match=r"payments\.jsonl could not be written: File too large"):
            sink.close(complete=True) if complete else sink.commit({"at": 1})
        sink.close(complete=False)
    assert names(tmp_path) == set()


def test_not_open(tmp_path: Path) -> None:
    """Writing to a sink that is not open raises a clear error."""
    with pytest.raises(ConfigurationError, match=r"call open\(\) first"):
        JSONLSink(tmp_path / "payments.jsonl").write([ONE])


def test_one_export_at_a_time(tmp_path: Path) -> None:
    """A second export to the same path is refused while the first one runs, and does not disturb it."""
    path = tmp_path / "payments.jsonl"
    first, second = JSONLSink(path), JSONLSink(path)
    first.open()
    first.write([ONE])
    with pytest.raises(ExportError, match=r"Another export or sync is writing .*; wait until it has ended"):
        second.open()
    second.close(complete=False)
    first.close(complete=True)
    assert lines(path) == [ONE]
    second = JSONLSink(path)
    second.open()
    second.close(complete=False)
    assert names(tmp_path) == {"payments.jsonl"}


@pytest.mark.parametrize("sink", [JSONLSink, CSVSink])
def test_dropped_sink_releases_its_locks(tmp_path: Path, sink: Any) -> None:
    """A sink that was never closed releases its locks when it is dropped, without garbage collection."""
    gc.disable()
    try:
        for _ in range(2):
            sink(tmp_path / "payments").open()
    finally:
        gc.enable()


@pytest.mark.parametrize("begin", [JSONLSink.open, JSONLSink.resume])
def test_opening_again_drops_uncommitted_rows(tmp_path: Path, begin: Callable[[JSONLSink], object]) -> None:
    """Opening or resuming a sink again drops rows that were written but not committed."""
    path = tmp_path / "payments.jsonl"
    sink = JSONLSink(path)
    sink.open()
    sink.write([ONE])
    begin(sink)
    sink.write([TWO])
    sink.close(complete=True)
    assert lines(path) == [TWO]


def test_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without locks is refused with a clear error, before anything is written."""

    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", flock)
    sink = JSONLSink(tmp_path / "payments.jsonl")
    with pytest.raises(ExportError, match=r"cannot be locked \(No locks available\): use a folder"):
        sink.open()
    sink.close(complete=False)
    assert not sink.kept


@pytest.mark.parametrize("after", [0, 1, 5])
def test_resumes_after_the_last_commit(tmp_path: Path, after: int) -> None:
    """Resuming drops rows written after the last commit, and keeps those before it."""
    path = tmp_path / "payments.jsonl"
    sink = JSONLSink(path)
    sink.open()
    sink.write([ONE])
    sink.commit({"at": 1})
    for _ in range(after):
        sink.write([{"id": 9}])
        sink.commit(None)  # put down, but nothing to go on from
    sink.write([{"id": 8}])
    sink.close(complete=False)
    again = JSONLSink(path)
    assert again.resume() == {"at": 1}
    again.write([TWO])
    again.close(complete=True)
    assert lines(path) == [ONE, TWO]
    assert names(tmp_path) == {"payments.jsonl"}


def test_new_export_drops_an_interrupted_one(tmp_path: Path) -> None:
    """A new export keeps nothing of an interrupted one."""
    path = tmp_path / "payments.jsonl"
    interrupted(path, ONE)
    again = JSONLSink(path)
    again.open()
    again.close(complete=False)
    assert names(tmp_path) == set()
    assert again.resume() is None
    again.close(complete=False)


_ELSEWHERE = """
import os, sys
sys.modules["fcntl"] = sys.modules["resource"] = None
for name in ("fchmod", "O_CLOEXEC", "O_NOFOLLOW"):
    delattr(os, name)
from b2b_payments.export import ExportError, JSONLSink, SQLiteSink
import b2b_payments.sync
first, second = JSONLSink("p.jsonl"), JSONLSink("p.jsonl")
first.open()
try:
    second.open()
except ExportError as error:
    print(error)
first.write([{"id": 1}])
first.commit({"at": 1})
first.close(complete=True)
print(open("p.jsonl").read())
"""


@pytest.mark.slow
def test_without_posix(tmp_path: Path) -> None:
    """Exports work without POSIX functions, and still one at a time."""
    ran = subprocess.run(
        [sys.executable, "-c", _ELSEWHERE],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert not ran.returncode, ran.stderr
    refused, line, *_ = ran.stdout.splitlines()
    assert "Another export or sync is writing" in refused
    assert json.loads(line) == ONE
    assert names(tmp_path) == {"p.jsonl"}


def test_large_batches_are_written_before_the_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit into memory is written before it is committed, and not resumed without a commit."""
    monkeypatch.setattr("b2b_payments.export._placed._MAX_BUFFER", 5)
    path = tmp_path / "p.jsonl"
    sink = JSONLSink(path)
    sink.open()
    sink.write([ONE])
    sink.write([TWO])
    assert {"00000001", "00000002"} <= names(tmp_path / ".p.jsonl.export")
    sink.close(complete=False)
    sink = JSONLSink(path)
    assert sink.resume() is None
    sink.write([ONE])
    sink.write([TWO])
    sink.commit({"at": 2})
    sink.close(complete=True)
    assert lines(path) == [ONE, TWO]
