"""Results: JSON objects on standard output, indented on a terminal, a line each in a pipe; and files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from b2b_payments._cli.command import CommandError
from b2b_payments._cli.streams import OutputError, output, output_error


async def show(rows: Iterable[Mapping[str, Any]], *, done: str = "") -> None:
    """Print objects. A reader who takes a while holds up no request.

    `done` says of a write that it was carried out, for a result that cannot be printed. Raises OutputError,
    and BrokenPipeError where nobody reads any more.
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
    """Put a file in its place in one step: one that was there stays until then. Raises CommandError."""
    from b2b_payments.export._file import write_whole

    target = Path(os.path.realpath(path))
    try:
        write_whole(target, data, like=target)
    except OSError as error:
        raise CommandError(f"{path} could not be written: {error.strerror}.") from None
