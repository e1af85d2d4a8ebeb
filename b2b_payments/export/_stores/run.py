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
from b2b_payments.export._file import Lock, sync_folder, write_whole, writing
from b2b_payments.export._manifest import manifest_path, read_manifest
from b2b_payments.export._stores.places import Places
from b2b_payments.export._stores.store import Store

_VERSION = 1


class Run:
    """A run over many stores, from its beginning or resumed. One at a time: while entered it has a lock.

    Entering raises ExportError where another run is under way, or the note cannot be written or read.
    """

    def __init__(self, name: str, places: Places, stores: Sequence[Store], *, resume: bool) -> None:
        self._place = places.folder / f".{name}.run"
        self._places = places
        self._stores = stores
        self._resume = resume
        self._lock = Lock(self._place)
        self._noted: Mapping[str, Any] = {}

    def __enter__(self) -> Self:
        self._lock.acquire()
        try:
            if not (self._resume and self._read()):
                self._begin()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lock.release()

    def finished(self, store: Store, query: Mapping[str, Any]) -> int | None:
        """Give the payments in a store's file where this run has finished it; else None."""
        noted, target = self._noted.get(store.name), self._places.of(store)
        if noted is None or {**noted, "manifest": ""} != {**self._note(store), "manifest": ""}:
            return None
        return finished_since(target, noted["manifest"], query)

    def end(self) -> None:
        """Forget it. Raises ExportError."""
        with writing(self._place):
            self._place.unlink(missing_ok=True)

    def _read(self) -> bool:
        try:
            note: Any = msgspec.json.decode(self._place.read_bytes())
        except FileNotFoundError:
            return False
        except OSError as error:
            raise ExportError(f"{self._place} could not be read: {error.strerror}.") from None
        except ValueError:
            note = None
        stores: Any = note.get("stores") if isinstance(note, dict) else None
        whole = isinstance(stores, dict) and all(isinstance(one, dict) for one in stores.values())
        if not whole or note.get("version") != _VERSION:
            raise ExportError(
                f"{self._place}, the note of the run that was interrupted, cannot be read: start again, "
                "without resuming."
            )
        self._noted = stores
        return True

    def _begin(self) -> None:
        self._noted = {store.name: self._note(store) for store in self._stores}
        packed = msgspec.json.encode({"version": _VERSION, "stores": self._noted})
        with writing(self._place):
            write_whole(self._place, packed)
            sync_folder(self._place.parent)

    def _note(self, store: Store) -> dict[str, Any]:
        target = self._places.of(store)
        return {"store": store.identity, "file": str(target), "manifest": manifest_hash(target)}


def manifest_hash(target: Path) -> str | None:
    """Give the hash of a file's manifest, None where it has none."""
    try:
        return hashlib.sha256(manifest_path(Path(os.path.realpath(target))).read_bytes()).hexdigest()
    except OSError:
        return None


def finished_since(target: Path, before: str | None, query: Mapping[str, Any]) -> int | None:
    """Give the payments in a file where it was finished since its manifest had this hash; else None."""
    if manifest_hash(target) in {None, before} or not target.is_file():
        return None
    try:
        account = read_manifest(Path(os.path.realpath(target))).account
    except ExportError:
        return None  # damaged since: this store is exported again
    return account.sums.whole.rows if account.complete and account.query == query else None
