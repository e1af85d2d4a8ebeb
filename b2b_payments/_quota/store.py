"""A store's quota, as one client keeps it."""

from __future__ import annotations

from collections.abc import Hashable

import attrs

from b2b_payments._half_made import shows_half_made
from b2b_payments._quota.allowance import Quota, QuotaReading
from b2b_payments._quota.gate import Priority, QuotaGate, TooLate, Turn, WaitHook, gate_for

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

    async def enter(
        self, priority: Priority, *, until: float | None, on_wait: WaitHook
    ) -> Turn | TooLate | None:
        """Wait for a turn to send one request; None where none is needed."""
        return None if self.gate is None else await self.gate.enter(priority, until=until, on_wait=on_wait)

    def leave(
        self,
        turn: Turn | None,
        reading: QuotaReading | None = None,
        *,
        refused: bool = False,
        attempt: int = 1,
    ) -> None:
        """Tell how a turn's request ended: without an answer (no `reading`), refused, or answered."""
        if self.gate is None or turn is None:
            return
        if reading is None:
            self.gate.leave(turn)
        elif refused:
            self.gate.close_for(self.pause(reading.pause, attempt), turn)
        else:
            self.gate.learn(turn, reading)

    def pause(self, stated: float | None, attempt: int) -> float:
        """How long to wait after a refusal: what it says, or else a growing part of the window."""
        window = _WINDOW if self.quota is None else self.quota.per
        return window / 2 ** max(0, 5 - attempt) if stated is None else stated
