"""`follow`."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import aclosing, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from b2b_payments._cli.command import Command, CommandError, StoppedError
from b2b_payments._cli.connection import Connection, connection_options, sandbox_option
from b2b_payments._cli.options import overlap_option
from b2b_payments._cli.output import show, write_file
from b2b_payments._cli.values import MOMENT, Number, new_file

if TYPE_CHECKING:
    from b2b_payments._client import PaymentsClient
    from b2b_payments.events import Event


class State:
    """The file that says where to go on; without a path, nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._kept: Any = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep others from following with the same file. Raises AlreadyRunningError where somebody does."""
        from b2b_payments._errors import AlreadyRunningError
        from b2b_payments.export._file import Lock

        if self._path is None:
            yield
            return
        lock = Lock(self._path)
        try:
            lock.acquire()
        except AlreadyRunningError:
            raise AlreadyRunningError(
                f"Another follow has {self._path}: wait until it has ended, or name another file."
            ) from None
        try:
            yield
        finally:
            lock.release()

    def read(self) -> Any:
        """Return the checkpoint, None where there is no file yet."""
        if self._path is None or not self._path.exists():
            return None
        try:
            self._kept = json.loads(self._path.read_bytes())
        except (OSError, ValueError, RecursionError):
            self._kept = None
        if self._kept is None:  # which would begin now
            raise CommandError(f"{self._path} is not the state of a feed: name another file.")
        return self._kept

    def write(self, checkpoint: Any) -> None:
        """Put a checkpoint in the place of the one that is there, in one step."""
        if self._path is None or checkpoint == self._kept:
            return
        from b2b_payments._protocol.json import encode

        write_file(str(self._path), encode(checkpoint))
        self._kept = checkpoint


@click.command(cls=Command)
@click.option(
    "--since",
    metavar="TIME",
    type=MOMENT,
    help="Where to begin, as ISO 8601 has it; without a zone it is UTC. [now]",
)
@click.option(
    "--state",
    metavar="FILE",
    type=new_file,
    help="Keep there where to go on, and go on from there if it exists.",
)
@click.option(
    "--interval",
    metavar="SECONDS",
    type=Number(0.1, 86_400),
    default=60,
    show_default=True,
    help="How often to ask.",
)
@overlap_option
@connection_options
@sandbox_option
def follow(
    connection: Connection, since: datetime | None, state: str | None, interval: float, overlap: float
) -> None:
    """Print what changes, as it happens, until it is stopped.

    Each version of a payment is a line of JSON, the service's own object, oldest first. With --state a
    version comes once over all runs: the file is written after the line was taken, so that what a crash in
    between repeats is one line. What is deleted cannot be seen: sync --sweep finds it.
    """
    kept = State(None if state is None else Path(state))

    async def work(client: PaymentsClient) -> None:
        import errno

        import anyio

        from b2b_payments._converter import to_wire

        with kept.held(), anyio.CancelScope() as reading, _reader(reading):
            found = kept.read()
            feed = client.payments.changes(
                since if found is None else found, follow=True, interval=interval, overlap=60 * overlap
            )
            polled.append(lambda: kept.write(feed.checkpoint()))
            async with aclosing(feed):
                async for change in feed:
                    await show([to_wire(change.payment)])
                    kept.write(change.checkpoint)
        if reading.cancelled_caught:
            raise BrokenPipeError(errno.EPIPE, "nobody reads any more")

    polled: list[Any] = []

    def note(event: Event) -> None:
        from b2b_payments.events import FollowWait

        if not isinstance(event, FollowWait):
            return
        if event.why:
            click.echo(f"{event.why.rstrip('.')}; asking again in {event.seconds:.0f} s.", err=True)
        else:
            with suppress(CommandError):  # the next change says so
                polled[0]()

    try:
        connection.call(work, note)
    except StoppedError as stopped:
        stopped.left = "" if state is None else f": {state} says where to go on"
        raise


@contextmanager
def _reader(reading: Any) -> Iterator[None]:
    """Cancel as soon as nobody reads standard output any more, if it is a pipe."""
    try:
        output = sys.stdout.fileno()
        is_pipe = stat.S_ISFIFO(os.fstat(output).st_mode)
    except (OSError, ValueError, AttributeError):
        is_pipe = False
    if not is_pipe:
        yield
        return
    import asyncio

    loop = asyncio.get_running_loop()

    def left() -> None:
        loop.remove_reader(output)
        reading.cancel()

    # Nothing ever comes from this end of a pipe but the news that the other one was closed.
    loop.add_reader(output, left)
    try:
        yield
    finally:
        loop.remove_reader(output)
