"""Cancelling a piece of work at each of its steps in turn.

A step ends when the work, or a task that it started, suspends. All of them are counted, since a walk's work
is done by tasks that its loop only awaits. Cancelled is always the task that awaits the work.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from enum import Enum
from typing import Any, Generic, TypeVar

import anyio
import attrs

T = TypeVar("T")


class Moment(Enum):
    """When the cancellation comes during a step."""

    WAITS = "as soon as the task has begun to wait"
    WOKEN = "when what it waits for is done, before it continues"


class Way(Enum):
    """How it is cancelled."""

    TASK = "the task, by asyncio"
    DEADLINE = "by the deadline of an anyio.fail_after around it"


@attrs.frozen
class Trial(Generic[T]):
    """How a piece of work ended: with its `result`, or None if it was cancelled.

    `reached` says whether the work had that many steps, `in_time` whether it was cancelled before its end
    (what its tasks await may come later), `tasks` are all tasks that it ran in.
    """

    reached: bool
    in_time: bool
    cancelled: bool
    result: T | None
    tasks: frozenset[asyncio.Task[Any]]


class _Steps:
    """Counts steps, and cancels at one of them."""

    def __init__(self, step: int, moment: Moment) -> None:
        self._left = step
        self._moment = moment
        self._cancel: Callable[[], object] = lambda: None
        self._work: asyncio.Task[Any] | None = None
        self.reached = False
        self.in_time = False
        self.tasks: set[asyncio.Task[Any]] = set()

    def begin(self, work: asyncio.Task[Any], cancel: Callable[[], object]) -> None:
        """Set the task whose steps count, and how to cancel it."""
        self._work, self._cancel = work, cancel

    def suspended(self, awaited: asyncio.Future[Any] | None) -> None:
        """Count a step that ended by awaiting `awaited` (None: the loop's next turn)."""
        if self._work is None or self._work.done():
            return
        self._left -= 1
        if self._left != 0:
            return
        self.reached = True
        if self._moment is Moment.WAITS:
            self._now()
        elif awaited is None:
            asyncio.get_running_loop().call_soon(self._now)
        else:
            # Runs before the task's own callback, which is added only after this.
            awaited.add_done_callback(self._now)

    def _now(self, *_: object) -> None:
        self.in_time = self._work is not None and not self._work.done()
        self._cancel()


_counted: ContextVar[_Steps] = ContextVar("counted")


class _Stepped(Coroutine[Any, Any, T]):
    """A coroutine that reports each of its steps."""

    def __init__(self, inner: Coroutine[Any, Any, T], steps: _Steps) -> None:
        self._inner = inner
        self._steps = steps

    def send(self, value: Any) -> Any:
        awaited = self._inner.send(value)
        self._steps.suspended(awaited)
        return awaited

    def throw(self, *error: Any) -> Any:
        awaited = self._inner.throw(*error)
        self._steps.suspended(awaited)
        return awaited

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, T]:
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        # anyio looks at the coroutine's frame to see whether a task has started.
        return getattr(self._inner, name)


def _make_task(
    loop: asyncio.AbstractEventLoop, coroutine: Any, *, context: Context | None = None, **about: Any
) -> asyncio.Task[Any]:
    """Make a task. Its steps are counted if it belongs to a piece of work."""
    steps = (context or copy_context()).get(_counted)
    if steps is None:
        return asyncio.Task(coroutine, loop=loop, context=context, **about)
    task: asyncio.Task[Any] = asyncio.Task(_Stepped(coroutine, steps), loop=loop, context=context, **about)
    steps.tasks.add(task)
    return task


async def cancel_at(
    step: int, moment: Moment, way: Way, work: Callable[[], Coroutine[Any, Any, T]]
) -> Trial[T]:
    """Run the work, cancel it at step number `step` (from 1) if it gets there, and wait for its end.

    Raises what the work raises, except for its cancellation.
    """
    loop = asyncio.get_running_loop()
    loop.set_task_factory(_make_task)
    steps = _Steps(step, moment)
    context = copy_context()
    context.run(_counted.set, steps)

    async def timed() -> T:
        with anyio.fail_after(math.inf) as scope:
            steps.begin(task, lambda: setattr(scope, "deadline", -math.inf))
            return await work()

    task = loop.create_task(work() if way is Way.TASK else timed(), context=context)
    steps.begin(task, task.cancel)
    await asyncio.wait({task})
    cancelled = task.cancelled() or type(task.exception()) is TimeoutError
    result = None if cancelled else task.result()
    return Trial(steps.reached, steps.in_time, cancelled, result, frozenset(steps.tasks))
