"""What happens inside the client, as typed events for one callable, and as log records.

::

    CallStarted
      QuotaWait … QuotaWaitEnded      only if the call has to wait for the store's quota
      RequestStarted … RequestEnded   one attempt
      RetryScheduled                  then again from QuotaWait
    CallEnded
    WriteInterrupted                  a write was cancelled, and may have been carried out
    PageJoined, GapRepaired           in a walk, between calls
    WalkNotProven                     at the end of a walk
    FollowWait                        between two polls of a feed of changes

Calls may run concurrently: `call_id`, unique in this process, says which one an event belongs to. Times are
seconds. No event contains a query, a credential or any part of a body; a `path` may contain a payment's id.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import attrs

from b2b_payments._printable import frozen

logger: logging.Logger = logging.getLogger("b2b_payments")
logger.addHandler(logging.NullHandler())


@frozen
class CallStarted:
    """A call begins. `call` names the endpoint, such as ``payments.get``."""

    call: str
    call_id: int = 0


@frozen
class CallEnded:
    """A call ended after `elapsed` seconds, waits included. `error` is None, or the name of its error.

    The name is ``CancelledError`` if the task that awaited the call was cancelled.
    """

    call: str
    elapsed: float
    error: str | None
    call_id: int = 0


@frozen
class RequestStarted:
    """An attempt is about to be sent. `call` names the endpoint; `path` has no query."""

    call: str
    method: str
    path: str
    attempt: int
    call_id: int = 0


@frozen
class RequestEnded:
    """An attempt ended after `elapsed` seconds, with an HTTP `status`, the name of an `error`, or both.

    `request_id` is the service's id of the request, None if the answer has none.
    """

    call: str
    method: str
    path: str
    attempt: int
    elapsed: float
    status: int | None
    error: str | None
    call_id: int = 0
    request_id: str | None = attrs.field(default=None, eq=False)  # no two are equal


@frozen
class RetryScheduled:
    """Attempt number `attempt` failed, and the next follows after `delay` seconds.

    In an outage a page may wait longer, while another page tries first. `asked` is the seconds that the
    service asked to wait, None if it did not. `why` is a description for people, without the service's words.
    `patience` is the most seconds that attempts continue, None if only their number is limited.
    """

    call: str
    attempt: int
    delay: float
    reason: str
    call_id: int = 0
    asked: float | None = None
    why: str = ""
    patience: float | None = None


@frozen
class QuotaWait:
    """A call waits at least `seconds` for a permit under the store's quota.

    `reason` is ``window`` (our own window is full), ``closed`` (refused, or nothing remains) or ``in flight``
    (another answer is awaited first). Emitted again if the gate closes while the call is next in line.
    """

    seconds: float
    reason: str
    call_id: int = 0


@frozen
class QuotaWaitEnded:
    """A wait for the quota ended after `seconds`, with a permit or with the end of the call."""

    seconds: float
    call_id: int = 0


@frozen
class WriteInterrupted:
    """A write was cancelled after it was sent: it may have been carried out.

    The exception that ended it (CancelledError) has a note that says what to look for.
    """

    call: str
    method: str
    path: str


@frozen
class PageJoined:
    """A walk joined a page of `rows` rows, `new` of them seen for the first time.

    `total` is the service's count. `from_other_end` pages prove the walk's end: `offset` counts from there.
    """

    offset: int
    rows: int
    new: int
    total: int | None
    from_other_end: bool = False


@frozen
class WalkNotProven:
    """A walk by `createdAt` ended after `rows` payments, without proof that these are all: see `reason`."""

    rows: int
    reason: str


@frozen
class GapRepaired:
    """A page left a gap because rows before it were removed; the gap was closed by reading at `offset`."""

    offset: int


@frozen
class FollowWait:
    """A feed of changes polls again after `seconds`.

    `reason` is ``interval``, ``quota`` if the last poll had to wait for the store's quota, or the name of the
    error that it failed with; `why` describes that error for people.
    """

    seconds: float
    reason: str
    why: str = ""


Event = (
    CallStarted
    | CallEnded
    | RequestStarted
    | RequestEnded
    | RetryScheduled
    | QuotaWait
    | QuotaWaitEnded
    | PageJoined
    | GapRepaired
    | WalkNotProven
    | WriteInterrupted
    | FollowWait
)
Listener = Callable[[Event], None]

_LEVELS: dict[type[Event], int] = {
    RetryScheduled: logging.WARNING,
    QuotaWait: logging.INFO,
    GapRepaired: logging.INFO,
    WalkNotProven: logging.WARNING,
    WriteInterrupted: logging.WARNING,
}
"""The log levels of events; those of the others are DEBUG."""


class Events:
    """Passes events to the log and to the caller's listener, whose errors do not reach the client."""

    def __init__(self, listener: Listener | None = None) -> None:
        self._listener = listener

    def emit(self, event: Event) -> None:
        """Report an event. Never raises: a listener that raises is logged, and gets no further events."""
        level = _LEVELS.get(type(event), logging.DEBUG)
        if logger.isEnabledFor(level):
            name = type(event).__name__
            fields = attrs.asdict(event)
            words = " ".join(f"{key}={value}" for key, value in fields.items() if value is not None)
            logger.log(
                level,
                "%s %s",
                name,
                words,
                extra={"event": name, **{f"b2b_{k}": v for k, v in fields.items()}},
            )
        if self._listener is not None:
            try:
                self._listener(event)
            except Exception:
                self._listener = None
                logger.exception("The event listener raised; it gets no further events.")
