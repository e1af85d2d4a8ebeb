"""Runs creates of one external id one at a time in a process, and remembers them while lists may lag."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict, defaultdict, deque
from collections.abc import AsyncIterator, Hashable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import attrs

from b2b_payments._errors import RequestTimeoutError
from b2b_payments._printable import define, frozen
from b2b_payments._resources.particulars import Particulars
from b2b_payments._tasks import Home

LAG = 1200.0
"""Seconds by which lists may lag a write [seen]."""
_MAX_REMEMBERED = 10_000

Key = tuple[Hashable, str]
"""A store, and an external id in that store."""


@frozen
class LatestCreate:
    """The latest create of an external id. `payment_id` is None if its outcome is unknown.

    `searched_at` is when the service was last asked about it, and until `hidden_until` lists may not show it,
    both on anyio's clock. `body`, `begun` (epoch seconds) and `lead` describe a create whose outcome is
    unknown: by the service's clock it began at `begun + lead`. `lead` is None if no answer showed that clock.
    """

    payment_id: int | None
    particulars: Particulars
    searched_at: float
    hidden_until: float
    body: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    begun: float = 0.0
    lead: float | None = None


@define(eq=False)
class _Waiter:
    home: Home = attrs.field(factory=Home.here)
    event: anyio.Event = attrs.field(factory=anyio.Event)


class Turns:
    """A queue of creates for each external id, for all clients, event loops and threads of a process."""

    def __init__(self) -> None:
        self._queues: defaultdict[Key, deque[_Waiter]] = defaultdict(deque)
        self._latest: OrderedDict[Key, LatestCreate] = OrderedDict()
        self._lock = threading.Lock()

    @asynccontextmanager
    async def turn(self, key: Key, until: float) -> AsyncIterator[None]:
        """Wait until no other create of this external id is running; first come, first served.

        Raises RequestTimeoutError if one is still running at the time `until`.
        """
        waiter = _Waiter()
        with self._lock:
            self._queues[key].append(waiter)
            is_first = self._first(key) is waiter
        try:
            if not is_first and not await _is_set_by(waiter.event, until):
                raise RequestTimeoutError(
                    "POST /ip/payments/offline: the deadline passed while another create of this external_id "
                    "was running; use a longer deadline.",
                    sent=False,
                )
            yield
        finally:
            self._leave(key, waiter)

    def _leave(self, key: Key, waiter: _Waiter) -> None:
        with self._lock:
            if waiter in self._queues[key]:
                self._queues[key].remove(waiter)
            first = self._first(key)
            if first is None:
                del self._queues[key]
        if first is not None:
            first.home.call(first.event.set)  # harmless if it was set already

    def _first(self, key: Key) -> _Waiter | None:
        queue = self._queues[key]
        while queue and queue[0].home.is_gone:
            queue.popleft()
        return queue[0] if queue else None

    def recall(self, key: Key) -> LatestCreate | None:
        """Return the latest create of an external id; None if none is known, or lists must show it by now."""
        now = anyio.current_time()
        with self._lock:
            latest = self._latest.get(key)
            # A time too far ahead is another event loop's clock, and means nothing here.
            is_hidden = latest is not None and now < latest.hidden_until <= now + LAG
            return latest if is_hidden else None

    def remember(self, key: Key, latest: LatestCreate) -> None:
        """Remember the outcome of a create."""
        with self._lock:
            self._latest.pop(key, None)
            self._latest[key] = latest
            if len(self._latest) > _MAX_REMEMBERED:
                self._latest.popitem(last=False)

    def forget_waiters(self) -> None:
        """Forget all waiters: a forked child has none of them, and a held lock would never be released."""
        self._queues.clear()
        self._lock = threading.Lock()

    def forget(self) -> None:
        """Forget everything, as in a new process."""
        self.forget_waiters()
        self._latest.clear()


async def _is_set_by(event: anyio.Event, until: float) -> bool:
    with anyio.CancelScope(deadline=until):
        await event.wait()
    return event.is_set()


TURNS: Turns = Turns()
"""The queues of this process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=TURNS.forget_waiters)
