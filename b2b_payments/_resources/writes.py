"""Writes, each carried out at most once; if the answer is lost, the service's state decides.

There is no idempotency key [doc]. `Caller` has already resent a write that certainly did not arrive, and an
ambiguous PUT or DELETE, which is harmless twice. If the outcome is still unknown, this module reads the
payment to find it. If that does not settle it, OutcomeUnknownError says what to look for. For creates, see
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
from b2b_payments._protocol.response import Response, read_response
from b2b_payments._retry import Effect, Outcome, outcome_of
from b2b_payments._walk.source import look_up, lookups_work
from b2b_payments.events import WriteInterrupted

_OPPOSITE = {
    int(Operation.APPLY_TO_INVOICES): int(Operation.REVERT_FROM_INVOICES),
    int(Operation.REVERT_FROM_INVOICES): int(Operation.APPLY_TO_INVOICES),
}
_MAX_KNOWN = 10_000
"""The most payment ids that are remembered: more than an hour's, at the service's quota."""


@frozen
class Writes:
    """One client's writes to existing payments. `store` identifies the store, as in a walk's checkpoint.

    `known` are ids of payments that already existed, the latest last: a create's answer cannot name them.
    """

    caller: Caller
    store: str
    known: dict[int, None] = attrs.field(factory=dict, repr=False, eq=False)

    async def delete(self, payment_id: int) -> None:
        """Delete a payment. After a lost answer, a payment that no longer exists counts as deleted."""
        await self._write(requests.delete_payment(payment_id), payment_id)

    async def update_processing_status(self, payment_id: int, status: int) -> None:
        """Set a status. After a lost answer, a payment that has it counts as updated."""
        request = requests.update_processing_status(payment_id, status)
        await self._write(request, payment_id, look_for={"processingStatus": int(status)})

    async def perform_operation(self, payment_id: int, code: int) -> None:
        """Carry out an operation.

        After a lost answer, applying or reverting counts as done if the payment now allows the opposite
        operation and no longer this one. Other operations leave no trace.
        """
        await self._write(requests.perform_operation(payment_id, code), payment_id)

    async def update_offline(self, payment_id: int, body: Mapping[str, Any]) -> int:
        """Replace an offline payment. After a lost answer, having every value sent counts as replaced."""
        request = requests.update_offline(payment_id, body)
        self.remember(payment_id)
        await self._write(request, payment_id, always_shows=False)
        return payment_id

    async def answer_to(self, request: Request) -> Response:
        """Send a request to any endpoint, and return its answer.

        Raises OutcomeUnknownError for a write whose outcome is unknown: this library cannot check it.
        """
        sent, look_for = Sent(), {"path": request.path}
        with self.note_cancellation(request, look_for, sent):
            try:
                return await self.caller.read(request, read_response, sent=sent)
            except B2BPaymentsError as error:
                if request.effect is Effect.READ or not sent.maybe_done:
                    raise
                failure = error
        raise self.unknown_outcome(request, look_for, failure.message)

    async def settle(self, error: OutcomeUnknownError) -> int | None:
        """Check a write again: return the payment's id if it shows the write, None if it does not.

        Raises the error if the payment cannot show it.
        """
        caller, payment_id, body = self.caller.timed(), error.write["id"], error.write["body"]
        payment = await read_payment(caller, payment_id)
        if payment is None and not await is_gone(caller, payment_id):
            raise error
        done = _JUDGES[error.write["call"]](payment, body)
        if done is None:
            raise error
        return payment_id if done else None

    @contextmanager
    def note_cancellation(self, request: Request, look_for: Mapping[str, Any], sent: Sent) -> Iterator[None]:
        """If a cancelled write may have been carried out, report it and add what to look for to the error."""
        try:
            yield
        except B2BPaymentsError:
            raise
        except BaseException as cancelled:
            if sent.maybe_done and request.effect is not Effect.READ:
                cancelled.add_note(str(self.unknown_outcome(request, look_for, "it was cancelled")))
                self.caller.events.emit(WriteInterrupted(request.call, request.method, request.path))
            raise

    def remember(self, payment_id: int) -> int:
        """Remember that a payment exists, and return its id."""
        self.known.pop(payment_id, None)
        self.known[payment_id] = None
        if len(self.known) > _MAX_KNOWN:
            del self.known[next(iter(self.known))]
        return payment_id

    async def _write(
        self,
        request: Request,
        payment_id: int,
        *,
        always_shows: bool = True,
        look_for: Mapping[str, Any] | None = None,
    ) -> None:
        """Carry out a write; if its outcome is unknown, read the payment to find it.

        `always_shows` says that the payment always shows a write that was carried out, whatever the service
        changes besides. `look_for` is what the error says to look for, beside the id.
        """
        look_for = {"id": payment_id, **(look_for or {})}
        caller, sent = self.caller.timed(), Sent()
        with self.note_cancellation(request, look_for, sent):
            try:
                await caller.call(request, sent=sent)
            except B2BPaymentsError as error:
                if not sent.maybe_done:
                    raise
                failure = error
            else:
                return
            try:
                payment = await read_payment(caller, payment_id)
                was_read = payment is not None or await is_gone(caller, payment_id)
            except B2BPaymentsError:
                was_read = False
        if not was_read:
            raise self.unknown_outcome(request, look_for, failure.message)
        shows = _JUDGES[request.call](payment, _body_of(request)) is True
        refused = outcome_of(failure) is Outcome.FINAL
        # If a refused operation shows, either an earlier call did it, or the refusal was another request's.
        if shows and not (refused and request.effect is Effect.ONCE):
            return
        # The last attempt was refused. Had an earlier one been carried out, the payment would show it; and
        # what is invalid now was invalid then.
        would_show = always_shows or payment is None or isinstance(failure, ValidationError)
        if refused and would_show and not shows:
            raise failure
        raise self.unknown_outcome(request, look_for, failure.message)

    def unknown_outcome(
        self,
        request: Request,
        look_for: Mapping[str, Any],
        why: str,
        *,
        begun: float | None = None,
        lead: float | None = None,
    ) -> OutcomeUnknownError:
        """Return the error for a write whose outcome is unknown.

        `begun` is its start in epoch seconds, and `lead` by how much the service's clock was ahead.
        """
        fields = ", ".join(f"{name}={value}" for name, value in look_for.items() if value is not None)
        sent = f"{request.method} {request.path}"
        why = why.removeprefix(f"{sent}: ").rstrip(".")
        lag = "; lists may lag a write by about 20 minutes" if request.about is None else ""
        write = {
            "store": self.store,
            "call": request.call,
            "id": request.about,
            "body": _body_of(request),
            "begun": time.time() if begun is None else begun,
            "lead": lead,
        }
        return OutcomeUnknownError(
            f"{sent} was sent, and whether it was carried out is not known: {why}. "
            f"Look for {fields} before sending it again{lag}.",
            look_for=look_for,
            write=write if request.call.startswith("payments.") else None,
        )


async def read_payment(caller: Caller, payment_id: int) -> Payment | None:
    """Return the payment; None if the service says that it does not exist."""
    row = await look_up(caller, payment_id)
    return None if row is None else structure_payment(decode_part(row))


async def is_gone(caller: Caller, payment_id: int) -> bool:
    """Whether a payment whose read returned 404 is gone.

    A missing scope shows as 404, too [seen], so another payment from the list must be readable by its id.
    Then this one is read again, since a 404 does not name its payment and may belong to another request.
    """
    return await lookups_work(caller, payment_id) and await read_payment(caller, payment_id) is None


def _body_of(request: Request) -> Any:
    return None if request.body is None else decode_part(request.body)


def _shows_status(payment: Payment | None, body: Mapping[str, Any]) -> bool:
    return payment is not None and payment.processing_status == body["processingStatus"]


def _shows_operation(payment: Payment | None, body: Mapping[str, Any]) -> bool | None:
    code = body["operationCode"]
    allowed = set() if payment is None else _OPPOSITE.keys() & payment.allowed_operations
    return None if code not in _OPPOSITE or len(allowed) != 1 else allowed == {_OPPOSITE[code]}


def _shows_update(payment: Payment | None, body: Mapping[str, Any]) -> bool:
    """Whether a payment has every value that an update set."""
    if payment is None:
        return False
    wanted = offline_payment_from(body)
    # Counted, since several line items may be for the same invoice.
    sent = Counter((item.invoice_id, item.amount) for item in wanted.line_items)
    has = Counter((item.invoice_id, item.amount and item.amount.amount) for item in payment.line_items)
    others = (name for name in attrs.fields_dict(OfflinePayment) if name not in {"currency", "line_items"})
    return (
        sent == has
        and wanted.currency == payment.total.currency
        and all(getattr(wanted, name) in (None, getattr(payment, name)) for name in others)
    )


_JUDGES: Mapping[str, Callable[[Payment | None, Any], bool | None]] = {
    "payments.delete": lambda payment, _: payment is None,
    "payments.update_processing_status": _shows_status,
    "payments.perform_operation": _shows_operation,
    "payments.update_offline": _shows_update,
}
"""Whether a payment (None if it is gone) shows that a write was carried out; None if it cannot show it."""
