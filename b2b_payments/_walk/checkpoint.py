"""Checkpoints: the position of a walk or a stream, as small plain JSON that another process can resume."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import attrs
import msgspec
from msgspec import Meta

from b2b_payments._errors import ConfigurationError, shown
from b2b_payments._models.decimals import decimal_of, decimal_text
from b2b_payments._printable import frozen
from b2b_payments._protocol.query import ChannelEncoding, PaymentQuery
from b2b_payments._walk.page import MAX_DIGITS, Key

Checkpoint = dict[str, Any]

_VERSION = 2
_START_AGAIN = "Use one that this version of the library wrote, or start again without it."


@frozen
class Cursor:
    """The position of a join: all that another process needs to resume it.

    Every lasting row before `key` was delivered, and of the rows with that key those in `ids` (all if
    `closed`). The next page has to start at `resume_at` or before. `first` is the key of the first row taken,
    `first_ids` are the ids with it on the first page. `rises` says that one page had two different keys.
    """

    key: Key
    closed: bool
    resume_at: Annotated[int, Meta(ge=0)]
    ids: tuple[int, ...]
    first: Key | None = None
    first_ids: tuple[int, ...] = ()
    rises: bool = False


@frozen
class Origin:
    """The store and query that a checkpoint is for: others have other rows at other offsets."""

    store: str
    query: str

    @classmethod
    def of(cls, store: str, query: PaymentQuery, bounds: Mapping[str, str] | None = None) -> Origin:
        """Return the origin of a walk over a query of a store; `bounds` are those of its period, as text."""
        pairs = query.pairs(offset=0, limit=0, encoding=ChannelEncoding.COMMA)[2:]
        pairs += tuple((bounds or {}).items())
        return cls(store, "&".join(f"{name}={value}" for name, value in pairs))

    def pack(self, near: Cursor | None, far: Cursor | None = None) -> Checkpoint:
        """Return the checkpoint of a walk from its position at each end of the list, None if not read yet."""
        return {
            "version": _VERSION,
            "store": self.store,
            "query": self.query,
            "place": _packed(near),
            "other_end": _packed(far),
        }

    def unpack(self, checkpoint: Any) -> tuple[Cursor | None, Cursor | None]:
        """Read a checkpoint. Raises ConfigurationError for another version, store or query, or damage."""
        # Version 1 had no "other_end".
        version = checkpoint.get("version") if isinstance(checkpoint, Mapping) else None
        if type(version) is not int or version not in {1, _VERSION}:
            raise ConfigurationError(f"The checkpoint is not of version {_VERSION}. {_START_AGAIN}")
        for name, expected in (("store", self.store), ("query", self.query)):
            actual = checkpoint.get(name)
            if actual != expected:
                raise ConfigurationError(
                    f"The checkpoint is for another {name} ({shown(actual)}, not {expected!r}). Resume with "
                    "the same store and the same filters, or start again without it."
                )
        near, far = checkpoint.get("place"), checkpoint.get("other_end")
        return None if near is None else _cursor(near), None if far is None else _cursor(far)


def _packed(cursor: Cursor | None) -> Checkpoint | None:
    if cursor is None:
        return None
    return {
        **attrs.asdict(cursor, recurse=False),
        "key": _text(cursor.key),
        "first": None if cursor.first is None else _text(cursor.first),
        "ids": list(cursor.ids),
        "first_ids": list(cursor.first_ids),
    }


def _text(key: Key) -> str:
    return decimal_text(key) if isinstance(key, Decimal) else str(key)


def of_channels(checkpoints: Mapping[int | None, Checkpoint]) -> Checkpoint:
    """Combine the checkpoints of a stream's channels into the stream's."""
    return {
        "version": _VERSION,
        "channels": {str(channel_id): checkpoint for channel_id, checkpoint in checkpoints.items()},
    }


def with_channel(checkpoint: Checkpoint, channel_id: int | None, of_channel: Checkpoint) -> Checkpoint:
    """Return a stream's checkpoint with that of one channel replaced."""
    if channel_id is None:
        return of_channel
    return {**checkpoint, "channels": {**checkpoint["channels"], str(channel_id): of_channel}}


def for_channel(checkpoint: Any, channel_id: int | None) -> Any:
    """Return one channel's part of a stream's checkpoint. Raises ConfigurationError if it has none."""
    if checkpoint is None or channel_id is None:
        return checkpoint
    channels = checkpoint.get("channels") if isinstance(checkpoint, Mapping) else None
    part = channels.get(str(channel_id)) if isinstance(channels, Mapping) else None
    if not isinstance(part, Mapping):
        raise ConfigurationError(
            f"The checkpoint has no channel {channel_id}. Resume with the same channels, or start again."
        )
    return part


def _cursor(packed: Any) -> Cursor:
    try:
        cursor = msgspec.convert(packed, Cursor)  # version 1 had no `first`, `first_ids` and `rises`
        first = None if cursor.first is None else _key(packed["first"])
        return attrs.evolve(cursor, key=_key(packed["key"]), first=first)
    except (TypeError, ValueError, ArithmeticError):
        raise ConfigurationError(f"The checkpoint is damaged. {_START_AGAIN}") from None


def _key(text: str) -> Key:
    key = decimal_of(text)
    if key is None or key.adjusted() > MAX_DIGITS:
        raise InvalidOperation
    return int(key) if key == key.to_integral_value() else key
