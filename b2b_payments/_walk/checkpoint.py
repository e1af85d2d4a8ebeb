"""Checkpoints: where a walk or a stream stands, as small plain JSON that another process can go on from."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import attrs
import msgspec
from msgspec import Meta

from b2b_payments._errors import ConfigurationError
from b2b_payments._models.decimals import decimal_of, decimal_text
from b2b_payments._printable import frozen
from b2b_payments._protocol.query import ChannelEncoding, PaymentQuery
from b2b_payments._walk.page import MOST_DIGITS, Key

Checkpoint = dict[str, Any]

_VERSION = 2
_TOO_OLD = "Give one that this version of the library made, or start again without it."


@frozen
class Cursor:
    """Where a join stands: all that another process needs to go on from there.

    Every lasting row before `key` was given, and of that second those in `ids` (`closed`: all of them). The
    next page has to start at `resume_at` or before. `first` is the key of the first row taken, `first_ids`
    are those that the first page gave of it. `rises` says that a page showed its order by two keys.
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
    """What a checkpoint is tied to: another store or other filters have other rows in other places."""

    store: str
    query: str

    @classmethod
    def of(cls, store: str, query: PaymentQuery, bounds: Mapping[str, str] | None = None) -> Origin:
        """Return the origin of a walk over this query of this store, within these bounds."""
        pairs = query.pairs(offset=0, limit=0, encoding=ChannelEncoding.COMMA)[2:]
        pairs += tuple((bounds or {}).items())
        return cls(store, "&".join(f"{name}={value}" for name, value in pairs))

    def pack(self, place: Cursor | None, other: Cursor | None = None) -> Checkpoint:
        """Write a checkpoint: where the walk stands at either end of the list, None before the first row."""
        return {
            "version": _VERSION,
            "store": self.store,
            "query": self.query,
            "place": _packed(place),
            "other_end": _packed(other),
        }

    def unpack(self, checkpoint: Any) -> tuple[Cursor | None, Cursor | None]:
        """Read a checkpoint. Raises ConfigurationError for one of another version, store or query."""
        # The first version knew of one end of the list only.
        version = checkpoint.get("version") if isinstance(checkpoint, Mapping) else None
        if type(version) is not int or version not in {1, _VERSION}:
            raise ConfigurationError(f"The checkpoint is not of version {_VERSION}. {_TOO_OLD}")
        for name, mine in (("store", self.store), ("query", self.query)):
            theirs = checkpoint.get(name)
            if theirs != mine:
                raise ConfigurationError(
                    f"The checkpoint is of another {name} ({theirs!r}, not {mine!r}). Resume with the same "
                    "store and the same filters, or start again without it."
                )
        place, other = checkpoint.get("place"), checkpoint.get("other_end")
        return None if place is None else _place(place), None if other is None else _place(other)


def _packed(place: Cursor | None) -> Checkpoint | None:
    if place is None:
        return None
    return {
        **attrs.asdict(place, recurse=False),
        "key": _text(place.key),
        "first": None if place.first is None else _text(place.first),
        "ids": list(place.ids),
        "first_ids": list(place.first_ids),
    }


def _text(key: Key) -> str:
    return decimal_text(key) if isinstance(key, Decimal) else str(key)


def of_channels(checkpoints: Mapping[int | None, Checkpoint]) -> Checkpoint:
    """Write the checkpoint of a stream from those of its channels."""
    return {
        "version": _VERSION,
        "channels": {str(channel_id): one for channel_id, one in checkpoints.items()},
    }


def with_channel(checkpoint: Checkpoint, channel_id: int | None, behind: Checkpoint) -> Checkpoint:
    """Return a stream's checkpoint with one channel's walk moved on."""
    if channel_id is None:
        return behind
    return {**checkpoint, "channels": {**checkpoint["channels"], str(channel_id): behind}}


def for_channel(checkpoint: Any, channel_id: int | None) -> Any:
    """Return one channel's part of a stream's checkpoint. Raises ConfigurationError where it has none."""
    if checkpoint is None or channel_id is None:
        return checkpoint
    channels = checkpoint.get("channels") if isinstance(checkpoint, Mapping) else None
    part = channels.get(str(channel_id)) if isinstance(channels, Mapping) else None
    if not isinstance(part, Mapping):
        raise ConfigurationError(
            f"The checkpoint has no channel {channel_id}. Resume with the same channels, or start again."
        )
    return part


def _place(packed: Any) -> Cursor:
    try:
        place = msgspec.convert(packed, Cursor)  # the first version had no `first`, `first_ids` and `rises`
        first = None if place.first is None else _key(packed["first"])
        return attrs.evolve(place, key=_key(packed["key"]), first=first)
    except (TypeError, ValueError, ArithmeticError):
        raise ConfigurationError(f"The checkpoint is damaged. {_TOO_OLD}") from None


def _key(text: str) -> Key:
    key = decimal_of(text)
    if key is None or key.adjusted() > MOST_DIGITS:
        raise InvalidOperation
    return int(key) if key == key.to_integral_value() else key
