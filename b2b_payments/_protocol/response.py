"""What any endpoint answers, as `client.request` gives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from b2b_payments._printable import frozen
from b2b_payments._protocol.answer import Answer, read_envelope
from b2b_payments._protocol.request import Request


@frozen
class Response:
    """What an endpoint answered: `data` and `meta` as the service sent them, None and empty where it did not.

    `status` is HTTP's. `headers` ignore case; they are without cookies and our own credentials, and cut where
    they are long. `request_id` is the service's name for the request, None where it gives none. Numbers that
    no float holds exactly are Decimals.
    """

    status: int
    headers: Mapping[str, str] = attrs.field(repr=False)
    request_id: str | None
    data: Any = attrs.field(repr=False)
    meta: Mapping[str, Any] = attrs.field(repr=False)


def read_response(request: Request, answer: Answer, base_url: str) -> Response:
    """Read the answer of any endpoint. Raises as `read_envelope` does."""
    envelope = read_envelope(request, answer, base_url)
    return Response(answer.status, answer.headers, answer.request_id, envelope.data, envelope.meta)
