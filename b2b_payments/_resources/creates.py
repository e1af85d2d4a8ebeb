"""Creates, each sent once; searched for by external id after a lost answer, or before they are sent.

There is no idempotency key [doc], and lists may lag a write by about 20 minutes [seen]. So creates of one
external id run one at a time, and what this process creates is remembered for that long.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import anyio
import attrs

from b2b_payments._call import Caller, Sent
from b2b_payments._converter import structure_payment
from b2b_payments._errors import (
    AnswerMismatchError,
    B2BPaymentsError,
    ConfigurationError,
    ExternalIdTakenError,
    OutcomeUnknownError,
    PaginationError,
    ResponseDecodeError,
)
from b2b_payments._models import OrderBy, Payment, SearchBy
from b2b_payments._printable import frozen
from b2b_payments._protocol import request as requests
from b2b_payments._protocol.answer import read_payment_id
from b2b_payments._protocol.query import PaymentQuery
from b2b_payments._protocol.request import Request
from b2b_payments._resources.particulars import Particulars
from b2b_payments._resources.turns import LAG, TURNS, Key, LatestCreate
from b2b_payments._resources.writes import Writes, is_gone, read_payment
from b2b_payments._retry import Effect, Outcome
from b2b_payments._walk.page import PageRequest
from b2b_payments._walk.source import MAX_ROWS, Source
from b2b_payments._walk.walk import Walk, Walker

_CLOCK_TOLERANCE = 900.0
"""Seconds by which the service's clock may be behind our idea of it: an older payment is not the one sent."""


@frozen
class _Create:
    """An offline payment to be created.

    `begun` is when that began, in epoch seconds by our clock. The service's is `lead()` seconds ahead of it;
    None if no answer has shown that.
    """

    body: Mapping[str, Any]
    lead: Callable[[], float | None]
    begun: float = attrs.field(factory=time.time)

    @property
    def external_id(self) -> str | None:
        """The external id to search for; None if it has none."""
        external_id: str = self.body.get("externalId") or ""
        return external_id if external_id.strip() else None

    @property
    def particulars(self) -> Particulars:
        """The fields in which an existing payment must agree to count as this one."""
        return Particulars.of_body(self.body)

    @property
    def look_for(self) -> dict[str, Any]:
        """What to look for if its outcome is unknown."""
        names = ("externalId", "customerId") if self.external_id else ("customerId", "lineItems")
        return {"externalId": None} | {name: self.body[name] for name in names}

    @property
    def request(self) -> Request:
        """The request that creates the payment."""
        return requests.create_offline(self.body)

    def may_be(self, payment: Payment) -> bool:
        """Whether a payment was created late enough to be this one."""
        began = self.begun + (self.lead() or 0.0)
        return payment.created_at.timestamp() >= began - _CLOCK_TOLERANCE

    def is_shown_by(self, payment: Payment) -> bool:
        """Whether a payment is this one, and not an older one with the same external id."""
        return (
            self.external_id in {None, payment.external_id}
            and self.may_be(payment)
            and Particulars.of(payment) == self.particulars
        )


@frozen
class Creates:
    """The requests of one create: they share its deadline, and go before the pages of walks."""

    _writes: Writes
    _walker: Walker

    @classmethod
    def begin(cls, writes: Writes, walker: Walker) -> Creates:
        """Begin a create. Raises ConfigurationError if the client is not open, or not usable from here."""
        return cls(writes, attrs.evolve(walker, caller=writes.caller.timed()))

    @property
    def _caller(self) -> Caller:
        return self._walker.caller

    async def create_offline(self, body: Mapping[str, Any], *, unless_exists: bool = False) -> int:
        """Create a payment and return its id; with `unless_exists`, that of an equal existing payment."""
        called_at = anyio.current_time()
        create = _Create(body, self._caller.transport.clock_lead)
        if unless_exists and not any(map(str.isalnum, create.external_id or "")):
            raise ConfigurationError(
                "unless_exists searches for the payment by its external_id: use one with a letter or a "
                "digit, so that the search can find it."
            )
        if create.external_id is None:
            return await self._send(create, Sent())
        key = self._key(create.external_id)
        async with TURNS.turn(key, self._caller.until):
            if unless_exists and (match := await self._existing(key, create, called_at)) is not None:
                return match
            sent = Sent()
            try:
                return self._remember(key, await self._send(create, sent), create.particulars)
            except BaseException as error:
                if sent.maybe_done:
                    self._remember_unknown(key, create, searched=isinstance(error, OutcomeUnknownError))
                raise

    async def settle(self, error: OutcomeUnknownError) -> int | None:
        """Search again for the payment of a create with unknown outcome; None if no list shows it."""
        write = error.write
        create = self._earlier(write["body"], write["begun"], write.get("lead"))
        if create.external_id is None:
            raise ConfigurationError(
                "The create had no external_id to search for; compare the payments created since then with "
                "`error.look_for`."
            )
        rows, ending = await self._search(create.external_id)
        for row in reversed(rows):
            payment = await self._with_id(int(row["id"]), create.external_id, row)
            if payment is not None and create.is_shown_by(payment):
                return self._remember(self._key(create.external_id), payment.id, create.particulars)
        _require_complete(ending)
        return None

    async def _existing(self, key: Key, create: _Create, called_at: float) -> int | None:
        """Return the id of an equal existing payment; None if there is none.

        Raises ExternalIdTakenError if a different payment has the external id, and OutcomeUnknownError if the
        outcome of an earlier create is unknown and no list shows the payment.
        """
        latest = TURNS.recall(key)
        known = None if latest is None else latest.payment_id
        # The call that was first in the queue searched while this one waited.
        is_fresh = latest is not None and latest.searched_at >= called_at
        holders: dict[int, Particulars] = {}
        ending: str | None = None
        if not is_fresh:
            holders, ending = await self._holders(key[1], known, create)
        elif latest is not None and known is not None:
            holders = {known: latest.particulars}
        for payment_id, particulars in holders.items():
            if particulars == create.particulars:
                return payment_id if is_fresh else self._remember(key, payment_id, particulars)
        if holders:
            payment_id, particulars = next(iter(holders.items()))
            raise _taken_error(payment_id, particulars.differences(create.particulars))
        _require_complete(ending)
        if latest is not None and known is None:
            if not is_fresh:
                TURNS.remember(key, attrs.evolve(latest, searched_at=anyio.current_time()))
            raise self._earlier_unknown(latest)
        return None

    async def _holders(
        self, external_id: str, known: int | None, create: _Create
    ) -> tuple[dict[int, Particulars], str | None]:
        """Return the payments that have an external id, oldest first, and why some may be missing, else None.

        If the `known` payment matches the create, no search is made.
        """
        holders: dict[int, Particulars] = {}
        if known is not None and (payment := await self._with_id(known, external_id)) is not None:
            holders[known] = Particulars.of(payment)
            if holders[known] == create.particulars:
                return holders, None
        rows, ending = await self._search(external_id)
        for row in rows:
            payment = await self._with_id(int(row["id"]), external_id, row)
            if payment is not None:
                holders[payment.id] = Particulars.of(payment)
        return holders, ending

    async def _search(self, external_id: str) -> tuple[Sequence[dict[str, Any]], str | None]:
        """Return the rows with exactly this external id, and why some may be missing, else None.

        The service's search also finds similar ids.
        """
        async with aclosing(Walk(self._walker, _query_for(external_id)).raw_pages()) as pages:
            rows = [row async for page in pages for row in page.items if _has_external_id(row, external_id)]
        report = pages.report
        return rows, None if report.complete else report.ending

    async def _with_id(
        self, payment_id: int, external_id: str, row: Mapping[str, Any] | None = None
    ) -> Payment | None:
        """Return a payment if it still has this external id: the list's `row` may lag, GET by id does not."""
        payment = await read_payment(self._caller, payment_id)
        if payment is None and row is not None and not await is_gone(self._caller, payment_id):
            payment = structure_payment(row)  # a missing scope shows as 404, too [seen]
        return payment if payment is not None and payment.external_id == external_id else None

    def _key(self, external_id: str) -> Key:
        return self._caller.quota.store, external_id

    @staticmethod
    def _remember(key: Key, payment_id: int, particulars: Particulars) -> int:
        now = anyio.current_time()
        TURNS.remember(key, LatestCreate(payment_id, particulars, now, now + LAG))
        return payment_id

    @staticmethod
    def _remember_unknown(key: Key, create: _Create, *, searched: bool) -> None:
        now = anyio.current_time()
        about = create.particulars, now if searched else -math.inf, now + LAG
        TURNS.remember(key, LatestCreate(None, *about, create.body, create.begun, create.lead()))

    def _earlier(self, body: Mapping[str, Any], begun: float, lead: float | None) -> _Create:
        """Return a create that began earlier. If no answer showed the service's clock then, later ones do."""
        return _Create(body, self._caller.transport.clock_lead if lead is None else lambda: lead, begun)

    def _earlier_unknown(self, latest: LatestCreate) -> OutcomeUnknownError:
        create = self._earlier(latest.body, latest.begun, latest.lead)
        left = latest.hidden_until - anyio.current_time()
        why = (
            "an earlier create of this external_id got no answer, and no list shows it; lists may lag for "
            f"{left:.0f} s more"
        )
        return self._unknown_outcome(create, why)

    def _unknown_outcome(self, create: _Create, why: str) -> OutcomeUnknownError:
        return self._writes.unknown_outcome(
            create.request, create.look_for, why, begun=create.begun, lead=create.lead()
        )

    async def _send(self, create: _Create, sent: Sent) -> int:
        """Send a create and return the new id; after a lost answer, search for it by its external id.

        The answer is accepted if it names a payment that is new to this client. If answers were mixed up
        recently, that payment must also have the values that were sent.
        """
        writes, request = self._writes, create.request
        with writes.note_cancellation(request, create.look_for, sent):
            try:
                payment_id = read_payment_id(await self._caller.call(request, sent=sent))
                if await self._is_new(payment_id, create):
                    return writes.remember(payment_id)
                failure: B2BPaymentsError = AnswerMismatchError(
                    "the answer names a payment other than the one created.", paths=["$.data.paymentId"]
                )
            except B2BPaymentsError as error:
                if not sent.maybe_done:
                    raise
                failure = error
            external_id = create.external_id
            found_id = None if external_id is None else await self._search_new(create, external_id)
        if found_id is None:
            raise self._unknown_outcome(create, failure.message)
        return writes.remember(found_id)

    async def _is_new(self, payment_id: int, create: _Create) -> bool:
        """Whether a create's answer names the payment that it created, as far as this client can tell."""
        mixups = self._caller.mixups
        if payment_id in self._writes.known:
            mixups.record()
            return False
        if not mixups.recent:
            return True
        try:
            payment = await read_payment(self._caller, payment_id)
        except B2BPaymentsError:
            return False
        return payment is not None and create.is_shown_by(payment)

    async def _search_new(self, create: _Create, external_id: str) -> int | None:
        """Search for the payment just sent, several times with growing delays, since lists may lag."""
        caller, attempt = self._caller, 0
        while True:
            attempt += 1
            try:
                payment_id = await self._find_new(create, external_id)
            except B2BPaymentsError:
                return None
            if payment_id is not None:
                return payment_id
            remaining = caller.until - anyio.current_time()
            delay = caller.retry.delay(
                Effect.READ, Outcome.AMBIGUOUS, attempt, remaining=remaining, asked=None, random=caller.chance
            )
            if delay is None:
                return None
            await anyio.sleep(delay)

    async def _find_new(self, create: _Create, external_id: str) -> int | None:
        """Return the id of the payment just sent, reading the list newest first; None if it is not there."""
        query = _query_for(external_id, OrderBy.DESC)
        source = Source(self._caller, self._walker.learned, query, MAX_ROWS)
        offset = 0
        before: Sequence[int] = ()
        while True:
            page = await source.read(PageRequest(offset))
            payments = [item for row in page.listing.objects() if (item := _structured(row)) is not None]
            for payment in payments:
                if create.is_shown_by(payment) and payment.id not in self._writes.known:
                    return payment.id
            if page.ids == before or not any(map(create.may_be, payments)):
                return None  # further pages would repeat this one, or be older
            offset, before = page.end, page.ids


def _query_for(external_id: str, order_by: OrderBy = OrderBy.ASC) -> PaymentQuery:
    return PaymentQuery(search_by=SearchBy.EXTERNAL_ID, q=external_id, order_by=order_by)


def _has_external_id(row: Mapping[str, Any], external_id: str) -> bool:
    value = row.get("externalId")
    return value is not None and str(value) == external_id


def _structured(row: Mapping[str, Any]) -> Payment | None:
    try:
        return structure_payment(row)
    except ResponseDecodeError:
        return None


def _taken_error(payment_id: int, differences: Mapping[str, tuple[str, str]]) -> ExternalIdTakenError:
    return ExternalIdTakenError(
        f"Payment {payment_id} has this external_id, but a different {' and '.join(differences)}, so nothing "
        "was created: use another external_id for a new payment.",
        payment_id=payment_id,
        differences=differences,
    )


def _require_complete(ending: str | None) -> None:
    if ending is not None:
        raise PaginationError(
            "Whether a payment has this external_id cannot be known, and this call created nothing, since "
            f"the service's search may be incomplete: {ending}."
        )
