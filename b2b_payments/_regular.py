"""Opens regular files, in whose place another program may have put something else."""

from __future__ import annotations

import os
import stat
from typing import Any

_FLAGS: Any = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def open_regular(path: str | os.PathLike[str], flags: int = os.O_RDONLY) -> int:
    """Open a file, only for its owner if it is created. Returns its descriptor.

    Raises OSError, also for a device, and for a FIFO, which `open` could wait for without an end.
    """
    file = os.open(path, flags | _FLAGS, 0o600)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(None, "it is not a regular file")
    return file


def read_regular(path: str | os.PathLike[str], most: int = -1) -> bytes:
    """Return the content of a file, or only its first `most` bytes. Raises OSError like `open_regular`."""
    with os.fdopen(open_regular(path), "rb") as file:
        return file.read(most)
