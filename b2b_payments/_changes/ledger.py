"""The state of a feed, which is what its checkpoints hold. No I/O, no clock.

The *watermark* is the update time up to which everything that lists showed was yielded. A write that they did
not show yet was made after the watermark minus their lag. So everything still to come was updated after the
watermark minus the *overlap*, which is at least as long as the lag. Versions already yielded are remembered
by their stamps while they are within the overlap. Nothing from before the *floor*, the start, is yielded.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import attrs

from b2b_payments._changes.version import Stamp
from b2b_payments._errors import ConfigurationError, shown
from b2b_payments._models.decimals import is_whole
from b2b_payments._models.moment import in_utc, microseconds_of, moment_of
from b2b_payments._printable import define, frozen

Checkpoint = dict[str, Any]

_FEED = "changes"
_VERSION = 1
_SECOND = 1_000_000
_TRIM_AFTER = 1_000
"""The least number of stamps to add before those older than the overlap are forgotten."""


@frozen
class Place:
    """The position of a feed at one time: the ledger's own list of stamps, and its length at that time."""

    store: str
    overlap: int
    watermark: int | None
    floor: int | None
    earlier: tuple[Stamp, ...] = attrs.field(repr=False)
    added: list[Stamp] = attrs.field(repr=False)
    count: int

    def checkpoint(self) -> Checkpoint:
        """Return the position as plain JSON: about 130 bytes, and 25 for each version within the overlap."""
        end = self.watermark
        stamps = [] if end is None else [*self.earlier, *self.added[: self.count]]
        return {
            "version": _VERSION,
            "feed": _FEED,
            "store": self.store,
            "watermark": None if end is None else moment_of(end).isoformat(),
            "floor": None if self.floor is None else moment_of(self.floor).isoformat(),
            # Seconds before the watermark: shorter than a timestamp.
            "given": [
                [stamp.id, _seconds((end or 0) - stamp.updated), stamp.digest]
                for stamp in stamps
                if stamp.updated >= (end or 0) - self.overlap
            ],
        }


@define
class Ledger:
    """The versions that a feed of this store has yielded. Times and `overlap` are in microseconds.

    `watermark` is None until the first poll sets it, if the feed starts now.
    """

    store: str
    overlap: int
    watermark: int | None = None
    floor: int | None = None
    _earlier: tuple[Stamp, ...] = ()
    _added: list[Stamp] = attrs.field(factory=list)
    _known: set[Stamp] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._known = set(self._earlier)

    @classmethod
    def since(cls, store: str, overlap: int, since: Any) -> Ledger:
        """Start from a checkpoint, at a datetime, or (None) at the latest update time in the first answer.

        Raises ConfigurationError if `since` is something else, a damaged checkpoint, or one of another store.
        """
        if since is None:
            return cls(store, overlap)
        if isinstance(since, datetime):
            moment = microseconds_of(since)
            return cls(store, overlap, moment, moment)
        return _unpack(store, overlap, since)

    @property
    def bound(self) -> int:
        """The earliest update time of versions that may not have been yielded yet."""
        low = 0 if self.watermark is None else self.watermark - self.overlap
        return low if self.floor is None else max(low, self.floor)

    @property
    def place(self) -> Place:
        """The current position of the feed."""
        added = self._added
        return Place(self.store, self.overlap, self.watermark, self.floor, self._earlier, added, len(added))

    def __contains__(self, stamp: Stamp) -> bool:
        return stamp in self._known

    def start_at(self, moment: int) -> None:
        """Start at this time: versions updated before are not yielded."""
        self.watermark = self.floor = moment

    def add(self, stamp: Stamp) -> None:
        """Record that a version was yielded."""
        self._known.add(stamp)
        self._added.append(stamp)

    def advance(self, moment: int) -> None:
        """Raise the watermark to this time, and now and then forget stamps older than the overlap."""
        self.watermark = moment if self.watermark is None else max(self.watermark, moment)
        if len(self._added) > max(_TRIM_AFTER, len(self._earlier)):
            stamps = (*self._earlier, *self._added)
            # A new list, since earlier positions refer to the old one.
            self._earlier, self._added = tuple(one for one in stamps if one.updated >= self.bound), []
            self._known = set(self._earlier)


def _seconds(microseconds: int) -> int | float:
    return microseconds // _SECOND if microseconds % _SECOND == 0 else microseconds / _SECOND


def _unpack(store: str, overlap: int, packed: Any) -> Ledger:
    if not isinstance(packed, Mapping) or packed.get("feed") != _FEED or packed.get("version") != _VERSION:
        raise ConfigurationError(
            "since is not a checkpoint of changes written by this version of the library. Use a change's "
            "checkpoint, or start again at an aware datetime, or now."
        )
    if packed.get("store") != store:
        raise ConfigurationError(
            f"The checkpoint is for another store ({shown(packed.get('store'))}, not {store!r}). Use it with "
            "the same store, or start again without it."
        )
    try:
        watermark, floor = _moment(packed["watermark"]), _moment(packed["floor"])
        stamps = [_stamp(watermark or 0, *one) for one in packed["given"]]
        ledger = Ledger(store, overlap, watermark, floor, tuple(stamps))
        moment_of(ledger.bound)
    except (ConfigurationError, KeyError, TypeError, ValueError, OverflowError):
        raise ConfigurationError("The checkpoint is damaged. Start again at a datetime, or now.") from None
    return ledger


def _stamp(watermark: int, payment_id: Any, age: Any, digest: Any) -> Stamp:
    if not is_whole(payment_id) or not isinstance(digest, str):
        raise TypeError
    return Stamp(payment_id, watermark - round(age * _SECOND), digest)


def _moment(text: Any) -> int | None:
    return None if text is None else microseconds_of(in_utc(datetime.fromisoformat(text)))
