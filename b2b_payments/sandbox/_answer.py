"""An answer of the service, in its envelope, before it is sent."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import attrs
import msgspec

from b2b_payments._printable import frozen


@frozen
class Answer:
    """An answer before it is sent. `headers` are its own, in addition to those of every answer."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: dict[str, str] = attrs.field(factory=dict)

    @classmethod
    def error(cls, status: int, text: str, title: str | None = None) -> Answer:
        """Wrap an error: `text` is the useful message, `title` a generic one."""
        meta = {"message": title or HTTPStatus(status).phrase}
        return cls.json(status, {"code": status, "data": {"errMsg": text}, "meta": meta})

    @classmethod
    def denied(cls, status: int, text: str) -> Answer:
        """Return a 401 or 403 in the short form that the service sends."""
        return cls.json(status, {"code": status, "message": text})

    @classmethod
    def gateway(cls, status: int) -> Answer:
        """Return the HTML page of a gateway in front of the service."""
        title = f"{status} {HTTPStatus(status).phrase}"
        page = f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>\r\n"
        return cls(status, page.encode(), "text/html")

    @classmethod
    def json(cls, status: int, payload: Any) -> Answer:
        """Encode a body as JSON."""
        return cls(status, msgspec.json.encode(payload))
