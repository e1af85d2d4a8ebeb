"""What a copy says of itself, as small plain JSON in a table of its own."""

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
_KNOWN = {1, _VERSION}
_Aware = Annotated[datetime, Meta(tz=True)]


@frozen
class Reading:
    """A reading of the whole store that is under way.

    `watermark` is the latest `updatedAt` that the list showed before it began, `walk` where it stands, and
    `begun` the moment of that first answer, where it is known.
    """

    watermark: _Aware | None
    walk: Checkpoint | None
    begun: _Aware | None = None


@frozen
class State:
    """Which store a copy is of, how far it is in step, and the reading that is under way, if one is.

    `store` is the name that checkpoints have for the store, `store_hash` the one in its payments: an older
    credential says nothing of the store. `changes` is where the feed of changes goes on, None until a first
    reading is through.
    """

    store: str
    store_hash: str | None = None
    changes: Checkpoint | None = None
    reading: Reading | None = None

    @property
    def watermark(self) -> datetime | None:
        """How far the copy is in step, in the service's time."""
        return None if self.changes is None else _moment(self.changes["watermark"])

    def in_step_until(self, watermark: datetime | None) -> Self:
        """Return the state of a copy that has all that lists showed up to this moment."""
        changes = None if watermark is None else Ledger(self.store, 0, microseconds_of(watermark)).place
        return attrs.evolve(self, changes=None if changes is None else changes.checkpoint())

    def pack(self) -> str:
        """Write it as JSON."""
        return msgspec.json.encode({"version": _VERSION, **attrs.asdict(self)}).decode()

    @classmethod
    def unpack(cls, text: str) -> Self | None:
        """Read what `pack` gave, None where another version did.

        Raises ValueError, LookupError, TypeError and RecursionError for anything else.
        """
        packed = msgspec.json.decode(text, type=dict[str, Any])
        if packed["version"] not in _KNOWN:
            return None
        state = msgspec.convert(packed, cls)
        _ = state.watermark, packed["store_hash"]  # raises where it is none, or not there at all
        if packed["version"] == 1:
            # The first version remembered no more than how far it was.
            return state.in_step_until(_moment(packed["watermark"]))
        return state


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
