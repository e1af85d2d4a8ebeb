"""The run file: tells, after a crash, which stores a run had finished.

It is a hidden file next to the exports, such as ``.stores.toml.run``, for as long as a run lasts. For each
store it holds the path of its export, and the hash of the manifest that existed when the run began. If the
manifest has changed since, reports a complete export and has the same query, this run wrote it. So nothing
has to be written when a store is finished, and no clock is involved.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import msgspec
from anyio import to_thread

from b2b_payments._errors import ExportError
from b2b_payments._printable import frozen
from b2b_payments.export._bucket import is_url
from b2b_payments.export._file import Lock, put_whole, read_whole
from b2b_payments.export._manifest import manifest_bytes, numbered_manifest, parse_manifest
from b2b_payments.export._stores.places import Places
from b2b_payments.export._stores.store import Store
from b2b_payments.export._worker import in_threads

_VERSION = 1


class Entry(msgspec.Struct):
    """A store in the run file: its identity, its file, and the hash of that file's manifest at the start."""

    store: str
    file: str
    manifest: str | None


class _RunFile(msgspec.Struct):
    version: int
    stores: Mapping[str, Entry]


@frozen
class Run:
    """A run over many stores. `entries` are those of its run file, by store name."""

    path: str
    places: Places
    entries: Mapping[str, Entry]

    def finished(self, store: Store, query: Mapping[str, Any]) -> int | None:
        """Return the number of payments in a store's file if this run finished it, else None."""
        entry, target = self.entries.get(store.name), self.places.of(store)
        if entry is None or entry.store != store.identity or not _is_same(entry.file, target):
            return None
        return finished_since(target, entry.manifest, query)

    def end(self) -> None:
        """Remove the run file. Raises ExportError."""
        put_whole(self.path, None)


@asynccontextmanager
async def open_run(stores: Sequence[Store], places: Places, name: str, *, resume: bool) -> AsyncIterator[Run]:
    """Start a run over many stores, or resume one. It holds a lock until it exits: one run at a time.

    An object store has no lock: of two runs there, the later one continues the stores of both.

    Raises ExportError if another run is in progress, or the run file cannot be written or read.
    """
    path = os.path.join(places.folder, f".{name}.run")
    with nullcontext() if is_url(path) else Lock(Path(path)):
        entries = await to_thread.run_sync(_read, path) if resume else None
        if entries is None:
            targets = list(map(places.of, stores))
            hashes = await in_threads(manifest_hash, targets)
            new = zip(stores, targets, hashes, strict=True)
            entries = {store.name: Entry(store.identity, target, found) for store, target, found in new}
            data = msgspec.json.encode(_RunFile(_VERSION, entries))
            await to_thread.run_sync(put_whole, path, data)
        yield Run(path, places, entries)


def _is_same(file: str, target: str) -> bool:
    """Whether two paths or URLs are equal. A path is absolute in a run with Dask, relative in others."""
    return file == target or (not is_url(target) and os.path.abspath(file) == os.path.abspath(target))


def _read(path: str) -> Mapping[str, Entry] | None:
    data = read_whole(path)
    if data is None:
        return None
    try:
        run_file = msgspec.json.decode(data, type=_RunFile)
    except (ValueError, RecursionError):
        run_file = None
    if run_file is None or run_file.version != _VERSION:
        raise ExportError(
            f"{path}, the run file of the interrupted run, cannot be read: start again, without resuming."
        )
    return run_file.stores


def manifest_hash(target: str) -> str | None:
    """Return the hash of a file's manifest, or None if there is no manifest. Raises ExportError."""
    data = manifest_bytes(target)
    return None if data is None else _hash_of(data)


def _hash_of(manifest: bytes) -> str:
    """Hash a manifest without its number, which changes although the export stays."""
    with suppress(ValueError, TypeError, RecursionError):  # damaged
        manifest = numbered_manifest(manifest, 0)
    return hashlib.sha256(manifest).hexdigest()


def finished_since(target: str, old_manifest: str | None, query: Mapping[str, Any]) -> int | None:
    """Return the payments in a file that was finished since its manifest had this hash, else None."""
    data = manifest_bytes(target)
    # Earlier versions of this library hashed the number, too.
    if data is None or old_manifest in {_hash_of(data), hashlib.sha256(data).hexdigest()}:
        return None
    if not (is_url(target) or os.path.isfile(target)):
        return None
    try:
        account = parse_manifest(data, target).account
    except ExportError:
        return None  # damaged: export this store again
    return account.sums.whole.rows if account.complete and account.query == query else None
