"""Creates of one external id in one process: one at a time, and remembered for as long as lists may lag."""

from __future__ import annotations

import math
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
_REMEMBERED_AT_MOST = 10_000

Key = tuple[Hashable, str]
"""A store, and an external id in it."""


@frozen
class Latest:
    """What is known of the latest create of an external id: `payment_id` is None where it is in doubt.

    `looked_at` is the moment at which the service last showed that. Until `hidden_until`, lists may not show
    it. `body` and `begun` (epoch seconds) are of a create that is in doubt.
    """

    payment_id: int | None
    particulars: Particulars
    looked_at: float
    hidden_until: float
    body: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    begun: float = 0.0


@define(eq=False)
class _Waiter:
    home: Home = attrs.field(factory=Home.here)
    event: anyio.Event = attrs.field(factory=anyio.Event)


class Turns:
    """Whose turn it is to create each external id, over all clients, event loops and threads of a process."""

    def __init__(self) -> None:
        self._lines: defaultdict[Key, deque[_Waiter]] = defaultdict(deque)
        self._latest: OrderedDict[Key, Latest] = OrderedDict()
        self._lock = threading.Lock()

    @asynccontextmanager
    async def turn(self, key: Key, until: float | None) -> AsyncIterator[None]:
        """Wait until no other create of this external id is under way; first come, first served.

        Raises RequestTimeoutError where that is not so by the moment `until`.
        """
        me = _Waiter()
        with self._lock:
            self._lines[key].append(me)
            leads = self._head(key) is me
        try:
            if not leads and not await _set_in_time(me.event, until):
                raise RequestTimeoutError(
                    "POST /ip/payments/offline: the deadline passed while another create of this external_id "
                    "was under way; give it a longer deadline.",
                    sent=False,
                )
            yield
        finally:
            self._leave(key, me)

    def _leave(self, key: Key, me: _Waiter) -> None:
        with self._lock:
            if me in self._lines[key]:
                self._lines[key].remove(me)
            head = self._head(key)
            if head is None:
                del self._lines[key]
        if head is not None:
            head.home.call(head.event.set)  # again, maybe, which does no harm

    def _head(self, key: Key) -> _Waiter | None:
        line = self._lines[key]
        while line and line[0].home.is_gone:
            line.popleft()
        return line[0] if line else None

    def recall(self, key: Key) -> Latest | None:
        """Return what is known of an external id; None where nothing is, or where lists show it by now."""
        now = anyio.current_time()
        with self._lock:
            latest = self._latest.get(key)
            # What another clock counted, which is ahead of this moment, means nothing.
            is_hidden = latest is not None and now < latest.hidden_until <= now + LAG
            return latest if is_hidden else None

    def note(self, key: Key, latest: Latest) -> None:
        """Remember what became of a create."""
        with self._lock:
            self._latest.pop(key, None)
            self._latest[key] = latest
            if len(self._latest) > _REMEMBERED_AT_MOST:
                self._latest.popitem(last=False)

    def forget_waiters(self) -> None:
        """Forget who waits: in the child of a fork nobody is left, and a lock may be held by nobody."""
        self._lines.clear()
        self._lock = threading.Lock()

    def forget(self) -> None:
        """Forget everything, as another process would know nothing."""
        self.forget_waiters()
        self._latest.clear()


async def _set_in_time(event: anyio.Event, until: float | None) -> bool:
    with anyio.CancelScope(deadline=math.inf if until is None else until):
        await event.wait()
    return event.is_set()


TURNS: Turns = Turns()
"""Those of this process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=TURNS.forget_waiters)
