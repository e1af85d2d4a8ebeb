"""The result of `client.request`, for any endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from b2b_payments._printable import frozen
from b2b_payments._protocol.answer import Answer, read_envelope
from b2b_payments._protocol.request import Request


@frozen
class Response:
    """The answer of an endpoint, as `client.request` returns it.

    `status` is the HTTP status. `data` and `meta` are as the service sent them, None and empty if it did not,
    with a Decimal for any number that no float holds exactly. `request_id` is the service's id of this
    request, None if it sent none. `headers` ignore case; cookies are left out, credentials are redacted and
    long values truncated.
    """

    status: int
    headers: Mapping[str, str] = attrs.field(repr=False)
    request_id: str | None
    data: Any = attrs.field(repr=False)
    meta: Mapping[str, Any] = attrs.field(repr=False)


def read_response(request: Request, answer: Answer, base_url: str) -> Response:
    """Return the answer of any endpoint. Raises as `read_envelope` does."""
    envelope = read_envelope(request, answer, base_url)
    return Response(answer.status, answer.headers, answer.request_id, envelope.data, envelope.meta)
