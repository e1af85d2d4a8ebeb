"""Looks up a payment by its id, and tells the service's own 404 from a gateway's."""

from __future__ import annotations

from collections.abc import Mapping

from b2b_payments._errors import AnswerMismatchError, NotFoundError, ResponseDecodeError
from b2b_payments._models.decimals import whole_of
from b2b_payments._protocol.answer import Answer, kind_of, read_envelope
from b2b_payments._protocol.json import decode, members_of, repaired
from b2b_payments._protocol.request import Request


def read_lookup(request: Request, answer: Answer, base_url: str, *, payment_id: int) -> bytes | None:
    """Return the payment as the service wrote it, or None if the service reports that it does not exist.

    Only the service's own envelope counts: a JSON object with `code` 404 and `meta` [doc]. A gateway's 404,
    in HTML, other JSON or empty, raises NotFoundError. A missing scope can look exactly like a missing
    payment [seen], so also look up a payment that exists.
    Raises as `read_envelope` does, and AnswerMismatchError if the answer is another payment.
    """
    try:
        data = read_envelope(request, answer, base_url).data
    except NotFoundError:
        if _is_own(answer.body):
            return None
        raise
    if not isinstance(data, dict):
        raise ResponseDecodeError(f"Expected an object at $.data, found {kind_of(data)}.", paths=["$.data"])
    if whole_of(data.get("id")) != payment_id:
        raise AnswerMismatchError(
            f"{request.method} {request.path}: the answer is not this payment.", paths=["$.data.id"]
        )
    return bytes(members_of(repaired(answer.body))["data"])


def _is_own(body: bytes) -> bool:
    try:
        envelope = decode(body)
    except ResponseDecodeError:
        return False
    return (
        isinstance(envelope, Mapping)
        and whole_of(envelope.get("code")) == 404
        and isinstance(envelope.get("meta"), Mapping)
    )
