"""What a copy says of itself, as small plain JSON in a table of its own."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

import attrs
import msgspec

from b2b_payments._printable import frozen
from b2b_payments._walk.checkpoint import Checkpoint

_VERSION = 1


@frozen
class Reading:
    """A reading of the whole store that is under way.

    `watermark` is the latest `updatedAt` that the list showed before it began, `walk` where it stands, and
    `begun` the moment of that first answer, where it is known.
    """

    watermark: datetime | None
    walk: Checkpoint | None = None
    begun: datetime | None = None


@frozen
class State:
    """Which store a copy is of, how far it is in step, and the reading that is under way, if one is.

    `store` is the name that checkpoints have for the store, `store_hash` the one in its payments: an older
    credential says nothing of the store. `watermark` is None until a first reading is through.
    """

    store: str
    store_hash: str | None = None
    watermark: datetime | None = None
    reading: Reading | None = None

    def pack(self) -> str:
        """Write it as JSON."""
        return msgspec.json.encode({"version": _VERSION, **attrs.asdict(self)}).decode()

    @classmethod
    def unpack(cls, text: str) -> Self | None:
        """Read what `pack` gave, None where another version did.

        Raises ValueError, LookupError and TypeError for anything else.
        """
        packed: Any = msgspec.json.decode(text)
        if packed["version"] != _VERSION:
            return None
        reading = packed["reading"]
        if reading is not None:
            begun = _moment(reading.get("begun"))
            reading = Reading(_moment(reading["watermark"]), reading["walk"], begun)
        return cls(packed["store"], packed["store_hash"], _moment(packed["watermark"]), reading)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
