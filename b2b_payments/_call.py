"""One call to the service: its turn under the quota, its attempts, its deadline. It alone waits."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import NoReturn, Protocol, TypeVar

import anyio
import attrs
from anyio.lowlevel import checkpoint_if_cancelled

from b2b_payments._credential import Credential
from b2b_payments._errors import (
    APIError,
    AuthenticationError,
    B2BPaymentsError,
    ConfigurationError,
    RateLimitError,
    RequestTimeoutError,
    ResponseDecodeError,
    TransportError,
)
from b2b_payments._mixups import Doubts, MixUps
from b2b_payments._outage import Recovery
from b2b_payments._protocol.answer import Answer, Envelope, read_envelope
from b2b_payments._protocol.limits import read_limits
from b2b_payments._protocol.request import Request
from b2b_payments._quota import Priority, QuotaGate, QuotaReading, TooLate, Turn, WaitReason
from b2b_payments._retry import Failures, Kind, Outcome, RetryPolicy
from b2b_payments._transport import Transport
from b2b_payments.events import (
    CallEnded,
    CallStarted,
    Events,
    QuotaWait,
    QuotaWaitEnded,
    RequestEnded,
    RequestStarted,
    RetryScheduled,
)

T = TypeVar("T")
Reader = Callable[[Request, Answer, str], T]
"""Reads an answer, given the request and the base URL; raises for one that is no success."""

_call_ids = itertools.count(1)


class Tally(Protocol):
    """Whoever keeps account: attempts made, and seconds spent waiting for the quota."""

    requests: int
    waited: float


@attrs.define
class _NoTally:
    requests: int = 0
    waited: float = 0.0


class InDoubtError(B2BPaymentsError):
    """A write failed, and one of its attempts may have been carried out. For those who judge writes alone."""

    def __init__(self, failure: B2BPaymentsError) -> None:
        super().__init__(failure.message)
        self.failure = failure


@attrs.define
class Caller:
    """Carries calls out for one client.

    `timeout` holds for one attempt, `deadline` for a whole call, waits included, both in seconds; `window` is
    the length of the quota's window, for refusals that do not say how long to wait.
    """

    transport: Transport
    credential: Credential
    gate: QuotaGate | None
    retry: RetryPolicy
    timeout: float
    deadline: float | None
    events: Events
    window: float = 60.0
    chance: Callable[[], float] = random.random  # noqa: S311 - it spreads, it hides nothing
    _recovery: Recovery = attrs.field(factory=Recovery, init=False)

    @property
    def mixups(self) -> MixUps:
        """What was seen of answers that came to another request than their own."""
        return self.transport.mixups

    def until(self) -> float | None:
        """The moment at which a call or walk that begins now has to be over.

        Raises ConfigurationError where the client cannot be used: not open, or not from here.
        """
        self.transport.require_open()
        return None if self.deadline is None else anyio.current_time() + self.deadline

    async def call(self, request: Request, *, until: float | None = None) -> Envelope:
        """Send a request that somebody waits for, and give its answer's envelope. Raises as `read` does."""
        return await self.read(request, read_envelope, until=until)

    async def read(
        self,
        request: Request,
        reader: Reader[T],
        *,
        priority: Priority = Priority.CALL,
        until: float | None = None,
        tally: Tally | None = None,
    ) -> T:
        """Send a request until it succeeds or must not be sent again; give what `reader` makes of the answer.

        An answer that cannot be read is a failure like others: a GET is sent again. Raises what the last
        attempt raised, and InDoubtError for a write that may have been carried out. `tally` keeps account.
        """
        latest = self.until()
        until = latest if until is None else until
        call_id, begun = next(_call_ids), anyio.current_time()
        self.events.emit(CallStarted(request.call, call_id))
        error: str | None = None
        try:
            return await self._carry_out(call_id, request, reader, priority, until, tally or _NoTally())
        except BaseException as failure:
            error = _name_of(failure)
            raise
        finally:
            self._recovery.leave(call_id)
            elapsed = anyio.current_time() - begun
            self.events.emit(CallEnded(request.call, elapsed, error, call_id))

    async def _carry_out(
        self,
        call_id: int,
        request: Request,
        reader: Reader[T],
        priority: Priority,
        until: float | None,
        tally: Tally,
    ) -> T:
        # Before the turn: a turn is the right to send now, and a provider may take its time.
        await self.credential.ready(self._seconds(until))
        doubts = self.mixups.doubts(request)
        attempt, doubt, renewed = 0, False, False
        failures = Failures() if priority is Priority.PAGE else None
        while True:
            attempt += 1
            turn = await self._turn(call_id, request, priority, until, doubt=doubt)
            tally.requests += 1
            tally.waited += turn.waited if turn is not None else 0.0
            headers = self.credential.headers()
            try:
                return await self._attempt(call_id, doubts, reader, priority, headers, attempt, turn, until)
            except B2BPaymentsError as error:
                # The frames that it came through hold the whole answer: let go of, they are freed at once.
                failure = error.with_traceback(None)
            if isinstance(failure, AuthenticationError) and not renewed:
                try:
                    renewed = await self.credential.renew(headers, self._seconds(until))
                except ConfigurationError as error:
                    failure = error
                if renewed:
                    continue
            if priority is Priority.PAGE and isinstance(failure, ResponseDecodeError) and failure.too_large:
                raise failure  # it would be as large again: a walk asks for fewer rows instead
            outcome = outcome_of(failure)
            may_retry = attempt < self.retry.attempts or (failures is not None and self.retry.attempts > 1)
            if doubts.again(failure, outcome, may_retry=may_retry):
                self.events.emit(RetryScheduled(request.call, attempt, 0.0, "mixed up", call_id))
                continue
            doubt = doubt or outcome.leaves_doubt or doubts.leaves_open(failure)
            if doubts.ends_with(failure) or not await self._wait(
                call_id, request, failure, attempt, failures, until
            ):
                _fail(request, failure, doubt=doubt)

    async def _wait(
        self,
        call_id: int,
        request: Request,
        failure: B2BPaymentsError,
        attempt: int,
        failures: Failures | None,
        until: float | None,
    ) -> bool:
        """Wait before the next attempt; False where there is none. `failures` are those of a page."""
        outcome, now = outcome_of(failure), anyio.current_time()
        alike, failing_for = (attempt, None) if failures is None else failures.note(outcome, now)
        asked: float | None = None
        if isinstance(failure, RateLimitError):
            asked = self._pause(failure.retry_after, alike)
        elif isinstance(failure, APIError) and failures is not None:
            asked = failure.retry_after
        delay = self.retry.delay(
            request.kind,
            outcome,
            alike,
            remaining=None if until is None else until - now,
            asked=asked,
            random=self.chance,
            failing_for=failing_for,
        )
        if delay is None:
            return False
        stated = failure.retry_after if asked is not None and isinstance(failure, APIError) else None
        self.events.emit(RetryScheduled(request.call, attempt, delay, str(outcome.value), call_id, stated))
        if failing_for is not None and outcome.is_outage and self.retry.outage:
            return await self._wait_in_line(call_id, now, failing_for, delay, until)
        if failures is not None:
            failures.waited(delay)
        await anyio.sleep(delay)
        return True

    async def _wait_in_line(
        self, call_id: int, failed_at: float, failing_for: float, delay: float, until: float | None
    ) -> bool:
        """Wait in line, and for `delay` seconds; False where deadline or patience ends before."""
        due = failed_at + delay
        with anyio.CancelScope(deadline=math.inf if until is None else until):
            since = self._recovery.sent
            if await self._recovery.wait(call_id, since):
                now = anyio.current_time()
                is_over = failing_for + now - failed_at + delay >= self.retry.outage
                if is_over and not self._recovery.is_back(since):
                    return False  # whoever tried has given up
                # Those who waited together do not come back together.
                due = max(due, now + self.chance() * self.retry.base_delay)
            await anyio.sleep_until(due)
            return True
        return False

    async def _turn(
        self, call_id: int, request: Request, priority: Priority, until: float | None, *, doubt: bool
    ) -> Turn | None:
        if self.gate is None:
            return None
        began: float | None = None

        def tell(seconds: float, reason: WaitReason) -> None:
            nonlocal began
            began = anyio.current_time() if began is None else began
            self.events.emit(QuotaWait(seconds, str(reason.value), call_id))

        try:
            turn = await self.gate.enter(priority, until=until, on_wait=tell)
        finally:
            if began is not None:
                self.events.emit(QuotaWaitEnded(anyio.current_time() - began, call_id))
        if isinstance(turn, TooLate):
            message = (
                f"{request.method} {request.path}: the deadline would pass while waiting "
                f"{turn.seconds:.1f} s for the store's quota; give it a longer deadline."
            )
            _fail(request, RequestTimeoutError(message, sent=False), doubt=doubt)
        return turn

    def _seconds(self, until: float | None) -> float:
        """How long one step may take: the attempt's timeout, or what is left of the deadline."""
        return self.timeout if until is None else min(self.timeout, until - anyio.current_time())

    async def _attempt(
        self,
        call_id: int,
        doubts: Doubts,
        reader: Reader[T],
        priority: Priority,
        headers: Mapping[str, str],
        attempt: int,
        turn: Turn | None,
        until: float | None,
    ) -> T:
        begun, request, number = anyio.current_time(), doubts.request, self._recovery.send()
        try:
            # Its turn may have come to a call that was given up at the same moment: nothing is sent then.
            await checkpoint_if_cancelled()
        except BaseException:
            self._account(turn, None, None, attempt)
            raise
        timeout = self._seconds(until)
        if timeout <= 0:
            self._account(turn, None, None, attempt)
            raise RequestTimeoutError(
                f"{request.method} {request.path}: the deadline has passed.", sent=False
            )
        status: int | None = None
        reading: QuotaReading | None = None
        failed: BaseException | None = None
        answer: Answer | None = None
        about = request.call, request.method, request.path, attempt
        self.events.emit(RequestStarted(*about, call_id))
        try:
            answer = await self.transport.send(request, headers, timeout=timeout)
            status = answer.status
            reading = read_limits(answer.headers, datetime.now(UTC))
            doubts.reused = answer.reused
            return self.mixups.checked(request, reader(request, answer, self.transport.base_url))
        except BaseException as failure:
            failed = failure
            if answer is not None and isinstance(failure, ResponseDecodeError):
                answer.hang_up()
            raise
        finally:
            self._account(turn, reading, failed, attempt)
            if priority is Priority.PAGE and _is_answer(status, failed):
                self._recovery.answered(number)
            elapsed = anyio.current_time() - begun
            error = None if failed is None else _name_of(failed)
            self.events.emit(RequestEnded(*about, elapsed, status, error, call_id))

    def _pause(self, stated: float | None, attempt: int) -> float:
        """How long to wait after a refusal: what it says, or else a growing part of the window."""
        return self.window / 2 ** max(0, 5 - attempt) if stated is None else stated

    def _account(
        self, turn: Turn | None, reading: QuotaReading | None, failed: BaseException | None, attempt: int
    ) -> None:
        """Tell the gate how this turn's request ended: without an answer, refused (429), or answered."""
        if self.gate is None or turn is None:
            return
        if reading is None:
            self.gate.leave(turn)
        elif isinstance(failed, RateLimitError):
            # Whether the status says 429 or, under HTTP 200, the body.
            self.gate.close_for(self._pause(reading.pause, attempt), turn)
        else:
            self.gate.learn(turn, reading)


def outcome_of(failure: B2BPaymentsError) -> Outcome:
    """Say what became of an attempt that failed in this way."""
    if isinstance(failure, TransportError):
        if failure.sent:
            return Outcome.AMBIGUOUS
        return Outcome.UNREACHABLE if failure.lasting else Outcome.NOT_SENT
    if isinstance(failure, ResponseDecodeError):
        return Outcome.UNREADABLE
    if not isinstance(failure, APIError):
        return Outcome.FINAL
    # Where HTTP says success and the body does not, it is the body's code that tells, if it refuses.
    status = failure.status if failure.status >= 300 else failure.code or 0
    if status in _OUTCOMES:
        return _OUTCOMES[status]
    if 400 <= status < 500:
        says_success = status == failure.status and 200 <= (failure.code or 0) < 300
        return Outcome.UNCLEAR if says_success else Outcome.FINAL
    return Outcome.UNCLEAR if 300 <= failure.status < 400 else Outcome.FAILED


_OUTCOMES = {
    # What was asked for was not done here (RFC 9110): only other redirects may follow what was.
    307: Outcome.FINAL,
    308: Outcome.FINAL,
    408: Outcome.AMBIGUOUS,
    421: Outcome.NOT_SENT,
    425: Outcome.NOT_SENT,
    429: Outcome.REFUSED,
}


def _is_answer(status: int | None, failed: BaseException | None) -> bool:
    """Whether the service, and no outage, answered an attempt."""
    down = isinstance(failed, B2BPaymentsError) and outcome_of(failed).is_outage
    return status is not None and not down


def _name_of(failure: BaseException) -> str:
    return type(failure.failure if isinstance(failure, InDoubtError) else failure).__name__


def _fail(request: Request, failure: B2BPaymentsError, *, doubt: bool) -> NoReturn:
    if doubt and request.kind is not Kind.READ:
        raise InDoubtError(failure)
    raise failure
