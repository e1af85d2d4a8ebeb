"""GET by id as a witness: whether a payment is there, in the service's own words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from b2b_payments._errors import AnswerMismatchError, NotFoundError, ResponseDecodeError
from b2b_payments._protocol.answer import Answer, kind_of, read_envelope
from b2b_payments._protocol.json import decode
from b2b_payments._protocol.request import Request


def read_lookup(request: Request, answer: Answer, base_url: str, *, payment_id: int) -> dict[str, Any] | None:
    """Return the payment as the service sent it, or None where the service says that it does not exist.

    Only the service's own envelope says that: a JSON object with `code` 404 and `meta` [doc]. A gateway's
    404, in HTML or its own JSON or empty, says nothing of the payment: it raises NotFoundError. A missing
    scope can look exactly like a missing payment [seen]: look up one that is known, too.
    Raises as `read_envelope` does, and AnswerMismatchError for another payment than the one asked for.
    """
    try:
        data = read_envelope(request, answer, base_url).data
    except NotFoundError:
        if _is_own(answer.body):
            return None
        raise
    if not isinstance(data, dict):
        raise ResponseDecodeError(f"Expected an object at $.data, found {kind_of(data)}.", paths=["$.data"])
    if str(data.get("id")) != str(payment_id):
        raise AnswerMismatchError(
            f"{request.method} {request.path}: the answer is not of this payment.", paths=["$.data.id"]
        )
    return data


def _is_own(body: bytes) -> bool:
    try:
        told = decode(body)
    except ResponseDecodeError:
        return False
    return (
        isinstance(told, Mapping) and str(told.get("code")) == "404" and isinstance(told.get("meta"), Mapping)
    )
