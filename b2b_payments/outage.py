"""An outage meets one request after another, with growing delays, however many pages are in flight."""

from __future__ import annotations

import math

import anyio


class Recovery:
    """Whether the service is back: the first page that fails tries on, and the others wait for what it finds.

    All moments are the running event loop's.
    """

    def __init__(self) -> None:
        self._trying: int | None = None
        self._sent_at = -math.inf  # when the latest page was sent that was answered
        self._waiting: list[anyio.Event] = []

    async def wait(self, call_id: int, failed_at: float) -> bool:
        """Wait until it is this call's turn to try, or the service is back; tell whether it had to wait."""
        waited = False
        while not self.is_back(failed_at) and self._trying not in {None, call_id}:
            event = anyio.Event()
            self._waiting.append(event)
            await event.wait()
            waited = True
        if not self.is_back(failed_at):
            self._trying = call_id
        return waited

    def is_back(self, failed_at: float) -> bool:
        """Whether a page was answered that was sent after that moment."""
        return self._sent_at > failed_at

    def answered(self, sent_at: float) -> None:
        """Take in that the service answered a page that was sent at this moment."""
        self._sent_at = max(self._sent_at, sent_at)
        self._wake()

    def leave(self, call_id: int) -> None:
        """Take in that this call is over; if it was the one that tried, another does."""
        if self._trying == call_id:
            self._trying = None
            self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for event in waiting:
            event.set()
