"""Cancelling a piece of work at each of its steps in turn.

A step ends where the work, or a task that it has started, suspends. All of them are counted, since the work
of a walk is done by tasks that its loop only awaits; who is cancelled is always the one who awaits the work.
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
    """When at a step the cancellation comes."""

    WAITS = "as soon as the task has begun to wait"
    WOKEN = "when that for which it waits has come, and before it goes on"


class Way(Enum):
    """How it is cancelled."""

    TASK = "the task, by asyncio"
    DEADLINE = "by the deadline of an anyio.fail_after around it"


@attrs.frozen
class Trial(Generic[T]):
    """What became of a piece of work: its `result`, or None where it was cancelled.

    `reached` says whether the work had as many steps, `in_time` whether it was cancelled before its end (what
    a task of it awaits may come later), `tasks` are all that it ran in.
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
        """Take in whose work it is, and how to cancel it."""
        self._work, self._cancel = work, cancel

    def suspended(self, awaited: asyncio.Future[Any] | None) -> None:
        """Count a step, which ended by awaiting this (None: the loop's next turn)."""
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
            # Called back ahead of the task itself, which begins to wait only after this.
            awaited.add_done_callback(self._now)

    def _now(self, *_: object) -> None:
        self.in_time = self._work is not None and not self._work.done()
        self._cancel()


_counted: ContextVar[_Steps] = ContextVar("counted")


class _Stepped(Coroutine[Any, Any, T]):
    """A coroutine that tells of each of its steps."""

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
        # anyio asks whether a task has started, by its coroutine's frame.
        return getattr(self._inner, name)


def _make_task(
    loop: asyncio.AbstractEventLoop, coroutine: Any, *, context: Context | None = None, **about: Any
) -> asyncio.Task[Any]:
    """Make a task, whose steps are counted where it belongs to a piece of work."""
    steps = (context or copy_context()).get(_counted)
    if steps is None:
        return asyncio.Task(coroutine, loop=loop, context=context, **about)
    task: asyncio.Task[Any] = asyncio.Task(_Stepped(coroutine, steps), loop=loop, context=context, **about)
    steps.tasks.add(task)
    return task


async def cancel_at(
    step: int, moment: Moment, way: Way, work: Callable[[], Coroutine[Any, Any, T]]
) -> Trial[T]:
    """Run the work, cancel it at the step of this number (from 1) if it comes so far, and wait for its end.

    Raises what the work raises, but for its cancellation.
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
