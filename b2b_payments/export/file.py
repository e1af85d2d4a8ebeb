"""A file that is there when it is complete, and not before."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from b2b_payments.errors import B2BPaymentsError, ConfigurationError

PathLike = str | os.PathLike[str]


class ExportError(B2BPaymentsError):
    """What was exported could not be written: the disk is full, or the place went away."""


class NewFile:
    """A file written beside its target under a hidden name, and moved into place once complete.

    A file that stands there already is replaced in one step: whoever reads it sees the old one or the new
    one, never a part. The new one takes over its permissions. A symbolic link is followed, and stays a link.
    A process that is killed outright can leave a hidden `.NAME.….partial` behind, which is safe to delete.

    Raises ConfigurationError for a path that cannot be written to, before anything is.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path)
        self._target = _writable(self.path)
        self._begun: tuple[Path, BinaryIO] | None = None

    def open(self) -> None:
        """Begin the file under its hidden name. Raises ExportError."""
        partial = self._target.with_name(f".{self._target.name}.{secrets.token_hex(4)}.partial")
        with writing(self.path):
            file = partial.open("xb")
        self._begun = partial, file
        # At once, not at the end: what others may not read they may not read while it grows either.
        with suppress(OSError):
            os.fchmod(file.fileno(), stat.S_IMODE(self._target.stat().st_mode))

    def write(self, data: bytes) -> None:
        """Write behind what was written. Raises ExportError."""
        _, file = self._opened()
        with writing(self.path):
            file.write(data)

    def publish(self) -> None:
        """Make the file durable, and let it appear under its name.

        Raises ExportError, and then leaves nothing behind.
        """
        partial, file = self._opened()
        try:
            with writing(self.path):
                file.flush()
                os.fsync(file.fileno())
                file.close()
                partial.replace(self._target)
        except ExportError:
            self.discard()
            raise
        self._begun = None
        # Not every file system lets a folder be synchronised; the file is whole either way.
        with suppress(OSError):
            _sync_folder(self._target.parent)

    def discard(self) -> None:
        """Remove what was written. Nothing happens where there is nothing."""
        if self._begun is None:
            return
        (partial, file), self._begun = self._begun, None
        # Closing writes what is still held back, which on a full disk fails once more.
        with suppress(OSError):
            file.close()
        with suppress(OSError):
            partial.unlink()

    def _opened(self) -> tuple[Path, BinaryIO]:
        if self._begun is None:
            raise ConfigurationError(f"{self.path} is not open: call open() first.")
        return self._begun


class LentStream:
    """A stream of the caller's, such as standard output: written as it comes, and left open."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def open(self) -> None:
        """Nothing is to be made ready."""

    def write(self, data: bytes) -> None:
        """Write and pass on at once. Raises ExportError, BrokenPipeError where nobody reads any more."""
        with writing("The output"):
            self._stream.write(data)
            self._stream.flush()

    def publish(self) -> None:
        """Everything was passed on."""

    def discard(self) -> None:
        """What was passed on cannot be taken back."""


@contextmanager
def writing(what: object) -> Iterator[None]:
    """Turn an error of the operating system into a sentence. Raises ExportError."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ExportError(f"{what} could not be written: {_reason(error)}.") from None


def _writable(path: Path) -> Path:
    """Check that a file can be put there, and give the place with links resolved."""
    try:
        target = Path(os.path.realpath(path))
        if (problem := _problem(target)) is None:
            return target
    except OSError as error:
        problem = _reason(error)
    raise ConfigurationError(f"{path} cannot be written: {problem}.")


def _problem(target: Path) -> str | None:
    folder = target.parent
    if target.is_dir():
        return "it is a folder; name a file in it"
    if target.exists():
        if not target.is_file():
            return "it is not a plain file"
        if not os.access(target, os.W_OK):
            return "it is write-protected"
    if not folder.is_dir():
        return f"{folder} is not a folder"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"the folder {folder} may not be written to"
    return None


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
