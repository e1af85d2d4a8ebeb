"""The files that are there when they are complete, and not before, and the log that they are made of."""

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
from b2b_payments.export import CSVSink, ExportError, JSONLSink, SQLiteSink
from tests.support.exporting import ONE, TWO, interrupted, lines, names

_NOBODY = 65534


@contextmanager
def _largest_file(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond this size, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def _without_privileges() -> Iterator[None]:
    """Be nobody, where the tests run as root, who may write everywhere."""
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
    """Yield a folder that everybody may enter."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def test_appears_whole(tmp_path: Path) -> None:
    """Until it is complete there are hidden files only, which nobody else may read, and then the file."""
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


def test_closing_leaves_what_was_there(tmp_path: Path) -> None:
    """What was not committed is removed on closing, and closing again does nothing."""
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
    """A symbolic link goes on pointing to where the file is replaced."""
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
        (f"{'n' * 244}.jsonl", "name too long"),  # with the manifest's ending
        ("caf\udce9.jsonl", "not UTF-8"),
        ("zero\0.jsonl", "not a valid file name"),
    ],
)
@pytest.mark.parametrize("sink", [JSONLSink, CSVSink, SQLiteSink])
def test_unwritable_path(tmp_path: Path, name: str, problem: str, sink: Any) -> None:
    """A path that cannot be written to is refused at once, in a sentence with the path and the reason."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot be written") as caught:
        sink(tmp_path / name)
    assert str(tmp_path) in str(caught.value)
    assert problem in str(caught.value).replace("File name", "name")
    str(caught.value).encode()


def test_no_permission(shared: Path) -> None:
    """A folder and a file that this user may not write to are refused at once."""
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
    """A folder that goes away after the check is an ExportError, which is one of the library's."""
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
    """A write that finds no room says so, and nothing is left, whether it is a commit or the end."""
    sink = JSONLSink(tmp_path / "payments.jsonl")
    sink.open()
    sink.write([{"id": 1, "text": "x" * 100_000}])
    with _largest_file(1000):
        with pytest.raises(ExportError, match=r"payments\.jsonl could not be written: File too large"):
            sink.close(complete=True) if complete else sink.commit({"at": 1})
        sink.close(complete=False)
    assert names(tmp_path) == set()


def test_not_open(tmp_path: Path) -> None:
    """Writing without having begun is a clear error."""
    with pytest.raises(ConfigurationError, match=r"call open\(\) first"):
        JSONLSink(tmp_path / "payments.jsonl").write([ONE])


def test_one_at_a_time(tmp_path: Path) -> None:
    """A second export to the same place is refused while the first one runs, and disturbs nothing."""
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
def test_forgotten(tmp_path: Path, sink: Any) -> None:
    """A sink that was never closed keeps nobody away once it is gone, whenever garbage is collected."""
    gc.disable()
    try:
        for _ in range(2):
            sink(tmp_path / "payments").open()
    finally:
        gc.enable()


@pytest.mark.parametrize("begin", [JSONLSink.open, JSONLSink.resume])
def test_beginning_drops_what_waits(tmp_path: Path, begin: Callable[[JSONLSink], object]) -> None:
    """A sink that begins once more has nothing left of what was written and never committed."""
    path = tmp_path / "payments.jsonl"
    sink = JSONLSink(path)
    sink.open()
    sink.write([ONE])
    begin(sink)
    sink.write([TWO])
    sink.close(complete=True)
    assert lines(path) == [TWO]


def test_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without locks is refused in a sentence, before anything is written."""

    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", flock)
    sink = JSONLSink(tmp_path / "payments.jsonl")
    with pytest.raises(ExportError, match=r"cannot be locked \(No locks available\): use a folder"):
        sink.open()
    sink.close(complete=False)
    assert not sink.kept


@pytest.mark.parametrize("after", [0, 1, 5])
def test_goes_on_behind_the_commit(tmp_path: Path, after: int) -> None:
    """What was written after the last commit is dropped on resuming, and what was before it stays."""
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


def test_beginning_again_drops_what_was_kept(tmp_path: Path) -> None:
    """An export that starts again takes nothing over from one that was interrupted."""
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
sys.modules["fcntl"] = None
for name in ("fchmod", "O_CLOEXEC", "O_NOFOLLOW"):
    delattr(os, name)
from b2b_payments.export import ExportError, JSONLSink, SQLiteSink
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
    """Where the system has nothing of POSIX beyond Python's own, exports work, and one at a time."""
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
