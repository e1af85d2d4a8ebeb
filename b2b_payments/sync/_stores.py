"""Copies of many stores, kept in step."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

from b2b_payments._changes.feed import OVERLAP
from b2b_payments._client import PaymentsClient
from b2b_payments._errors import ConfigurationError
from b2b_payments.events import logger
from b2b_payments.export import Store as OneStore
from b2b_payments.export import StoreReport, StoresReport, StoreState
from b2b_payments.export._file import PathLike
from b2b_payments.export._stores.limits import fitting
from b2b_payments.export._stores.places import places_of
from b2b_payments.export._stores.store import refuse_twice
from b2b_payments.export._stores.work import Listener, Tell, Work, do_all
from b2b_payments.sync._settle import MOST_LOOKUPS
from b2b_payments.sync._store import Store, store_for
from b2b_payments.sync._sync import sync

_REQUESTS_IN_FLIGHT = 8


async def sync_stores(
    stores: Iterable[OneStore],
    output: PathLike,
    *,
    format: str | None = None,  # noqa: A002 - as `export_stores` has it
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
    as for `sync`; `format` is ``sqlite`` or ``duckdb``. Of a report, `rows` are the payments that came and
    were new or in another version, `ending` is what the sync said.

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
    places, fit = places_of(output, format), fitting(at_once, _REQUESTS_IN_FLIGHT)
    places.refuse_one_file(given)
    if fit.why and fit.stores < len(given):
        logger.warning("%d stores at once, not %d: %s", fit.stores, at_once, fit.why)
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

    places.make_folders(given)
    works: list[Callable[[], Awaitable[None]]] = []
    for store in given:
        path = places.of(store)
        copy = store_for(path)
        take(StoreReport(store.name, str(path)))
        works.append(partial(_synced, store, copy, settings, take, on_event))
    await do_all(works, fit.stores)
    return StoresReport(tuple(reports[store.name] for store in given))


async def _synced(
    store: OneStore, copy: Store, settings: dict[str, Any], tell: Tell, listen: Listener
) -> None:
    await _Sync(store, copy, settings, tell, listen).run()


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
