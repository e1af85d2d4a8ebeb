"""The one owner of a client's background tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
from anyio.abc import TaskGroup


class Tasks:
    """A task group that lives from `start` to `stop`, in a task of its own.

    The group is not entered in the caller's task: so a client may be opened in one task and closed in another
    (a test fixture, a worker's start-up hook), an error in the caller's body is never wrapped in an
    ExceptionGroup, and a `break` out of a walk leaves no cancel scope behind.
    """

    def __init__(self) -> None:
        self._group: TaskGroup | None = None
        self._owner: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Open the group."""
        ready = asyncio.Event()
        self._owner = asyncio.create_task(self._own(ready), name="b2b_payments")
        await ready.wait()

    async def _own(self, ready: asyncio.Event) -> None:
        async with anyio.create_task_group() as group:
            self._group = group
            ready.set()
            try:
                await self._stopping.wait()
            finally:
                self._group = None
                group.cancel_scope.cancel()

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called: a group cannot be opened again."""
        return self._stopping.is_set()

    @property
    def running(self) -> bool:
        """Whether tasks can be started."""
        return self._group is not None

    def spawn(self, function: Callable[..., Coroutine[Any, Any, object]], *args: Any) -> None:
        """Start a task that lives no longer than the client; the function handles its own errors."""
        if self._group is None:
            raise RuntimeError("spawn() on a closed client")
        self._group.start_soon(function, *args)

    async def stop(self) -> None:
        """Cancel what is left and wait for its end. Goes through even while the caller is being cancelled."""
        self._stopping.set()
        if self._owner is not None:
            with anyio.CancelScope(shield=True):
                await asyncio.wait([self._owner])
