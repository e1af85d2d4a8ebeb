"""Where a store's window is kept: in this process, or in a file that all processes of a machine share."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from random import getrandbits
from typing import ClassVar, TypeVar
from weakref import WeakSet, WeakValueDictionary

import attrs

from b2b_payments._quota.quota import Quota
from b2b_payments._quota.window import Window

T = TypeVar("T")


@attrs.define(eq=False, slots=False)
class Member:
    """One who takes part in a store's quota: the gate of an event loop. `number` names it among processes."""

    number: int = attrs.field(factory=lambda: getrandbits(62))


class Home(ABC):
    """Keeps one store's window, and lets one at a time work on it."""

    def __init__(self, quota: Quota) -> None:
        self.latest = Window(quota)
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


class _Homes:
    """The homes of this process. One that was used lately stays, though no client holds it any more."""

    lock: ClassVar[threading.Lock] = threading.Lock()
    known: ClassVar[WeakValueDictionary[Hashable, Home]] = WeakValueDictionary()
    kept: ClassVar[set[Home]] = set()


def home_for(key: Hashable, make: Callable[[], Home], now: float) -> Home:
    """Give the home of this name: one and the same for all clients of this process.

    What another clock counted, which is ahead of this moment, means nothing and is dropped.
    """
    with _Homes.lock:
        _Homes.kept = {home for home in _Homes.kept if home.latest.counts(now)}
        home = _Homes.known.get(key)
        if home is None or home.latest.is_ahead(now):
            home = _Homes.known[key] = make()
        _Homes.kept.add(home)
        return home


def forget_all() -> None:
    """Forget what was counted, for a child of a fork, whose own it is not, and for tests."""
    _Homes.known.clear()
    _Homes.kept.clear()
