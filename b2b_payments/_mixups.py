"""What one client has seen of answers that came to another request than their own."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import TypeVar

import anyio
import attrs

from b2b_payments._errors import AnswerMismatchError, APIError, AuthenticationError, B2BPaymentsError
from b2b_payments._printable import define
from b2b_payments._protocol.answer import Envelope
from b2b_payments._protocol.belonging import OF_ROWS, OF_STORE, check_envelope, check_proof
from b2b_payments._protocol.listing import Listing
from b2b_payments._protocol.request import Request
from b2b_payments._retry import Effect, Outcome

T = TypeVar("T")

_LATELY = 300.0
"""Seconds for which answers are checked more closely once one was not what was asked for."""
_ANY = ""  # of all calls
_OF_ONE_THING = "$.data."  # so begins the place of a field of one; of a row, OF_ROWS
_EMPTY = "nothing"  # what an empty list says where payments came before: no habit, and no end of one
_TIMES_ASKED = 3
"""At the most, at once: the first answer may have come on a kept connection, the others come on new ones."""


class InFlight:
    """The requests of one client that are under way: those whose answers could not be told apart wait."""

    def __init__(self) -> None:
        self._lists: list[tuple[str | None, Request, anyio.Event]] = []  # by their offset

    async def until_alone(self, request: Request, until: float | None) -> None:
        """Wait while a request is under way that this one could be mistaken for, `until` at the latest."""
        if request.call != "payments.list":
            return
        offset = request.offset
        with anyio.CancelScope(deadline=math.inf if until is None else until):
            while (other := self._lookalike(offset, request)) is not None:
                await other.wait()

    @contextmanager
    def under_way(self, request: Request) -> Generator[None]:
        """Let others wait that could be mistaken for this request."""
        if request.call != "payments.list":
            yield
            return
        own = request.offset, request, anyio.Event()
        self._lists.append(own)
        try:
            yield
        finally:
            self._lists = [one for one in self._lists if one is not own]
            own[2].set()

    def _lookalike(self, offset: str | None, request: Request) -> anyio.Event | None:
        for others, other, ended in self._lists:
            if others == offset and request.resembles(other):
                return ended
        return None


class MixUps:
    """Remembers when answers were last mixed up on the way, and which evidence of it means nothing.

    An answer says what it is about in a few places: a payment's id, a page's offset. A place where a service
    says the same whatever it is asked is ignored once that is known. What was right once is evidence for
    good, and nothing is ignored any more of a call whose answers turn out to be right after all. What is said
    of the store holds for all calls.

    `store` is the store asked, as its payments name it: empty where the credential does not say it, and then
    it is the first that is seen.
    """

    def __init__(self, store: str = "") -> None:
        self._store = store
        self._store_is_given = bool(store)
        self.until: float = -math.inf
        self.in_flight: InFlight = InFlight()
        self._ignored: defaultdict[str, set[str]] = defaultdict(set)  # places in the answers, by call
        self._reliable: set[tuple[str, str]] = set()  # by call: places where what was asked for was named
        self._named: defaultdict[tuple[str, str], set[int | None]] = defaultdict(set)

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
            self._rely_on(request.call, read.named)
            self._store = self._store or read.store or ""
        elif type(read) is Envelope:
            if _names_its_request(request, read):
                named = [f"{_OF_ONE_THING}{name}" for name in request.named_at]
                self._rely_on(request.call, [*named, "$.meta.pagination"])
            said = read.data.get("storeHash") if isinstance(read.data, dict) else None
            if said and said == self._store:
                self._rely_on(request.call, [OF_STORE])
            elif isinstance(said, str):
                self._store = self._store or said
            if request.effect is not Effect.READ and self.lately:
                check_proof(request, read.data)
        return reply

    def _rely_on(self, call: str, places: Iterable[str]) -> None:
        for place in places:
            about = _about(call, place)
            self._reliable.add((about, place))
            self._ignored[about].discard(place)

    def may_say_always(self, request: Request, failure: AnswerMismatchError) -> bool:
        """Whether a service might say this whatever it is asked."""
        place = failure.paths[0]
        return failure.said is not None and (_about(request.call, place), place) not in self._reliable

    def ignore(self, request: Request, failure: AnswerMismatchError) -> bool:
        """Ignore from now on what each answer to a request said alike; tell whether that is justified."""
        assert failure.said is not None  # noqa: S101 - it may be said always
        (place,) = failure.paths
        asked_for = self._named[request.call, failure.said]
        asked_for.add(request.about)
        if place.startswith(_OF_ONE_THING) and len(asked_for) == 1:
            return False  # an exchange with one other request, which is repeated as often as this one
        if place == OF_STORE and not self._store_is_given:
            self._store = ""  # the first that was seen may have been the other's
            return False
        self._ignored[_about(request.call, place)].add(place)
        return True

    def ignored(self, call: str) -> frozenset[str]:
        """Return the places in the answers to a call that mean nothing."""
        return frozenset({*self._ignored.get(call, ()), *self._ignored.get(_ANY, ())})

    def doubts(self, request: Request) -> Doubts:
        """Return what is to be made of the answers to this request."""
        ignored = self.ignored(request.call)
        if ignored or self._store:
            request = attrs.evolve(request, ignored=ignored, store=self._store or None)
        return Doubts(self, request)


def _about(call: str, place: str) -> str:
    return _ANY if place == OF_STORE else call


def _names_its_request(request: Request, envelope: Envelope) -> bool:
    """Whether nothing in an answer has to be ignored."""
    if request.ignored:
        try:
            check_envelope(attrs.evolve(request, ignored=frozenset()), envelope.data, envelope.meta)
        except AnswerMismatchError:
            return False
    return True


@define
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
    _suspected_until: float = -math.inf  # for mix-ups noticed before this call
    _came_in_part: bool = False

    @property
    def apart(self) -> bool:
        """Whether to wait a little before: requests exchanged with one another come together again else."""
        return len(self._said) > 1

    def checked(self, reply: T) -> T:
        """Give back what was read of an answer, looked at in the light of those before.

        Raises as `MixUps.checked` does, and where a list comes empty of which payments came among others.
        """
        read: object = reply
        if self._came_in_part and type(read) is Listing and read.offset == 0 and not read.heads:
            what = f"{self.request.method} {self.request.path}: the answer"
            what = f"{what} is empty, where payments came before."
            raise AnswerMismatchError(what, paths=["$.data"], said=_EMPTY)
        return self.mixups.checked(self.request, reply)

    def again(self, failure: B2BPaymentsError, outcome: Outcome, *, may_retry: bool) -> bool:
        """Whether `request` is to be sent again at once. `may_retry` is what the retry policy says."""
        if isinstance(failure, AnswerMismatchError):
            self._came_in_part = self._came_in_part or failure.in_part
            self._said.append(failure.said)
            return self._is_habit(failure) or self._mixed_up(failure, may_retry=may_retry)
        return (
            self.request.effect is Effect.READ
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

    def _is_habit(self, failure: AnswerMismatchError) -> bool:
        """Whether the service is known to say this whatever it is asked: then its answer is read as it is."""
        latest = [said for said in self._said if said != _EMPTY][-_TIMES_ASKED:]
        alike = latest == [failure.said] * _TIMES_ASKED
        before, ignored = self.request.ignored, self.mixups.ignored(self.request.call)
        if alike and self.mixups.may_say_always(self.request, failure):
            if self.mixups.ignore(self.request, failure):
                self.mixups.until = self._suspected_until
                ignored = self.mixups.ignored(self.request.call)
        elif alike and failure.said is not None and failure.paths[0].startswith(OF_ROWS):
            # Rows may change between being found and being shown, and texts be found in other ways than ours.
            self.mixups.until = self._suspected_until
            ignored |= {*failure.paths}
        self.request = attrs.evolve(self.request, ignored=ignored)
        return bool(ignored - before)

    def _mixed_up(self, failure: AnswerMismatchError, *, may_retry: bool) -> bool:
        if len(self._said) == 1:
            self._suspected_until = self.mixups.until
        self.mixups.noticed()
        # Asked again in any case where the answers are to be compared.
        may_be_habit = self.mixups.may_say_always(self.request, failure)
        wanted = self.request.effect is Effect.READ and (may_retry or may_be_habit)
        # Empty answers in between do not use up those that are compared, but do not go on for ever either.
        empty = min(self._said.count(_EMPTY), _TIMES_ASKED)
        return wanted and len(self._said) < _TIMES_ASKED + empty

    def leaves_open(self, failure: B2BPaymentsError) -> bool:
        """Whether a write may have been carried out, whatever this answer says."""
        return self.request.effect is not Effect.READ and isinstance(failure, APIError) and self.mixups.lately

    def ends_with(self, failure: B2BPaymentsError) -> bool:
        """Whether a write is not to be sent again, since only the payment shows what became of it."""
        if self.request.effect is Effect.ONCE:
            return self.leaves_open(failure)
        return self.request.effect is Effect.REPEATABLE and len(self._said) > 1
