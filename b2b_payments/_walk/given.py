"""Which rows a walk has given already, from whichever end of the list they were read.

Ids are remembered near the two places where the walk is reading, and let go further behind: a row created
before all of those, or beyond all of those at the other end, was given when its neighbours were. So memory
does not grow with the walk.
"""

from __future__ import annotations

from collections.abc import Sequence

from b2b_payments._walk.page import Key, negated

_KEPT_IDS = 4_096
"""Ids remembered before older ones are let go (a run of equals is always remembered whole)."""


class Given:
    """The rows given so far. Keys are those of the walk's own direction; `forgets` lets go of ids.

    By a time that moves, as `updatedAt` does, an old row may come again far from where it was: such a walk
    remembers every id.
    """

    def __init__(self, *, forgets: bool) -> None:
        self._forgets = forgets
        self._keys: dict[int, Key] = {}
        self._low: Key | None = None  # rows with a smaller key were given
        self._high: Key | None = None  # rows with a larger key were given
        self._next: dict[bool, Key | None] = {False: None, True: None}
        self._most = _KEPT_IDS
        self._kept: Key | None = None  # ids of this key are never let go

    def __len__(self) -> int:
        return len(self._keys)

    def restore(self, key: Key, ids: Sequence[int], *, mirrored: bool) -> None:
        """Take it that all rows behind this key were given, and of those with this key the ones named."""
        edge = negated(key) if mirrored else key
        self._keys |= dict.fromkeys(ids, edge)
        self._move(edge, mirrored=mirrored)

    def leave_out_before(self, key: Key) -> None:
        """Rows before this key are not asked for."""
        self._low = key

    def take(
        self, ids: Sequence[int], keys: Sequence[Key], *, mirrored: bool, upto: Key | None = None
    ) -> tuple[list[int], int]:
        """Give the places of the rows that were not given before, and how many were; none beyond `upto`.

        `mirrored` says that the keys are those of the opposite order.
        """
        known, low, high = self._keys, self._low, self._high
        rows: list[int] = []
        duplicates = 0
        for place, (payment_id, own) in enumerate(zip(ids, keys, strict=True)):
            if upto is not None and own > upto:
                continue
            key = negated(own) if mirrored else own
            if payment_id in known or (low is not None and key < low) or (high is not None and key > high):
                duplicates += 1
            else:
                known[payment_id] = key
                rows.append(place)
        return rows, duplicates

    def ids_at(self, key: Key) -> tuple[int, ...]:
        """Give the ids that were given of this key, as far as they are remembered."""
        return tuple(payment_id for payment_id, known in self._keys.items() if known == key)

    def beyond(self, key: Key | None, *, mirrored: bool) -> Sequence[int]:
        """Give the ids of rows before this key, or behind it if `mirrored`, as far as they are remembered."""
        known = sorted(self._keys.items(), key=lambda item: item[1])
        return [one for one, own in known if key is None or (own > key if mirrored else own < key)]

    def keep(self, key: Key) -> None:
        """Never let go of the ids of this key."""
        self._kept = key

    def forget(self, key: Key, *, mirrored: bool) -> None:
        """Let go of ids that lie well behind `key`, up to which one end was read."""
        if not self._forgets or len(self._keys) <= self._most:
            return
        edge, self._next[mirrored] = self._next[mirrored], negated(key) if mirrored else key
        if edge is not None:
            self._move(edge, mirrored=mirrored)
            low, high, kept = self._low, self._high, self._kept
            self._keys = {
                one: key
                for one, key in self._keys.items()
                if ((low is None or key >= low) and (high is None or key <= high)) or key == kept
            }
        self._most = len(self._keys) + _KEPT_IDS

    def _move(self, edge: Key, *, mirrored: bool) -> None:
        if mirrored:
            self._high = edge
        else:
            self._low = edge
