"""What one client has seen of answers that came to another request than their own."""

from __future__ import annotations

import math
from typing import TypeVar

import anyio
import attrs

from b2b_payments._errors import AnswerMismatchError, APIError, AuthenticationError, B2BPaymentsError
from b2b_payments._protocol.answer import Envelope
from b2b_payments._protocol.belonging import check_proof
from b2b_payments._protocol.listing import Listing
from b2b_payments._protocol.request import Request
from b2b_payments._retry import Kind, Outcome

T = TypeVar("T")

_LATELY = 300.0
"""Seconds for which answers are checked more closely once one was not what was asked for."""
_TIMES_ASKED = 3
"""At the most, at once: the first answer may have come on a kept connection, the others come on new ones."""


class MixUps:
    """Remembers when answers were last mixed up on the way, and which evidence of it means nothing.

    An answer says what it is about in a few places: a payment's id, a page's offset. A service that always
    says the same there, whatever is asked, is left alone once that is known. What was right before is
    evidence for good. `meaningless` names the calls whose answers name something else however often they are
    asked for.
    """

    def __init__(self) -> None:
        self.until = -math.inf
        self.meaningless: set[str] = set()
        self._meaningful: set[str] = set()

    @property
    def lately(self) -> bool:
        """Whether answers were mixed up in the last minutes: then one that nothing proves is doubted."""
        return anyio.current_time() < self.until

    def noticed(self) -> None:
        """Note that an answer came to a request that was not its own, or to none."""
        self.until = anyio.current_time() + _LATELY

    def checked(self, request: Request, reply: T) -> T:
        """Give back what was read of an answer, looked at in the light of those before.

        Raises AnswerMismatchError where a write's answer does not say what it is about while answers are
        mixed up.
        """
        read: object = reply
        if type(read) is Listing:
            if read.echoes and request.call not in self._meaningful:
                self._meaningful.add(request.call)
        elif type(read) is Envelope:
            self._meaningful.add(request.call)
            if request.kind is not Kind.READ and self.lately:
                check_proof(request, read.data)
        return reply

    def may_mean_nothing(self, call: str) -> bool:
        """Whether it may be that answers to this call always name something else."""
        return call not in self._meaningful

    def doubts(self, request: Request) -> Doubts:
        """Give what is to be made of the answers to this request."""
        checked = request.call not in self.meaningless
        return Doubts(self, request if checked else attrs.evolve(request, checked=False))


@attrs.define
class Doubts:
    """What one call makes of answers that may be another's. `request` is what it sends next.

    A read is sent again at once, on a new connection, up to twice: where the answer names something else, and
    where it is a refusal that may be another's. A write is left in doubt: what its answer does not prove, the
    payment shows.
    """

    mixups: MixUps
    request: Request
    reused: bool = False
    _said: list[str | None] = attrs.field(factory=list)
    _refusals: list[str] = attrs.field(factory=list)
    _before: float = -math.inf

    def again(self, failure: B2BPaymentsError, outcome: Outcome, *, may_retry: bool) -> bool:
        """Whether `request` is to be sent again at once. `may_retry` is what the retry policy says."""
        if isinstance(failure, AnswerMismatchError) and self.request.checked:
            self._said.append(failure.said)
            return self._is_habit() or self._mixed_up(may_retry=may_retry)
        return (
            self.request.kind is Kind.READ
            and outcome is Outcome.FINAL
            and self._is_doubted(failure, may_retry=may_retry)
        )

    def _is_doubted(self, failure: B2BPaymentsError, *, may_retry: bool) -> bool:
        """Whether a refusal, which names nothing, may be another's. It is believed where it comes again."""
        # A 401 is the credential's matter, which is looked after elsewhere. A page that is refused ends its
        # walk, or leads to another way to ask for it: nothing false is given out for that.
        on_kept = may_retry and self.reused and self.request.call == "payments.get"
        suspect = self.mixups.lately or (on_kept and not isinstance(failure, AuthenticationError))
        if not suspect or not isinstance(failure, APIError):
            return False
        self._refusals.append(failure.message)
        self.request = attrs.evolve(self.request, reuse=False)
        return len(self._refusals) < _TIMES_ASKED and self._refusals[-2:-1] != [failure.message]

    def _is_habit(self) -> bool:
        """Whether the service is known to say this whatever it is asked: then its answer is read as it is."""
        call = self.request.call
        if self._may_be_habit() and len(self._said) >= _TIMES_ASKED and len(set(self._said)) == 1:
            self.mixups.meaningless.add(call)
            self.mixups.until = self._before
        self.request = attrs.evolve(self.request, checked=call not in self.mixups.meaningless)
        return not self.request.checked

    def _mixed_up(self, *, may_retry: bool) -> bool:
        if len(self._said) == 1:
            self._before = self.mixups.until
        self.mixups.noticed()
        # Asked again in any case where the answers are to be compared.
        wanted = self.request.kind is Kind.READ and (may_retry or self._may_be_habit())
        return wanted and len(self._said) < _TIMES_ASKED

    def _may_be_habit(self) -> bool:
        return self._said[-1] is not None and self.mixups.may_mean_nothing(self.request.call)

    def leaves_open(self, failure: B2BPaymentsError) -> bool:
        """Whether a write may have been carried out, whatever this answer says."""
        return self.request.kind is not Kind.READ and isinstance(failure, APIError) and self.mixups.lately

    def ends_with(self, failure: B2BPaymentsError) -> bool:
        """Whether a write is not to be sent again, since only the payment shows what became of it."""
        if self.request.kind is Kind.ONCE:
            return self.leaves_open(failure)
        return self.request.kind is Kind.REPEATABLE and len(self._said) > 1
