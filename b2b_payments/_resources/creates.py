"""Creates, each sent once; looked for by their external ids where an answer was lost, or beforehand.

There is no idempotency key [doc], and lists may lag a write by about 20 minutes [seen]. So what this process
creates is remembered for as long, and creates of one external id come one after the other.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any

import anyio
import attrs

from b2b_payments._call import Sent
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
from b2b_payments._quota import Priority
from b2b_payments._resources.particulars import Particulars
from b2b_payments._resources.turns import LAG, TURNS, Key, Latest
from b2b_payments._resources.writes import Writes
from b2b_payments._retry import Effect, Outcome
from b2b_payments._walk.page import PageRequest
from b2b_payments._walk.source import MOST_ROWS
from b2b_payments._walk.walk import Walk, Walker

_CLOCKS_APART = 900.0
"""Seconds by which the service's clock may differ from ours: an older payment is not the one just sent."""


@frozen
class _Wanted:
    """An offline payment that is to be created, and since when by our clock (epoch seconds)."""

    body: Mapping[str, Any]
    begun: float = attrs.field(factory=time.time)

    @property
    def external_id(self) -> str | None:
        """The external id to look for it by; None where it has none."""
        external_id: str = self.body.get("externalId") or ""
        return external_id if external_id.strip() else None

    @property
    def particulars(self) -> Particulars:
        """What it has to agree in with a payment that is taken for it."""
        return Particulars.of_body(self.body)

    @property
    def look_for(self) -> dict[str, Any]:
        """What to look for where it is in doubt."""
        names = ("externalId", "customerId") if self.external_id else ("customerId", "lineItems")
        return {"externalId": None} | {name: self.body[name] for name in names}

    @property
    def request(self) -> Request:
        """The request that creates it."""
        return requests.create_offline(self.body)

    def may_be(self, payment: Payment) -> bool:
        """Whether a payment was created late enough to be the one just sent, or in the meantime."""
        return payment.created_at.timestamp() >= self.begun - _CLOCKS_APART

    def is_shown_by(self, payment: Payment) -> bool:
        """Whether this is the payment just sent, and no older one that has the same external id."""
        return (
            self.external_id in {None, payment.external_id}
            and self.may_be(payment)
            and Particulars.of(payment) == self.particulars
        )


@frozen
class Creates:
    """The creates of one client."""

    _writes: Writes
    _walker: Walker

    async def create_offline(self, body: Mapping[str, Any], *, unless_exists: bool = False) -> int:
        """Create a payment and give its id; `unless_exists`, that of the payment which is there already."""
        until = self._writes.caller.until()  # first of all: it refuses what is not called from here
        asked, wanted = anyio.current_time(), _Wanted(body)
        if unless_exists and not any(map(str.isalnum, wanted.external_id or "")):
            raise ConfigurationError(
                "unless_exists looks for the payment by its external_id: give it one with a letter or a "
                "digit, so that a search finds it."
            )
        if wanted.external_id is None:
            return await self._create(wanted, Sent(), until)
        key = self._key(wanted.external_id)
        async with TURNS.turn(key, until):
            if unless_exists and (found := await self._existing(key, wanted, asked, until)) is not None:
                return found
            sent = Sent()
            try:
                return self._note(key, await self._create(wanted, sent, until), wanted.particulars)
            except BaseException as error:
                if sent.in_doubt:
                    self._note_doubt(key, wanted, looked=isinstance(error, OutcomeUnknownError))
                raise

    async def settle(self, error: OutcomeUnknownError, until: float | None) -> int | None:
        """Look again for a payment whose create is in doubt; None where no list shows it."""
        wanted = _Wanted(error.write["body"], error.write["begun"])
        if wanted.external_id is None:
            raise ConfigurationError(
                "The create had no external_id to look for it by; compare the payments created since with "
                "`error.look_for`."
            )
        rows, ending = await self._search(wanted.external_id, until)
        for row in reversed(rows):
            payment = await self._shown(int(row["id"]), wanted.external_id, until, row)
            if payment is not None and wanted.is_shown_by(payment):
                return self._note(self._key(wanted.external_id), payment.id, wanted.particulars)
        _require_complete(ending)
        return None

    async def _existing(self, key: Key, wanted: _Wanted, asked: float, until: float | None) -> int | None:
        """Return the payment that is there already, None where there is none.

        Raises ExternalIdTakenError where another payment has its external id, and OutcomeUnknownError where
        an earlier create of it is in doubt and no list shows it.
        """
        latest = TURNS.recall(key)
        known = None if latest is None else latest.payment_id
        is_fresh = latest is not None and latest.looked_at >= asked  # by who was in front in the line
        holders: dict[int, Particulars] = {}
        ending: str | None = None
        if not is_fresh:
            holders, ending = await self._holders(key[1], known, wanted, until)
        elif latest is not None and known is not None:
            holders = {known: latest.particulars}
        for payment_id, particulars in holders.items():
            if particulars == wanted.particulars:
                return payment_id if is_fresh else self._note(key, payment_id, particulars)
        if holders:
            payment_id, particulars = next(iter(holders.items()))
            raise _taken(payment_id, particulars.differences(wanted.particulars))
        _require_complete(ending)
        if latest is not None and known is None:
            if not is_fresh:
                TURNS.note(key, attrs.evolve(latest, looked_at=anyio.current_time()))
            raise self._doubt(latest)
        return None

    async def _holders(
        self, external_id: str, known: int | None, wanted: _Wanted, until: float | None
    ) -> tuple[dict[int, Particulars], str | None]:
        """Return the payments that have an external id, the oldest first, and why they may not be all.

        If the one that is `known` is as wanted, nothing is searched for.
        """
        holders: dict[int, Particulars] = {}
        if known is not None and (payment := await self._shown(known, external_id, until)) is not None:
            holders[known] = Particulars.of(payment)
            if holders[known] == wanted.particulars:
                return holders, None
        rows, ending = await self._search(external_id, until)
        for row in rows:
            payment = await self._shown(int(row["id"]), external_id, until, row)
            if payment is not None:
                holders[payment.id] = Particulars.of(payment)
        return holders, ending

    async def _search(
        self, external_id: str, until: float | None
    ) -> tuple[Sequence[dict[str, Any]], str | None]:
        """Return the rows with exactly this external id, and why there may be more, None if there are not.

        The service's search finds similar ids, too.
        """
        walker = attrs.evolve(self._walker, priority=Priority.CALL, until=until)
        async with aclosing(Walk(walker, _having(external_id)).raw_pages()) as pages:
            rows = [row async for page in pages for row in page.items if _has(row, external_id)]
        report = pages.report
        return rows, None if report.complete else report.ending

    async def _shown(
        self, payment_id: int, external_id: str, until: float | None, row: Mapping[str, Any] | None = None
    ) -> Payment | None:
        """Return a payment if it has this external id now: the list's `row` may lag, GET by id does not."""
        payment = await self._writes.read(payment_id, until)
        if payment is None and row is not None and not await self._writes.is_gone(payment_id, until):
            payment = structure_payment(row)  # a missing scope shows as 404, too [seen]
        return payment if payment is not None and payment.external_id == external_id else None

    def _key(self, external_id: str) -> Key:
        return self._writes.caller.quota.store, external_id

    @staticmethod
    def _note(key: Key, payment_id: int, particulars: Particulars) -> int:
        now = anyio.current_time()
        TURNS.note(key, Latest(payment_id, particulars, now, now + LAG))
        return payment_id

    @staticmethod
    def _note_doubt(key: Key, wanted: _Wanted, *, looked: bool) -> None:
        now = anyio.current_time()
        about = wanted.particulars, now if looked else -math.inf, now + LAG
        TURNS.note(key, Latest(None, *about, wanted.body, wanted.begun))

    def _doubt(self, latest: Latest) -> OutcomeUnknownError:
        wanted, left = _Wanted(latest.body, latest.begun), latest.hidden_until - anyio.current_time()
        why = (
            "an earlier create of this external_id got no answer, and no list shows it, which is decided in "
            f"{left:.0f} s"
        )
        return self._writes.unknown(wanted.request, wanted.look_for, why, begun=latest.begun)

    async def _create(self, wanted: _Wanted, sent: Sent, until: float | None) -> int:
        """Send a create; after a lost answer it is looked for by its external id.

        The answer is believed if it names a payment that is new to this client; where answers were mixed up
        lately, that payment has to be the one that was sent.
        """
        writes, request = self._writes, wanted.request
        with writes.sending(request, wanted.look_for, sent):
            try:
                payment_id = read_payment_id(await writes.caller.call(request, until=until, sent=sent))
                if await self._is_new(payment_id, wanted, until):
                    return writes.know(payment_id)
                failure: B2BPaymentsError = AnswerMismatchError(
                    "the answer names another payment than the one created.", paths=["$.data.paymentId"]
                )
            except B2BPaymentsError as error:
                if not sent.in_doubt:
                    raise
                failure = error
            external_id = wanted.external_id
            found = None if external_id is None else await self._look_for(wanted, external_id, until)
        if found is None:
            raise writes.unknown(request, wanted.look_for, failure.message, begun=wanted.begun)
        return writes.know(found)

    async def _is_new(self, payment_id: int, wanted: _Wanted, until: float | None) -> bool:
        """Whether a create's answer names the payment that it created, as far as that can be seen."""
        mixups = self._writes.caller.mixups
        if payment_id in self._writes.known:
            mixups.noticed()
            return False
        if not mixups.lately:
            return True
        try:
            payment = await self._writes.read(payment_id, until)
        except B2BPaymentsError:
            return False
        return payment is not None and wanted.is_shown_by(payment)

    async def _look_for(self, wanted: _Wanted, external_id: str, until: float | None) -> int | None:
        """Look in the list, several times with growing delays: it may lag a write."""
        caller, attempt = self._writes.caller, 0
        while True:
            attempt += 1
            try:
                found = await self._find(wanted, external_id, until)
            except B2BPaymentsError:
                return None
            if found is not None:
                return found
            remaining = None if until is None else until - anyio.current_time()
            delay = caller.retry.delay(
                Effect.READ, Outcome.AMBIGUOUS, attempt, remaining=remaining, asked=None, random=caller.chance
            )
            if delay is None:
                return None
            await anyio.sleep(delay)

    async def _find(self, wanted: _Wanted, external_id: str, until: float | None) -> int | None:
        """Return the payment just sent from the newest of the list; None where they do not show it."""
        walker = attrs.evolve(self._walker, priority=Priority.CALL, until=until)
        source = walker.source(_having(external_id, OrderBy.DESC), MOST_ROWS)
        offset = 0
        before: Sequence[int] = ()
        while True:
            page = await source.read(PageRequest(offset))
            payments = [one for row in page.listing.objects() if (one := _read(row)) is not None]
            for payment in payments:
                if wanted.is_shown_by(payment) and payment.id not in self._writes.known:
                    return payment.id
            if page.ids == before or not any(map(wanted.may_be, payments)):
                return None  # what follows is the same again, or older
            offset, before = page.end, page.ids


def _having(external_id: str, order_by: OrderBy = OrderBy.ASC) -> PaymentQuery:
    return PaymentQuery(search_by=SearchBy.EXTERNAL_ID, q=external_id, order_by=order_by)


def _has(row: Mapping[str, Any], external_id: str) -> bool:
    value = row.get("externalId")
    return value is not None and str(value) == external_id


def _read(row: Mapping[str, Any]) -> Payment | None:
    try:
        return structure_payment(row)
    except ResponseDecodeError:
        return None


def _taken(payment_id: int, differences: Mapping[str, tuple[str, str]]) -> ExternalIdTakenError:
    return ExternalIdTakenError(
        f"Payment {payment_id} has this external_id, but another {' and '.join(differences)}, so nothing was "
        "created: give a new payment an external_id of its own.",
        payment_id=payment_id,
        differences=differences,
    )


def _require_complete(ending: str | None) -> None:
    if ending is not None:
        raise PaginationError(
            "Whether a payment has this external_id cannot be known, and nothing was created, since the "
            f"service's search may leave out payments: {ending}."
        )
