"""Detects answers that belong to another request, and learns which evidence of that can be trusted."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Generator, Iterable
from contextlib import contextmanager

import anyio
import attrs

from b2b_payments._errors import AnswerMismatchError, APIError, AuthenticationError, B2BPaymentsError
from b2b_payments._printable import define
from b2b_payments._protocol.answer import Envelope
from b2b_payments._protocol.belonging import OF_ROWS, OF_STORE, check_envelope, check_proof
from b2b_payments._protocol.listing import Listing
from b2b_payments._protocol.request import Request
from b2b_payments._retry import Effect, Outcome

_SUSPICION_TIME = 300.0
"""Seconds for which answers are checked more strictly after a mix-up was noticed."""
_ALL_CALLS = ""  # a scope: the answers to all calls
_DATA_FIELD = "$.data."  # prefix of the path of a single object's field; OF_ROWS is that of a row's
_EMPTY = "nothing"  # the claim of a list that is empty although payments came before: not compared
_MAX_REQUESTS = 3
"""How often a read is sent at most: the first time maybe on a kept connection, then on new ones."""


class InFlight:
    """The list requests of one client in flight. Requests whose answers look alike wait for each other."""

    def __init__(self) -> None:
        self._lists: list[tuple[Request, anyio.Event]] = []

    async def wait_until_alone(self, request: Request, until: float) -> None:
        """Wait while a request is in flight that this one could be mistaken for; stop waiting at `until`."""
        if request.call != "payments.list":
            return
        with anyio.CancelScope(deadline=until):
            while lookalikes := [ended for other, ended in self._lists if request.resembles(other)]:
                await lookalikes[0].wait()

    @contextmanager
    def track(self, request: Request) -> Generator[None]:
        """Keep a request registered as in flight, so that those that could be mistaken for it wait."""
        if request.call != "payments.list":
            yield
            return
        own = request, anyio.Event()
        self._lists.append(own)
        try:
            yield
        finally:
            self._lists = [one for one in self._lists if one is not own]
            own[1].set()


class MixUps:
    """Remembers when answers were last mixed up, and which evidence of mix-ups is unreliable.

    An answer says what it is about in a few places: a payment's id, a page's offset. If the service says the
    same in a place whatever the request, that place is ignored from then on. A place that was once right is
    reliable for good, and is never ignored again. The store's place is judged for all calls together, the
    others for each call.

    `store` is the store hash that its payments name. It is empty if the credential does not contain it; then
    the first one seen is used.
    """

    def __init__(self, store: str = "") -> None:
        self._store = store
        self._store_is_given = bool(store)
        self.until: float = -math.inf
        self.in_flight: InFlight = InFlight()
        self._ignored: defaultdict[str, set[str]] = defaultdict(set)  # places in the answers, by call
        self._reliable: set[tuple[str, str]] = set()  # by call: places that once named what was requested
        self._subjects: defaultdict[tuple[str, str], set[int | None]] = defaultdict(set)  # by call and claim

    @property
    def recent(self) -> bool:
        """Whether answers were mixed up in the last five minutes: then an unproven answer is not trusted."""
        return anyio.current_time() < self.until

    def record(self) -> None:
        """Record that an answer belonged to another request, or to none."""
        self.until = anyio.current_time() + _SUSPICION_TIME

    def learn_from(self, request: Request, reply: object) -> None:
        """Learn from an answer that was read without an error.

        Raises AnswerMismatchError if answers were mixed up recently and a write's answer does not say what it
        is about.
        """
        if type(reply) is Listing:
            self._mark_reliable(request.call, reply.named)
            self._store = self._store or reply.store or ""
        elif type(reply) is Envelope:
            if _names_its_request(request, reply):
                named = [f"{_DATA_FIELD}{name}" for name in request.named_at]
                self._mark_reliable(request.call, [*named, "$.meta.pagination"])
            store = reply.data.get("storeHash") if isinstance(reply.data, dict) else None
            if store and store == self._store:
                self._mark_reliable(request.call, [OF_STORE])
            elif isinstance(store, str):
                self._store = self._store or store
            if request.effect is not Effect.READ and self.recent:
                check_proof(request, reply.data)

    def _mark_reliable(self, call: str, places: Iterable[str]) -> None:
        for place in places:
            scope = _scope(call, place)
            self._reliable.add((scope, place))
            self._ignored[scope].discard(place)

    def may_be_constant(self, request: Request, failure: AnswerMismatchError) -> bool:
        """Whether the service may claim this whatever the request."""
        place = failure.paths[0]
        return failure.said is not None and (_scope(request.call, place), place) not in self._reliable

    def ignore(self, request: Request, failure: AnswerMismatchError) -> bool:
        """Ignore a place in which all answers to a request claimed the same. Returns False if unjustified."""
        assert failure.said is not None  # noqa: S101 - see `may_be_constant`
        (place,) = failure.paths
        subjects = self._subjects[request.call, failure.said]
        subjects.add(request.about)
        if place.startswith(_DATA_FIELD) and len(subjects) == 1:
            return False  # maybe swapped with one other request, which is repeated as often as this one
        if place == OF_STORE and not self._store_is_given:
            self._store = ""  # the first one seen may have been from another store's answer
            return False
        self._ignored[_scope(request.call, place)].add(place)
        return True

    def ignored(self, call: str) -> frozenset[str]:
        """Return the places to ignore in the answers to a call."""
        return frozenset({*self._ignored.get(call, ()), *self._ignored.get(_ALL_CALLS, ())})

    def check_for(self, request: Request) -> AnswerCheck:
        """Return the check for the answers to a request."""
        ignored = self.ignored(request.call)
        if ignored or self._store:
            request = attrs.evolve(request, ignored=ignored, store=self._store or None)
        return AnswerCheck(self, request)


def _scope(call: str, place: str) -> str:
    return _ALL_CALLS if place == OF_STORE else call


def _names_its_request(request: Request, envelope: Envelope) -> bool:
    """Whether an answer is right without ignoring anything in it."""
    if request.ignored:
        try:
            check_envelope(attrs.evolve(request, ignored=frozenset()), envelope.data, envelope.meta)
        except AnswerMismatchError:
            return False
    return True


@define
class AnswerCheck:
    """One call's check that answers belong to its request. `request` is what to send next.

    A read is sent again at once, on a new connection, up to twice: if the answer names something else, or if
    it is a refusal that may belong to another request. A write is not: its outcome stays unknown until the
    payment itself shows it.
    """

    mixups: MixUps
    request: Request
    reused: bool = False
    _claims: list[str | None] = attrs.field(factory=list)
    _refusals: list[str] = attrs.field(factory=list)
    _suspected_until: float = -math.inf  # because of mix-ups noticed before this call
    _had_partial_answer: bool = False

    @property
    def needs_pause(self) -> bool:
        """Whether to pause before sending again: else requests with swapped answers would meet again."""
        return len(self._claims) > 1

    def accept(self, reply: object) -> None:
        """Accept an answer that was read without an error.

        Raises as `MixUps.learn_from` does, and if a list is empty although an earlier answer had rows of it.
        """
        if self._had_partial_answer and type(reply) is Listing and reply.offset == 0 and not reply.heads:
            what = f"{self.request.method} {self.request.path}: the answer"
            what = f"{what} is empty, although an earlier one had payments."
            raise AnswerMismatchError(what, paths=["$.data"], said=_EMPTY)
        self.mixups.learn_from(self.request, reply)

    def should_resend(self, failure: B2BPaymentsError, outcome: Outcome, *, may_retry: bool) -> bool:
        """Whether to send `request` again at once. `may_retry` says whether the retry policy permits it."""
        if isinstance(failure, AnswerMismatchError):
            self._had_partial_answer = self._had_partial_answer or failure.in_part
            self._claims.append(failure.said)
            return self._learn_constant(failure) or self._note_mix_up(failure, may_retry=may_retry)
        return (
            self.request.effect is Effect.READ
            and outcome is Outcome.FINAL
            and self._note_refusal(failure, may_retry=may_retry)
        )

    def _note_refusal(self, failure: B2BPaymentsError, *, may_retry: bool) -> bool:
        """Record a refusal, which names no request. Returns whether it may belong to another one.

        A refusal that is repeated is believed.
        """
        # A 401 is handled by renewing the credential. A refused page ends its walk, or is requested in
        # another way: neither returns anything false.
        on_kept = may_retry and self.reused and self.request.call == "payments.get"
        is_suspect = self.mixups.recent or (on_kept and not isinstance(failure, AuthenticationError))
        if not is_suspect or not isinstance(failure, APIError):
            return False
        self._refusals.append(failure.message)
        self.request = attrs.evolve(self.request, reuse=False)
        return len(self._refusals) < _MAX_REQUESTS and self._refusals[-2:-1] != [failure.message]

    def _learn_constant(self, failure: AnswerMismatchError) -> bool:
        """Ignore a place in which the service always claims the same. Returns whether that is new."""
        latest = [claim for claim in self._claims if claim != _EMPTY][-_MAX_REQUESTS:]
        alike = latest == [failure.said] * _MAX_REQUESTS
        before, ignored = self.request.ignored, self.mixups.ignored(self.request.call)
        if alike and self.mixups.may_be_constant(self.request, failure):
            if self.mixups.ignore(self.request, failure):
                self.mixups.until = self._suspected_until
                ignored = self.mixups.ignored(self.request.call)
        elif alike and failure.said is not None and failure.paths[0].startswith(OF_ROWS):
            # Rows may change between search and answer, and the service may compare text differently.
            self.mixups.until = self._suspected_until
            ignored |= {*failure.paths}
        self.request = attrs.evolve(self.request, ignored=ignored)
        return bool(ignored - before)

    def _note_mix_up(self, failure: AnswerMismatchError, *, may_retry: bool) -> bool:
        """Record a mix-up. Returns whether to send the request again."""
        if len(self._claims) == 1:
            self._suspected_until = self.mixups.until
        self.mixups.record()
        # Even without retries, a claim that may be constant has to be compared with further answers.
        may_be_constant = self.mixups.may_be_constant(self.request, failure)
        may_resend = self.request.effect is Effect.READ and (may_retry or may_be_constant)
        # Up to `_MAX_REQUESTS` empty answers do not count towards the limit.
        empty = min(self._claims.count(_EMPTY), _MAX_REQUESTS)
        return may_resend and len(self._claims) < _MAX_REQUESTS + empty

    def outcome_unknown(self, failure: B2BPaymentsError) -> bool:
        """Whether a write may have been carried out although this answer refuses it."""
        return self.request.effect is not Effect.READ and isinstance(failure, APIError) and self.mixups.recent

    def forbids_resend(self, failure: B2BPaymentsError) -> bool:
        """Whether a write must not be sent again, because only the payment shows its outcome."""
        if self.request.effect is Effect.ONCE:
            return self.outcome_unknown(failure)
        return self.request.effect is Effect.REPEATABLE and len(self._claims) > 1
