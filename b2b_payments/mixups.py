"""What one client has seen of answers that came to another request than their own."""

from __future__ import annotations

import math

import anyio
import attrs

from b2b_payments.errors import AnswerMismatchError, APIError, B2BPaymentsError, NotFoundError
from b2b_payments.protocol.belonging import may_mean_nothing
from b2b_payments.protocol.request import Request
from b2b_payments.retry import Kind, Outcome

_LATELY = 300.0
"""Seconds for which answers are checked more closely once one was not what was asked for."""
_TIMES_ASKED = 3
"""At the most, at once: the first answer may have come on a kept connection, the others come on new ones."""


class MixUps:
    """Remembers when answers were last mixed up on the way, and which evidence of it means nothing.

    An answer says what it is about in a few places: a payment's id, a page's offset. A service that always
    says the same there, whatever is asked, is left alone once that is known.
    """

    def __init__(self) -> None:
        self._until = -math.inf
        self._meaningless: set[str] = set()
        self._meaningful: set[str] = set()

    @property
    def lately(self) -> bool:
        """Whether answers were mixed up in the last minutes: then one that nothing proves is doubted."""
        return anyio.current_time() < self._until

    def noticed(self) -> None:
        """Note that an answer came to a request that was not its own, or to none."""
        self._until = anyio.current_time() + _LATELY

    def says_right(self, call: str) -> None:
        """Note that an answer to this call named what was asked, where it might have named another."""
        self._meaningful.add(call)

    def says_always_the_same(self, call: str) -> None:
        """Note that answers to this call name something else however often they are asked for."""
        if call not in self._meaningful:
            self._meaningless.add(call)
        self._until = -math.inf

    def means_nothing(self, call: str) -> bool:
        """Whether what answers to this call say of themselves is known to mean nothing."""
        return call in self._meaningless


@attrs.define
class Doubts:
    """What one call makes of answers that may be another's. `request` is what it sends next.

    A read is sent again at once, on a new connection: up to twice where the answer names something else, and
    once where it is a 404 that a kept connection may have held for another. A write is left in doubt: what
    its answer does not prove, the payment shows.
    """

    mixups: MixUps
    request: Request
    reused: bool = False
    _mismatches: list[str] = attrs.field(factory=list)
    _looked_again: bool = False

    def __attrs_post_init__(self) -> None:
        if self.mixups.means_nothing(self.request.call):
            self.request = attrs.evolve(self.request, checked=False)

    def again(self, failure: B2BPaymentsError, outcome: Outcome, *, may_retry: bool) -> bool:
        """Whether `request` is to be sent again at once. `may_retry` is what the retry policy says."""
        is_read = self.request.kind is Kind.READ
        if isinstance(failure, AnswerMismatchError):
            self._mismatches.append(failure.message)
            return self._known_to_mean_nothing() or (self._mixed_up(may_retry=may_retry) and is_read)
        if not (is_read and may_retry) or outcome is not Outcome.FINAL or self._looked_again:
            return False
        suspect = self.mixups.lately or (self.reused and isinstance(failure, NotFoundError))
        self._looked_again = suspect and isinstance(failure, APIError)
        self.request = attrs.evolve(self.request, reuse=False)
        return self._looked_again

    def _known_to_mean_nothing(self) -> bool:
        may_be = may_mean_nothing(self.request)
        if may_be and len(self._mismatches) >= _TIMES_ASKED and len(set(self._mismatches)) == 1:
            self.mixups.says_always_the_same(self.request.call)
            self.request = attrs.evolve(self.request, checked=False)
        elif self.mixups.means_nothing(self.request.call):
            self.request = attrs.evolve(self.request, checked=False)
        return not self.request.checked

    def _mixed_up(self, *, may_retry: bool) -> bool:
        self.mixups.noticed()
        # Asked again in any case where the answers are to be compared.
        return len(self._mismatches) < _TIMES_ASKED and (may_retry or may_mean_nothing(self.request))

    def leaves_open(self, failure: B2BPaymentsError) -> bool:
        """Whether a write may have been carried out, whatever this answer says."""
        return self.request.kind is not Kind.READ and isinstance(failure, APIError) and self.mixups.lately

    def ends_with(self, failure: B2BPaymentsError) -> bool:
        """Whether a write is not to be sent again, since only the payment shows what became of it."""
        if self.request.kind is Kind.ONCE:
            return self.leaves_open(failure)
        return self.request.kind is Kind.REPEATABLE and len(self._mismatches) > 1
