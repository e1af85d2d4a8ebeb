"""The note of a run: what is needed to tell, after a kill, which stores it had finished.

Beside the files stands, hidden, from a run's beginning to its end, ``.stores.toml.run``: for each store its
file, and the hash of the manifest that was there when the run began. A manifest that is another one since,
says that it is complete and answers the same question is the run's own. So nothing has to be written when a
store is finished, and no clock is asked.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from anyio import to_thread

from b2b_payments._errors import ExportError
from b2b_payments._printable import frozen
from b2b_payments.export._bucket import is_url
from b2b_payments.export._file import Lock, put_whole, read_whole
from b2b_payments.export._manifest import manifest_bytes, parse_manifest
from b2b_payments.export._stores.places import Places
from b2b_payments.export._stores.store import Store
from b2b_payments.export._worker import in_threads

_VERSION = 1


@frozen
class Run:
    """A run over many stores, and what it noted of each when it began."""

    path: str
    places: Places
    noted: Mapping[str, Any]

    def finished(self, store: Store, query: Mapping[str, Any]) -> int | None:
        """Return the payments in a store's file where this run has finished it; else None."""
        noted, target = self.noted.get(store.name), self.places.of(store)
        if noted is None or (noted.get("store"), noted.get("file")) != (store.identity, target):
            return None
        return finished_since(target, noted.get("manifest"), query)

    def end(self) -> None:
        """Forget it. Raises ExportError."""
        put_whole(self.path, None)


@asynccontextmanager
async def run_over(stores: Sequence[Store], places: Places, name: str, *, resume: bool) -> AsyncIterator[Run]:
    """Begin a run over many stores, or go on with one. As long as it is entered it has a lock: one at a time.

    In an object store there is no lock: of two runs, the later one goes on with the stores of both.

    Raises ExportError where another run is under way, or the note cannot be written or read.
    """
    path = os.path.join(places.folder, f".{name}.run")
    lock = None if is_url(path) else Lock(Path(path))
    try:
        if lock is not None:
            lock.acquire()
        noted = await to_thread.run_sync(_read, path) if resume else None
        if noted is None:
            notes = await in_threads(partial(_note, places), stores)
            noted = {store.name: note for store, note in zip(stores, notes, strict=True)}
            data = msgspec.json.encode({"version": _VERSION, "stores": noted})
            await to_thread.run_sync(put_whole, path, data)
        yield Run(path, places, noted)
    finally:
        if lock is not None:
            lock.release()


def _read(path: str) -> Mapping[str, Any] | None:
    data = read_whole(path)
    if data is None:
        return None
    try:
        note = msgspec.json.decode(data, type=_Note)
    except ValueError:
        note = None
    if note is None or note.version != _VERSION:
        raise ExportError(
            f"{path}, the note of the run that was interrupted, cannot be read: start again, "
            "without resuming."
        )
    return note.stores


class _Note(msgspec.Struct):
    version: int
    stores: dict[str, dict[str, Any]]


def _note(places: Places, store: Store) -> dict[str, Any]:
    target = places.of(store)
    return {"store": store.identity, "file": target, "manifest": manifest_hash(target)}


def manifest_hash(target: str) -> str | None:
    """Return the hash of a file's manifest, None where it has none. Raises ExportError."""
    data = manifest_bytes(target)
    return None if data is None else hashlib.sha256(data).hexdigest()


def finished_since(target: str, before: str | None, query: Mapping[str, Any]) -> int | None:
    """Return the payments in a file where it was finished since its manifest had this hash; else None."""
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
