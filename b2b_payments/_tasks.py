"""A client's background tasks, and the event loop and process in which the client may be used."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import anyio
from anyio.abc import TaskGroup

from b2b_payments._errors import ConfigurationError
from b2b_payments._printable import frozen

NOT_OPEN = "The client is not open: use it inside `async with PaymentsClient(...) as client:`."


@frozen
class Home:
    """The event loop and process in which something was opened, and in which alone it works."""

    loop: asyncio.AbstractEventLoop
    process: int

    @classmethod
    def here(cls) -> Home:
        """Return the running event loop, in this process."""
        return cls(asyncio.get_running_loop(), os.getpid())

    @property
    def is_gone(self) -> bool:
        """Whether nothing can run there anymore: the loop is closed, or belongs to another process."""
        return self.process != os.getpid() or self.loop.is_closed()

    def require(self) -> None:
        """Raise ConfigurationError in any other event loop, thread or process.

        Connections and tasks are bound to their event loop: another one would send the request, and never
        receive the answer.
        """
        if self.process != os.getpid():
            raise ConfigurationError(
                "The client was opened before this process was forked; open another one in the child."
            )
        if self.loop is not _running_loop():
            which = "an event loop that has ended" if self.loop.is_closed() else "another event loop"
            raise ConfigurationError(
                f"The client was opened in {which}; open one in each event loop (and thread) that uses it."
            )

    def call(self, function: Callable[[], object]) -> None:
        """Call a function in this event loop: now if it is the running one, else soon.

        If the loop is closed or belongs to another process, do nothing: nothing is left to call it for.
        """
        if self.process != os.getpid():
            return
        if self.loop is _running_loop():
            function()
        else:
            with suppress(RuntimeError):  # the loop is closed, and its tasks have ended
                self.loop.call_soon_threadsafe(function)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class Tasks:
    """A task group that lives from `start` to `stop`, in its own task.

    It is not entered in the caller's task, so a client may be opened in one task and closed in another (by a
    test fixture or a worker's start-up hook), an error in the caller's body is never wrapped in an
    ExceptionGroup, and a `break` out of a walk leaves no open cancel scope.
    """

    def __init__(self) -> None:
        self._home: Home | None = None  # set between start and stop
        self._group: TaskGroup | None = None
        self._owner: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Open the group."""
        self._home = Home.here()
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
        """Whether `stop` was called. The group cannot be started again."""
        return self._stopping.is_set()

    @property
    def running(self) -> bool:
        """Whether tasks can be started."""
        return self._group is not None

    def require_running(self) -> None:
        """Raise ConfigurationError if tasks cannot be started: not open, or in another loop or process."""
        self.require_home()
        if self._group is None:
            raise ConfigurationError(NOT_OPEN)

    def require_home(self) -> None:
        """Raise ConfigurationError in another event loop, thread or process than the tasks'."""
        if self._home is not None:
            self._home.require()

    def run_at_home(self, function: Callable[[], object]) -> None:
        """Call a function that touches the tasks, in their own event loop. See `Home.call`."""
        if self._home is None:
            function()
        else:
            self._home.call(function)

    def spawn(self, function: Callable[..., Coroutine[Any, Any, object]], *args: Any) -> None:
        """Start a task that ends with the client at the latest. The function handles its own errors."""
        if self._group is None:
            raise RuntimeError("spawn() on a closed client")
        self._group.start_soon(function, *args)

    async def stop(self) -> None:
        """Cancel the remaining tasks and wait until they end, even while the caller is being cancelled.

        Raises ConfigurationError in another event loop, thread or process than the tasks'.
        """
        self.require_home()
        self._stopping.set()
        if self._owner is not None:
            with anyio.CancelScope(shield=True):
                await asyncio.wait([self._owner])
        self._home = self._owner = None
