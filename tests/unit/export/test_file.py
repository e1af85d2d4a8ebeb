"""The files that are there when they are complete, and not before."""

from __future__ import annotations

import os
import resource
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from b2b_payments import B2BPaymentsError, ConfigurationError
from b2b_payments.export import ExportError
from b2b_payments.export.partial import PartialFiles

_NOBODY = 65534


def _new_file(path: Path | str) -> PartialFiles:
    return PartialFiles(path, format_="jsonl")


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
    """Give a folder that everybody may enter."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def test_appears_whole(tmp_path: Path) -> None:
    """Until it is published there are hidden files only, and then the file with all that was written."""
    file = _new_file(tmp_path / "payments.jsonl")
    assert list(tmp_path.iterdir()) == []
    file.open()
    file.write(b"one\n")
    assert all(path.name.startswith(".payments.jsonl.") for path in tmp_path.iterdir())
    file.write(b"two\n")
    file.publish()
    file.close()
    assert [path.name for path in tmp_path.iterdir()] == ["payments.jsonl"]
    assert (tmp_path / "payments.jsonl").read_bytes() == b"one\ntwo\n"


def test_closing_leaves_what_was_there(tmp_path: Path) -> None:
    """What was not committed is removed on closing, and closing again does nothing."""
    target = tmp_path / "payments.jsonl"
    target.write_text("last night's")
    file = _new_file(target)
    file.open()
    file.write(b"tonight's")
    file.close()
    file.close()
    assert [path.name for path in tmp_path.iterdir()] == ["payments.jsonl"]
    assert target.read_text() == "last night's"


def test_replaces_and_keeps_permissions(tmp_path: Path) -> None:
    """A file that is replaced gives its permissions to the new one, while that is still hidden, too."""
    target = tmp_path / "payments.jsonl"
    target.write_text("old")
    target.chmod(0o600)
    file = _new_file(str(target))
    file.open()
    (partial,) = tmp_path.glob(".*.partial")
    assert stat.S_IMODE(partial.stat().st_mode) == 0o600
    file.write(b"new")
    file.publish()
    file.close()
    assert target.read_text() == "new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_symbolic_link_stays(tmp_path: Path) -> None:
    """A symbolic link goes on pointing to where the file is replaced."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "payments.jsonl").write_text("old")
    link = tmp_path / "latest.jsonl"
    link.symlink_to("data/payments.jsonl")
    file = _new_file(link)
    file.open()
    file.write(b"new")
    file.publish()
    file.close()
    assert link.is_symlink()
    assert (tmp_path / "data" / "payments.jsonl").read_text() == "new"


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "folder; name a file in it"),
        ("nowhere/payments.jsonl", "nowhere is not a folder"),
        ("fifo", "not a plain file"),
        ("file/payments.jsonl", "file is not a folder"),
        (f"{'n' * 300}.jsonl", "name too long"),
    ],
)
def test_unwritable_path(tmp_path: Path, name: str, problem: str) -> None:
    """A path that cannot be written to is told of at once, in a sentence with the path and the reason."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").touch()
    path = tmp_path / name
    with pytest.raises(ConfigurationError, match="cannot be written") as caught:
        _new_file(path)
    assert str(path) in str(caught.value)
    assert problem in str(caught.value).replace("File name", "name")


def test_no_permission(shared: Path) -> None:
    """A folder and a file that this user may not write to are told of at once."""
    (shared / "payments.jsonl").touch(mode=0o444)
    with _without_privileges():
        if os.getuid() != _NOBODY:
            shared.chmod(0o555)
        with pytest.raises(ConfigurationError, match="write-protected"):
            _new_file(shared / "payments.jsonl")
        with pytest.raises(ConfigurationError, match="may not be written to"):
            _new_file(shared / "other.jsonl")
    shared.chmod(0o755)


def test_folder_gone(tmp_path: Path) -> None:
    """A folder that goes away after the check is an ExportError, which is one of the library's."""
    folder = tmp_path / "folder"
    folder.mkdir()
    file = _new_file(folder / "payments.jsonl")
    folder.rmdir()
    with pytest.raises(ExportError, match="could not be written: No such file or directory"):
        file.open()
    file.close()
    assert issubclass(ExportError, B2BPaymentsError)


def test_disk_full(tmp_path: Path) -> None:
    """A write that finds no room says so, and nothing is left once it was discarded."""
    file = _new_file(tmp_path / "payments.jsonl")
    file.open()
    with _largest_file(1000):
        with pytest.raises(ExportError, match=r"payments\.jsonl could not be written: File too large"):
            file.write(b"x" * 100_000)
        file.close()
    assert list(tmp_path.iterdir()) == []


def test_disk_full_at_the_end(tmp_path: Path) -> None:
    """Room that is missing only when the last bytes go to the disk leaves nothing either."""
    file = _new_file(tmp_path / "payments.jsonl")
    file.open()
    file.write(b"x" * 2000)  # held back until the file is finished
    with _largest_file(1000):
        with pytest.raises(ExportError, match="File too large"):
            file.publish()
        file.close()
    assert list(tmp_path.iterdir()) == []


def test_not_open(tmp_path: Path) -> None:
    """Writing without having begun is a clear error."""
    with pytest.raises(ConfigurationError, match=r"call open\(\) first"):
        _new_file(tmp_path / "payments.jsonl").write(b"")


def test_one_at_a_time(tmp_path: Path) -> None:
    """A second export to the same place is refused while the first one runs, and disturbs nothing."""
    first, second = _new_file(tmp_path / "payments.jsonl"), _new_file(tmp_path / "payments.jsonl")
    first.open()
    first.write(b"one\n")
    with pytest.raises(ExportError, match=r"Another export or sync is writing .*; wait until it has ended"):
        second.open()
    second.close()
    first.publish()
    first.close()
    assert (tmp_path / "payments.jsonl").read_bytes() == b"one\n"
    second = _new_file(tmp_path / "payments.jsonl")
    second.open()
    second.close()
    assert [path.name for path in tmp_path.iterdir()] == ["payments.jsonl"]


def test_goes_on_behind_the_commit(tmp_path: Path) -> None:
    """What was written after the last commit is cut off on resuming, and what was before it stays."""
    file = _new_file(tmp_path / "payments.jsonl")
    file.open()
    file.write(b"one\n")
    file.commit({"at": 1})
    file.write(b"lost\n" * 100_000)
    file.close()
    assert file.kept
    again = _new_file(tmp_path / "payments.jsonl")
    assert again.resume() == {"at": 1}
    again.write(b"two\n")
    again.publish()
    again.close()
    assert (tmp_path / "payments.jsonl").read_bytes() == b"one\ntwo\n"
    assert [path.name for path in tmp_path.iterdir()] == ["payments.jsonl"]


def test_beginning_anew_drops_what_was_kept(tmp_path: Path) -> None:
    """An export that begins anew takes nothing over from one that was interrupted."""
    file = _new_file(tmp_path / "payments.jsonl")
    file.open()
    file.write(b"one\n")
    file.commit({"at": 1})
    file.close()
    again = _new_file(tmp_path / "payments.jsonl")
    again.open()
    again.close()
    assert list(tmp_path.iterdir()) == []
    assert again.resume() is None
    again.close()


@pytest.mark.parametrize("state", [b"{", b"[]", b'{"version":9}'])
def test_unreadable_state(tmp_path: Path, state: bytes) -> None:
    """A checkpoint file that cannot be read is told of by name, and is not overwritten."""
    kept = tmp_path / ".payments.jsonl.checkpoint"
    kept.write_bytes(state)
    file = _new_file(tmp_path / "payments.jsonl")
    with pytest.raises(ExportError, match=r"cannot be read; remove .*\.payments\.jsonl\.checkpoint"):
        file.resume()
    file.close()
    assert kept.read_bytes() == state


def test_missing_bytes(tmp_path: Path) -> None:
    """A hidden file that has become shorter than what was committed is not gone on with."""
    file = _new_file(tmp_path / "payments.jsonl")
    file.open()
    file.write(b"one\n")
    file.commit({"at": 1})
    file.close()
    file.partial.write_bytes(b"o")
    with pytest.raises(ExportError, match=r"is shorter than it was. Begin anew"):
        file.resume()
    file.close()
