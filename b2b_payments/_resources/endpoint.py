"""Sends a request to any endpoint: `client.request`."""

from __future__ import annotations

from b2b_payments._call import Sent
from b2b_payments._errors import B2BPaymentsError
from b2b_payments._protocol.request import Request
from b2b_payments._protocol.response import Response, read_response
from b2b_payments._resources.writes import Writes
from b2b_payments._retry import Effect


async def answer_to(request: Request, writes: Writes) -> Response:
    """Send a request with the same quota, retries and deadline as any other, and return its answer.

    Raises OutcomeUnknownError for a write whose outcome is unknown: this library cannot check it.
    """
    caller, sent = writes.caller, Sent()
    until = caller.until()
    look_for = {"path": request.path}
    with writes.note_cancellation(request, look_for, sent):
        try:
            return await caller.read(request, read_response, until=until, sent=sent)
        except B2BPaymentsError as error:
            if request.effect is Effect.READ or not sent.maybe_done:
                raise
            failure = error
    raise writes.unknown_outcome(request, look_for, failure.message)
