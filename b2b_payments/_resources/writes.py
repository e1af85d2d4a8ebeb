"""Writes, each carried out at most once, and judged by the service's state where an answer was lost.

There is no idempotency key [doc]. What certainly did not arrive was sent again already, and so was an
ambiguous PUT or DELETE, which does no harm twice. What is left in doubt is judged here: by reading the
payment, or by looking for it. Where that does not settle it, OutcomeUnknownError says what to look for.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from typing import Any

import anyio
import attrs

from b2b_payments._call import Caller, Sent
from b2b_payments._converter import structure_payment
from b2b_payments._errors import (
    AnswerMismatchError,
    B2BPaymentsError,
    OutcomeUnknownError,
    ResponseDecodeError,
    ValidationError,
)
from b2b_payments._models import Operation, OrderBy, Payment, SearchBy
from b2b_payments._models.decimals import EXACT
from b2b_payments._printable import frozen
from b2b_payments._protocol import request as requests
from b2b_payments._protocol.answer import read_payment_id
from b2b_payments._protocol.listing import read_listing
from b2b_payments._protocol.query import ChannelEncoding, PaymentQuery
from b2b_payments._protocol.request import Request
from b2b_payments._quota import Priority
from b2b_payments._retry import Kind, Outcome, outcome_of
from b2b_payments._walk.source import gives_listed, look_up
from b2b_payments.events import WriteInterrupted

_OPPOSITE = {
    int(Operation.APPLY_TO_INVOICES): int(Operation.REVERT_FROM_INVOICES),
    int(Operation.REVERT_FROM_INVOICES): int(Operation.APPLY_TO_INVOICES),
}
_ROWS_LOOKED_AT = 50
_CLOCKS_APART = 900.0
"""Seconds by which the service's clock may differ from ours: an older payment is not the one just sent."""
_KNOWN_AT_MOST = 10_000
"""Payments whose ids are kept; more than an hour's, at the service's quota."""


@frozen
class _Wanted:
    """An offline payment that is to be created, and since when by our clock."""

    body: Mapping[str, Any]
    external_id: str | None
    begun: float

    def is_shown_by(self, row: Any) -> bool:
        """Whether this row is the payment just sent, and no older one that bears the same externalId."""
        try:
            payment = structure_payment(row)
        except ResponseDecodeError:
            return False
        return (
            (not self.external_id or str(row.get("externalId")) == self.external_id)
            and payment.customer_id == str(self.body["customerId"])
            and payment.created_at.timestamp() >= self.begun - _CLOCKS_APART
            and payment.total.currency == self.body["currency"]
            and payment.total.amount == _sum(self.body)
        )


@frozen
class Writes:
    """The writes of one client. `_known` are payments that a create's answer cannot name, the latest last."""

    _caller: Caller
    _known: dict[int, None] = attrs.field(factory=dict, init=False, repr=False, eq=False)

    async def delete(self, payment_id: int) -> None:
        """Delete a payment; gone after a lost answer is deleted."""
        await self._settled(requests.delete_payment(payment_id), payment_id, lambda payment: payment is None)

    async def update_processing_status(self, payment_id: int, status: int) -> None:
        """Set a status; a payment that has it after a lost answer was updated."""
        request = requests.update_processing_status(payment_id, status)

        def done(payment: Payment | None) -> bool:
            return payment is not None and payment.processing_status == status

        await self._settled(request, payment_id, done, look_for={"processingStatus": int(status)})

    async def perform_operation(self, payment_id: int, code: int) -> None:
        """Carry out an operation.

        After a lost answer, applying and reverting are judged by what the payment allows then: no longer
        this, but its opposite. Other operations leave nothing to judge by.
        """
        request, opposite = requests.perform_operation(payment_id, code), _OPPOSITE.get(code)

        def done(payment: Payment | None) -> bool:
            allowed = () if payment is None else payment.allowed_operations
            return opposite in allowed and code not in allowed

        await self._settled(request, payment_id, done)

    async def update_offline(self, payment_id: int, body: Mapping[str, Any]) -> int:
        """Replace an offline payment; one that shows all that was sent after a lost answer was replaced."""
        request = requests.update_offline(payment_id, body)
        self._know(payment_id)
        await self._settled(
            request, payment_id, lambda payment: payment is not None and _shows(payment, body), plain=False
        )
        return payment_id

    async def create_offline(self, body: Mapping[str, Any], external_id: str | None) -> int:
        """Create a payment and give its id; after a lost answer it is looked for by its externalId.

        The answer is believed if it names a payment that is new to this client; where answers were mixed up
        lately, that payment has to be the one that was sent.
        """
        request, begun = requests.create_offline(body), time.time()
        wanted = _Wanted(body, external_id, begun)
        look_for = {"externalId": external_id, "customerId": body["customerId"]}
        if not external_id or not external_id.strip():
            look_for |= {"externalId": None, "lineItems": body["lineItems"]}
        until = self._caller.until()
        with self._sending(request, look_for) as sent:
            try:
                payment_id = read_payment_id(await self._caller.call(request, until=until, sent=sent))
                if await self._is_new(payment_id, wanted, until):
                    return self._know(payment_id)
                failure: B2BPaymentsError = AnswerMismatchError(
                    "the answer names another payment than the one created.", paths=["$.data.paymentId"]
                )
            except B2BPaymentsError as error:
                if not sent.in_doubt:
                    raise
                failure = error
            found = await self._look_for(wanted, until) if look_for["externalId"] else None
        if found is None:
            raise _unknown(request, look_for, failure.message)
        return self._know(found)

    @contextmanager
    def _sending(self, request: Request, look_for: Mapping[str, Any]) -> Iterator[Sent]:
        """Say what to look for where a write is cancelled that may have been carried out."""
        sent = Sent()
        try:
            yield sent
        except B2BPaymentsError:
            raise
        except BaseException as stopped:
            if sent.in_doubt:
                stopped.add_note(str(_unknown(request, look_for, "it was cancelled")))
                self._caller.events.emit(WriteInterrupted(request.call, request.method, request.path))
            raise

    async def _is_new(self, payment_id: int, wanted: _Wanted, until: float | None) -> bool:
        """Whether a create's answer names the payment that it created, as far as that can be seen."""
        mixups = self._caller.mixups
        if payment_id in self._known:
            mixups.noticed()
            return False
        if not mixups.lately:
            return True
        try:
            reply = await self._caller.call(requests.get_payment(payment_id), until=until)
        except B2BPaymentsError:
            return False
        return wanted.is_shown_by(reply.data)

    def _know(self, payment_id: int) -> int:
        self._known[payment_id] = None
        if len(self._known) > _KNOWN_AT_MOST:
            del self._known[next(iter(self._known))]
        return payment_id

    async def _settled(
        self,
        request: Request,
        payment_id: int,
        done: Callable[[Payment | None], bool],
        *,
        plain: bool = True,
        look_for: Mapping[str, Any] | None = None,
    ) -> None:
        """Carry out a write, and judge it by the payment where that is in doubt.

        `plain` says that a write that was carried out always shows, whatever else the service changes. A
        payment that has what is in `look_for` shows it.
        """
        look_for = {"id": payment_id, **(look_for or {})}
        until = self._caller.until()
        with self._sending(request, look_for) as sent:
            try:
                await self._caller.call(request, until=until, sent=sent)
            except B2BPaymentsError as error:
                if not sent.in_doubt:
                    raise
                failure = error
            else:
                return
            try:
                payment = await self._read(payment_id, until)
                is_known = payment is not None or await self._is_gone(payment_id, until)
            except B2BPaymentsError:
                is_known = False
        if not is_known:
            raise _unknown(request, look_for, failure.message)
        refused = outcome_of(failure) is Outcome.FINAL
        # A refusal that may be another's: an operation that shows may have been carried out before.
        tells = request.kind is not Kind.ONCE or not refused
        if done(payment) and tells:
            return
        certain = plain or payment is None or isinstance(failure, ValidationError)
        if refused and certain and not done(payment):
            raise failure  # sent again, it was refused; and it had not been carried out before
        raise _unknown(request, look_for, failure.message)

    async def _read(self, payment_id: int, until: float | None) -> Payment | None:
        """Give the payment, None for the service's own 404."""
        row = await look_up(self._caller, payment_id, priority=Priority.CALL, until=until)
        return None if row is None else structure_payment(row)

    async def _is_gone(self, payment_id: int, until: float | None) -> bool:
        """Whether a payment that was answered 404 is gone.

        A missing scope shows as 404, too [seen]: so a payment that the list shows has to be there by its id.
        Then this one is asked for again: a 404 does not say whose it is.
        """
        gives = await gives_listed(self._caller, payment_id, priority=Priority.CALL, until=until)
        return gives and await self._read(payment_id, until) is None

    async def _look_for(self, wanted: _Wanted, until: float | None) -> int | None:
        """Look in the list, several times with growing delays: it may lag a write."""
        query = PaymentQuery(search_by=SearchBy.EXTERNAL_ID, q=wanted.external_id, order_by=OrderBy.DESC)
        pairs = query.pairs(offset=0, limit=_ROWS_LOOKED_AT, encoding=ChannelEncoding.REPEAT)
        attempt = 0
        while True:
            attempt += 1
            try:
                reader = partial(read_listing, offset=0)
                reply = await self._caller.read(requests.list_payments(pairs), reader, until=until)
                rows = reply.objects()
            except B2BPaymentsError:
                return None
            for row in rows:
                if wanted.is_shown_by(row) and (payment_id := structure_payment(row).id) not in self._known:
                    return payment_id
            remaining = None if until is None else until - anyio.current_time()
            delay = self._caller.retry.delay(
                Kind.READ,
                Outcome.AMBIGUOUS,
                attempt,
                remaining=remaining,
                asked=None,
                random=self._caller.chance,
            )
            if delay is None:
                return None
            await anyio.sleep(delay)


def _sum(body: Mapping[str, Any]) -> Decimal:
    total = Decimal(0)
    for item in body["lineItems"]:
        total = EXACT.add(total, Decimal(str(item["amount"])))
    return total


def _shows(payment: Payment, body: Mapping[str, Any]) -> bool:
    """Whether a payment has everything that an update would have given it."""
    # Counted: one invoice may stand in several lines.
    sent = Counter((item["invoiceId"], Decimal(str(item["amount"]))) for item in body["lineItems"])
    has = Counter((item.invoice_id, item.amount and item.amount.amount) for item in payment.line_items)
    plain = {
        "currency": payment.total.currency,
        "details": payment.details,
        "customerId": payment.customer_id,
        "externalId": payment.external_id,
        "externalCustomerId": payment.external_customer_id,
        "payerName": payment.payer_name,
        "payerCustomerId": payment.payer_customer_id,
        "processingStatus": payment.processing_status,
        "fundingStatus": payment.funding_status,
    }
    return sent == has and all(body[name] == value for name, value in plain.items() if name in body)


def _unknown(request: Request, look_for: Mapping[str, Any], why: str) -> OutcomeUnknownError:
    what = ", ".join(f"{name}={value}" for name, value in look_for.items() if value is not None)
    what_was_sent = f"{request.method} {request.path}"
    why = why.removeprefix(f"{what_was_sent}: ").rstrip(".")
    lag = "; lists may lag a write by about 20 minutes" if request.about is None else ""
    return OutcomeUnknownError(
        f"{what_was_sent} was sent, and whether it was carried out is not known: {why}. "
        f"Look for {what} before sending it again{lag}.",
        look_for=look_for,
    )
