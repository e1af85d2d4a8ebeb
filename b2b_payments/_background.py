"""An event loop in its own thread, for code that does not await."""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError, Future, wait
from contextlib import ExitStack
from typing import Any, Final, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from b2b_payments._errors import ConfigurationError

T = TypeVar("T")

_NAP: Final = 0.2
"""Seconds between checks for Ctrl-C while waiting."""


class BackgroundLoop:
    """An event loop in its own thread, for one client and those made from it by `with_options`."""

    def __init__(self) -> None:
        self._portal: BlockingPortal | None = None
        self._process = 0
        self._stack = ExitStack()
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the thread. Raises ConfigurationError if it already runs."""
        with self._lock:
            if self._portal is not None:
                raise ConfigurationError("The client is open already; use one `with` at a time.")
            self._portal = self._stack.enter_context(start_blocking_portal(name="b2b_payments"))
            self._process = os.getpid()

    def stop(self, close: Callable[[], Awaitable[object]]) -> None:
        """Close the client, cancel calls in progress, and end the thread."""
        with self._lock:
            portal, self._portal = self._portal, None
            if portal is not None and self._process == os.getpid():
                with self._stack:
                    portal.call(close)
                    portal.call(portal.stop, True)

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop, and return its result. Ctrl-C cancels it.

        Raises ConfigurationError if the loop does not run, in a forked child, and in the loop's own thread.
        """
        problem: str | None = None
        portal = self._portal
        if portal is None:
            problem = "The client is not open: use it inside `with PaymentsClient(...) as client:`."
        elif self._process != os.getpid():
            problem = "The client was opened before this process was forked; open another one in the child."
        else:
            try:
                future: Future[T] = portal.start_task_soon(lambda: coroutine)
            except RuntimeError:  # this is the loop's own thread, or the loop is ending
                problem = "The client cannot be used in its own callbacks, nor while it is being closed."
        if problem is not None:
            coroutine.close()
            raise ConfigurationError(problem)
        try:
            # Ctrl-C does not interrupt a wait on Windows, nor if a library handles signals, as polars does.
            while wait([future], _NAP).not_done:
                pass
            return future.result()
        except CancelledError:
            raise ConfigurationError("The client was closed during the call.") from None
        except BaseException:
            future.cancel()
            raise
