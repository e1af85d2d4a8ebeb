"""One call to the service: its permit under the quota, its attempts, its waits and its deadline."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Generic, Protocol, TypeVar

import anyio
import attrs
from anyio.lowlevel import checkpoint_if_cancelled

from b2b_payments._auth import Credential
from b2b_payments._errors import (
    APIError,
    AuthenticationError,
    B2BPaymentsError,
    ConfigurationError,
    RateLimitError,
    RequestTimeoutError,
    ResponseDecodeError,
    ServerError,
    describe_safely,
)
from b2b_payments._mixups import AnswerCheck, MixUps
from b2b_payments._printable import define, frozen
from b2b_payments._protocol.answer import Answer, Envelope, read_envelope
from b2b_payments._protocol.limits import read_limits
from b2b_payments._protocol.request import Request
from b2b_payments._quota import Permit, Priority, QuotaReading, StoreQuota, TooLate, WaitReason
from b2b_payments._retry import Effect, Failures, Outcome, Recovery, RetryPolicy, outcome_of
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
"""Reads an answer, given the request and the base URL. Raises if the answer is not a success."""

_call_ids = itertools.count(1)


class Tally(Protocol):
    """Where a call adds its attempts, and the seconds spent waiting for the quota."""

    requests: int
    waited: float


@define
class Spent:
    """The default `Tally`."""

    requests: int = 0
    waited: float = 0.0


@define
class Sent:
    """Whether the service may have carried out a write, by its latest attempt and by earlier ones."""

    latest: bool = False
    earlier: bool = False

    @property
    def maybe_done(self) -> bool:
        """Whether the write may have been carried out although no attempt has succeeded."""
        return self.latest or self.earlier

    def start_attempt(self) -> None:
        """Record that an attempt is being sent."""
        self.latest = True

    def end_attempt(self, *, maybe_done: bool) -> None:
        """Record whether the latest attempt, which failed, may have been carried out."""
        self.earlier, self.latest = self.earlier or maybe_done, False


@frozen
class Caller:
    """Makes the calls of a client, or of one of its walks or writes.

    `timeout` applies to one attempt, `deadline` to a whole call, waits included; both are in seconds. All
    calls together have to end by the time `until`. `tally` counts their attempts and waits. With the
    `priority` of pages, they let other calls go first, and keep trying while the service is down.
    """

    transport: Transport
    credential: Credential
    quota: StoreQuota
    retry: RetryPolicy
    timeout: float
    deadline: float | None
    events: Events
    chance: Callable[[], float] = random.random  # noqa: S311 - for jitter, not for secrets
    recovery: Recovery = attrs.field(factory=Recovery)
    answered: set[str] = attrs.field(factory=set)
    """The endpoints (`Request.call`) of reads that have succeeded."""
    priority: Priority = Priority.CALL
    until: float = math.inf
    tally: Tally = attrs.field(factory=Spent)

    @property
    def mixups(self) -> MixUps:
        """What this client has learned about mixed-up answers."""
        return self.transport.mixups

    def timed(self) -> Caller:
        """Return the caller of a walk or write that begins now: its calls share one deadline.

        Raises ConfigurationError if the client is not open, or not usable from here.
        """
        self.transport.require_open()
        if self.deadline is None or self.until < math.inf:
            return self
        return attrs.evolve(self, until=anyio.current_time() + self.deadline)

    async def call(self, request: Request, *, sent: Sent | None = None) -> Envelope:
        """Send a request, and return the answer's envelope. Raises as `read` does."""
        return await self.read(request, read_envelope, sent=sent)

    async def read(self, request: Request, reader: Reader[T], *, sent: Sent | None = None) -> T:
        """Send a request until it succeeds or must not be sent again. Returns what `reader` returns.

        An unreadable answer is a failure like any other: a GET is sent again. Raises the last attempt's
        error. `sent` records whether a write's outcome is unknown.
        """
        failures = Failures() if self.priority is Priority.PAGE else None
        call = _Call(self.timed(), reader, self.mixups.check_for(request), sent or Sent(), failures)
        begun = anyio.current_time()
        self.events.emit(CallStarted(request.call, call.id))
        error: str | None = None
        try:
            return await call.answer()
        except BaseException as failure:
            error = type(failure).__name__
            raise
        finally:
            self.recovery.leave(call.id)
            self.events.emit(CallEnded(request.call, anyio.current_time() - begun, error, call.id))


@frozen
class _Attempt:
    """An attempt to be made: the request, its number within the call (from 1), its headers and permit."""

    request: Request
    number: int
    headers: Mapping[str, str]
    permit: Permit | None


@define
class _Call(Generic[T]):
    """One call under way."""

    caller: Caller
    reader: Reader[T]
    check: AnswerCheck
    sent: Sent
    failures: Failures | None  # only for a page, which nobody waits for
    id: int = attrs.field(factory=lambda: next(_call_ids))
    renewed: bool = False
    refusals: int = 0  # attempts that were answered 429

    async def answer(self) -> T:
        """Make attempts until one succeeds or none may follow."""
        credential = self.caller.credential
        # Before the permit: a permit is the right to send now, and the token provider may be slow.
        await credential.ready(self._time_limit())
        number = 0
        while True:
            number += 1
            permit = await self._acquire_permit()
            await self._wait_until_alone(permit)
            with self.caller.mixups.in_flight.track(self.check.request):
                attempt = _Attempt(self.check.request, number, credential.headers(), permit)
                self.caller.tally.requests += 1
                self.caller.tally.waited += permit.waited if permit is not None else 0.0
                try:
                    return await self._send(attempt)
                except B2BPaymentsError as error:
                    # The traceback's frames hold the whole answer: drop them, to free its memory.
                    failure = error.with_traceback(None)
            await self._recover(attempt, failure)

    async def _wait_until_alone(self, permit: Permit | None) -> None:
        """Wait until no request is in flight whose answer could be mistaken for this one's."""
        # After acquiring the permit: a request that waits long for its permit must not hold others back.
        try:
            await self.caller.mixups.in_flight.wait_until_alone(self.check.request, self.caller.until)
        except BaseException:
            self.caller.quota.release(permit)
            raise

    async def _recover(self, attempt: _Attempt, failure: B2BPaymentsError) -> None:
        """Wait until another attempt may be made. Raises the failure if none may."""
        caller, check = self.caller, self.check
        if isinstance(failure, AuthenticationError) and not self.renewed:
            try:
                self.renewed = await caller.credential.renew(attempt.headers, self._time_limit())
            except ConfigurationError as error:
                failure = error
            if self.renewed:
                self.sent.end_attempt(maybe_done=False)
                return
        if self.failures is not None and isinstance(failure, ResponseDecodeError) and failure.too_large:
            raise failure  # it would be as large again: the walk requests fewer rows instead
        outcome = self._outcome(failure)
        may_retry = attempt.number < caller.retry.attempts
        may_retry = may_retry or (self.failures is not None and caller.retry.attempts > 1)
        if check.should_resend(failure, outcome, may_retry=may_retry):
            delay = caller.chance() * caller.retry.base_delay if check.needs_pause else 0.0
            scheduled = RetryScheduled(attempt.request.call, attempt.number, delay, "mixed up", self.id)
            caller.events.emit(scheduled)
            await anyio.sleep(delay)
            return
        self.sent.end_attempt(maybe_done=outcome.is_uncertain or check.outcome_unknown(failure))
        if check.forbids_resend(failure) or not await self._wait_to_retry(attempt, failure, outcome):
            if hint := self._hint(failure):
                failure.message = f"{failure.message.rstrip('.')}; {hint}"
            raise failure

    def _outcome(self, failure: B2BPaymentsError) -> Outcome:
        return outcome_of(failure, answered_before=self.check.request.call in self.caller.answered)

    async def _wait_to_retry(self, attempt: _Attempt, failure: B2BPaymentsError, outcome: Outcome) -> bool:
        """Wait before the next attempt. Returns False if there is none."""
        caller, now = self.caller, anyio.current_time()
        count, failing_for = attempt.number, None
        if self.failures is not None:
            count, failing_for = self.failures.record(outcome, now)
        asked: float | None = None
        if isinstance(failure, RateLimitError):
            asked = caller.quota.pause(failure.retry_after, self.refusals)
        elif isinstance(failure, APIError) and self.failures is not None:
            asked = failure.retry_after
        delay = caller.retry.delay(
            attempt.request.effect,
            outcome,
            count,
            remaining=caller.until - now,
            asked=asked,
            random=caller.chance,
            failing_for=failing_for,
        )
        if delay is None:
            return False
        stated = failure.retry_after if asked is not None and isinstance(failure, APIError) else None
        why = describe_safely(failure).removeprefix(f"{attempt.request.method} {attempt.request.path}: ")
        why = "; ".join(filter(None, [why, self._hint(failure)]))
        patience = None if failing_for is None else caller.retry.patience(outcome) - failing_for
        scheduled = RetryScheduled(
            *(attempt.request.call, attempt.number, delay, str(outcome.value), self.id),
            asked=stated,
            why=why,
            patience=patience if patience is not None and patience > 0 else None,
        )
        caller.events.emit(scheduled)
        if failing_for is not None and outcome.is_outage and caller.retry.outage:
            return await self._wait_out_outage(now, failing_for, delay)
        if self.failures is not None:
            self.failures.exclude_wait(delay)
        await anyio.sleep(delay)
        return True

    async def _wait_out_outage(self, failed_at: float, failing_for: float, delay: float) -> bool:
        """Wait for the page that tries first, and for `delay` seconds.

        Returns False if the deadline or the policy's patience ends before.
        """
        due, caller = failed_at + delay, self.caller
        with anyio.CancelScope(deadline=caller.until):
            since = caller.recovery.sent
            if await caller.recovery.wait(self.id, since):
                now = anyio.current_time()
                is_over = failing_for + now - failed_at + delay >= caller.retry.outage
                if is_over and not caller.recovery.is_back(since):
                    return False  # the page that tried has given up
                # Jitter: pages that waited together should not all resume at once.
                due = max(due, now + caller.chance() * caller.retry.base_delay)
            await anyio.sleep_until(due)
            return True
        return False

    async def _acquire_permit(self) -> Permit | None:
        caller, events, request = self.caller, self.caller.events, self.check.request
        began: float | None = None

        def on_wait(seconds: float, reason: WaitReason) -> None:
            nonlocal began
            began = anyio.current_time() if began is None else began
            events.emit(QuotaWait(seconds, str(reason.value), self.id))

        try:
            permit = await caller.quota.acquire(caller.priority, until=caller.until, on_wait=on_wait)
        finally:
            if began is not None:
                events.emit(QuotaWaitEnded(anyio.current_time() - began, self.id))
        if isinstance(permit, TooLate):
            raise RequestTimeoutError(
                f"{request.method} {request.path}: the deadline would pass while waiting "
                f"{permit.seconds:.1f} s for the store's quota; set a longer deadline.",
                sent=False,
                retry_after=permit.seconds,
            )
        return permit

    def _hint(self, failure: B2BPaymentsError) -> str:
        """Return the credential's hint if this is a 500, with which the service also answers a wrong hash."""
        failed = isinstance(failure, ServerError) and 500 in {failure.status, failure.code}
        return self.caller.credential.hint if failed else ""

    def _time_limit(self) -> float:
        """Return how many seconds one step may take: the timeout, or less if the deadline is nearer."""
        return min(self.caller.timeout, self.caller.until - anyio.current_time())

    async def _send(self, attempt: _Attempt) -> T:
        """Make one attempt: send the request, and read its answer."""
        caller, request = self.caller, attempt.request
        begun, page = anyio.current_time(), caller.recovery.send()
        try:
            # The call may have been cancelled just as its permit was granted: then send nothing.
            await checkpoint_if_cancelled()
        except BaseException:
            caller.quota.release(attempt.permit)
            raise
        if (timeout := self._time_limit()) <= 0:
            caller.quota.release(attempt.permit)
            raise RequestTimeoutError(
                f"{request.method} {request.path}: the deadline has passed.", sent=False
            )
        answer: Answer | None = None
        reading: QuotaReading | None = None
        failed: BaseException | None = None
        about = request.call, request.method, request.path, attempt.number
        caller.events.emit(RequestStarted(*about, self.id))
        try:
            answer = await caller.transport.send(
                request, attempt.headers, timeout=timeout, on_send=self.sent.start_attempt
            )
            reading = read_limits(answer.headers, datetime.now(UTC))
            self.check.reused = answer.reused
            reply = self.reader(request, answer, caller.transport.base_url)
            self.check.accept(reply)
        except BaseException as failure:
            failed = failure
            if answer is not None and isinstance(failure, ResponseDecodeError):
                answer.hang_up()
                prefix, message = f"{request.method} {request.path}: ", failure.message
                if not message.startswith(prefix):
                    failure.message = f"{prefix}{message[:1].lower()}{message[1:]}"
            raise
        else:
            caller.credential.mark_succeeded()
            if request.effect is Effect.READ:
                caller.answered.add(request.call)
            return reply
        finally:
            # The status may be 429, or the code in the body under HTTP 200.
            refused = isinstance(failed, RateLimitError)
            self.refusals += refused
            caller.quota.release(attempt.permit, reading, refusals=self.refusals if refused else 0)
            status, request_id = (None, None) if answer is None else (answer.status, answer.request_id)
            down = isinstance(failed, B2BPaymentsError) and self._outcome(failed).is_outage
            if self.failures is not None and status is not None and not down:
                caller.recovery.answered(page)
            elapsed, error = anyio.current_time() - begun, None if failed is None else type(failed).__name__
            caller.events.emit(RequestEnded(*about, elapsed, status, error, self.id, request_id))
