"""Run blocking work in threads, off the event loop."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import ParamSpec, Protocol, TypeVar

from anyio import CancelScope, CapacityLimiter, create_task_group, to_thread
from anyio.lowlevel import RunVar, checkpoint_if_cancelled

S = TypeVar("S")
T = TypeVar("T")
P = ParamSpec("P")
_THREADS = 16

STEPS_AT_ONCE = 4
"""Steps of all workers in an event loop. SQLite releases the GIL for each row: fifty threads competing for it
take a fifth more CPU and twice the memory."""
_limiter: RunVar[CapacityLimiter] = RunVar("b2b_payments.export steps")


async def in_threads(function: Callable[[S], T], items: Iterable[S]) -> list[T]:
    """Call a function for each item in parallel threads, since each call may wait for an object store.

    Raises the first error of any call, and starts no more calls then.
    """
    left = deque(enumerate(items))
    found: dict[int, T] = {}
    failures: list[Exception] = []

    def work() -> None:
        while True:
            try:
                index, item = left.popleft()
            except IndexError:
                return
            try:
                found[index] = function(item)
            except Exception as error:  # noqa: BLE001 - raised below
                failures.append(error)
                left.clear()

    async with create_task_group() as group:
        for _ in range(min(_THREADS, len(left))):
            group.start_soon(to_thread.run_sync, work)
    if failures:
        await checkpoint_if_cancelled()
        raise failures[0]
    return [found[index] for index in sorted(found)]


class Closeable(Protocol):
    """A resource used in worker threads: a sink or a synced copy."""

    def close(self, *, complete: bool) -> None:
        """Close it, like `Sink.close`."""


class Worker:
    """Uses a resource in worker threads, one step at a time, and not at all once it is closed.

    asyncio's own cancellation (`asyncio.timeout`, `Task.cancel`) does not wait for threads, so a step may
    still be running, or not have begun, when the resource has to be closed.
    """

    def __init__(self, resource: Closeable) -> None:
        self._resource = resource
        self._lock = threading.Lock()
        self._closed = False

    async def do(self, step: Callable[P, T], *args: P.args, **settings: P.kwargs) -> T:
        """Run a step, and return its result.

        If cancelled, waits for the step, which then stops waiting for an object store. Raises RuntimeError if
        the step was skipped because the resource is closed; no caller waits for the result any longer then.
        """
        return await _in_thread(partial(self._do, partial(step, *args, **settings)))

    async def close(self, *, complete: bool) -> None:
        """Close the resource after the running step. Does nothing if it is closed."""
        await _in_thread(partial(self._close, complete=complete))

    def _do(self, step: Callable[[], T]) -> T:
        with self._lock:
            if self._closed:
                raise RuntimeError("A step was skipped, since its resource is closed.")
            return step()

    def _close(self, *, complete: bool) -> None:
        with self._lock:
            if not self._closed:
                self._closed = True
                self._resource.close(complete=complete)


async def _in_thread(step: Callable[[], T]) -> T:
    scope = CancelScope()
    try:
        with scope:
            result = await to_thread.run_sync(step, limiter=_thread_limiter())
    except BaseException:
        scope.cancel()  # a step that asyncio's cancellation left running stops waiting, too
        await checkpoint_if_cancelled()
        raise
    return result


def _thread_limiter() -> CapacityLimiter:
    limiter = _limiter.get(None)
    if limiter is None:
        limiter = CapacityLimiter(STEPS_AT_ONCE)
        _limiter.set(limiter)
    return limiter
