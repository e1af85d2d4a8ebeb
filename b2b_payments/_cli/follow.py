"""`follow`."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack, aclosing, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from b2b_payments._cli.command import (
    USAGE,
    Command,
    CommandError,
    StoppedError,
    option_with_default,
    with_names,
)
from b2b_payments._cli.connection import Connection, connection_options, outage_option, sandbox_option
from b2b_payments._cli.options import overlap_option
from b2b_payments._cli.output import show, write_file
from b2b_payments._cli.values import Number, moment, new_file
from b2b_payments._errors import AlreadyRunningError, ConfigurationError
from b2b_payments._regular import read_regular

if TYPE_CHECKING:
    from b2b_payments._client import PaymentsClient
    from b2b_payments.events import Event


class State:
    """The --state file, which holds the feed's checkpoint. Without a path, nothing is stored."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._stored: Any = None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the file. Raises AlreadyRunningError if another follow holds it."""
        from b2b_payments.export._file import Lock

        if self._path is None:
            yield
            return
        lock = ExitStack()
        try:
            lock.enter_context(Lock(self._path))
        except AlreadyRunningError:
            raise AlreadyRunningError(
                f"Another follow is using {self._path}: wait until it has ended, or name another file."
            ) from None
        with lock:
            yield

    def read(self) -> Any:
        """Return the stored checkpoint, or None if there is no file yet. Raises CommandError."""
        if self._path is None or not self._path.exists():
            return None
        try:
            self._stored = json.loads(read_regular(self._path))
        except (OSError, ValueError, RecursionError):
            self._stored = None
        if self._stored is None:  # None would start the feed now, and skip changes
            raise CommandError(f"{self._path} is not a state file of follow: name another file.")
        return self._stored

    def write(self, checkpoint: Any) -> None:
        """Atomically replace the stored checkpoint, if it differs."""
        if self._path is None or checkpoint == self._stored:
            return
        from b2b_payments._protocol.json import encode

        write_file(str(self._path), encode(checkpoint))
        self._stored = checkpoint


@click.command(cls=Command)
@click.option(
    "--since",
    metavar="TIME",
    type=moment,
    help="Date or time to start at: ISO 8601, UTC unless it has a zone. [now]",
)
@click.option(
    "--state",
    metavar="FILE",
    type=new_file,
    help="Store the position in this file, and continue from it if the file exists.",
)
@option_with_default(
    "--interval", metavar="SECONDS", type=Number(0.1, 86_400), default=60, help="Time between polls."
)
@overlap_option
@connection_options
@outage_option
@sandbox_option
def follow(
    connection: Connection, since: datetime | None, state: str | None, interval: float, overlap: float
) -> None:
    """Print payments as they change, until stopped.

    Each version of a payment is one line of JSON, the service's own object, oldest first. With --state, a
    version is printed once over all runs: the file is updated after the line was written (into a pipe:
    after its reader took the line), so that a crash between the two repeats one line. Deletions are not
    visible here: sync --sweep finds them.
    """
    stored = State(None if state is None else Path(state))

    async def work(client: PaymentsClient) -> None:
        import errno

        import anyio

        from b2b_payments._converter import to_wire

        pipe = _pipe()
        with stored.locked(), anyio.CancelScope() as scope, _cancel_when_closed(scope, pipe):
            position = stored.read()
            start = since if position is None else position
            try:
                feed = client.payments.changes(start, follow=True, interval=interval, overlap=60 * overlap)
            except ConfigurationError as error:
                raise CommandError(with_names(str(error), {"since": str(state)}), USAGE) from None
            after_poll.append(lambda: stored.write(feed.checkpoint()))
            async with aclosing(feed):
                async for change in feed:
                    await show([to_wire(change.payment)])
                    pause = 0.001
                    try:
                        # Nothing tells when a pipe has been read. A reader such as `less` may take hours.
                        while state is not None and _unread(pipe):
                            pause = min(2 * pause, 0.1)
                            await anyio.sleep(pause)
                    finally:
                        if not _unread(pipe):  # also if the reader closed the pipe right after this line
                            stored.write(change.checkpoint)
        # The feed does not end by itself.
        raise BrokenPipeError(errno.EPIPE, "the reader of standard output has closed it")

    after_poll: list[Any] = []

    def on_event(event: Event) -> None:
        from b2b_payments.events import FollowWait

        if not isinstance(event, FollowWait):
            return
        if event.why:
            click.echo(f"{event.why.rstrip('.')}; trying again in {event.seconds:.0f} s.", err=True)
        else:
            with suppress(CommandError):  # the write after the next change reports it
                after_poll[0]()

    try:
        connection.call(work, on_event)
    except StoppedError as stopped:
        stopped.outcome = "" if state is None else f": the next run continues from {state}"
        raise


def _pipe() -> int | None:
    """Return the descriptor of standard output if it is a pipe."""
    try:
        output = sys.stdout.fileno()
        return output if stat.S_ISFIFO(os.fstat(output).st_mode) else None
    except (OSError, ValueError, AttributeError):
        return None


def _unread(pipe: int | None) -> bool:
    """Return whether the reader has yet to take what was written into the pipe.

    Lines in the pipe are lost if the reader dies. Where the system does not tell, they count as read.
    """
    try:
        import fcntl
        import termios

        return pipe is not None and any(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))
    except (ImportError, OSError):
        return False


@contextmanager
def _cancel_when_closed(scope: Any, pipe: int | None) -> Iterator[None]:
    """Cancel the scope when the reader of the pipe closes it."""
    if pipe is None:
        yield
        return
    import asyncio

    loop = asyncio.get_running_loop()

    def closed() -> None:
        loop.remove_reader(pipe)
        scope.cancel()

    # The writing end of a pipe becomes readable only when the reading end is closed.
    loop.add_reader(pipe, closed)
    try:
        yield
    finally:
        loop.remove_reader(pipe)
