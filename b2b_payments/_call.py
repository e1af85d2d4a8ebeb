"""One call to the service: its permit under the quota, its attempts, its deadline. It alone waits."""

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
    in_our_words,
)
from b2b_payments._mixups import Doubts, MixUps
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
"""Reads an answer, given the request and the base URL; raises for one that is no success."""

_call_ids = itertools.count(1)


class Tally(Protocol):
    """Whoever keeps account: attempts made, and seconds spent waiting for the quota."""

    requests: int
    waited: float


@define
class Spent:
    """Attempts made, and seconds spent waiting for the quota."""

    requests: int = 0
    waited: float = 0.0


@define
class Sent:
    """What is known of a write's attempts: whether the service may have carried one out.

    `latest` says that the latest has left and no answer has settled it, `earlier` is of those before.
    """

    latest: bool = False
    earlier: bool = False

    @property
    def in_doubt(self) -> bool:
        """Whether the write may have been carried out, as far as is known now."""
        return self.latest or self.earlier

    def leaves(self) -> None:
        """Note that an attempt leaves."""
        self.latest = True

    def settled(self, *, in_doubt: bool) -> None:
        """Note what the latest attempt's failure says of it."""
        self.earlier, self.latest = self.earlier or in_doubt, False


@frozen
class Caller:
    """Carries calls out for one client.

    `timeout` holds for one attempt, `deadline` for a whole call, waits included, both in seconds.
    """

    transport: Transport
    credential: Credential
    quota: StoreQuota
    retry: RetryPolicy
    timeout: float
    deadline: float | None
    events: Events
    chance: Callable[[], float] = random.random  # noqa: S311 - it spreads, it hides nothing
    recovery: Recovery = attrs.field(factory=Recovery)
    answered: set[str] = attrs.field(factory=set, init=False)
    """Reads that the service has answered, by their calls."""

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

    async def call(
        self, request: Request, *, until: float | None = None, sent: Sent | None = None
    ) -> Envelope:
        """Send a request that somebody waits for, and give its answer's envelope. Raises as `read` does."""
        return await self.read(request, read_envelope, until=until, sent=sent)

    async def read(
        self,
        request: Request,
        reader: Reader[T],
        *,
        priority: Priority = Priority.CALL,
        until: float | None = None,
        tally: Tally | None = None,
        sent: Sent | None = None,
    ) -> T:
        """Send a request until it succeeds or must not be sent again; give what `reader` makes of the answer.

        An answer that cannot be read is a failure like others: a GET is sent again. Raises what the last
        attempt raised. `tally` keeps account, and `sent` says of a write whether it is in doubt.
        """
        latest = self.until()
        call = _Call(
            caller=self,
            reader=reader,
            doubts=self.mixups.doubts(request),
            priority=priority,
            until=latest if until is None else until,
            tally=tally or Spent(),
            sent=sent or Sent(),
        )
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
    """A request that is about to be sent, the `number`th of its call, with its headers and permit."""

    request: Request
    number: int
    headers: Mapping[str, str]
    permit: Permit | None


@define
class _Call(Generic[T]):
    """One call under way: what it wants, and how it stands."""

    caller: Caller
    reader: Reader[T]
    doubts: Doubts
    priority: Priority
    until: float | None
    tally: Tally
    sent: Sent
    id: int = attrs.field(factory=lambda: next(_call_ids))
    renewed: bool = False
    failures: Failures | None = None
    """Those of a page, which nobody waits for."""

    def __attrs_post_init__(self) -> None:
        if self.priority is Priority.PAGE:
            self.failures = Failures()

    async def answer(self) -> T:
        """Make attempts until one succeeds, or none may follow."""
        credential = self.caller.credential
        # Before the permit: a permit is the right to send now, and a provider may take its time.
        await credential.ready(self._seconds())
        number = 0
        while True:
            number += 1
            permit = await self._permit()
            await self._alone(permit)
            with self.caller.mixups.in_flight.under_way(self.doubts.request):
                attempt = _Attempt(self.doubts.request, number, credential.headers(), permit)
                self.tally.requests += 1
                self.tally.waited += permit.waited if permit is not None else 0.0
                try:
                    return await self._make(attempt)
                except B2BPaymentsError as error:
                    # The frames that it came through hold the whole answer: let go of, they are freed.
                    failure = error.with_traceback(None)
            await self._recover(attempt, failure)

    async def _alone(self, permit: Permit | None) -> None:
        """Wait until nothing is under way that this request could be mistaken for."""
        # With the permit: whoever waits for that, maybe for long, holds nobody else back.
        try:
            await self.caller.mixups.in_flight.until_alone(self.doubts.request, self.until)
        except BaseException:
            self.caller.quota.release(permit)
            raise

    async def _recover(self, attempt: _Attempt, failure: B2BPaymentsError) -> None:
        """Wait until another attempt may be made. Raises the failure where none may."""
        caller, doubts = self.caller, self.doubts
        if isinstance(failure, AuthenticationError) and not self.renewed:
            try:
                self.renewed = await caller.credential.renew(attempt.headers, self._seconds())
            except ConfigurationError as error:
                failure = error
            if self.renewed:
                self.sent.settled(in_doubt=False)
                return
        if self.failures is not None and isinstance(failure, ResponseDecodeError) and failure.too_large:
            raise failure  # it would be as large again: a walk asks for fewer rows instead
        outcome = self._outcome(failure)
        may_retry = attempt.number < caller.retry.attempts
        may_retry = may_retry or (self.failures is not None and caller.retry.attempts > 1)
        if doubts.again(failure, outcome, may_retry=may_retry):
            delay = caller.chance() * caller.retry.base_delay if doubts.apart else 0.0
            again = RetryScheduled(attempt.request.call, attempt.number, delay, "mixed up", self.id)
            caller.events.emit(again)
            await anyio.sleep(delay)
            return
        self.sent.settled(in_doubt=outcome.leaves_doubt or doubts.leaves_open(failure))
        if doubts.ends_with(failure) or not await self._wait(attempt, failure):
            if hint := self._hint(failure):
                failure.message = f"{failure.message.rstrip('.')}; {hint}"
            raise failure

    def _outcome(self, failure: B2BPaymentsError) -> Outcome:
        return outcome_of(failure, answered_before=self.doubts.request.call in self.caller.answered)

    async def _wait(self, attempt: _Attempt, failure: B2BPaymentsError) -> bool:
        """Wait before the next attempt; False where there is none."""
        caller, outcome, now = self.caller, self._outcome(failure), anyio.current_time()
        alike, failing_for = attempt.number, None
        if self.failures is not None:
            alike, failing_for = self.failures.note(outcome, now)
        asked: float | None = None
        if isinstance(failure, RateLimitError):
            asked = caller.quota.pause(failure.retry_after, alike)
        elif isinstance(failure, APIError) and self.failures is not None:
            asked = failure.retry_after
        delay = caller.retry.delay(
            attempt.request.effect,
            outcome,
            alike,
            remaining=None if self.until is None else self.until - now,
            asked=asked,
            random=caller.chance,
            failing_for=failing_for,
        )
        if delay is None:
            return False
        stated = failure.retry_after if asked is not None and isinstance(failure, APIError) else None
        why = in_our_words(failure).removeprefix(f"{attempt.request.method} {attempt.request.path}: ")
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
            return await self._wait_in_line(now, failing_for, delay)
        if self.failures is not None:
            self.failures.waited(delay)
        await anyio.sleep(delay)
        return True

    async def _wait_in_line(self, failed_at: float, failing_for: float, delay: float) -> bool:
        """Wait in line, and for `delay` seconds; False where deadline or patience ends before."""
        due, caller = failed_at + delay, self.caller
        with anyio.CancelScope(deadline=math.inf if self.until is None else self.until):
            since = caller.recovery.sent
            if await caller.recovery.wait(self.id, since):
                now = anyio.current_time()
                is_over = failing_for + now - failed_at + delay >= caller.retry.outage
                if is_over and not caller.recovery.is_back(since):
                    return False  # whoever tried has given up
                # Those who waited together do not come back together.
                due = max(due, now + caller.chance() * caller.retry.base_delay)
            await anyio.sleep_until(due)
            return True
        return False

    async def _permit(self) -> Permit | None:
        events, request = self.caller.events, self.doubts.request
        began: float | None = None

        def tell(seconds: float, reason: WaitReason) -> None:
            nonlocal began
            began = anyio.current_time() if began is None else began
            events.emit(QuotaWait(seconds, str(reason.value), self.id))

        try:
            permit = await self.caller.quota.acquire(self.priority, until=self.until, on_wait=tell)
        finally:
            if began is not None:
                events.emit(QuotaWaitEnded(anyio.current_time() - began, self.id))
        if isinstance(permit, TooLate):
            raise RequestTimeoutError(
                f"{request.method} {request.path}: the deadline would pass while waiting "
                f"{permit.seconds:.1f} s for the store's quota; give it a longer deadline.",
                sent=False,
                retry_after=permit.seconds,
            )
        return permit

    def _hint(self, failure: B2BPaymentsError) -> str:
        """What may be wrong with the credential where this is how the service says so."""
        failed = isinstance(failure, ServerError) and 500 in {failure.status, failure.code}
        return self.caller.credential.suspicion if failed else ""

    def _seconds(self) -> float:
        """How long one step may take: the attempt's timeout, or what is left of the deadline."""
        timeout = self.caller.timeout
        return timeout if self.until is None else min(timeout, self.until - anyio.current_time())

    async def _make(self, attempt: _Attempt) -> T:
        """Make one attempt: send it, and read its answer."""
        caller, request = self.caller, attempt.request
        begun, page = anyio.current_time(), caller.recovery.send()
        try:
            # Its permit may have come to a call that was given up at the same moment: nothing is sent then.
            await checkpoint_if_cancelled()
        except BaseException:
            caller.quota.release(attempt.permit)
            raise
        if (timeout := self._seconds()) <= 0:
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
                request, attempt.headers, timeout=timeout, on_leaving=self.sent.leaves
            )
            reading = read_limits(answer.headers, datetime.now(UTC))
            self.doubts.reused = answer.reused
            reply = self.doubts.checked(self.reader(request, answer, caller.transport.base_url))
        except BaseException as failure:
            failed = failure
            if answer is not None and isinstance(failure, ResponseDecodeError):
                answer.hang_up()
                what, said = f"{request.method} {request.path}: ", failure.message
                if not said.startswith(what):
                    failure.message = f"{what}{said[:1].lower()}{said[1:]}"
            raise
        else:
            caller.credential.taken()
            if request.effect is Effect.READ:
                caller.answered.add(request.call)
            return reply
        finally:
            # Whether the status says 429 or, under HTTP 200, the body.
            refused = isinstance(failed, RateLimitError)
            caller.quota.release(attempt.permit, reading, refused=refused, attempt=attempt.number)
            status, request_id = (None, None) if answer is None else (answer.status, answer.request_id)
            down = isinstance(failed, B2BPaymentsError) and self._outcome(failed).is_outage
            if self.failures is not None and status is not None and not down:
                caller.recovery.answered(page)
            elapsed, error = anyio.current_time() - begun, None if failed is None else type(failed).__name__
            caller.events.emit(RequestEnded(*about, elapsed, status, error, self.id, request_id))
