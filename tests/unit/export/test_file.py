"""The file that is there when it is complete, and not before."""

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
from b2b_payments.export import ExportError, NewFile

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
    """Give a folder that everybody may enter."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def test_appears_whole(tmp_path: Path) -> None:
    """Until it is published there is a hidden file only, and then the file with all that was written."""
    file = NewFile(tmp_path / "payments.jsonl")
    assert list(tmp_path.iterdir()) == []
    file.open()
    file.write(b"one\n")
    (partial,) = tmp_path.iterdir()
    assert partial.name.startswith(".payments.jsonl.")
    file.write(b"two\n")
    file.publish()
    assert [path.name for path in tmp_path.iterdir()] == ["payments.jsonl"]
    assert (tmp_path / "payments.jsonl").read_bytes() == b"one\ntwo\n"


def test_discard_leaves_what_was_there(tmp_path: Path) -> None:
    """A discarded file leaves the folder as it was, and discarding again does nothing."""
    target = tmp_path / "payments.jsonl"
    target.write_text("last night's")
    file = NewFile(target)
    file.open()
    file.write(b"tonight's")
    file.discard()
    file.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["payments.jsonl"]
    assert target.read_text() == "last night's"


def test_replaces_and_keeps_permissions(tmp_path: Path) -> None:
    """A file that is replaced gives its permissions to the new one, while that is still hidden, too."""
    target = tmp_path / "payments.jsonl"
    target.write_text("old")
    target.chmod(0o600)
    file = NewFile(str(target))
    file.open()
    (partial,) = tmp_path.glob(".*")
    assert stat.S_IMODE(partial.stat().st_mode) == 0o600
    file.write(b"new")
    file.publish()
    assert target.read_text() == "new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_symbolic_link_stays(tmp_path: Path) -> None:
    """A symbolic link goes on pointing to where the file is replaced."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "payments.jsonl").write_text("old")
    link = tmp_path / "latest.jsonl"
    link.symlink_to("data/payments.jsonl")
    file = NewFile(link)
    file.open()
    file.write(b"new")
    file.publish()
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
        NewFile(path)
    assert str(path) in str(caught.value)
    assert problem in str(caught.value).replace("File name", "name")


def test_no_permission(shared: Path) -> None:
    """A folder and a file that this user may not write to are told of at once."""
    (shared / "payments.jsonl").touch(mode=0o444)
    with _without_privileges():
        if os.getuid() != _NOBODY:
            shared.chmod(0o555)
        with pytest.raises(ConfigurationError, match="write-protected"):
            NewFile(shared / "payments.jsonl")
        with pytest.raises(ConfigurationError, match="may not be written to"):
            NewFile(shared / "other.jsonl")
    shared.chmod(0o755)


def test_folder_gone(tmp_path: Path) -> None:
    """A folder that goes away after the check is an ExportError, which is one of the library's."""
    folder = tmp_path / "folder"
    folder.mkdir()
    file = NewFile(folder / "payments.jsonl")
    folder.rmdir()
    with pytest.raises(ExportError, match="could not be written: No such file or directory"):
        file.open()
    file.discard()
    assert issubclass(ExportError, B2BPaymentsError)


def test_disk_full(tmp_path: Path) -> None:
    """A write that finds no room says so, and nothing is left once it was discarded."""
    file = NewFile(tmp_path / "payments.jsonl")
    file.open()
    with _largest_file(1000):
        with pytest.raises(ExportError, match=r"payments\.jsonl could not be written: File too large"):
            file.write(b"x" * 100_000)
        file.discard()
    assert list(tmp_path.iterdir()) == []


def test_disk_full_at_the_end(tmp_path: Path) -> None:
    """Room that is missing only when the last bytes go to the disk leaves nothing either."""
    file = NewFile(tmp_path / "payments.jsonl")
    file.open()
    file.write(b"x" * 2000)  # held back until the file is finished
    with _largest_file(1000), pytest.raises(ExportError, match="File too large"):
        file.publish()
    assert list(tmp_path.iterdir()) == []


def test_not_open(tmp_path: Path) -> None:
    """Writing without having begun is a clear error."""
    with pytest.raises(ConfigurationError, match=r"call open\(\) first"):
        NewFile(tmp_path / "payments.jsonl").write(b"")
