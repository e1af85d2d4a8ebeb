"""One call to the service: its turn under the quota, its attempts, its deadline. It alone waits."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import NoReturn

import anyio
import attrs

from b2b_payments.credential import Credential
from b2b_payments.errors import (
    AuthenticationError,
    B2BPaymentsError,
    ConfigurationError,
    RateLimitError,
    RequestTimeoutError,
    ResponseDecodeError,
    ServerError,
    TransportError,
)
from b2b_payments.events import Events, QuotaWait, RequestEnded, RequestStarted, RetryScheduled
from b2b_payments.protocol.answer import Envelope, read_envelope
from b2b_payments.protocol.limits import read_limits
from b2b_payments.protocol.request import Request
from b2b_payments.quota import Priority, QuotaGate, QuotaReading, TooLate, Turn, WaitReason
from b2b_payments.retry import Kind, Outcome, RetryPolicy
from b2b_payments.transport import Transport


@attrs.frozen
class Reply:
    """A success, the attempts it took, and the seconds it waited for the quota.

    `doubted` is True where an earlier attempt may have been carried out as well.
    """

    envelope: Envelope
    attempts: int
    waited: float
    doubted: bool = False


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

    def until(self) -> float | None:
        """The moment at which a call or walk that begins now has to be over."""
        return None if self.deadline is None else anyio.current_time() + self.deadline

    async def call(
        self, request: Request, *, priority: Priority = Priority.CALL, until: float | None = None
    ) -> Reply:
        """Send a request until it succeeds or must not be sent again.

        Raises what the last attempt raised; InDoubtError for a write that may have been carried out.
        """
        self.transport.require_open()
        until = self.until() if until is None else until
        # Before the turn: a turn is the right to send now, and a provider may take its time.
        await self.credential.ready(self._seconds(until))
        attempt, waited, doubt, renewed = 0, 0.0, False, False
        while True:
            attempt += 1
            turn = await self._turn(request, priority, until, doubt=doubt)
            waited += turn.waited if turn is not None else 0.0
            headers = self.credential.headers()
            try:
                envelope = await self._attempt(request, headers, attempt, turn, until)
                return Reply(envelope, attempt, waited, doubt)
            except B2BPaymentsError as error:
                failure = error
            if isinstance(failure, AuthenticationError) and not renewed:
                try:
                    renewed = await self.credential.renew(headers, self._seconds(until))
                except ConfigurationError as error:
                    failure = error
                if renewed:
                    continue
            outcome = outcome_of(failure)
            doubt = doubt or outcome in {Outcome.AMBIGUOUS, Outcome.FAILED}
            remaining = None if until is None else until - anyio.current_time()
            asked = self._pause(failure.retry_after, attempt) if isinstance(failure, RateLimitError) else None
            delay = self.retry.delay(
                request.kind, outcome, attempt, remaining=remaining, asked=asked, random=self.chance
            )
            if delay is None:
                _fail(request, failure, doubt=doubt)
            self.events.emit(RetryScheduled(request.call, attempt, delay, str(outcome.value)))
            await anyio.sleep(delay)

    async def _turn(
        self, request: Request, priority: Priority, until: float | None, *, doubt: bool
    ) -> Turn | None:
        if self.gate is None:
            return None
        turn = await self.gate.enter(priority, until=until, on_wait=self._on_wait)
        if isinstance(turn, TooLate):
            message = (
                f"{request.method} {request.path}: the deadline would pass while waiting "
                f"{turn.seconds:.1f} s for the store's quota; give it a longer deadline."
            )
            _fail(request, RequestTimeoutError(message, sent=False), doubt=doubt)
        return turn

    def _on_wait(self, seconds: float, reason: WaitReason) -> None:
        self.events.emit(QuotaWait(seconds, str(reason.value)))

    def _seconds(self, until: float | None) -> float:
        """How long one step may take: the attempt's timeout, or what is left of the deadline."""
        return self.timeout if until is None else min(self.timeout, until - anyio.current_time())

    async def _attempt(
        self,
        request: Request,
        headers: Mapping[str, str],
        attempt: int,
        turn: Turn | None,
        until: float | None,
    ) -> Envelope:
        begun = anyio.current_time()
        timeout = self._seconds(until)
        if timeout <= 0:
            self._leave(turn)
            raise RequestTimeoutError(
                f"{request.method} {request.path}: the deadline has passed.", sent=False
            )
        self.events.emit(RequestStarted(request.call, request.method, request.path, attempt))
        status: int | None = None
        failed: BaseException | None = None
        try:
            answer = await self.transport.send(request, headers, timeout=timeout)
            status = answer.status
            self._account(turn, status, read_limits(answer.headers, datetime.now(UTC)), attempt)
            turn = None
            return read_envelope(request, answer, self.transport.base_url)
        except BaseException as error:
            failed = error
            raise
        finally:
            self._leave(turn)
            elapsed = anyio.current_time() - begun
            name = None if failed is None else type(failed).__name__
            self.events.emit(
                RequestEnded(request.call, request.method, request.path, attempt, elapsed, status, name)
            )

    def _pause(self, stated: float | None, attempt: int) -> float:
        """How long to wait after a refusal: what it says, or else a growing part of the window."""
        return self.window / 2 ** max(0, 5 - attempt) if stated is None else stated

    def _account(self, turn: Turn | None, status: int, reading: QuotaReading, attempt: int) -> None:
        if self.gate is None or turn is None:
            return
        if status == 429:
            self.gate.close_for(self._pause(reading.pause, attempt), turn)
        else:
            self.gate.learn(turn, reading)

    def _leave(self, turn: Turn | None) -> None:
        if self.gate is not None and turn is not None:
            self.gate.leave(turn)


def outcome_of(failure: B2BPaymentsError) -> Outcome:
    """Say what became of an attempt that failed in this way."""
    if isinstance(failure, TransportError):
        return Outcome.AMBIGUOUS if failure.sent else Outcome.NOT_SENT
    if isinstance(failure, ResponseDecodeError):
        return Outcome.AMBIGUOUS
    if isinstance(failure, RateLimitError):
        return Outcome.REFUSED
    if isinstance(failure, ServerError):
        return Outcome.FAILED
    return Outcome.FINAL


def _fail(request: Request, failure: B2BPaymentsError, *, doubt: bool) -> NoReturn:
    if doubt and request.kind is not Kind.READ:
        raise InDoubtError(failure)
    raise failure
