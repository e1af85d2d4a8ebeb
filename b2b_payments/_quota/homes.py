"""Where a store's window is kept: in this process, or in a file that all processes of a machine share."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from random import getrandbits
from typing import ClassVar, TypeVar
from weakref import WeakSet, WeakValueDictionary

import attrs

from b2b_payments._printable import define
from b2b_payments._quota.quota import Quota
from b2b_payments._quota.window import Window

T = TypeVar("T")
Store = tuple[Hashable, ...]
"""What tells a store from others: where it is, and its hash or token."""


@define(eq=False, slots=False)
class Member:
    """One who takes part in a store's quota: the gate of an event loop. `number` names it among processes."""

    number: int = attrs.field(factory=lambda: getrandbits(62))


class Home(ABC):
    """Keeps one store's window, and lets one at a time work on it."""

    def __init__(self, quota: Quota) -> None:
        self.latest: Window = Window(quota)
        """The window as this process saw it last. Only to be read."""
        self._quotas = {quota}
        self._members: WeakSet[Member] = WeakSet()
        self._lock = threading.RLock()

    def join(self, member: Member) -> None:
        """Let a member take part."""
        with self._lock:
            self._members.add(member)

    def tighten(self, quota: Quota) -> None:
        """Keep this quota too, beside those already kept: the stricter holds."""
        with self._lock:
            self._quotas.add(quota)
            self.latest.grants.tighten(quota)

    @property
    def is_shared(self) -> bool:
        """Whether others take part, of whose answers a member that waits hears nothing."""
        return len(self._members) > 1

    @abstractmethod
    def work(self, action: Callable[[Window], T]) -> T | None:
        """Work on the window now. None where another process has it for longer than a moment."""

    @abstractmethod
    def report(self, action: Callable[[Window], object]) -> None:
        """Work on the window now, or at the latest before whoever of this process does so next."""


class ProcessHome(Home):
    """A window in memory, for all event loops and threads of this process."""

    def work(self, action: Callable[[Window], T]) -> T:
        """Work on the window."""
        with self._lock:
            return action(self.latest)

    def report(self, action: Callable[[Window], object]) -> None:
        """Work on the window."""
        self.work(action)


@define(eq=False, slots=False)
class Place:
    """Where a store's home is: it changes when the first client comes that shares with other processes."""

    home: Home


class _Places:
    """Those of this process, by store. One that was used lately stays, though no client holds it."""

    lock: ClassVar[threading.Lock] = threading.Lock()
    known: ClassVar[WeakValueDictionary[Store, Place]] = WeakValueDictionary()
    kept: ClassVar[set[Place]] = set()


def place_for(store: Store, quota: Quota, now: float, share: Callable[[Store, Quota, Window], Home]) -> Place:
    """Give the place of this store's home, one and the same for all clients of this process.

    `share` makes the home that a shared quota wants, with what is known already. What another clock counted,
    which is ahead of this moment, means nothing and is dropped.
    """
    with _Places.lock:
        _Places.kept = {place for place in _Places.kept if place.home.latest.counts(now)}
        place = _Places.known.get(store)
        if place is None or place.home.latest.is_ahead(now):
            place = _Places.known[store] = Place(ProcessHome(quota))
        if quota.shared and isinstance(place.home, ProcessHome):
            place.home = share(store, quota, place.home.latest)
        _Places.kept.add(place)
        return place


def forget_all() -> None:
    """Forget what was counted, and whoever holds a lock: for a child of a fork, and for tests."""
    _Places.lock = threading.Lock()
    _Places.known = WeakValueDictionary()
    _Places.kept = set()


if hasattr(os, "register_at_fork"):
    # A thread of the parent may have held a lock, which nobody gives back in the child.
    os.register_at_fork(after_in_child=forget_all)
