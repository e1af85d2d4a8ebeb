"""What a feed has given, and how far it has come: all that a checkpoint holds. No I/O, no clock.

The *watermark* is a moment up to which all was given that lists showed. A write that they did not show yet
was made later than the watermark less their lag. So whatever is still to come was updated after the watermark
less the *overlap*, which is at least as wide as the lag; what was given of that is remembered by its stamp,
and nothing else. Nothing before the *floor*, where the feed began, is given at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import attrs

from b2b_payments._changes.version import Stamp
from b2b_payments._errors import ConfigurationError
from b2b_payments._models.decimals import is_whole
from b2b_payments._models.moment import in_utc, microseconds_of, moment_of
from b2b_payments._printable import define, frozen

Checkpoint = dict[str, Any]

_FEED = "changes"
_VERSION = 1
_SECOND = 1_000_000
_FEW = 1_000
"""Stamps that may lie behind the overlap before they are let go."""


@frozen
class Place:
    """Where a feed stood: the ledger's own list of what was given, and how much of it was given then."""

    store: str
    overlap: int
    watermark: int | None
    floor: int | None
    before: tuple[Stamp, ...] = attrs.field(repr=False)
    given: list[Stamp] = attrs.field(repr=False)
    count: int

    def checkpoint(self) -> Checkpoint:
        """Write it as plain JSON: about 25 bytes for each version of the overlap, and 130 more."""
        end = self.watermark
        stamps = [] if end is None else [*self.before, *self.given[: self.count]]
        return {
            "version": _VERSION,
            "feed": _FEED,
            "store": self.store,
            "watermark": None if end is None else moment_of(end).isoformat(),
            "floor": None if self.floor is None else moment_of(self.floor).isoformat(),
            # How long before the watermark, in seconds, is shorter than when.
            "given": [
                [stamp.id, _seconds((end or 0) - stamp.updated), stamp.digest]
                for stamp in stamps
                if stamp.updated >= (end or 0) - self.overlap
            ],
        }


@define
class Ledger:
    """What a feed of this store has given. Moments and `overlap` are in microseconds.

    `watermark` is None until the first answer says what time it is.
    """

    store: str
    overlap: int
    watermark: int | None = None
    floor: int | None = None
    _before: tuple[Stamp, ...] = ()
    _given: list[Stamp] = attrs.field(factory=list)
    _known: set[Stamp] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._known = set(self._before)

    @classmethod
    def since(cls, store: str, overlap: int, since: Any) -> Ledger:
        """Begin where a checkpoint stands, at a moment, or (None) where the first answer says.

        Raises ConfigurationError for a checkpoint of another store, or that is none.
        """
        if since is None:
            return cls(store, overlap)
        if isinstance(since, datetime):
            moment = microseconds_of(since)
            return cls(store, overlap, moment, moment)
        return _unpacked(store, overlap, since)

    @property
    def bound(self) -> int:
        """The moment from which on there may be versions that were not given."""
        low = 0 if self.watermark is None else self.watermark - self.overlap
        return low if self.floor is None else max(low, self.floor)

    @property
    def place(self) -> Place:
        """Where the feed stands now."""
        given = self._given
        return Place(self.store, self.overlap, self.watermark, self.floor, self._before, given, len(given))

    def __contains__(self, stamp: Stamp) -> bool:
        return stamp in self._known

    def begin(self, moment: int) -> None:
        """Begin at this moment: what was updated before is not given."""
        self.watermark = self.floor = moment

    def give(self, stamp: Stamp) -> None:
        """Note that a version was given."""
        self._known.add(stamp)
        self._given.append(stamp)

    def reach(self, moment: int) -> None:
        """Note that all that lists showed up to this moment was given; let go of what lies far behind it."""
        self.watermark = moment if self.watermark is None else max(self.watermark, moment)
        if len(self._given) > max(_FEW, len(self._before)):
            stamps = (*self._before, *self._given)
            # A new list: a place that was given out keeps its own.
            self._before, self._given = tuple(one for one in stamps if one.updated >= self.bound), []
            self._known = set(self._before)


def _seconds(microseconds: int) -> int | float:
    return microseconds // _SECOND if microseconds % _SECOND == 0 else microseconds / _SECOND


def _unpacked(store: str, overlap: int, packed: Any) -> Ledger:
    if not isinstance(packed, Mapping) or packed.get("feed") != _FEED or packed.get("version") != _VERSION:
        raise ConfigurationError(
            "since is no checkpoint of changes that this version of the library made: give one that a change "
            "had, an aware datetime, or None to begin now."
        )
    if packed.get("store") != store:
        raise ConfigurationError(
            f"The checkpoint is of another store ({packed.get('store')!r}, not {store!r}). Go on with the "
            "same store, or begin again without it."
        )
    try:
        watermark, floor = _moment(packed["watermark"]), _moment(packed["floor"])
        stamps = [_stamp(watermark or 0, *one) for one in packed["given"]]
        ledger = Ledger(store, overlap, watermark, floor, tuple(stamps))
        moment_of(ledger.bound)
    except (ConfigurationError, KeyError, TypeError, ValueError, OverflowError):
        raise ConfigurationError("The checkpoint is damaged. Begin again at a moment, or now.") from None
    return ledger


def _stamp(watermark: int, payment_id: Any, age: Any, digest: Any) -> Stamp:
    if not is_whole(payment_id) or not isinstance(digest, str):
        raise TypeError
    return Stamp(payment_id, watermark - round(age * _SECOND), digest)


def _moment(text: Any) -> int | None:
    return None if text is None else microseconds_of(in_utc(datetime.fromisoformat(text)))
