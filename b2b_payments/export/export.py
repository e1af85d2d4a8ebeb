"""From a walk into a sink."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import aclosing
from functools import partial

import anyio
from anyio import to_thread

from b2b_payments.export.sink import Sink
from b2b_payments.walk.report import WalkReport
from b2b_payments.walk.stream import PaymentStream
from b2b_payments.walk.walk import Walk

Listener = Callable[[WalkReport], object]


async def export(
    source: Walk | PaymentStream, sink: Sink, *, on_progress: Listener | None = None
) -> WalkReport:
    """Write all payments of a walk or a stream to a sink, and give the walk's report.

    The sink works off the event loop, a page at a time, while the next pages are being fetched. `on_progress`
    is called with the report after each page that was written.

    Raises what the walk raises, and what the sink raises. Then, and where the export is cancelled, the sink
    is closed as not complete.
    """
    worker = _Worker(sink)
    complete = False
    try:
        await worker.do(sink.open)
        async with aclosing(source.raw_pages()) as pages:
            async for page in pages:
                await worker.do(partial(_keep, sink, page.items, page.checkpoint))
                if on_progress is not None:
                    on_progress(source.report)
        complete = True
    finally:
        with anyio.CancelScope(shield=True):
            await worker.close(complete=complete)
    return source.report


def _keep(sink: Sink, batch: list[dict[str, object]], checkpoint: dict[str, object] | None) -> None:
    sink.write(batch)
    sink.commit(checkpoint)


class _Worker:
    """Uses a sink in worker threads, one step at a time, and not at all once it is closed.

    asyncio's own cancellation (`asyncio.timeout`, `Task.cancel`) goes on without waiting for a thread, so
    that a write may still be running, or not even have begun, when the sink is to be closed.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._lock = threading.Lock()
        self._closed = False

    async def do(self, step: Callable[[], None]) -> None:
        await to_thread.run_sync(self._do, step)

    async def close(self, *, complete: bool) -> None:
        await to_thread.run_sync(self._close, complete)

    def _do(self, step: Callable[[], None]) -> None:
        with self._lock:
            if not self._closed:
                step()

    def _close(self, complete: bool) -> None:
        with self._lock:
            self._closed = True
            self._sink.close(complete=complete)
