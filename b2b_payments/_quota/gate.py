"""The gate that grants every request of an event loop its permit, and a client's access to it."""

from __future__ import annotations

import logging
import math
import random
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from weakref import WeakValueDictionary

import anyio
import attrs
from anyio.lowlevel import RunVar

from b2b_payments._printable import define, frozen
from b2b_payments._quota.backends import Backend, Entry, MemoryBackend, StoreKey, entry_for
from b2b_payments._quota.file import FileBackend
from b2b_payments._quota.quota import Quota, QuotaReading, believable
from b2b_payments._quota.redis import RedisBackend
from b2b_payments._quota.window import Priority, Report, ReportKind, Verdict, WaitReason, Window, new_key

_POLL = 1.0
"""Seconds between a waiter's attempts if others share the window: it may open earlier than expected."""

_SHORT_POLL = 0.02
"""Seconds between attempts while waiting for the answers to others' requests, or for a busy window."""

_logger = logging.getLogger(__name__)

WaitHook = Callable[[float, WaitReason], object]
"""Called with the minimum seconds and the reason when a wait begins or becomes longer."""


@frozen(eq=False)
class Permit:
    """The right to send one request now. `granted_at` is a time of the gate's clock, `waited` seconds."""

    key: int = attrs.field(repr=False)
    window_time: float = attrs.field(repr=False)
    """When it was granted, on the clock of the store's window."""
    granted_at: float
    waited: float


@frozen
class TooLate:
    """No permit: the wait would end after the deadline. `seconds` is the minimum wait."""

    seconds: float


@define(eq=False)
class _Waiter:
    until: float
    since: float
    event: anyio.Event = attrs.field(factory=anyio.Event)


async def _wait(event: anyio.Event, seconds: float) -> None:
    with anyio.move_on_after(seconds):
        await event.wait()


class QuotaGate:
    """A store's gate in one event loop: every request acquires a permit, and reports how it ended.

    ::

        permit = await gate.acquire(Priority.CALL, until=deadline)
        gate.learn(permit, reading)        # answered, with anything but a 429
        gate.close_for(seconds, permit)    # refused: 429
        gate.release(permit)               # not answered

    Calls go before pages; within a priority, first come, first served. A waiter acquires its permit itself,
    in one step, so a cancelled waiter leaves nothing to clean up. Only the waiter at the head of the line
    queries the store's window and sets a timer. `backend` holds that window; the default is a window for
    this gate alone.

    `clock` returns the current time, `wait` waits for an event with a timeout in seconds, and `chance`
    returns a number in [0, 1). The machine's monotonic clock is `offset` seconds ahead of `clock`.
    """

    def __init__(
        self,
        quota: Quota,
        backend: Backend | Entry | None = None,
        *,
        offset: float = 0.0,
        clock: Callable[[], float] = anyio.current_time,
        wait: Callable[[anyio.Event, float], Awaitable[None]] = _wait,
        chance: Callable[[], float] = random.random,  # noqa: S311 - for jitter, not for secrets
    ) -> None:
        self._now: Callable[[], float] = (lambda: clock() + offset) if offset else clock
        self._offset = offset
        self._wait = wait
        self._chance = chance
        self.entry: Entry = backend if isinstance(backend, Entry) else Entry(backend or MemoryBackend(quota))
        self._number = new_key()
        self.entry.backend.join(self)
        self.tighten(quota)
        self._lines: Mapping[Priority, OrderedDict[_Waiter, None]] = {p: OrderedDict() for p in Priority}
        self._has_claim = False

    @property
    def in_flight(self) -> int:
        """How many requests to this store are in flight, as far as this process knows."""
        return len(self.entry.backend.latest.in_flight)

    def tighten(self, quota: Quota) -> None:
        """Apply this quota too, in addition to the current ones: the strictest wins."""
        self.entry.backend.tighten(quota)

    async def acquire(
        self, priority: Priority, *, until: float = math.inf, on_wait: WaitHook | None = None
    ) -> Permit | TooLate:
        """Wait for a permit to send one request.

        Returns `TooLate` as soon as it is certain that there will be no permit by the time `until`: a wait
        that cannot end in time is not started. `on_wait` is called when a wait begins, and again if the gate
        closes while this waiter is next in line; if it raises, the error is only logged.
        """
        until += self._offset
        since = now = self._now()
        waiter = _Waiter(until, since)
        line = self._lines[priority]
        line[waiter] = None
        announced: float | None = None
        try:
            while True:
                leads = self._head() is waiter
                waiter.event = anyio.Event()
                verdict = await self._try(waiter, priority, now) if leads else self._estimate(priority, now)
                if verdict.key is not None:
                    return Permit(
                        verdict.key, verdict.window_time, verdict.opens_at, verdict.opens_at - since
                    )
                backend = self.entry.backend
                closing = backend.closed_until if verdict.reason is WaitReason.CLOSED else -math.inf
                is_longer = announced is None or closing > announced
                if until < math.inf or is_longer:
                    ahead = verdict.ahead if leads else self._ahead(waiter, priority)
                    earliest = backend.earliest(now, ahead, priority)
                    if now >= until or earliest > until:
                        return TooLate(earliest - now)
                    if is_longer:
                        _call_hook(on_wait, max(earliest, verdict.opens_at) - now, verdict.reason)
                        announced = closing
                ends = self._next_try_at(verdict, now) if leads else math.inf
                await self._wait(waiter.event, min(ends, until) - now)
                now = self._now()
        finally:
            del line[waiter]
            if self._has_claim and self._head() is None:
                self._has_claim = False
                self._report(Report(ReportKind.WITHDRAWN, self._number))
            self._wake_head()

    def learn(self, permit: Permit, reading: QuotaReading) -> None:
        """Record what the answer to this permit's request states. For a refusal, call `close_for` instead.

        Only believable values count: nothing negative, and resets and windows up to an hour. Readings may
        arrive out of order: one whose request was sent before the last reading can only lower what remains.
        """
        answered = Report(ReportKind.ANSWERED, permit.key, permit.window_time, reading, chance=self._chance())
        self._report(answered)

    def close_for(self, seconds: float, permit: Permit) -> None:
        """Close the gate for everyone: the service refused this permit's request (429).

        It opens after `seconds` and a short random time, for one request; the others follow when that is
        answered. More than an hour does not close the gate: other callers have to find out themselves.
        """
        pause = believable(seconds) or 0.0
        refused = Report(
            ReportKind.REFUSED, permit.key, permit.window_time, pause=pause, chance=self._chance()
        )
        self._report(refused)

    def release(self, permit: Permit) -> None:
        """Record that this permit's request ended without an answer. Its grant stays counted.

        A permit that is never reported counts as released after 3 seconds.
        """
        self._report(Report(ReportKind.UNANSWERED, permit.key, permit.window_time))

    async def _try(self, waiter: _Waiter, priority: Priority, now: float) -> Verdict:
        if now > waiter.until:
            return self._estimate(priority, now)
        self._has_claim = True
        verdict = await self.entry.backend.try_acquire(self._number, priority, waiter.since, self._now)
        if verdict is None:
            return Verdict(None, now + _SHORT_POLL, WaitReason.IN_FLIGHT)
        self._has_claim = verdict.key is None
        return verdict

    def _estimate(self, priority: Priority, now: float) -> Verdict:
        return self.entry.backend.estimate(now, 0, priority)

    def _next_try_at(self, verdict: Verdict, now: float) -> float:
        """Return when the head of the line tries again. Reports in this event loop wake it earlier."""
        if not self.entry.backend.is_shared:
            return verdict.opens_at
        return min(verdict.opens_at, now + (_SHORT_POLL if verdict.reason is WaitReason.IN_FLIGHT else _POLL))

    def _report(self, report: Report) -> None:
        backend = self.entry.backend
        before = backend.closed_until
        backend.report(report, self._now())
        if (closed_until := backend.closed_until) > before:
            for line in self._lines.values():
                for waiter in line:
                    if closed_until > waiter.until:
                        waiter.event.set()
        self._wake_head()

    def _head(self) -> _Waiter | None:
        return next((waiter for line in self._lines.values() for waiter in line), None)

    def _ahead(self, waiter: _Waiter, priority: Priority) -> int:
        # Search from the end: the waiter has usually just joined.
        after = next(place for place, other in enumerate(reversed(self._lines[priority])) if other is waiter)
        return sum(len(self._lines[p]) for p in Priority if p <= priority) - 1 - after

    def _wake_head(self) -> None:
        if (head := self._head()) is not None:
            head.event.set()


def _call_hook(hook: WaitHook | None, seconds: float, reason: WaitReason) -> None:
    if hook is None:
        return
    try:
        hook(seconds, reason)
    except Exception:
        _logger.warning("The on_wait hook raised an error.", exc_info=True)


@define
class _Loop:
    """An event loop's gates. The machine's monotonic clock is `offset` seconds ahead of the loop's clock."""

    offset: float = attrs.field(factory=lambda: time.monotonic() - anyio.current_time())
    gates: WeakValueDictionary[StoreKey, QuotaGate] = attrs.field(factory=WeakValueDictionary)


_loop: RunVar[_Loop] = RunVar("b2b_payments.quota")


def gate_for(key: StoreKey, quota: Quota) -> QuotaGate:
    """Return the store's gate, the same one for all clients in this event loop.

    The gates of all event loops in this process share one window. If clients have different quotas, all apply
    (the strictest wins) until no client uses the window and its grants have expired.
    """
    loop = _loop.get(None)
    if loop is None:
        loop = _Loop()
        _loop.set(loop)
    entry = entry_for(key, quota, anyio.current_time() + loop.offset, _shared_backend)
    gate = loop.gates.get(key)
    if gate is None or gate.entry is not entry:
        gate = loop.gates[key] = QuotaGate(quota, entry, offset=loop.offset)
    else:
        gate.tighten(quota)
    return gate


def _shared_backend(key: StoreKey, quota: Quota, known: Window) -> Backend:
    is_server = isinstance(quota.shared, str) and "://" in quota.shared
    return (RedisBackend if is_server else FileBackend)(key, quota, known)


_WINDOW = 60.0
"""The length of the service's window in seconds [doc]."""


@define
class StoreQuota:
    """A client's access to its store's gate, in the event loop that opens it. See `QuotaGate`.

    If `quota` is None there is no gate, and every permit is None.
    """

    store: StoreKey = attrs.field(repr=False)
    quota: Quota | None
    gate: QuotaGate | None = attrs.field(default=None, init=False)

    def open(self) -> None:
        """Get the store's gate for the running event loop."""
        if self.quota is not None:
            self.gate = gate_for(self.store, self.quota)

    def close(self) -> None:
        """Drop the gate, and close its window's file if no other client of this process uses it."""
        gate, self.gate = self.gate, None
        if gate is not None:
            backend = gate.entry.backend
            del gate
            backend.close_if_unused()

    async def acquire(
        self, priority: Priority, *, until: float, on_wait: WaitHook
    ) -> Permit | TooLate | None:
        """Wait for a permit to send one request. Returns None if no quota applies."""
        return None if self.gate is None else await self.gate.acquire(priority, until=until, on_wait=on_wait)

    def release(
        self, permit: Permit | None, reading: QuotaReading | None = None, *, refusals: int = 0
    ) -> None:
        """Report how a permit's request ended: unanswered (no `reading`), refused, or answered.

        `refusals` is how often its call has been refused by now, 0 if this request was not.
        """
        if self.gate is None or permit is None:
            return
        if reading is None:
            self.gate.release(permit)
        elif refusals:
            self.gate.close_for(self.pause(reading.pause, refusals), permit)
        else:
            self.gate.learn(permit, reading)

    def pause(self, stated: float | None, refusals: int) -> float:
        """Return the seconds to wait after this many refusals: those stated, else a part of the window."""
        window = _WINDOW if self.quota is None else self.quota.per
        return window / 2 ** max(0, 5 - refusals) if stated is None else stated
