"""`sync_stores`: keeps the copies of many stores in sync."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import partial

from b2b_payments._changes.feed import OVERLAP
from b2b_payments._client import PaymentsClient
from b2b_payments._errors import ConfigurationError
from b2b_payments.export import Store as OneStore
from b2b_payments.export import StoreReport, StoresReport, StoreState
from b2b_payments.export._file import PathLike, path_of
from b2b_payments.export._stores.limits import fitting_with_warning
from b2b_payments.export._stores.places import NAME, places_of
from b2b_payments.export._stores.store import refuse_duplicates
from b2b_payments.export._stores.work import OnEvent, OnReport, Work, do_all
from b2b_payments.sync._settle import MAX_LOOKUPS
from b2b_payments.sync._store import SCHEMA, PostgresStore, Store, is_address, store_for
from b2b_payments.sync._sync import sync

_REQUESTS_IN_FLIGHT = 8


async def sync_stores(
    stores: Iterable[OneStore],
    output: PathLike,
    *,
    format: str | None = None,  # noqa: A002 - the same name as in `export_stores`
    schema: str | None = None,
    at_once: int = 8,
    sweep: bool = False,
    overlap: float = OVERLAP,
    most_lookups: int = MAX_LOOKUPS,
    allow_mass_deletion: bool = False,
    on_progress: OnReport = lambda _: None,
    on_event: OnEvent = lambda _name, _event: None,
) -> StoresReport:
    """Sync the copy of each store, up to `at_once` stores at the same time.

    `stores`, `output`, `on_progress` and `on_event` work as in `b2b_payments.export.export_stores`, the other
    arguments as in `sync`; `format` is ``sqlite`` or ``duckdb``. If `output` is a PostgreSQL address, each
    store has its own schema: `schema` is the pattern of its name and contains ``{name}``; the default is
    ``b2b_payments_{name}``. In a report, `rows` counts the payments that were inserted or updated, and
    `ending` is the sync's own report as text.

    Raises ConfigurationError before anything is sent if the arguments cannot work.
    """
    all_stores = list(stores)
    refuse_duplicates(all_stores)
    refuse_duplicates([store.with_token() for store in all_stores])
    for store in all_stores:
        if store.channel_ids is not None:
            raise ConfigurationError(
                f"store {store.name!r}: a copy is always of the whole store: leave channels out."
            )
    copies = _copies(all_stores, output, format, schema)
    fit = fitting_with_warning(at_once, _REQUESTS_IN_FLIGHT, len(all_stores))
    reports: dict[str, StoreReport] = {}

    def record(report: StoreReport) -> None:
        reports[report.name] = report
        on_progress(report)

    async def sync_one(store: OneStore, copy: Store) -> None:
        work = Work(store, str(copy.place), record, on_event)
        work.is_resumable = lambda: copy.exists

        async def sync_store(client: PaymentsClient) -> None:
            report = await sync(
                client,
                copy,
                sweep=sweep,
                overlap=overlap,
                most_lookups=most_lookups,
                allow_mass_deletion=allow_mass_deletion,
                on_progress=work.advance,
            )
            work.rows = lambda: report.inserted + report.updated
            state = StoreState.COMPLETE if report.complete else StoreState.NOT_COMPLETE
            work.update(state=state, ending=str(report))

        await work.run(sync_store)

    for store, copy in zip(all_stores, copies, strict=True):
        record(StoreReport(store.name, str(copy.place)))
    await do_all((partial(sync_one, *each) for each in zip(all_stores, copies, strict=True)), fit.stores)
    return StoresReport(tuple(reports[store.name] for store in all_stores))


def _copies(
    stores: Sequence[OneStore], output: PathLike, format_: str | None, schema: str | None
) -> list[Store]:
    """Return where each store's copy is kept. Raises ConfigurationError."""
    address = os.fspath(path_of(output))
    if not is_address(address):
        if schema is not None:
            raise ConfigurationError("Only a database on a server has schemas: leave the schema out.")
        places = places_of(output, format_)
        places.refuse_shared_files(stores)
        places.make_folders(stores)
        return [store_for(places.of(store)) for store in stores]
    pattern = f"{SCHEMA}_{NAME}" if schema is None else schema
    if NAME not in pattern:
        raise ConfigurationError(
            f"{schema!r} is one schema, and each store has its own: use a pattern such as '{SCHEMA}_{NAME}'."
        )
    return [PostgresStore(address, schema=pattern.replace(NAME, store.name)) for store in stores]
