"""What exports of one store and of many have in common: what they read, where it goes, what is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import click

from b2b_payments._cli.command import CommandError
from b2b_payments._cli.filters import Asked

if TYPE_CHECKING:
    from b2b_payments._client import PaymentsClient
    from b2b_payments._walk.stream import PaymentStream
    from b2b_payments._walk.walk import Walk
    from b2b_payments.export import Checkpoint, PlacedSink

    Begin = Callable[[Checkpoint | None], Walk | PaymentStream]

ENDINGS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".sqlite": "sqlite",
    ".sqlite3": "sqlite",
    ".db": "sqlite",
    ".duckdb": "duckdb",
}
FORMATS = tuple(dict.fromkeys(ENDINGS.values()))
STDOUT = "-"


def format_by_ending(output: str) -> str | None:
    """Give the format that a file's ending says, None where it says none."""
    return ENDINGS.get(PurePath(output).suffix.lower())


def format_of(output: str, format_: str | None, *, resume: bool) -> str:
    """Give the format to write: the one given, or else the one that the ending says. Raises UsageError."""
    if output == STDOUT and resume:
        raise click.UsageError("What was printed cannot be gone on with: give --resume a file.")
    if format_ is None and output == STDOUT:
        format_ = "jsonl"
    format_ = format_ or format_by_ending(output)
    if format_ is None:
        raise click.UsageError(
            f"{output!r} does not say its format: give --format, or an ending such as .jsonl."
        )
    if output == STDOUT and format_ != "jsonl":
        raise click.UsageError(f"Standard output takes jsonl only, not {format_}: give a file.")
    return format_


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
