"""Bringing a copy in step with its store."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import anyio

from b2b_payments._arguments import check, seconds, whole
from b2b_payments._changes.feed import OVERLAP
from b2b_payments._client import PaymentsClient
from b2b_payments._errors import ConfigurationError
from b2b_payments.export._export import OnProgress
from b2b_payments.export._worker import Worker
from b2b_payments.sync._copy import Copy
from b2b_payments.sync._readings import OnChange, Readings
from b2b_payments.sync._report import SyncReport
from b2b_payments.sync._settle import MOST_LOOKUPS, Settling
from b2b_payments.sync._state import State
from b2b_payments.sync._store import Store


async def sync(
    client: PaymentsClient,
    store: Store,
    *,
    sweep: bool = False,
    overlap: float = OVERLAP,
    most_lookups: int = MOST_LOOKUPS,
    allow_mass_deletion: bool = False,
    on_progress: OnProgress | None = None,
    on_change: OnChange | None = None,
) -> SyncReport:
    """Bring the copy in step with the client's store: all of it the first time, then what changed since.

    The copy is of the whole store, never of a part. Each payment in it is as the service had it at some
    moment, line items included. After a sync, each that was last written more than `overlap` before is as
    the service has it. What was deleted, or went back to an older version when the service was restored from
    a backup, only a `sweep` finds, which reads the whole store again: after one that is complete, the copy
    is equal to what the service had more than `overlap` before it began.

    Nothing is deleted because a list does not show it. Each payment that the list contradicts is looked up by
    id, and deleted if the service itself says that it does not exist (`settle.py` has the argument). At most
    `most_lookups` are in one sync; the rest stay in the copy for the next ones, and until none is left the
    report counts them and is not complete. Where more than a fifth of the copy is missing, and more than ten
    payments, nothing is deleted without `allow_mass_deletion`.

    What changed comes from the feed of changes (`client.payments.changes`). `overlap` is in seconds; it has
    to be as wide as the list's lag. `on_progress` is called with the walk's report after each page.
    `on_change` is called with a `Change` for each payment that the copy takes in another version than it has,
    right before a batch of them is committed: if it raises, or the process ends in between, they come again.
    It may be an async function; deletions are only in the report. A sync that was interrupted is resumed by
    the next one, a first copy and a sweep whether or not that is to sweep, and what changed meanwhile
    follows.

    Raises what walks raise; AlreadyRunningError where another sync of this copy is under way; ExportError
    where the database cannot be written; ConfigurationError for one that no sync made, or that is a copy of
    another store; ResponseDecodeError for a payment that cannot be read.
    """
    check("client", client, PaymentsClient, "the PaymentsClient of the store")
    check("store", store, Store, "where the copy is, such as SQLiteStore('payments.sqlite')")
    check("on_progress", on_progress, Callable | None, "a function of one argument, the walk's report")
    check("on_change", on_change, Callable | None, "a function of one argument, the change")
    overlap = seconds("overlap", overlap)
    whole("most_lookups", most_lookups, least=1)
    copy = Copy(store)
    worker = Worker(copy)
    complete = False
    try:
        name = str(client.payments.list().checkpoint()["store"])
        state = await worker.do(copy.open)
        if state is not None and state.store != name:
            raise ConfigurationError(
                f"{store.place} is a copy of another store ({state.store!r}, not {name!r}): "
                f"give another {store.kept_in}."
            )
        readings = Readings(
            client.payments,
            copy,
            worker,
            timedelta(seconds=overlap),
            on_progress,
            on_change,
            state or State(name),
        )
        await _read(readings, sweep=sweep)
        report = readings.report
        settling = Settling(
            client.payments,
            copy,
            worker,
            report,
            readings.shown,
            readings.tell,
            allow_mass_deletion=allow_mass_deletion,
        )
        await settling.settle(most_lookups)
        report.complete = report.complete and not report.candidates
        complete = True
    finally:
        with anyio.CancelScope(shield=True):
            await worker.close(complete=complete)
    return report


async def _read(readings: Readings, *, sweep: bool) -> None:
    state, report = readings.state, readings.report
    report.watermark = state.watermark
    report.resumed = state.reading is not None
    if report.resumed:
        # It knows of what was there when it came by, perhaps days ago: what changed since then follows.
        if not await readings.whole():
            return
    elif sweep or state.changes is None:
        await readings.whole()
        return
    if readings.state.changes is not None and not await readings.changes():
        await readings.whole()
