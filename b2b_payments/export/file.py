"""Places to write to: checked, locked, and their errors as sentences."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from b2b_payments.errors import B2BPaymentsError, ConfigurationError

PathLike = str | os.PathLike[str]


class ExportError(B2BPaymentsError):
    """What was exported could not be written: the disk is full, or the place went away."""


class Lock:
    """Keeps two exports from writing to the same place at once, in this process or another.

    It is the kernel's lock on a hidden file `.NAME.lock`, and ends with the process, however that ends.
    """

    def __init__(self, target: Path) -> None:
        self._path = target.with_name(f".{target.name}.lock")
        self._held: int | None = None
        self._target = target

    def acquire(self) -> None:
        """Take it. Raises ExportError where another export has it."""
        while self._held is None:
            with writing(self._target):
                descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Whoever had it may have removed the file in between: then this is the lock of nothing.
                if os.path.samestat(os.fstat(descriptor), os.stat(self._path)):
                    self._held = descriptor
                    return
            except BlockingIOError:
                os.close(descriptor)
                raise ExportError(
                    f"Another export or sync is writing {self._target}; wait until it has ended."
                ) from None
            except FileNotFoundError:
                pass
            os.close(descriptor)

    @property
    def held(self) -> bool:
        """Whether this is who has it."""
        return self._held is not None

    def release(self) -> None:
        """Give it back. Nothing happens where it is not held."""
        if self._held is not None:
            descriptor, self._held = self._held, None
            with suppress(OSError):
                self._path.unlink()
            os.close(descriptor)


class LentStream:
    """A stream of the caller's, such as standard output: written as it comes, and left open."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, data: bytes) -> None:
        """Write and pass on at once. Raises ExportError, BrokenPipeError where nobody reads any more."""
        with writing("The output"):
            self._stream.write(data)
            self._stream.flush()


@contextmanager
def writing(what: object) -> Iterator[None]:
    """Turn an error of the operating system into a sentence. Raises ExportError."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ExportError(f"{what} could not be written: {_reason(error)}.") from None


def writable(path: Path) -> Path:
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


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable, where its file system can do that."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
