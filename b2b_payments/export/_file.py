"""Output paths: checks, locks, writes in one step, and readable errors."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO
from urllib.request import url2pathname

from filelock import FileLock, SoftFileLock, Timeout

from b2b_payments._errors import AlreadyRunningError, ConfigurationError, ExportError, shown
from b2b_payments._regular import read_regular
from b2b_payments.export._bucket import bucket_and_name, is_url

PathLike = str | os.PathLike[str]
_FILE_URL = "file://"
_is_url_as_path = re.compile("(?:s3|gs|az|memory|file):/(?!/)", re.IGNORECASE).match

_OPEN_FLAGS: Any = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


class Lock:
    """Keeps two exports from writing to the same path at once, in this process or another.

    It is a hidden file `.NAME.lock`, locked by the operating system, which releases the lock however the
    process ends.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        self._path = target.with_name(f".{target.name}.lock")
        # Acquired in one thread and released in another.
        self._lock = FileLock(self._path, timeout=0, thread_local=False)

    def acquire(self) -> None:
        """Acquire the lock.

        Raises AlreadyRunningError if another export or sync holds it, ExportError if there are no locks, or
        if a user's own file has the lock's name.
        """
        if self.held:
            return
        with writing(self._target):
            self._path.parent.stat()  # filelock would create a missing folder
        if self._is_users_own:
            raise ExportError(f"{self._path} is not the lock of an export: move it elsewhere.")
        try:
            self._lock.acquire()
        except Timeout:
            raise AlreadyRunningError(
                f"Another export or sync is writing {self._target}; wait until it has ended."
            ) from None
        except OSError as error:
            problem = f"{self._target} cannot be locked ({_reason(error)})"
            raise ExportError(f"{problem}: use a folder on a file system with locks.") from None

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    @property
    def _is_users_own(self) -> bool:
        """Whether the file has content. Only a soft lock has, where the operating system has no locks."""
        with suppress(OSError):  # such as no file, also if another export removes its lock just now
            has_content = self._path.exists() and self._path.lstat().st_size > 0
            return has_content and not isinstance(self._lock, SoftFileLock)
        return False

    @property
    def held(self) -> bool:
        return self._lock.is_locked

    def release(self) -> None:
        """Release the lock and remove its file. Does nothing if it is not held."""
        if self.held:
            # Unlinked first: later, another process could hold a lock on this file. On Windows, it stays.
            with suppress(OSError):
                self._path.unlink()
            self._lock.release()


@contextmanager
def _as_export_error(subject: object, doing: str, unless: type[OSError]) -> Iterator[None]:
    """Raise an ExportError in place of an OSError."""
    try:
        yield
    except unless:
        raise
    except OSError as error:
        raise ExportError(f"{subject} could not be {doing}: {_reason(error)}.") from None


writing = partial(_as_export_error, doing="written", unless=BrokenPipeError)
reading = partial(_as_export_error, doing="read", unless=FileNotFoundError)


def require_file(path: Path, subject: object, writer: str) -> None:
    """Raise an ExportError unless a file is there, which `writer` could have written."""
    if not path.is_file():
        others = "is not a regular file" if path.exists() else "does not exist"
        problem = "is a folder" if path.is_dir() else others
        raise ExportError(f"{subject} {problem}: name a file that {writer} has written.")


def path_of(path: object) -> PathLike:
    """Return the path in a file URL, or the path itself. Raises ConfigurationError for anything else."""
    if not isinstance(path, str | os.PathLike):
        raise ConfigurationError(f"path is {type(path).__name__}; give the name of a file.")
    text: str = os.fspath(path)
    if _is_url_as_path(text):
        raise ConfigurationError("A URL must be a str with '://', not a Path: 's3://bucket/name'.")
    return url2pathname(text.removeprefix(_FILE_URL)) if text.startswith(_FILE_URL) else path


def writable(path: PathLike, neighbors: Sequence[str] = ()) -> Path:
    """Check that a file can be written at a path. Returns the path with symbolic links resolved.

    `neighbors` holds patterns for the names of files that will be next to it. Raises ConfigurationError.
    """
    path = path_of(path)
    try:
        target = Path(os.path.realpath(path))
        if (problem := _problem(target)) is None:
            for pattern in neighbors:
                with suppress(FileNotFoundError):
                    os.lstat(target.with_name(pattern.format(target.name)))  # raises if it is too long
            return target
    except OSError as error:
        problem = _reason(error)
    except ValueError:
        problem = "its name is not a valid file name"
    raise ConfigurationError(f"{_printable(path)} cannot be written: {problem}.")


def _problem(target: Path) -> str | None:
    folder = target.parent
    try:
        str(target).encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    if target.is_symlink():  # although all links were followed
        return "its symbolic links form a loop"
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
        return f"the folder {folder} is write-protected"
    return None


def _printable(path: PathLike) -> str:
    text = os.fspath(path)
    return text if text.isprintable() else shown(text)


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__


def create_file(path: Path, like: Path | None = None) -> BinaryIO:
    """Create a file, with the permissions of `like` if that exists. An existing file is removed first.

    Never writes through a symbolic link. Raises OSError.
    """
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OPEN_FLAGS, 0o666)
    copy_mode(path, like)
    return os.fdopen(descriptor, "wb")


def copy_mode(path: Path, like: Path | None) -> None:
    """Give a file the permissions of `like`, if that exists."""
    if like is not None:
        with suppress(OSError):
            path.chmod(stat.S_IMODE(like.stat().st_mode))


def write_whole(path: Path, *data: bytes, like: Path | None = None) -> None:
    """Create or replace a file in one step, synced to disk. Raises OSError."""
    new = path.with_name(f"{path.name}.new")
    try:
        with create_file(new, like) as file:
            file.writelines(data)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError:
        with suppress(OSError):
            new.unlink()  # half-written, if the disk is full
        raise


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable, if the file system supports it."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_whole(path: PathLike) -> bytes | None:
    """Return the content of a file or an object, or None if it does not exist. Raises ExportError."""
    with suppress(FileNotFoundError), reading(path):
        if is_url(path):
            bucket, name = bucket_and_name(os.fspath(path))
            return bucket.get(name)[0]
        return read_regular(path_of(path))
    return None


def put_whole(path: PathLike, data: bytes | None) -> None:
    """Write or replace a file or an object; None removes it. Raises ExportError."""
    with writing(path):
        if is_url(path):
            bucket, name = bucket_and_name(os.fspath(path))
            if data is None:
                bucket.remove([name])
            else:
                bucket.replace(name, data)
        elif data is None:
            Path(path).unlink(missing_ok=True)
        else:
            write_whole(Path(path), data)
            sync_folder(Path(path).parent)
