"""What exports of one store and of many have in common: what they read, where it goes, what is kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from b2b_payments._cli.command import CommandError
from b2b_payments._cli.filters import Asked
from b2b_payments._formats import format_by_ending

if TYPE_CHECKING:
    from b2b_payments._client import PaymentsClient
    from b2b_payments._walk.stream import PaymentStream
    from b2b_payments._walk.walk import Walk
    from b2b_payments.export import Checkpoint, PlacedSink

    Begin = Callable[[Checkpoint | None], Walk | PaymentStream]

STDOUT = "-"


def format_of(output: str, format_: str | None, *, resume: bool) -> str:
    """Give the format to write: the one given, or else the one that the ending says. Raises UsageError."""
    if output == STDOUT:
        if resume:
            raise click.UsageError("What goes to standard output cannot be resumed: give --resume a file.")
        if format_ not in {None, "jsonl"}:
            raise click.UsageError(f"Standard output takes jsonl only, not {format_}: give a file.")
        return "jsonl"
    if os.path.isdir(output):
        raise click.UsageError(f"{output} cannot be written: it is a folder; name a file in it.")
    return format_of_file(output, format_)


def format_of_file(output: str, format_: str | None) -> str:
    """Give the format of a file. Raises UsageError where nothing says it, or its ending says another."""
    by_ending = format_by_ending(output)
    if format_ is None and by_ending is None:
        raise click.UsageError(
            f"{output!r} does not say its format: give --format, or an ending such as .jsonl."
        )
    if format_ is not None and by_ending not in {None, format_}:
        raise click.UsageError(
            f"{output!r} has the ending of {by_ending}, and --format says {format_}: change one of the two."
        )
    return format_ or by_ending or ""


async def source_of(client: PaymentsClient, asked: Asked) -> Begin:
    """Give what begins the walk, anew or from a checkpoint. Raises CommandError for an unknown channel."""
    wanted = asked.query.channel_ids
    if wanted is None:
        return lambda checkpoint: client.payments.list(**asked.walk, checkpoint=checkpoint)
    known = {channel.channel_id: channel.name for channel in await client.channels.list()}
    if unknown := [str(channel_id) for channel_id in wanted if channel_id not in known]:
        listed = ", ".join(f"{channel_id} ({name})" for channel_id, name in known.items()) or "none"
        raise CommandError(f"The store has no channel {', '.join(unknown)}; it has {listed}.")
    # One request asks for one channel only: how several are written is not documented. Channel by channel, so
    # that two exports of a store that did not change are the same file.
    return lambda checkpoint: client.payments.stream(**asked.stream, ordered=True, checkpoint=checkpoint)


class KeptSink:
    """A sink that counts what it keeps: `rows` are the payments committed, those of earlier runs included.

    `on_resumed` is called, in the sink's thread, with the rows that were there already.
    """

    def __init__(self, sink: PlacedSink, on_resumed: Callable[[int], object] | None = None) -> None:
        self._sink = sink
        self._on_resumed = on_resumed
        self.rows = 0
        self.resumed = False
        """Whether there was something to go on behind."""

    @property
    def kept(self) -> bool:
        """Whether an export that was closed as not complete can be resumed."""
        return self._sink.kept

    @property
    def stays(self) -> str:
        """Say that what was there before stays, and where the export is; empty where it took that place."""
        instead = self._sink.instead
        if instead is None:
            return ""
        return f" What was there before stays; this export, which is not complete, is in {instead}."

    def open(self) -> None:
        """Begin anew."""
        self._sink.open()

    def resume(self) -> Checkpoint | None:
        """Go on behind the last commit."""
        checkpoint = self._sink.resume()
        self.resumed = checkpoint is not None
        self._count(checkpoint)
        if self._on_resumed is not None:
            self._on_resumed(self.rows)
        return checkpoint

    def write(self, batch: Sequence[Mapping[str, Any]]) -> None:
        """Take the payments of some pages."""
        self._sink.write(batch)

    def commit(self, checkpoint: Checkpoint | None) -> None:
        """Keep everything written so far."""
        self._sink.commit(checkpoint)
        self._count(checkpoint)

    def close(self, *, complete: bool) -> None:
        """Finish, or leave what can be gone on with."""
        self._sink.close(complete=complete)

    def _count(self, checkpoint: Checkpoint | None) -> None:
        # What another version committed is refused by whoever goes on with it, in a sentence.
        account = (checkpoint or {}).get("account")
        rows = account.get("rows") if isinstance(account, Mapping) else None
        self.rows = rows if isinstance(rows, int) else 0
