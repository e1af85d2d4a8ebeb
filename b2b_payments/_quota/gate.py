"""The one gate of a store, through which every request passes, and a client's way to it."""

from __future__ import annotations

import logging
import math
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping
from enum import Enum, IntEnum
from weakref import WeakValueDictionary

import anyio
import attrs
from anyio.lowlevel import RunVar

from b2b_payments._half_made import shows_half_made
from b2b_payments._quota.quota import Quota, QuotaReading, believable
from b2b_payments._quota.window import Forecast, Grants

PATIENCE = 3.0
"""Seconds after which an unanswered request no longer holds others back."""

JITTER = 0.5
"""Seconds by which a closed gate opens later at most: a tenth of the wait, up to this."""

_logger = logging.getLogger(__name__)


class Priority(IntEnum):
    """Who goes first: a call that somebody waits for, or a walk's page."""

    CALL = 0
    PAGE = 1


class WaitReason(Enum):
    """Why a request waits for its permit."""

    WINDOW = "window"  # our own window is full
    CLOSED = "closed"  # refused, or nothing remains
    IN_FLIGHT = "in flight"  # an answer is awaited first, to learn what remains


WaitHook = Callable[[float, WaitReason], object]
"""Called when a wait begins or becomes longer, with its expected seconds at least, and the reason."""


@shows_half_made
@attrs.frozen(eq=False)
class Permit:
    """The right to send one request, now. `granted_at` is a moment, `waited` seconds."""

    granted_at: float
    waited: float


@shows_half_made
@attrs.frozen
class TooLate:
    """No permit: the wait would end after the deadline. `seconds` is how long it would take at least."""

    seconds: float


@attrs.define(eq=False)
class _Waiter:
    until: float | None
    event: anyio.Event = attrs.field(factory=anyio.Event)


async def _wait(event: anyio.Event, seconds: float) -> None:
    with anyio.move_on_after(seconds):
        await event.wait()


class QuotaGate:
    """The one gate of a store: every request passes it, and reports how it ended.

    ::

        permit = await gate.acquire(Priority.CALL, until=deadline)
        gate.learn(permit, reading)        # it was answered: any answer but a 429
        gate.close_for(seconds, permit)    # it was refused: 429
        gate.release(permit)               # it got no answer

    Calls go ahead of pages; within a priority, first come, first served. A waiter takes its permit itself
    and in one step, so a cancelled one leaves nothing behind but the next in line. Only the waiter at the
    head of the line arms a timer.

    `clock` gives the moment, `wait` waits for an event, but no longer than some seconds, and `chance` gives
    a number in [0, 1).
    """

    def __init__(
        self,
        quota: Quota,
        *,
        clock: Callable[[], float] = anyio.current_time,
        wait: Callable[[anyio.Event, float], Awaitable[None]] = _wait,
        chance: Callable[[], float] = random.random,  # noqa: S311 - it spreads, it hides nothing
    ) -> None:
        self._clock = clock
        self._wait = wait
        self._chance = chance
        self._grants = Grants(quota)
        self._forecast = Forecast(self._grants)
        self._lines: Mapping[Priority, OrderedDict[_Waiter, None]] = {p: OrderedDict() for p in Priority}
        self._in_flight: OrderedDict[Permit, None] = OrderedDict()
        self._closed_until = -math.inf

    @property
    def counts(self) -> bool:
        """Whether what this gate knows still matters: a grant in its window, or a closed gate."""
        now = self._clock()
        return self._closed_until > now or self._grants.live(now)

    def tighten(self, quota: Quota) -> None:
        """Keep this quota too, beside those already kept: the stricter holds."""
        self._grants.tighten(quota)

    async def acquire(
        self, priority: Priority, *, until: float | None = None, on_wait: WaitHook | None = None
    ) -> Permit | TooLate:
        """Wait for a permit to send one request.

        Gives `TooLate` as soon as it is certain that the permit cannot come by the moment `until`: a wait
        that cannot end in time is not begun. `on_wait` is called when a wait begins, and again when the gate
        closes to the one who is next; should it raise, that is logged and nothing else.
        """
        waiter = _Waiter(until)
        line = self._lines[priority]
        line[waiter] = None
        came = now = self._clock()
        told: float | None = None
        try:
            while True:
                leads = self._head() is waiter
                opens, reason = self._opens(now)
                if leads and opens <= now and not _passed(until, now):
                    return self._grant(now, came)
                closing = self._closed_until if reason is WaitReason.CLOSED else -math.inf
                news = told is None or closing > told
                if until is not None or news:
                    earliest = self._earliest(now, 0 if leads else self._ahead(waiter, priority))
                    if until is not None and (now >= until or earliest > until):
                        return TooLate(earliest - now)
                    if news:
                        _tell(on_wait, max(earliest, opens) - now, reason)
                        told = closing
                waiter.event = anyio.Event()
                ends = opens if leads else math.inf
                await self._wait(waiter.event, (ends if until is None else min(ends, until)) - now)
                now = self._clock()
        finally:
            del line[waiter]
            self._wake_head()

    def learn(self, permit: Permit, reading: QuotaReading) -> None:
        """Take in what the answer to this permit's request says. Not for a refusal: see `close_for`.

        Only believable values count: nothing negative, resets and windows of an hour at most. Readings
        may come out of order: one whose request was sent before the last was read can only lower it.
        """
        self._in_flight.pop(permit, None)
        now = self._clock()
        if (opens := self._forecast.learn(permit.granted_at, reading, now)) is not None:
            self._close(now, opens)
        self._wake_head()

    def close_for(self, seconds: float, permit: Permit) -> None:
        """Close the gate to everyone: the service refused this permit's request (429).

        It opens after that many seconds and a little more by chance, to one request; the others follow when
        it was answered. More than an hour does not close it: others are to hear of that themselves.
        """
        self._in_flight.pop(permit, None)
        now = self._clock()
        opens = now + (believable(seconds) or 0.0)
        self._close(now, self._forecast.refuse(permit.granted_at, opens, now))
        self._wake_head()

    def release(self, permit: Permit) -> None:
        """This permit's request got no answer: it is no longer in flight. Its grant stays counted.

        One that is never reported is taken to have left after 3 seconds.
        """
        self._in_flight.pop(permit, None)
        self._wake_head()

    def _grant(self, now: float, came: float) -> Permit:
        permit = Permit(granted_at=now, waited=now - came)
        self._grants.add(now)
        self._in_flight[permit] = None
        return permit

    def _opens(self, now: float) -> tuple[float, WaitReason]:
        """When the head of the line may go, unless an answer comes and changes it."""
        opens, reason = self._earliest(now, 0), WaitReason.WINDOW
        if self._closed_until >= opens:
            reason = WaitReason.CLOSED
        while self._in_flight and next(iter(self._in_flight)).granted_at + PATIENCE <= now:
            self._in_flight.popitem(last=False)
        if opens <= now and len(self._in_flight) >= self._forecast.room(now):
            return next(iter(self._in_flight)).granted_at + PATIENCE, WaitReason.IN_FLIGHT
        return opens, reason

    def _earliest(self, now: float, ahead: int) -> float:
        """When the one with so many `ahead` can go, by our own window and the closed gate."""
        return max(self._closed_until, self._grants.due(now, ahead))

    def _close(self, now: float, opens: float) -> None:
        opens += self._chance() * min(JITTER, (opens - now) / 10)
        self._closed_until = max(self._closed_until, opens)
        for line in self._lines.values():
            for waiter in line:
                if _passed(waiter.until, self._closed_until):
                    waiter.event.set()

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


@attrs.define
class _Gates:
    """The gates of one event loop. One that was used lately stays, though no client holds it any more."""

    known: WeakValueDictionary[Hashable, QuotaGate] = attrs.field(factory=WeakValueDictionary)
    kept: set[QuotaGate] = attrs.field(factory=set)


_gates: RunVar[_Gates] = RunVar("b2b_payments.quota.gates")


def gate_for(store: Hashable, quota: Quota) -> QuotaGate:
    """Give the gate of this store: one and the same for all clients in this event loop.

    Where they bring different quotas, each is kept, and the stricter holds, for as long as the gate lives:
    until no client holds it, and what it counted has left its window.
    """
    gates = _gates.get(None)
    if gates is None:
        gates = _Gates()
        _gates.set(gates)
    gates.kept = {gate for gate in gates.kept if gate.counts}
    gate = gates.known.get(store)
    if gate is None:
        gate = gates.known[store] = QuotaGate(quota)
    else:
        gate.tighten(quota)
    gates.kept.add(gate)
    return gate


_WINDOW = 60.0
"""Seconds of the service's own window [doc]."""


@shows_half_made
@attrs.define
class StoreQuota:
    """What a client passes before each request: the gate that `store` shares; nothing without a quota.

    The gate is that of the event loop in which this is opened. See `QuotaGate`.
    """

    store: Hashable = attrs.field(repr=False)
    quota: Quota | None
    gate: QuotaGate | None = attrs.field(default=None, init=False)

    def open(self) -> None:
        """Take the store's gate."""
        if self.quota is not None:
            self.gate = gate_for(self.store, self.quota)

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
        """Tell how a permit's request ended: without an answer (no `reading`), refused, or answered."""
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
