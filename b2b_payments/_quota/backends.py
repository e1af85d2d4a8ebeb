"""Where a store's window is stored: in this process, or in a place that several processes share."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from typing import ClassVar
from weakref import WeakSet, WeakValueDictionary

import attrs

from b2b_payments._errors import ConfigurationError
from b2b_payments._printable import define
from b2b_payments._quota.quota import Quota
from b2b_payments._quota.state import Sharer
from b2b_payments._quota.window import Priority, Report, Verdict, Window, new_key

StoreKey = tuple[Hashable, ...]
"""Identifies a store: its base URL, and its hash or token."""

_logger = logging.getLogger("b2b_payments.quota")


class Backend(ABC):
    """Stores one store's window, and serializes access to it.

    Times are on the machine's monotonic clock; the window's own clock is `offset` seconds ahead of it.
    """

    def __init__(self, quota: Quota) -> None:
        self.latest: Window = Window(quota)
        """The window as this process last saw it."""
        self.offset: float = 0.0
        self._quotas = {quota}
        self._members: WeakSet[object] = WeakSet()
        self._lock = threading.RLock()

    def join(self, gate: object) -> None:
        """Register a member, the gate of an event loop."""
        with self._lock:
            self._members.add(gate)

    def close_if_unused(self) -> None:  # noqa: B027 - most have nothing to close
        """Close what is kept open, if no member is left."""

    def tighten(self, quota: Quota) -> None:
        """Apply this quota too, in addition to the current ones: the strictest wins."""
        with self._lock:
            self._quotas.add(quota)
            self.latest.grants.tighten(quota)

    @property
    def is_shared(self) -> bool:
        """Whether others use the window, too: the answers that they receive wake no waiter here."""
        return len(self._members) > 1

    @property
    def closed_until(self) -> float:
        """The time until which the gate is closed, as last known."""
        return self.latest.closed_until - self.offset

    def earliest(self, now: float, ahead: int, priority: Priority) -> float:
        """Return when a waiter with `ahead` others before it may go, as last known."""
        return self.latest.earliest(now + self.offset, ahead, priority) - self.offset

    def estimate(self, now: float, ahead: int, priority: Priority) -> Verdict:
        """Return when a waiter with `ahead` others before it may go and why it waits, as last known."""
        return self._in_machine_time(self.latest.estimate(now + self.offset, ahead, priority))

    @abstractmethod
    async def try_acquire(
        self, member: int, priority: Priority, since: float, clock: Callable[[], float]
    ) -> Verdict | None:
        """Try to acquire a permit. Returns None if another process keeps the window locked."""

    @abstractmethod
    def report(self, report: Report, now: float) -> None:
        """Record how a request ended, at the latest before this process tries to acquire a permit again."""

    def _in_machine_time(self, verdict: Verdict) -> Verdict:
        return verdict._replace(opens_at=verdict.opens_at - self.offset) if self.offset else verdict


class MemoryBackend(Backend):
    """A window in memory, for all event loops and threads of this process."""

    async def try_acquire(
        self, member: int, priority: Priority, since: float, clock: Callable[[], float]
    ) -> Verdict:
        """Try to acquire a permit."""
        with self._lock:
            return self.latest.try_acquire(member, priority, since, clock())

    def report(self, report: Report, now: float) -> None:
        """Record how a request ended."""
        with self._lock:
            self.latest.record(report, now)


class SharedBackend(Backend):
    """A window that other processes use, too. While it is unavailable, each uses its part of the quota."""

    location: str

    def __init__(self, quota: Quota) -> None:
        super().__init__(quota)
        self._me = new_key()
        self._sharers: list[Sharer] = []
        self._uses_own_part = False

    @property
    def is_shared(self) -> bool:
        """Always true: other processes may join at any time."""
        return True

    def _use_own_part(self) -> None:
        """Limit this process to its part of the quota, as the other processes seen sharing it do, too."""
        if self._uses_own_part:
            return
        self._uses_own_part = True
        for quota in self._quotas:
            limit = max(1, quota.limit // self._processes)
            part = attrs.evolve(quota, requests=limit, share=1.0, reserve=min(quota.reserve, limit - 1))
            self.latest.grants.tighten(part)

    @property
    def _processes(self) -> int:
        return max(1, len(self._sharers))

    def _warn_not_shared(self, why: str) -> None:
        _logger.warning(
            "The quota cannot be shared through %s (%s): until it can, this process uses %s.",
            self.location,
            why,
            f"1/{self._processes} of it" if self._processes > 1 else "all of it, counted separately",
        )

    def _log_shared_again(self) -> None:
        _logger.info("The quota is shared again, through %s.", self.location)


def digest_of(key: StoreKey, remedy: str) -> str:
    """Return a name for a store's window that does not reveal its token. Raises ConfigurationError."""
    # `str.__str__` returns the credential's text, which its `repr` hides; the digest cannot be reversed.
    parts = [str.__str__(part) for part in key if isinstance(part, str)]
    if len(parts) != len(key):
        raise ConfigurationError(
            f"Quota(shared=…) cannot identify the store if a function provides the token: {remedy}."
        )
    return hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:24]


@define(eq=False, slots=False)
class Entry:
    """A store's entry in the registry. Its backend is replaced when the first client shares the quota."""

    backend: Backend


class _Registry:
    """The entries of this process. A recently used entry is kept even if no client uses it."""

    lock: ClassVar[threading.Lock] = threading.Lock()
    known: ClassVar[WeakValueDictionary[StoreKey, Entry]] = WeakValueDictionary()
    recent: ClassVar[set[Entry]] = set()
    sweep_above: ClassVar[int] = 0
    """`recent` is searched for expired entries above this size: a process may use thousands of stores."""

    @classmethod
    def drop_expired(cls, key: StoreKey, now: float) -> None:
        """Drop this store's entry if it has expired, and occasionally all expired entries."""
        if len(cls.recent) > cls.sweep_above:
            cls.recent = {entry for entry in cls.recent if _is_live(entry, now)}
            cls.sweep_above = 2 * len(cls.recent)
        entry = cls.known.get(key)
        if entry is not None and not _is_live(entry, now):
            cls.recent.discard(entry)


def _is_live(entry: Entry, now: float) -> bool:
    return entry.backend.latest.is_live(now + entry.backend.offset)


def entry_for(
    key: StoreKey, quota: Quota, now: float, make_shared: Callable[[StoreKey, Quota, Window], Backend]
) -> Entry:
    """Return the store's entry, the same one for all clients of this process.

    `make_shared` creates the backend of a shared quota from the window so far. A window whose grants lie in
    the future was counted on another clock, and is dropped.
    """
    with _Registry.lock:
        _Registry.drop_expired(key, now)
        entry = _Registry.known.get(key)
        if entry is None or entry.backend.latest.is_ahead(now + entry.backend.offset):
            entry = _Registry.known[key] = Entry(MemoryBackend(quota))
        if quota.shared and isinstance(entry.backend, MemoryBackend):
            entry.backend = make_shared(key, quota, entry.backend.latest)
        _Registry.recent.add(entry)
        return entry


def forget_all() -> None:
    """Forget all windows and locks: for a forked child, and for tests."""
    _Registry.lock = threading.Lock()
    _Registry.known = WeakValueDictionary()
    _Registry.recent = set()
    _Registry.sweep_above = 0


if hasattr(os, "register_at_fork"):
    # A thread of the parent may have held a lock, which nothing releases in the child.
    os.register_at_fork(after_in_child=forget_all)
