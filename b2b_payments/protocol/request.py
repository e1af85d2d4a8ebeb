"""One request to the service, and the request that each endpoint wants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from b2b_payments.errors import ConfigurationError, shown
from b2b_payments.models.decimals import is_whole
from b2b_payments.protocol.json import encode
from b2b_payments.retry import Kind

Query = tuple[tuple[str, str], ...]


@attrs.frozen
class Request:
    """What is to be sent: `path` lies below the client's base URL; `call` names the endpoint for people."""

    call: str
    method: str
    path: str
    query: Query = ()
    body: bytes | None = attrs.field(default=None, repr=False)

    @property
    def kind(self) -> Kind:
        """How often this may be sent: there is no idempotency key [doc], so a POST only once."""
        return _KINDS[self.method]


_KINDS = {"GET": Kind.READ, "PUT": Kind.REPEATABLE, "DELETE": Kind.REPEATABLE, "POST": Kind.ONCE}


def list_payments(query: Query) -> Request:
    """GET /ip/payments."""
    return Request("payments.list", "GET", "/ip/payments", query)


def get_payment(payment_id: int) -> Request:
    """GET /ip/payments/{id}."""
    return Request("payments.get", "GET", _payment(payment_id))


def delete_payment(payment_id: int) -> Request:
    """DELETE /ip/payments/{id}."""
    return Request("payments.delete", "DELETE", _payment(payment_id))


def get_operations(payment_id: int) -> Request:
    """GET /ip/payments/{id}/operations."""
    return Request("payments.operations", "GET", _payment(payment_id, "/operations"))


def perform_operation(payment_id: int, code: int) -> Request:
    """POST /ip/payments/{id}/operations."""
    checked = _one_of("operation", code, range(4))
    return _with_body(
        "payments.perform_operation", "POST", _payment(payment_id, "/operations"), operationCode=checked
    )


def update_processing_status(payment_id: int, status: int) -> Request:
    """PUT /ip/payments/{id}/processing-status. Documented are 1 to 4; the vendor's example sends 0 [doc]."""
    checked = _one_of("status", status, range(5))
    path = _payment(payment_id, "/processing-status")
    return _with_body("payments.update_processing_status", "PUT", path, processingStatus=checked)


def get_transactions(payment_id: int) -> Request:
    """GET /ip/payments/{id}/transactions."""
    return Request("payments.transactions", "GET", _payment(payment_id, "/transactions"))


def create_offline(body: Mapping[str, Any]) -> Request:
    """POST /ip/payments/offline."""
    return _with_body("payments.create_offline", "POST", "/ip/payments/offline", **body)


def update_offline(payment_id: int, body: Mapping[str, Any]) -> Request:
    """PUT /ip/payments/offline/{id}."""
    path = f"/ip/payments/offline/{_id('payment id', payment_id)}"
    return _with_body("payments.update_offline", "PUT", path, **body)


def list_channels() -> Request:
    """GET /channels."""
    return Request("channels.list", "GET", "/channels")


def get_channel(channel_id: int) -> Request:
    """GET /channels/{channelId}, by BigCommerce's id."""
    return Request("channels.get", "GET", f"/channels/{_id('channel id', channel_id)}")


def _with_body(call: str, method: str, path: str, **body: Any) -> Request:
    return Request(call, method, path, body=encode(body))


def _payment(payment_id: int, rest: str = "") -> str:
    return f"/ip/payments/{_id('payment id', payment_id)}{rest}"


def _id(name: str, value: object) -> int:
    # A str would be written into the path as it stands.
    return whole(name, value, least=1)


def whole(name: str, value: object, *, least: int) -> int:
    """Check a whole number that the caller gave. Raises ConfigurationError."""
    # A bool is an int to Python.
    if not is_whole(value) or value < least:
        raise ConfigurationError(f"{name} must be a whole number of at least {least}, not {shown(value)}.")
    return value


def _one_of(name: str, value: int, allowed: Sequence[int]) -> int:
    if isinstance(value, bool) or value not in allowed:
        raise ConfigurationError(f"{name} must be one of {', '.join(map(str, allowed))}, not {shown(value)}.")
    return int(value)
