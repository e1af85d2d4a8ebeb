"""What happens inside the client, as typed events to one callable, and as log records.

::

    CallStarted
      QuotaWait … QuotaWaitEnded      only where the store's quota makes it wait
      RequestStarted … RequestEnded   one attempt
      RetryScheduled                  and from QuotaWait again
    CallEnded
    WriteInterrupted                  a write was cancelled, and may have been carried out
    PageJoined, GapRepaired           a walk's, between calls
    WalkNotProven                     … and at its end
    FollowWait                        between two polls of a feed that follows

Many calls may be under way at once: `call_id` tells which one an event belongs to, and no other call of this
process has the same. All times are seconds. No event holds a query, a credential or anything of a body; a
`path` may hold a payment's id.
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
    """A call ended after `elapsed` seconds, waits included: well, or with the name of an `error`.

    The name is ``CancelledError`` where whoever awaited the call was cancelled.
    """

    call: str
    elapsed: float
    error: str | None
    call_id: int = 0


@frozen
class RequestStarted:
    """An attempt is about to be sent. `call` names the endpoint; `path` is without query."""

    call: str
    method: str
    path: str
    attempt: int
    call_id: int = 0


@frozen
class RequestEnded:
    """An attempt ended after `elapsed` seconds: with an HTTP `status`, or with the name of an `error`.

    `request_id` is what the service calls the request, None where it does not say.
    """

    call: str
    method: str
    path: str
    attempt: int
    elapsed: float
    status: int | None
    error: str | None
    call_id: int = 0
    request_id: str | None = attrs.field(default=None, eq=False)  # no two are alike


@frozen
class RetryScheduled:
    """Attempt number `attempt` failed, and the next follows after `delay` seconds.

    A page waits longer in an outage, where another one tries first. `asked` is how many seconds the service
    asks to wait, None where it does not. `why` says it to people, in words of this library alone. `patience`
    is for how many seconds more attempts are made at the most, None where only their number counts.
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
    """A call waits `seconds` (at the least) for its turn under the store's quota.

    `reason` is ``window``, ``closed`` or ``in flight``. It comes again where the gate closes meanwhile.
    """

    seconds: float
    reason: str
    call_id: int = 0


@frozen
class QuotaWaitEnded:
    """A wait for the quota ended after `seconds`: with a turn, or with the call."""

    seconds: float
    call_id: int = 0


@frozen
class WriteInterrupted:
    """A write was cancelled after it had been sent: whether it was carried out is not known.

    The exception that ended it (CancelledError) has a note that says what to look for.
    """

    call: str
    method: str
    path: str


@frozen
class PageJoined:
    """A walk joined a page: `rows` came, `new` of them for the first time; `total` is the service's count.

    `offset` counts from the list's other end where `from_other_end`: there the walk's end is proven.
    """

    offset: int
    rows: int
    new: int
    total: int | None
    from_other_end: bool = False


@frozen
class WalkNotProven:
    """A walk by `createdAt` is over after `rows` payments, and that these are all is not proven: `reason`."""

    rows: int
    reason: str


@frozen
class GapRepaired:
    """A page had left a gap, because rows in front of it went away; it was closed by reading at `offset`."""

    offset: int


@frozen
class FollowWait:
    """A feed of changes polls again after `seconds`.

    `reason` is ``interval``, ``quota`` where the poll before had to wait for the store's quota, or the name
    of the error that it failed with; `why` says that error to people.
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
    CallStarted: logging.DEBUG,
    CallEnded: logging.DEBUG,
    RequestStarted: logging.DEBUG,
    RequestEnded: logging.DEBUG,
    RetryScheduled: logging.WARNING,
    QuotaWait: logging.INFO,
    QuotaWaitEnded: logging.DEBUG,
    PageJoined: logging.DEBUG,
    GapRepaired: logging.INFO,
    WalkNotProven: logging.WARNING,
    WriteInterrupted: logging.WARNING,
    FollowWait: logging.DEBUG,
}


class Events:
    """Hands events to the log and to the caller's listener, whose errors stay its own."""

    def __init__(self, listener: Listener | None = None) -> None:
        self._listener = listener

    def emit(self, event: Event) -> None:
        """Tell of an event. Never raises: a listener's error is logged once, and it is not asked again."""
        level = _LEVELS[type(event)]
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
