"""Output of results: JSON on standard output, indented on a terminal and one line each in a pipe; files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from b2b_payments._cli.command import CommandError
from b2b_payments._cli.streams import OutputError, output, output_error


async def show(rows: Iterable[Mapping[str, Any]], *, done: str = "") -> None:
    """Print objects, in a worker thread: a slow reader delays no request.

    `done` says that a write was done, for the error message if its result cannot be printed. Raises
    OutputError, or BrokenPipeError if the reader has closed the pipe.
    """
    import msgspec
    from anyio import to_thread

    from b2b_payments._cli.waits import Notice
    from b2b_payments._protocol.json import encode

    lines = list(map(encode, rows))
    if sys.stdout.isatty():
        lines = [msgspec.json.format(line, indent=2) for line in lines]
    try:
        with Notice.hidden():
            await to_thread.run_sync(_write, b"".join(line + b"\n" for line in lines))
    except OSError as error:
        if done:
            raise OutputError(
                f"{done[0].upper()}{done[1:]}, but standard output failed: {error.strerror}."
            ) from None
        raise output_error(error) from None


def _write(data: bytes) -> None:
    stream = output()
    stream.write(data)
    stream.flush()


def write_file(path: str, data: bytes) -> None:
    """Write a file atomically: an existing one stays until it is replaced. Raises CommandError."""
    from b2b_payments.export._file import write_whole

    target = Path(os.path.realpath(path))
    try:
        write_whole(target, data, like=target)
    except OSError as error:
        raise CommandError(f"{path} could not be written: {error.strerror}.") from None
