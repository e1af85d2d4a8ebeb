"""Standard output: JSON objects, indented on a terminal, a line each in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from b2b_payments.cli.running import CommandError


async def show(rows: Iterable[Mapping[str, Any]]) -> None:
    """Print objects. A reader who takes a while holds up no request."""
    import msgspec
    from anyio import to_thread

    from b2b_payments.protocol.json import encode

    lines = list(map(encode, rows))
    if sys.stdout.isatty():
        lines = [msgspec.json.format(line, indent=2) for line in lines]
    await to_thread.run_sync(_write, b"".join(line + b"\n" for line in lines))


def _write(data: bytes) -> None:
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise  # the reader has seen enough; click ends the program quietly
    except OSError as error:
        raise CommandError(f"Standard output could not be written: {error.strerror}.") from None
