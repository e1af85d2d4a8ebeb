"""Work that blocks, off the event loop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

S = TypeVar("S")
T = TypeVar("T")
_THREADS = 16

STEPS_AT_ONCE = 4
"""Of all that is used in one event loop. SQLite gives Python's lock away for each row: fifty threads that
want it back spend a fifth more CPU, and hold twice the memory."""
_limiter: RunVar[CapacityLimiter] = RunVar("b2b_payments.export steps")


def in_threads(function: Callable[[S], T], items: Iterable[S]) -> list[T]:
    """Call a function for each of these, in some threads, since each may wait for an object store."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(function, items))


class Closing(Protocol):
    """What is used in worker threads: a sink, or the copy that is kept in step."""

    def close(self, *, complete: bool) -> None:
        """Finish, or give up."""


class Worker:
    """Uses something in worker threads, one step at a time, and not at all once it is closed.

    asyncio's own cancellation (`asyncio.timeout`, `Task.cancel`) goes on without waiting for a thread, so
    that a step may still be running, or not even have begun, when what it uses is to be closed.
    """

    def __init__(self, used: Closing) -> None:
        self._used = used
        self._lock = threading.Lock()
        self._closed = False

    async def do(self, step: Callable[[], T]) -> T | None:
        """Take a step, and give its result; None where it came too late and was left out."""
        return await to_thread.run_sync(self._do, step, limiter=_limit())

    async def close(self, *, complete: bool) -> None:
        """Close what is used, after the step that is under way."""
        await to_thread.run_sync(self._close, complete, limiter=_limit())

    def _do(self, step: Callable[[], T]) -> T | None:
        with self._lock:
            return None if self._closed else step()

    def _close(self, complete: bool) -> None:
        with self._lock:
            self._closed = True
            self._used.close(complete=complete)


def _limit() -> CapacityLimiter:
    limiter = _limiter.get(None)
    if limiter is None:
        limiter = CapacityLimiter(STEPS_AT_ONCE)
        _limiter.set(limiter)
    return limiter
