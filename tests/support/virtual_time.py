"""An event loop whose clock is virtual: an hour of waits takes a millisecond.

When nothing is ready and no socket is readable, the clock jumps to the next timer. Sockets on loopback and
jobs of `run_in_executor` run in real time, and the clock stands still for them.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

# Seconds of real time that a packet on loopback gets to arrive before the clock jumps.
_GRACE = 0.001


class _JumpingSelector(selectors.DefaultSelector):
    """A selector that does not wait for a timer, but moves the clock forward to it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.busy: Callable[[], bool] = lambda: False

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        # The loop's own wake-up socket is always registered; any other is a real connection.
        ready = super().select(_GRACE if len(self.get_map()) > 1 else 0)
        while not ready and self.busy():
            ready = super().select(_GRACE)
        if not ready:
            self.now += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop that starts at second 0 and jumps over every wait."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        self._jobs = 0
        super().__init__(self._jumping)
        self._jumping.busy = lambda: self._jobs > 0

    def time(self) -> float:
        """Return the virtual seconds since the loop was made."""
        return self._jumping.now

    def run_in_executor(  # type: ignore[override]  # any arguments, as the base takes them at run time
        self, executor: Any, func: Any, *args: Any
    ) -> asyncio.Future[Any]:
        """Run in a thread, while the clock stands still."""
        future = super().run_in_executor(executor, func, *args)
        self._jobs += 1
        future.add_done_callback(self._job_done)
        return future

    def _job_done(self, _future: asyncio.Future[Any]) -> None:
        self._jobs -= 1


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(coroutine)
