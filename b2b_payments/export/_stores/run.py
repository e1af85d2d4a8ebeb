"""The note of a run: what is needed to tell, after a kill, which stores it had finished.

Beside the files stands, hidden, from a run's beginning to its end, ``.stores.toml.run``: for each store its
file, and the hash of the manifest that was there when the run began. A manifest that is another one since,
says that it is complete and answers the same question is the run's own. So nothing has to be written when a
store is finished, and no clock is asked.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from b2b_payments._errors import ExportError
from b2b_payments.export._bucket import is_url
from b2b_payments.export._file import Lock
from b2b_payments.export._manifest import manifest_bytes, parse_manifest
from b2b_payments.export._stores.places import Places
from b2b_payments.export._stores.store import Store
from b2b_payments.export._whole import put_whole, read_whole
from b2b_payments.export._worker import in_threads

_VERSION = 1


class Run:
    """A run over many stores, from its beginning or resumed. While entered it has a lock: one at a time.

    In an object store there is no lock: of two runs, the later one goes on with the stores of both.

    Entering raises ExportError where another run is under way, or the note cannot be written or read.
    """

    def __init__(self, name: str, places: Places, stores: Sequence[Store], *, resume: bool) -> None:
        self._path = os.path.join(places.folder, f".{name}.run")
        self._lock = None if is_url(self._path) else Lock(Path(self._path))
        self._places = places
        self._stores = stores
        self._resume = resume
        self._noted: Mapping[str, Any] = {}

    def __enter__(self) -> Self:
        if self._lock is not None:
            self._lock.acquire()
        try:
            if not (self._resume and self._read()):
                self._begin()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()

    def finished(self, store: Store, query: Mapping[str, Any]) -> int | None:
        """Give the payments in a store's file where this run has finished it; else None."""
        noted, target = self._noted.get(store.name), self._places.of(store)
        if noted is None or {**noted, "manifest": ""} != {**self._note(store), "manifest": ""}:
            return None
        return finished_since(target, noted["manifest"], query)

    def end(self) -> None:
        """Forget it. Raises ExportError."""
        put_whole(self._path, None)

    def _read(self) -> bool:
        data = read_whole(self._path)
        if data is None:
            return False
        try:
            note: Any = msgspec.json.decode(data)
        except ValueError:
            note = None
        stores: Any = note.get("stores") if isinstance(note, dict) else None
        whole = isinstance(stores, dict) and all(isinstance(one, dict) for one in stores.values())
        if not whole or note.get("version") != _VERSION:
            raise ExportError(
                f"{self._path}, the note of the run that was interrupted, cannot be read: start again, "
                "without resuming."
            )
        self._noted = stores
        return True

    def _begin(self) -> None:
        self._noted = {
            store.name: note
            for store, note in zip(self._stores, in_threads(self._note, self._stores), strict=True)
        }
        put_whole(self._path, msgspec.json.encode({"version": _VERSION, "stores": self._noted}))

    def _note(self, store: Store) -> dict[str, Any]:
        target = self._places.of(store)
        return {"store": store.identity, "file": target, "manifest": manifest_hash(target)}


def manifest_hash(target: str) -> str | None:
    """Give the hash of a file's manifest, None where it has none. Raises ExportError."""
    data = manifest_bytes(target)
    return None if data is None else hashlib.sha256(data).hexdigest()


def finished_since(target: str, before: str | None, query: Mapping[str, Any]) -> int | None:
    """Give the payments in a file where it was finished since its manifest had this hash; else None."""
    data = manifest_bytes(target)
    if data is None or hashlib.sha256(data).hexdigest() == before:
        return None
    if not (is_url(target) or os.path.isfile(target)):
        return None
    try:
        account = parse_manifest(data, target).account
    except ExportError:
        return None  # damaged since: this store is exported again
    return account.sums.whole.rows if account.complete and account.query == query else None
