"""The feed of changes: `client.payments.changes()`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from datetime import datetime
from typing import Any

import anyio
import attrs

from b2b_payments._arguments import seconds
from b2b_payments._changes.ledger import Checkpoint, Ledger, Place
from b2b_payments._changes.poll import OnPage, Poll
from b2b_payments._changes.version import Stamp
from b2b_payments._errors import B2BPaymentsError, PaginationError, RateLimitError
from b2b_payments._models import Payment
from b2b_payments._models.moment import in_utc
from b2b_payments._printable import define, frozen
from b2b_payments._retry import Outcome, outcome_of
from b2b_payments._walk.walk import Walker
from b2b_payments.events import FollowWait

INTERVAL = 60.0
OVERLAP = 1800.0
"""Seconds by which polls overlap. Lists lag a write by up to about 20 minutes [seen]."""
_MAX_PAUSE = 600.0
"""The most seconds between polls of a service that is down, unless the interval is longer."""
_MAX_UNPROVEN = 5
"""PaginationErrors without a successful poll in between, after which a feed that follows ends."""


@define(eq=False)
class FailedPolls:
    """The failed polls since the latest successful one."""

    count: int = 0
    _unproven: int = 0

    def reset(self) -> None:
        """Record a successful poll."""
        self.count = self._unproven = 0

    def record(self, error: B2BPaymentsError) -> bool:
        """Record a failed poll. Returns whether a later one may succeed without anybody's help."""
        self.count += 1
        if isinstance(error, PaginationError):
            self._unproven += 1
            return self._unproven < _MAX_UNPROVEN
        return outcome_of(error) not in {Outcome.FINAL, Outcome.UNCLEAR}


@frozen(eq=False)
class Change:
    """A version of a payment, as a list first showed it after the write.

    `checkpoint` is the position to resume from once the change is handled: plain JSON, created on access,
    with about 25 bytes for each change within the overlap. `text` is the payment as the service wrote it.
    """

    payment: Payment
    text: bytes = attrs.field(repr=False)
    _place: Place = attrs.field(repr=False)

    @property
    def checkpoint(self) -> Checkpoint:
        """The position after this change, for `changes(since=...)`."""
        return self._place.checkpoint()


@define
class ChangesReport:
    """The report of a feed, kept up to date: its polls, the changes yielded and the requests sent.

    `waited` is the seconds that the requests waited for the store's quota.
    """

    polls: int = 0
    changes: int = 0
    requests: int = 0
    waited: float = 0.0


class Changes(AsyncIterator[Change]):
    """The changes of a store, oldest first, each version of a payment once.

    A change that lists show late comes after newer ones. It can be iterated once. If you leave it before its
    end, close it (`contextlib.aclosing`) to cancel a request in progress.
    """

    def __init__(self, walker: Walker, since: Any, *, follow: bool, interval: float, overlap: float) -> None:
        if isinstance(since, datetime):
            since = in_utc(since)
        overlap = seconds("overlap", overlap)
        self._walker = walker
        self._follow = follow
        self._interval = seconds("interval", interval, least=0.001)
        self._ledger = Ledger.since(walker.store, round(overlap * 1_000_000), since)
        self._whole: frozenset[Stamp] | None = None
        self._items = self._changes()
        self.report: ChangesReport = ChangesReport()
        self.on_page: OnPage = lambda _page, _report: None
        """Called with each page and the report of its walk, to show progress."""
        self.is_behind: bool = False
        """Whether the latest poll found no payment as new as the watermark: the newest was deleted, or the
        service was restored from a backup."""

    def __aiter__(self) -> AsyncIterator[Change]:  # noqa: PYI034
        return self._items

    async def __anext__(self) -> Change:
        return await anext(self._items)

    async def aclose(self) -> None:
        """Cancel the requests in progress. May be called twice."""
        await self._items.aclose()

    def checkpoint(self) -> Checkpoint:
        """Return the position after the latest change, and after later polls without one.

        Before the first answer, it is the position where this feed starts.
        """
        return self._ledger.place.checkpoint()

    async def _changes(self) -> AsyncGenerator[Change, None]:
        failed = FailedPolls()
        while True:
            self._walker.tasks.require_running()
            began, waited, before = anyio.current_time(), self.report.waited, self._ledger.watermark
            failure: B2BPaymentsError | None = None
            poll = Poll(self._walker, self._ledger, self.report, self.on_page, self._whole)
            self.report.polls += 1
            versions = poll.versions()
            try:
                async for version in versions:
                    self.report.changes += 1
                    yield Change(version.payment, version.text, self._ledger.place)
                    self._walker.tasks.require_home()
            except B2BPaymentsError as error:
                may_pass = failed.record(error)
                if not (self._follow and may_pass):
                    raise
                failure = error.with_traceback(None)
            else:
                failed.reset()
                self._whole = poll.whole
                self.is_behind = before is not None and (poll.newest is None or poll.newest < before)
            finally:
                await versions.aclose()
            if not self._follow:
                return
            pause, reason = self._pause(began, self.report.waited - waited, failure, failed.count)
            self._walker.caller.events.emit(FollowWait(pause, reason, str(failure or "")))
            await anyio.sleep(pause)

    def _pause(
        self, began: float, waited: float, failure: B2BPaymentsError | None, failures: int
    ) -> tuple[float, str]:
        """Return the seconds to wait until the next poll, and the reason.

        Polls that were missed while the machine slept or the service was down are not made up for.
        """
        if failure is None:
            left = max(0.0, began + self._interval - anyio.current_time())
            # A long wait for the quota shows that others need it: put the next poll off by as long.
            return (left + waited, "quota") if waited > left else (left, "interval")
        longest = max(self._interval, _MAX_PAUSE)
        pause = min(longest, self._interval * 2.0 ** min(failures, 32))
        retry_after = failure.retry_after or 0.0 if isinstance(failure, RateLimitError) else 0.0
        # With jitter, so that followers that failed together do not retry together.
        return max(retry_after, pause * (1 + self._walker.caller.chance()) / 2), type(failure).__name__
