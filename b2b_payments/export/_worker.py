"""Work that blocks, off the event loop."""

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
"""Of all that is used in one event loop. SQLite gives Python's lock away for each row: fifty threads that
want it back spend a fifth more CPU, and hold twice the memory."""
_limiter: RunVar[CapacityLimiter] = RunVar("b2b_payments.export steps")


async def in_threads(function: Callable[[S], T], items: Iterable[S]) -> list[T]:
    """Call a function for each of these, in some threads, since each may wait for an object store.

    Raises what the first of them raises that raises anything.
    """
    left = deque(enumerate(items))
    found: dict[int, T] = {}
    failures: list[Exception] = []

    def work() -> None:
        while left:
            try:
                place, item = left.popleft()
            except IndexError:  # another thread was faster
                return
            try:
                found[place] = function(item)
            except Exception as error:  # noqa: BLE001 - raised below
                failures.append(error)
                left.clear()

    async with create_task_group() as group:
        for _ in range(min(_THREADS, len(left))):
            group.start_soon(to_thread.run_sync, work)
    if failures:
        await checkpoint_if_cancelled()
        raise failures[0]
    return [found[place] for place in sorted(found)]


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

    async def do(self, step: Callable[P, T], *args: P.args, **settings: P.kwargs) -> T:
        """Take a step, and give its result.

        Cancelled, it waits for the step, which gives up waiting for an object store then. Raises RuntimeError
        where the step came too late and was left out: whoever waited for it is gone by then.
        """
        return await _in_thread(partial(self._do, partial(step, *args, **settings)))

    async def close(self, *, complete: bool) -> None:
        """Close what is used, after the step that is under way; nothing where it was closed."""
        await _in_thread(partial(self._close, complete=complete))

    def _do(self, step: Callable[[], T]) -> T:
        with self._lock:
            if self._closed:
                raise RuntimeError("A step came after what it uses was closed.")
            return step()

    def _close(self, *, complete: bool) -> None:
        with self._lock:
            if not self._closed:
                self._closed = True
                self._used.close(complete=complete)


async def _in_thread(step: Callable[[], T]) -> T:
    scope = CancelScope()
    try:
        with scope:
            result = await to_thread.run_sync(step, limiter=_limit())
    except BaseException:
        scope.cancel()  # a step that asyncio's cancellation has left behind gives up waiting, too
        await checkpoint_if_cancelled()
        raise
    return result


def _limit() -> CapacityLimiter:
    limiter = _limiter.get(None)
    if limiter is None:
        limiter = CapacityLimiter(STEPS_AT_ONCE)
        _limiter.set(limiter)
    return limiter
