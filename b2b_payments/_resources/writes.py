"""Writes, each carried out at most once, and judged by the service's state where an answer was lost.

There is no idempotency key [doc]. What certainly did not arrive was sent again already, and so was an
ambiguous PUT or DELETE, which does no harm twice. What is left in doubt is judged here: by reading the
payment. Where that does not settle it, OutcomeUnknownError says what to look for. Creates are judged in
`creates`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs

from b2b_payments._call import Caller, Sent
from b2b_payments._converter import offline_payment_from, structure_payment
from b2b_payments._errors import B2BPaymentsError, OutcomeUnknownError, ValidationError
from b2b_payments._models import OfflinePayment, Operation, Payment
from b2b_payments._printable import frozen
from b2b_payments._protocol import request as requests
from b2b_payments._protocol.json import decode_part
from b2b_payments._protocol.request import Request
from b2b_payments._quota import Priority
from b2b_payments._retry import Effect, Outcome, outcome_of
from b2b_payments._walk.source import gives_listed, look_up
from b2b_payments.events import WriteInterrupted

_OPPOSITE = {
    int(Operation.APPLY_TO_INVOICES): int(Operation.REVERT_FROM_INVOICES),
    int(Operation.REVERT_FROM_INVOICES): int(Operation.APPLY_TO_INVOICES),
}
_KNOWN_AT_MOST = 10_000
"""Payments whose ids are kept; more than an hour's, at the service's quota."""


@frozen
class Writes:
    """The writes of one client to payments that are there. `store` tells it from others, as walks do.

    `known` are payments that a create's answer cannot name, the latest last.
    """

    caller: Caller
    store: str
    known: dict[int, None] = attrs.field(factory=dict, repr=False, eq=False)

    async def delete(self, payment_id: int) -> None:
        """Delete a payment; gone after a lost answer is deleted."""
        await self._settled(requests.delete_payment(payment_id), payment_id)

    async def update_processing_status(self, payment_id: int, status: int) -> None:
        """Set a status; a payment that has it after a lost answer was updated."""
        request = requests.update_processing_status(payment_id, status)
        await self._settled(request, payment_id, look_for={"processingStatus": int(status)})

    async def perform_operation(self, payment_id: int, code: int) -> None:
        """Carry out an operation.

        After a lost answer, applying and reverting are judged by what the payment allows then: no longer
        this, but its opposite. Other operations leave nothing to judge by.
        """
        await self._settled(requests.perform_operation(payment_id, code), payment_id)

    async def update_offline(self, payment_id: int, body: Mapping[str, Any]) -> int:
        """Replace an offline payment; one that shows all that was sent after a lost answer was replaced."""
        request = requests.update_offline(payment_id, body)
        self.know(payment_id)
        await self._settled(request, payment_id, plain=False)
        return payment_id

    async def settle(self, error: OutcomeUnknownError, until: float | None) -> int | None:
        """Judge a write again by its payment: its id where it was carried out, None where it does not show.

        Raises the error where that cannot be known.
        """
        payment_id, body = error.write["id"], error.write["body"]
        payment = await self.read(payment_id, until)
        if payment is None and not await self.is_gone(payment_id, until):
            raise error
        done = _JUDGES[error.write["call"]](payment, body)
        if done is None:
            raise error
        return payment_id if done else None

    @contextmanager
    def sending(self, request: Request, look_for: Mapping[str, Any], sent: Sent) -> Iterator[None]:
        """Say what to look for where a write is cancelled that may have been carried out."""
        try:
            yield
        except B2BPaymentsError:
            raise
        except BaseException as stopped:
            if sent.in_doubt and request.effect is not Effect.READ:
                stopped.add_note(str(self.unknown(request, look_for, "it was cancelled")))
                self.caller.events.emit(WriteInterrupted(request.call, request.method, request.path))
            raise

    def know(self, payment_id: int) -> int:
        """Remember a payment, and give its id."""
        self.known[payment_id] = None
        if len(self.known) > _KNOWN_AT_MOST:
            del self.known[next(iter(self.known))]
        return payment_id

    async def _settled(
        self,
        request: Request,
        payment_id: int,
        *,
        plain: bool = True,
        look_for: Mapping[str, Any] | None = None,
    ) -> None:
        """Carry out a write, and judge it by the payment where that is in doubt.

        `plain` says that a write that was carried out always shows, whatever else the service changes. A
        payment that has what is in `look_for` shows it.
        """
        look_for = {"id": payment_id, **(look_for or {})}
        until = self.caller.until()
        sent = Sent()
        with self.sending(request, look_for, sent):
            try:
                await self.caller.call(request, until=until, sent=sent)
            except B2BPaymentsError as error:
                if not sent.in_doubt:
                    raise
                failure = error
            else:
                return
            try:
                payment = await self.read(payment_id, until)
                is_known = payment is not None or await self.is_gone(payment_id, until)
            except B2BPaymentsError:
                is_known = False
        if not is_known:
            raise self.unknown(request, look_for, failure.message)
        done = _JUDGES[request.call](payment, _body_of(request)) is True
        refused = outcome_of(failure) is Outcome.FINAL
        # A refusal that may be another's: an operation that shows may have been carried out before.
        tells = request.effect is not Effect.ONCE or not refused
        if done and tells:
            return
        certain = plain or payment is None or isinstance(failure, ValidationError)
        if refused and certain and not done:
            raise failure  # sent again, it was refused; and it had not been carried out before
        raise self.unknown(request, look_for, failure.message)

    async def read(self, payment_id: int, until: float | None) -> Payment | None:
        """Return the payment, None for the service's own 404."""
        row = await look_up(self.caller, payment_id, priority=Priority.CALL, until=until)
        return None if row is None else structure_payment(row)

    async def is_gone(self, payment_id: int, until: float | None) -> bool:
        """Whether a payment that was answered 404 is gone.

        A missing scope shows as 404, too [seen]: so a payment that the list shows has to be there by its id.
        Then this one is asked for again: a 404 does not say whose it is.
        """
        gives = await gives_listed(self.caller, payment_id, priority=Priority.CALL, until=until)
        return gives and await self.read(payment_id, until) is None

    def unknown(
        self,
        request: Request,
        look_for: Mapping[str, Any],
        why: str,
        *,
        begun: float | None = None,
    ) -> OutcomeUnknownError:
        """Return the error of a write whose outcome is not known, which was begun at this epoch second."""
        what = ", ".join(f"{name}={value}" for name, value in look_for.items() if value is not None)
        what_was_sent = f"{request.method} {request.path}"
        why = why.removeprefix(f"{what_was_sent}: ").rstrip(".")
        lag = "; lists may lag a write by about 20 minutes" if request.about is None else ""
        write = {
            "store": self.store,
            "call": request.call,
            "id": request.about,
            "body": _body_of(request),
            "begun": time.time() if begun is None else begun,
        }
        return OutcomeUnknownError(
            f"{what_was_sent} was sent, and whether it was carried out is not known: {why}. "
            f"Look for {what} before sending it again{lag}.",
            look_for=look_for,
            write=write if request.call.startswith("payments.") else None,
        )


def _body_of(request: Request) -> Any:
    return None if request.body is None else decode_part(request.body)


def _shows_status(payment: Payment | None, body: Mapping[str, Any]) -> bool:
    return payment is not None and payment.processing_status == body["processingStatus"]


def _shows_operation(payment: Payment | None, body: Mapping[str, Any]) -> bool | None:
    code = body["operationCode"]
    allowed = set() if payment is None else _OPPOSITE.keys() & payment.allowed_operations
    return None if code not in _OPPOSITE or len(allowed) != 1 else allowed == {_OPPOSITE[code]}


def _shows_update(payment: Payment | None, body: Mapping[str, Any]) -> bool:
    """Whether a payment has everything that an update would have given it."""
    if payment is None:
        return False
    wanted = offline_payment_from(body)
    # Counted: one invoice may stand in several lines.
    sent = Counter((item.invoice_id, item.amount) for item in wanted.line_items)
    has = Counter((item.invoice_id, item.amount and item.amount.amount) for item in payment.line_items)
    alike = (name for name in attrs.fields_dict(OfflinePayment) if name not in {"currency", "line_items"})
    return (
        sent == has
        and wanted.currency == payment.total.currency
        and all(getattr(wanted, name) in (None, getattr(payment, name)) for name in alike)
    )


_JUDGES: Mapping[str, Callable[[Payment | None, Any], bool | None]] = {
    "payments.delete": lambda payment, _: payment is None,
    "payments.update_processing_status": _shows_status,
    "payments.perform_operation": _shows_operation,
    "payments.update_offline": _shows_update,
}
"""Whether the payment, or that there is none, shows that a write was carried out; None where it cannot."""
