"""Copies of many stores, kept in step."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

from b2b_payments._changes.feed import OVERLAP
from b2b_payments._client import PaymentsClient
from b2b_payments._errors import ConfigurationError
from b2b_payments.export import Store as OneStore
from b2b_payments.export import StoreReport, StoresReport, StoreState
from b2b_payments.export._file import PathLike, path_of
from b2b_payments.export._stores.limits import limited
from b2b_payments.export._stores.places import NAME, places_of
from b2b_payments.export._stores.store import refuse_twice
from b2b_payments.export._stores.work import Listener, Tell, Work, do_all
from b2b_payments.sync._settle import MOST_LOOKUPS
from b2b_payments.sync._store import SCHEMA, PostgresStore, Store, is_address, store_for
from b2b_payments.sync._sync import sync

_REQUESTS_IN_FLIGHT = 8


async def sync_stores(
    stores: Iterable[OneStore],
    output: PathLike,
    *,
    format: str | None = None,  # noqa: A002 - as `export_stores` has it
    schema: str | None = None,
    at_once: int = 8,
    sweep: bool = False,
    overlap: float = OVERLAP,
    most_lookups: int = MOST_LOOKUPS,
    allow_mass_deletion: bool = False,
    on_progress: Tell = lambda _: None,
    on_event: Listener = lambda _name, _event: None,
) -> StoresReport:
    """Bring the copy of each store in step, `at_once` of them at the same time.

    `stores`, `output`, `on_progress` and `on_event` are as for `b2b_payments.export.export_stores`, the rest
    as for `sync`; `format` is ``sqlite`` or ``duckdb``. Where `output` is an address of PostgreSQL, each
    store has a schema of its own there: `schema` is its name, with ``{name}`` in it, in place of
    ``b2b_payments_{name}``. Of a report, `rows` are the payments that came and were new or in another
    version, `ending` is what the sync said.

    Raises ConfigurationError for what cannot work, before anything is sent.
    """
    given = list(stores)
    refuse_twice(given)
    refuse_twice([store.with_token() for store in given])
    for store in given:
        if store.channel_ids is not None:
            raise ConfigurationError(
                f"store {store.name!r}: a copy is of the whole store: leave channels out."
            )
    copies = _copies(given, output, format, schema)
    fit = limited(at_once, _REQUESTS_IN_FLIGHT, len(given))
    settings: dict[str, Any] = {
        "sweep": sweep,
        "overlap": overlap,
        "most_lookups": most_lookups,
        "allow_mass_deletion": allow_mass_deletion,
    }
    reports: dict[str, StoreReport] = {}

    def take(report: StoreReport) -> None:
        reports[report.name] = report
        on_progress(report)

    for store, copy in zip(given, copies, strict=True):
        take(StoreReport(store.name, str(copy.place)))
    # One by one: the work for a store begins when it is made.
    works = (
        _Sync(store, copy, settings, take, on_event).run for store, copy in zip(given, copies, strict=True)
    )
    await do_all(works, fit.stores)
    return StoresReport(tuple(reports[store.name] for store in given))


def _copies(
    stores: Sequence[OneStore], output: PathLike, format_: str | None, schema: str | None
) -> list[Store]:
    """Return each store's copy. Raises ConfigurationError."""
    address = os.fspath(path_of(output))
    if not is_address(address):
        if schema is not None:
            raise ConfigurationError("Only a database on a server has schemas: leave the schema out.")
        places = places_of(output, format_)
        places.refuse_one_file(stores)
        places.make_folders(stores)
        return [store_for(places.of(store)) for store in stores]
    pattern = f"{SCHEMA}_{NAME}" if schema is None else schema
    if NAME not in pattern:
        raise ConfigurationError(
            f"{schema!r} is one schema, and each store has its own: give a pattern such as '{SCHEMA}_{NAME}'."
        )
    return [PostgresStore(address, schema=pattern.replace(NAME, store.name)) for store in stores]


class _Sync(Work):
    def __init__(
        self, store: OneStore, copy: Store, settings: dict[str, Any], tell: Tell, listen: Listener
    ) -> None:
        super().__init__(store, str(copy.place), tell, listen)
        self._copy = copy
        self._settings = settings
        self._changed = 0

    @property
    def rows(self) -> int:
        return self._changed

    @property
    def resumable(self) -> bool:
        return self._copy.exists

    async def work(self, client: PaymentsClient) -> None:
        report = await sync(client, self._copy, **self._settings, on_progress=self.advance)
        self._changed = report.inserted + report.updated
        self.note(
            state=StoreState.COMPLETE if report.complete else StoreState.NOT_COMPLETE, ending=str(report)
        )
