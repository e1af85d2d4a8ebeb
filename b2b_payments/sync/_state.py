"""The state of a copy, kept with it as a small JSON text in its own table."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self

import attrs
import msgspec
from msgspec import Meta

from b2b_payments._changes.ledger import Ledger
from b2b_payments._models.moment import microseconds_of
from b2b_payments._printable import frozen
from b2b_payments._walk.checkpoint import Checkpoint

_VERSION = 2
_READABLE_VERSIONS = {1, _VERSION}
_Aware = Annotated[datetime, Meta(tz=True)]


@frozen
class Reading:
    """A full read in progress.

    `watermark` is the latest `updatedAt` that the list showed before the read began, `begun` the time of that
    answer, if known, and `walk` the checkpoint of the read.
    """

    watermark: _Aware | None
    walk: Checkpoint | None
    begun: _Aware | None = None


@frozen
class State:
    """Which store a copy is of, up to when it is in sync, and the full read in progress, if any.

    `store` is the store's name in checkpoints, `store_hash` the one in its payments, since a legacy
    credential does not name the store. `changes` is the checkpoint of the feed of changes, None until the
    first full read is complete.
    """

    store: str
    store_hash: str | None = None
    changes: Checkpoint | None = None
    reading: Reading | None = None

    @property
    def watermark(self) -> datetime | None:
        """The time up to which the copy is in sync, by the service's clock."""
        return None if self.changes is None else _parse_time(self.changes["watermark"])

    def in_sync_until(self, watermark: datetime | None) -> Self:
        """Return the state of a copy that has all changes that lists showed up to this time."""
        changes = None if watermark is None else Ledger(self.store, 0, microseconds_of(watermark)).place
        return attrs.evolve(self, changes=None if changes is None else changes.checkpoint())

    def pack(self) -> str:
        """Return the state as JSON."""
        return msgspec.json.encode({"version": _VERSION, **attrs.asdict(self)}).decode()

    @classmethod
    def unpack(cls, text: str) -> Self | None:
        """Parse what `pack` returned. Returns None if another version of the library wrote it.

        Raises ValueError, LookupError, TypeError or RecursionError for anything else.
        """
        packed = msgspec.json.decode(text, type=dict[str, Any])
        if packed["version"] not in _READABLE_VERSIONS:
            return None
        state = msgspec.convert(packed, cls)
        _ = state.watermark, packed["store_hash"]  # raises if one is invalid or missing
        if packed["version"] == 1:
            # Version 1 stored only the watermark.
            return state.in_sync_until(_parse_time(packed["watermark"]))
        return state


def _parse_time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
