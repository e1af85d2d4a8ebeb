"""An outage meets one request after another, with growing delays, however many pages are in flight."""

from __future__ import annotations

import anyio

_OUTAGE = 3
"""Failures in a row, of all pages together, that are no accident any more."""


class Recovery:
    """Whether the service is back: one page that failed tries on, and the others wait for what it finds.

    Only the answer to a page that was sent after a failure shows that the service is back since, so the pages
    are numbered as they are sent.
    """

    def __init__(self) -> None:
        self.sent: int = 0
        """The number of the page that was sent last."""
        self._answered = 0  # the highest number of one that was answered
        self._failures = 0  # in a row
        self._trying: int | None = None
        self._waiting: list[anyio.Event] = []

    def send(self) -> int:
        """Number a page that is about to be sent."""
        self.sent += 1
        return self.sent

    def answered(self, number: int) -> None:
        """Take in that the service answered a page."""
        self._answered = max(self._answered, number)
        self._failures = 0
        self._wake()

    def is_back(self, since: int) -> bool:
        """Whether a page was answered that was sent after the one of this number."""
        return self._answered > since

    async def wait(self, call_id: int, since: int) -> bool:
        """Take in a failure, and wait in an outage: for this call's turn to try, or for the service.

        Tells whether it had to wait.
        """
        self._failures += 1
        if self._failures < _OUTAGE:
            return False
        waited = False
        while not self.is_back(since) and self._trying not in {None, call_id}:
            event = anyio.Event()
            self._waiting.append(event)
            await event.wait()
            waited = True
        if not self.is_back(since):
            self._trying = call_id
        return waited

    def leave(self, call_id: int) -> None:
        """Take in that this call is over; if it was the one that tried, another does."""
        if self._trying == call_id:
            self._trying = None
            self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for event in waiting:
            event.set()
