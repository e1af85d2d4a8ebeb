"""Where a store's window is kept: in this process, or in what several processes share."""

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
"""What tells a store from others: where it is, and its hash or token."""

_logger = logging.getLogger("b2b_payments")


@define(eq=False, slots=False)
class Member:
    """One who takes part in a store's quota: the gate of an event loop. `number` names it among processes."""

    number: int = attrs.field(factory=new_key)


class Backend(ABC):
    """Keeps one store's window, and lets one at a time work on it.

    Moments are those of the machine's monotonic clock. The window's own clock is `offset` seconds ahead.
    """

    def __init__(self, quota: Quota) -> None:
        self.latest: Window = Window(quota)
        """The window as this process saw it last."""
        self.offset: float = 0.0
        self._quotas = {quota}
        self._members: WeakSet[Member] = WeakSet()
        self._lock = threading.RLock()

    def join(self, member: Member) -> None:
        """Let a member take part."""
        with self._lock:
            self._members.add(member)

    def rest(self) -> None:  # noqa: B027 - most keep nothing open
        """Keep nothing open where no member takes part any more."""

    def tighten(self, quota: Quota) -> None:
        """Keep this quota too, beside those already kept: the stricter holds."""
        with self._lock:
            self._quotas.add(quota)
            self.latest.grants.tighten(quota)

    @property
    def is_shared(self) -> bool:
        """Whether others take part, of whose answers a member that waits hears nothing."""
        return len(self._members) > 1

    @property
    def closed_until(self) -> float:
        """The moment until which nobody may go, as was last known."""
        return self.latest.closed_until - self.offset

    def earliest(self, now: float, ahead: int, priority: Priority) -> float:
        """When one with so many `ahead` can go, as was last known."""
        return self.latest.earliest(now + self.offset, ahead, priority) - self.offset

    def outlook(self, now: float, ahead: int, priority: Priority) -> Verdict:
        """Return when one with so many `ahead` may go, as was last known."""
        return self._in_machine_time(self.latest.outlook(now + self.offset, ahead, priority))

    @abstractmethod
    async def ask(
        self, member: int, priority: Priority, came: float, clock: Callable[[], float]
    ) -> Verdict | None:
        """Ask for a permit. None where another process has the window for longer than a moment."""

    @abstractmethod
    def report(self, report: Report, now: float) -> None:
        """Take in what became of a request, at the latest before this process asks the next time."""

    def _in_machine_time(self, verdict: Verdict) -> Verdict:
        return verdict._replace(opens=verdict.opens - self.offset) if self.offset else verdict


class MemoryBackend(Backend):
    """A window in memory, for all event loops and threads of this process."""

    async def ask(self, member: int, priority: Priority, came: float, clock: Callable[[], float]) -> Verdict:
        """Ask for a permit."""
        with self._lock:
            return self.latest.ask(member, priority, came, clock())

    def report(self, report: Report, now: float) -> None:
        """Take in what became of a request."""
        with self._lock:
            self.latest.take_in(report, now)


class SharedBackend(Backend):
    """A window that other processes use, too. Where it is lost, each keeps to its part of the quota."""

    where: str

    def __init__(self, quota: Quota) -> None:
        super().__init__(quota)
        self._me = new_key()
        self._sharers: list[Sharer] = []
        self._is_alone = False

    @property
    def is_shared(self) -> bool:
        """Whether others take part: they may at any time."""
        return True

    def _go_alone(self) -> None:
        """Keep to a part of the quota: what others were seen to share it, each of them keeps to one, too."""
        if self._is_alone:
            return
        self._is_alone = True
        for quota in self._quotas:
            limit = max(1, quota.limit // self._processes)
            part = attrs.evolve(quota, requests=limit, share=1.0, reserve=min(quota.reserve, limit - 1))
            self.latest.grants.tighten(part)

    @property
    def _processes(self) -> int:
        return max(1, len(self._sharers))

    def _warn(self, why: str) -> None:
        _logger.warning(
            "The quota cannot be shared through %s (%s): this process keeps to a %s of it until it can.",
            self.where,
            why,
            f"part in {self._processes}" if self._processes > 1 else "window of its own",
        )

    def _say_shared_again(self) -> None:
        _logger.info("The quota is shared again, through %s.", self.where)


def digest_of(key: StoreKey, remedy: str) -> str:
    """Return a name for a store's window, which says nothing of its token. Raises ConfigurationError."""
    # A credential's own text, which its `repr` hides: whoever has it not cannot find it by the name.
    parts = [str.__str__(part) for part in key if isinstance(part, str)]
    if len(parts) != len(key):
        raise ConfigurationError(
            f"Quota(shared=…) does not know the store by a token that a function gives: {remedy}."
        )
    return hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:24]


@define(eq=False, slots=False)
class Entry:
    """A store's entry in the registry: its backend changes when the first client comes that shares."""

    backend: Backend


class _Registry:
    """The entries of this process. One that was used lately stays, though no client holds it."""

    lock: ClassVar[threading.Lock] = threading.Lock()
    known: ClassVar[WeakValueDictionary[StoreKey, Entry]] = WeakValueDictionary()
    kept: ClassVar[set[Entry]] = set()
    most: ClassVar[int] = 0
    """So many are kept before all of them are looked at: a process may go through thousands of stores."""

    @classmethod
    def forget(cls, key: StoreKey, now: float) -> None:
        """Keep no longer what counts no more: of this store, and now and then of all."""
        if len(cls.kept) > cls.most:
            cls.kept = {entry for entry in cls.kept if _counts(entry, now)}
            cls.most = 2 * len(cls.kept)
        entry = cls.known.get(key)
        if entry is not None and not _counts(entry, now):
            cls.kept.discard(entry)


def _counts(entry: Entry, now: float) -> bool:
    return entry.backend.latest.counts(now + entry.backend.offset)


def entry_for(
    key: StoreKey, quota: Quota, now: float, share: Callable[[StoreKey, Quota, Window], Backend]
) -> Entry:
    """Return the entry of this store, one and the same for all clients of this process.

    `share` makes the backend that a shared quota wants, with what is known already. What another clock
    counted, which is ahead of this moment, means nothing and is dropped.
    """
    with _Registry.lock:
        _Registry.forget(key, now)
        entry = _Registry.known.get(key)
        if entry is None or entry.backend.latest.is_ahead(now + entry.backend.offset):
            entry = _Registry.known[key] = Entry(MemoryBackend(quota))
        if quota.shared and isinstance(entry.backend, MemoryBackend):
            entry.backend = share(key, quota, entry.backend.latest)
        _Registry.kept.add(entry)
        return entry


def forget_all() -> None:
    """Forget what was counted, and whoever holds a lock: for a child of a fork, and for tests."""
    _Registry.lock = threading.Lock()
    _Registry.known = WeakValueDictionary()
    _Registry.kept = set()
    _Registry.most = 0


if hasattr(os, "register_at_fork"):
    # A thread of the parent may have held a lock, which nobody gives back in the child.
    os.register_at_fork(after_in_child=forget_all)
