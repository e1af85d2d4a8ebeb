"""The gate through which every request of an event loop passes, and a client's way to it."""

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
from b2b_payments._quota.backends import Backend, Entry, Member, MemoryBackend, StoreKey, entry_for
from b2b_payments._quota.file import FileBackend
from b2b_payments._quota.quota import Quota, QuotaReading, believable
from b2b_payments._quota.redis import RedisBackend
from b2b_payments._quota.window import Priority, Report, ReportKind, Verdict, WaitReason, Window

BEAT = 1.0
"""Seconds after which one who waits asks again where others share the window: it may have opened earlier."""

_SOON = 0.02
"""Seconds until it asks again whether others' answers came, or whether the window is free."""

_logger = logging.getLogger(__name__)

WaitHook = Callable[[float, WaitReason], object]
"""Called when a wait begins or becomes longer, with its expected seconds at least, and the reason."""


@frozen(eq=False)
class Permit:
    """The right to send one request, now. `granted_at` is a moment, `waited` seconds."""

    key: int = attrs.field(repr=False)
    counted_at: float = attrs.field(repr=False)
    """When it was granted, by the clock of the store's window."""
    granted_at: float
    waited: float


@frozen
class TooLate:
    """No permit: the wait would end after the deadline. `seconds` is how long it would take at least."""

    seconds: float


@define(eq=False)
class _Waiter:
    until: float | None
    came: float
    event: anyio.Event = attrs.field(factory=anyio.Event)


async def _wait(event: anyio.Event, seconds: float) -> None:
    with anyio.move_on_after(seconds):
        await event.wait()


class QuotaGate:
    """The gate of a store in one event loop: every request passes it, and reports how it ended.

    ::

        permit = await gate.acquire(Priority.CALL, until=deadline)
        gate.learn(permit, reading)        # it was answered: any answer but a 429
        gate.close_for(seconds, permit)    # it was refused: 429
        gate.release(permit)               # it got no answer

    Calls go ahead of pages; within a priority, first come, first served. A waiter takes its permit itself
    and in one step, so a cancelled one leaves nothing behind but the next in line. Only the waiter at the
    head of the line asks the store's window, and arms a timer. `backend` keeps that window; without one it
    is the gate's own.

    `clock` gives the moment, `wait` waits for an event, but no longer than some seconds, and `chance` gives
    a number in [0, 1). The machine's clock is `offset` seconds ahead of `clock`.
    """

    def __init__(
        self,
        quota: Quota,
        backend: Backend | Entry | None = None,
        *,
        offset: float = 0.0,
        clock: Callable[[], float] = anyio.current_time,
        wait: Callable[[anyio.Event, float], Awaitable[None]] = _wait,
        chance: Callable[[], float] = random.random,  # noqa: S311 - it spreads, it hides nothing
    ) -> None:
        self._now: Callable[[], float] = (lambda: clock() + offset) if offset else clock
        self._offset = offset
        self._wait = wait
        self._chance = chance
        self.entry: Entry = backend if isinstance(backend, Entry) else Entry(backend or MemoryBackend(quota))
        self._me = Member()
        self.entry.backend.join(self._me)
        self.tighten(quota)
        self._lines: Mapping[Priority, OrderedDict[_Waiter, None]] = {p: OrderedDict() for p in Priority}
        self._claims = False

    @property
    def in_flight(self) -> int:
        """How many requests to this store are under way, as far as is known."""
        return len(self.entry.backend.latest.in_flight)

    def tighten(self, quota: Quota) -> None:
        """Keep this quota too, beside those already kept: the stricter holds."""
        self.entry.backend.tighten(quota)

    async def acquire(
        self, priority: Priority, *, until: float | None = None, on_wait: WaitHook | None = None
    ) -> Permit | TooLate:
        """Wait for a permit to send one request.

        Gives `TooLate` as soon as it is certain that the permit cannot come by the moment `until`: a wait
        that cannot end in time is not begun. `on_wait` is called when a wait begins, and again when the gate
        closes to the one who is next; should it raise, that is logged and nothing else.
        """
        if until is not None:
            until += self._offset
        came = now = self._now()
        waiter = _Waiter(until, came)
        line = self._lines[priority]
        line[waiter] = None
        told: float | None = None
        try:
            while True:
                leads = self._head() is waiter
                waiter.event = anyio.Event()
                verdict = await self._ask(waiter, priority, now) if leads else self._outlook(priority, now)
                if verdict.key is not None:
                    return Permit(verdict.key, verdict.granted_at, verdict.opens, verdict.opens - came)
                backend = self.entry.backend
                closing = backend.closed_until if verdict.reason is WaitReason.CLOSED else -math.inf
                news = told is None or closing > told
                if until is not None or news:
                    ahead = verdict.ahead if leads else self._ahead(waiter, priority)
                    earliest = backend.earliest(now, ahead, priority)
                    if until is not None and (now >= until or earliest > until):
                        return TooLate(earliest - now)
                    if news:
                        _tell(on_wait, max(earliest, verdict.opens) - now, verdict.reason)
                        told = closing
                ends = self._asks_again(verdict, now) if leads else math.inf
                await self._wait(waiter.event, (ends if until is None else min(ends, until)) - now)
                now = self._now()
        finally:
            del line[waiter]
            if self._claims and self._head() is None:
                self._claims = False
                self._report(Report(ReportKind.WITHDRAWN, self._me.number))
            self._wake_head()

    def learn(self, permit: Permit, reading: QuotaReading) -> None:
        """Take in what the answer to this permit's request says. Not for a refusal: see `close_for`.

        Only believable values count: nothing negative, resets and windows of an hour at most. Readings
        may come out of order: one whose request was sent before the last was read can only lower it.
        """
        ended = Report(ReportKind.ANSWERED, permit.key, permit.counted_at, reading, chance=self._chance())
        self._report(ended)

    def close_for(self, seconds: float, permit: Permit) -> None:
        """Close the gate to everyone: the service refused this permit's request (429).

        It opens after that many seconds and a little more by chance, to one request; the others follow when
        it was answered. More than an hour does not close it: others are to hear of that themselves.
        """
        pause = believable(seconds) or 0.0
        refused = Report(
            ReportKind.REFUSED, permit.key, permit.counted_at, pause=pause, chance=self._chance()
        )
        self._report(refused)

    def release(self, permit: Permit) -> None:
        """This permit's request got no answer: it is no longer in flight. Its grant stays counted.

        One that is never reported is taken to have been released after 3 seconds.
        """
        self._report(Report(ReportKind.UNANSWERED, permit.key, permit.counted_at))

    async def _ask(self, waiter: _Waiter, priority: Priority, now: float) -> Verdict:
        if _passed(waiter.until, now):
            return self._outlook(priority, now)
        self._claims = True
        verdict = await self.entry.backend.ask(self._me.number, priority, waiter.came, self._now)
        if verdict is None:
            return Verdict(None, now + _SOON, WaitReason.IN_FLIGHT)
        self._claims = verdict.key is None
        return verdict

    def _outlook(self, priority: Priority, now: float) -> Verdict:
        return self.entry.backend.outlook(now, 0, priority)

    def _asks_again(self, verdict: Verdict, now: float) -> float:
        """The moment at which the head of the line asks again; in a window of its own it is told of news."""
        if not self.entry.backend.is_shared:
            return verdict.opens
        return min(verdict.opens, now + (_SOON if verdict.reason is WaitReason.IN_FLIGHT else BEAT))

    def _report(self, report: Report) -> None:
        backend = self.entry.backend
        before = backend.closed_until
        backend.report(report, self._now())
        if (closed_until := backend.closed_until) > before:
            for line in self._lines.values():
                for waiter in line:
                    if _passed(waiter.until, closed_until):
                        waiter.event.set()
        self._wake_head()

    def _head(self) -> _Waiter | None:
        return next((waiter for line in self._lines.values() for waiter in line), None)

    def _ahead(self, waiter: _Waiter, priority: Priority) -> int:
        # From the end, where the one who asks has usually just come.
        behind = next(place for place, other in enumerate(reversed(self._lines[priority])) if other is waiter)
        return sum(len(self._lines[p]) for p in Priority if p <= priority) - 1 - behind

    def _wake_head(self) -> None:
        if (head := self._head()) is not None:
            head.event.set()


def _passed(until: float | None, moment: float) -> bool:
    return until is not None and moment > until


def _tell(hook: WaitHook | None, seconds: float, reason: WaitReason) -> None:
    if hook is None:
        return
    try:
        hook(seconds, reason)
    except Exception:
        _logger.warning("The hook for quota waits raised an error.", exc_info=True)


@define
class _Loop:
    """An event loop's gates, and how far the machine's clock is ahead of its own when it first asks."""

    offset: float = attrs.field(factory=lambda: time.monotonic() - anyio.current_time())
    gates: WeakValueDictionary[StoreKey, QuotaGate] = attrs.field(factory=WeakValueDictionary)


_loop: RunVar[_Loop] = RunVar("b2b_payments.quota")


def gate_for(key: StoreKey, quota: Quota) -> QuotaGate:
    """Return the gate of this store: one and the same for all clients in this event loop.

    The gates of all event loops of this process share one window. Where clients bring different quotas, each
    is kept, and the stricter holds, until no client holds the window and what it counted has left it.
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
"""Seconds of the service's own window [doc]."""


@define
class StoreQuota:
    """What a client passes before each request: the gate that `store` shares; nothing without a quota.

    The gate is that of the event loop in which this is opened. See `QuotaGate`.
    """

    store: StoreKey = attrs.field(repr=False)
    quota: Quota | None
    gate: QuotaGate | None = attrs.field(default=None, init=False)

    def open(self) -> None:
        """Take the store's gate."""
        if self.quota is not None:
            self.gate = gate_for(self.store, self.quota)

    def close(self) -> None:
        """Return the gate back: what nobody uses keeps no file open."""
        gate, self.gate = self.gate, None
        if gate is not None:
            backend = gate.entry.backend
            del gate
            backend.rest()

    async def acquire(
        self, priority: Priority, *, until: float | None, on_wait: WaitHook
    ) -> Permit | TooLate | None:
        """Wait for a permit to send one request; None where none is needed."""
        return None if self.gate is None else await self.gate.acquire(priority, until=until, on_wait=on_wait)

    def release(
        self,
        permit: Permit | None,
        reading: QuotaReading | None = None,
        *,
        refused: bool = False,
        attempt: int = 1,
    ) -> None:
        """Report how a permit's request ended: without an answer (no `reading`), refused, or answered."""
        if self.gate is None or permit is None:
            return
        if reading is None:
            self.gate.release(permit)
        elif refused:
            self.gate.close_for(self.pause(reading.pause, attempt), permit)
        else:
            self.gate.learn(permit, reading)

    def pause(self, stated: float | None, attempt: int) -> float:
        """How long to wait after a refusal: what it says, or else a growing part of the window."""
        window = _WINDOW if self.quota is None else self.quota.per
        return window / 2 ** max(0, 5 - attempt) if stated is None else stated
