"""The exports of many stores, at once, and what came of each, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic

import anyio
import attrs

from b2b_payments import export
from b2b_payments._cli.command import CommandError
from b2b_payments._cli.exporting import KeptSink, source_of
from b2b_payments._cli.filters import Asked
from b2b_payments._cli.progress import Line, StoresProgress
from b2b_payments._cli.stores.file import Store
from b2b_payments._cli.stores.places import Places
from b2b_payments._cli.stores.run import Run
from b2b_payments._errors import AuthenticationError, B2BPaymentsError
from b2b_payments._printable import define, printable

COMPLETE = "complete"
ALREADY = "complete already"
NOT_COMPLETE = "not complete"
FAILED = "failed"
STOPPED = "stopped"
NOT_BEGUN = "not begun"


@define
class Standing:
    """How a store stands: `rows` are the payments that are kept, `requests` and `seconds` this run's."""

    name: str
    path: Path
    state: str = NOT_BEGUN
    rows: int = 0
    requests: int = 0
    seconds: float = 0.0
    kept: bool = False
    remark: str = ""

    @property
    def complete(self) -> bool:
        """Whether its file is there and complete."""
        return self.state in {COMPLETE, ALREADY}


def table(standings: Sequence[Standing]) -> str:
    """Give a line for each store, in columns, with a heading. A remark of several lines becomes one."""
    from rich.cells import cell_len

    rows = [("store", "state", "payments", "requests", "seconds", "file or error")]
    for one in standings:
        figures = (f"{one.rows:,}", f"{one.requests:,}", f"{one.seconds:,.1f}")
        # Made visible here: an escape is wider than what it stands for.
        remark = printable(" ".join(one.remark.split()) or str(one.path))
        rows.append((one.name, one.state, *figures, remark))
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = []
        for place, (cell, width) in enumerate(zip(row, widths, strict=True)):
            space = " " * (width - cell_len(cell))
            cells.append(space + cell if place in {2, 3, 4} else cell + space)
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


class Exports:
    """Exports stores into their files, so many at once. `standings` says how each stands, in their order.

    What a store fails with is kept as its standing, and the others go on. An error that is none of this
    library's is in `unexpected`, to be raised once all have ended.

    Raises ConfigurationError for a file that cannot be written, before anything is sent.
    """

    def __init__(
        self, stores: Sequence[Store], places: Places, asked: Asked, *, at_once: int, resume: bool
    ) -> None:
        self._asked = asked
        self._resume = resume
        self._at_once = at_once
        self.standings = [Standing(store.name, places.of(store)) for store in stores]
        sinks = [export.sink_for(places.format, standing.path) for standing in self.standings]
        self._jobs = list(zip(stores, sinks, self.standings, strict=True))
        self.unexpected: list[Exception] = []

    @property
    def complete(self) -> list[Standing]:
        """The stores whose files are there and complete."""
        return [one for one in self.standings if one.complete]

    def leave_alone(self, run: Run) -> None:
        """Leave alone what a run that was interrupted had finished."""
        for store, _, standing in self._jobs:
            rows = run.finished(store, self._asked_of(store).manifest)
            if rows is not None:
                standing.state, standing.rows = ALREADY, rows

    async def run(self) -> None:
        """Export the stores. Each file is closed when this ends, however it does."""
        turns = anyio.Semaphore(self._at_once)
        with StoresProgress(len(self._jobs)) as progress:
            async with anyio.create_task_group() as group:
                for store, sink, standing in self._jobs:
                    if standing.complete:
                        progress.end(store.name)
                    else:
                        group.start_soon(self._take_turn, turns, store, sink, standing, progress)

    async def _take_turn(
        self,
        turns: anyio.Semaphore,
        store: Store,
        sink: export.PlacedSink,
        standing: Standing,
        progress: StoresProgress,
    ) -> None:
        async with turns:
            line = progress.begin(store.name, store.quota)
            kept = KeptSink(sink, line.resumed)
            began = monotonic()
            standing.state = STOPPED
            try:
                await self._export(store, kept, standing, line)
            except (B2BPaymentsError, CommandError) as error:
                standing.state, standing.remark = FAILED, _sentence(error, store)
            except Exception as error:  # noqa: BLE001 - raised again when the other stores have ended
                standing.state, standing.remark = FAILED, f"{type(error).__name__}, see below."
                self.unexpected.append(error)
            finally:
                standing.seconds = monotonic() - began
                standing.requests = line.pace.requests
                standing.kept = kept.kept
                standing.rows = kept.rows
                progress.end(store.name)

    async def _export(self, store: Store, sink: KeptSink, standing: Standing, line: Line) -> None:
        asked = self._asked_of(store)
        query = asked.manifest
        async with store.client(line.listen) as client:
            begin = await source_of(client, asked)
            if self._resume:
                report = await export.resume(begin, sink, query=query, on_progress=line.advance)
            else:
                report = await export.export(begin(None), sink, query=query, on_progress=line.advance)
            # Now, while the client is open: whatever stops this at its closing, the file is there.
            standing.state = COMPLETE if report.complete else NOT_COMPLETE
            if not report.complete:
                standing.remark = f"{standing.path}: {report.ending}.{sink.stays}"

    def _asked_of(self, store: Store) -> Asked:
        return replace(self._asked, query=attrs.evolve(self._asked.query, channel_ids=store.channels))


def _sentence(error: Exception, store: Store) -> str:
    if isinstance(error, AuthenticationError):
        return (
            "The service rejected the credential; check the store's hash, and the token in "
            f"{store.variable} and its scope: {error}"
        )
    return str(error)
