"""`sync`: brings a copy in sync with its store."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import anyio

from b2b_payments._arguments import check, seconds, whole
from b2b_payments._changes.feed import OVERLAP
from b2b_payments._client import PaymentsClient
from b2b_payments._errors import ConfigurationError, shown
from b2b_payments.export._export import OnProgress
from b2b_payments.export._worker import Worker
from b2b_payments.sync._copy import Copy
from b2b_payments.sync._readings import OnChange, StoreReader
from b2b_payments.sync._report import SyncReport
from b2b_payments.sync._settle import MAX_LOOKUPS, Settling
from b2b_payments.sync._state import State
from b2b_payments.sync._store import Store


async def sync(
    client: PaymentsClient,
    store: Store,
    *,
    sweep: bool = False,
    overlap: float = OVERLAP,
    most_lookups: int = MAX_LOOKUPS,
    allow_mass_deletion: bool = False,
    on_progress: OnProgress | None = None,
    on_change: OnChange | None = None,
) -> SyncReport:
    """Bring the copy in sync with the client's store: everything the first time, then what changed since.

    The copy is always of the whole store. Each payment in it, line items included, is a version that the
    service had at some time. After a sync, each payment that was last written more than `overlap` before the
    sync is as the service has it. Deleted payments, and payments that went back to an older version because
    the service was restored from a backup, are found only by a `sweep`, which reads the whole store again.
    After a complete sweep the copy equals what the service had more than `overlap` before the sweep began.

    Nothing is deleted merely because a list does not show it. Each payment that the list contradicts is
    looked up by id, and deleted if the service itself says that it does not exist (`_settle.py` has the
    argument). One sync looks up at most `most_lookups` payments; the others stay in the copy for later syncs.
    Until none is left, the report counts them and is not complete. If more than a fifth of the copy and more
    than ten payments are missing, nothing is deleted without `allow_mass_deletion`.

    What changed comes from the feed of changes (`client.payments.changes`). `overlap` is in seconds and must
    be at least the list's lag. `on_progress` is called with the walk's report after each page. `on_change`
    is called with a `Change` for each payment that is about to be inserted or updated, just before its batch
    is committed; if it raises, or the process ends in between, the same changes are reported again. It may be
    an async function. Deletions are only in the report. The next sync resumes an interrupted one: a first
    copy or a sweep is finished whether or not `sweep` is set, and then what changed meanwhile is read.

    Raises what walks raise; AlreadyRunningError if another sync of this copy is in progress; ExportError if
    the database cannot be written, or changes or holds back what is written, as by a trigger;
    ConfigurationError if the tables were not made by a sync, are a copy of another store, or have an index
    that a sync would violate; ResponseDecodeError for a payment that cannot be read.
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
                f"{store.place} is a copy of another store ({shown(state.store)}, not {name!r}): "
                f"use another {store.kept_in}."
            )
        reader = StoreReader(
            client.payments,
            copy,
            worker,
            timedelta(seconds=overlap),
            on_progress,
            on_change,
            state or State(name),
        )
        await _read(reader, sweep=sweep)
        report = reader.report
        settling = Settling(
            client.payments,
            copy,
            worker,
            report,
            reader.listed_ids,
            reader.notify,
            allow_mass_deletion=allow_mass_deletion,
        )
        await settling.settle(most_lookups)
        report.complete = report.complete and not report.candidates
        complete = True
    finally:
        with anyio.CancelScope(shield=True):
            await worker.close(complete=complete)
    return report


async def _read(reader: StoreReader, *, sweep: bool) -> None:
    state, report = reader.state, reader.report
    report.watermark = state.watermark
    report.resumed = state.reading is not None
    if report.resumed:
        # The resumed read may have started days ago, so what changed since then is read after it.
        if not await reader.read_all():
            return
    elif sweep or state.changes is None:
        await reader.read_all()
        return
    if reader.state.changes is not None and not await reader.read_changes():
        await reader.read_all()
