"""One request to the service, and the request that each endpoint wants."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import attrs

from b2b_payments._arguments import whole
from b2b_payments._errors import ConfigurationError, shown
from b2b_payments._models.plain_data import checked_data, checked_text
from b2b_payments._printable import frozen
from b2b_payments._protocol.json import encode
from b2b_payments._retry import Effect

Query = tuple[tuple[str, str], ...]
_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]+")


@frozen
class Request:
    """What is to be sent: `path` lies below the client's base URL; `call` names the endpoint for people.

    `named_at` are the fields of the answer that may name the id in the path, and may name no other; it is
    empty where the answer has no such field. `store` is the store asked, as payments name it, None where that
    is not known. `reuse` lets it go out on a kept connection: only where its
    answer says what it is about. `ignored` are the places of an answer that are known to say the same
    whatever is asked. `every_header` keeps all headers of the answer, and not those alone that are read.
    """

    call: str
    method: str
    path: str
    query: Query = ()
    body: bytes | None = attrs.field(default=None, repr=False)
    named_at: tuple[str, ...] = ("id",)
    reuse: bool = False
    ignored: frozenset[str] = frozenset()
    store: str | None = None
    every_header: bool = False

    @property
    def about(self) -> int | None:
        """The id in the path, of a payment or of whatever else it is about; None where there is none."""
        ids = [part for part in self.path.split("/") if part.isdecimal()]
        return int(ids[-1]) if ids else None

    @property
    def is_by_id(self) -> bool:
        """Whether the answer is the very thing whose id ends the path: it has to name that id."""
        return self.effect is Effect.READ and self.path.endswith(f"/{self.about}") and bool(self.named_at)

    @property
    def effect(self) -> Effect:
        """How often this may be sent: there is no idempotency key [doc], so a POST only once."""
        return _EFFECTS[self.method]

    @property
    def listed(self) -> tuple[object, ...] | None:
        """Which list this asks for a page of, in whatever order; None where it asks for none."""
        if self.call not in _LISTS:
            return None
        return (self.path, *[pair for pair in self.query if pair[0] not in _OF_A_PAGE])

    @property
    def offset(self) -> str | None:
        """Where the page begins, as the query says it."""
        return dict(self.query).get("offset")

    def resembles(self, other: Request) -> bool:
        """Whether one's page might come to the other, and nothing in it would say so.

        So it is where both begin at one offset, and a payment may be in both of two lists, or of two orders.
        """
        if not self.call == other.call == "payments.list" or self.offset != other.offset:
            return False
        if all(name == "limit" for name, _ in {*self.query} ^ {*other.query}):
            return False
        return all(
            mine & others
            for mine, others in zip(self._kinds(), other._kinds(), strict=True)
            if mine and others
        )

    def _kinds(self) -> tuple[set[str], set[str]]:
        """Return the channels and the status that this asks for: a payment has one of each."""
        channels = [value for name, value in self.query if name in {"channelIds", "channelIds[]"}]
        statuses = [value for name, value in self.query if name == "processingStatus"]
        return {one for text in channels for one in text.split(",")}, {*statuses}


_LISTS = frozenset({"payments.list", "payments.transactions", "channels.list"})
_OF_A_PAYMENT = ("id", "paymentId")
_OF_A_PAGE = frozenset({"offset", "limit", "orderBy"})
_EFFECTS = {
    "GET": Effect.READ,
    "PUT": Effect.REPEATABLE,
    "DELETE": Effect.REPEATABLE,
    "POST": Effect.ONCE,
    "PATCH": Effect.ONCE,
}


def list_payments(query: Query, *, reuse: bool = True) -> Request:
    """GET /ip/payments."""
    return Request("payments.list", "GET", "/ip/payments", query, reuse=reuse)


def get_payment(payment_id: int) -> Request:
    """GET /ip/payments/{id}."""
    return _about("payments.get", "GET", payment_id, named_at=("id",), reuse=True)


def delete_payment(payment_id: int) -> Request:
    """DELETE /ip/payments/{id}."""
    return _about("payments.delete", "DELETE", payment_id)


def get_operations(payment_id: int) -> Request:
    """GET /ip/payments/{id}/operations."""
    return _about("payments.operations", "GET", payment_id, "/operations")


def perform_operation(payment_id: int, code: int) -> Request:
    """POST /ip/payments/{id}/operations."""
    checked = _one_of("operation", code, range(4))
    body = encode({"operationCode": checked})
    return _about("payments.perform_operation", "POST", payment_id, "/operations", body=body)


def update_processing_status(payment_id: int, status: int) -> Request:
    """PUT /ip/payments/{id}/processing-status. Documented are 1 to 4; the vendor's example sends 0 [doc]."""
    checked = _one_of("status", status, range(5))
    body = encode({"processingStatus": checked})
    return _about("payments.update_processing_status", "PUT", payment_id, "/processing-status", body=body)


def get_transactions(payment_id: int) -> Request:
    """GET /ip/payments/{id}/transactions."""
    return _about("payments.transactions", "GET", payment_id, "/transactions", named_at=())


def create_offline(body: Mapping[str, Any]) -> Request:
    """POST /ip/payments/offline."""
    return Request("payments.create_offline", "POST", "/ip/payments/offline", body=encode(body))


def update_offline(payment_id: int, body: Mapping[str, Any]) -> Request:
    """PUT /ip/payments/offline/{id}."""
    path = f"/ip/payments/offline/{_id('payment id', payment_id)}"
    return Request("payments.update_offline", "PUT", path, body=encode(body), named_at=_OF_A_PAYMENT)


def list_channels() -> Request:
    """GET /channels."""
    return Request("channels.list", "GET", "/channels")


def get_channel(channel_id: int) -> Request:
    """GET /channels/{channelId}, by BigCommerce's id."""
    return Request(
        "channels.get", "GET", f"/channels/{_id('channel id', channel_id)}", named_at=("channelId",)
    )


def any_endpoint(
    method: str, path: str, params: Mapping[str, Any] | None = None, json: object = None
) -> Request:
    """Any endpoint below the base URL. Raises ConfigurationError for what cannot be sent."""
    verb = str(method).upper()
    if verb not in _EFFECTS:
        raise ConfigurationError(f"method {shown(method)} is unknown: give one of {', '.join(_EFFECTS)}.")
    if not _PATH.fullmatch(str(path)) or not {"", ".", ".."}.isdisjoint(unquote(path).split("/")[1:]):
        raise ConfigurationError(
            f"path {shown(path)} cannot be sent: give one below the base URL, such as '/ip/payments', and "
            "what follows a ? as `params`."
        )
    if json is not None and verb == "GET":
        raise ConfigurationError("A GET has no body: give `params` instead of `json`.")
    body = None if json is None else encode(checked_data("json", json))
    query = tuple(_pairs(params))
    return Request("request", verb, path, query, body, named_at=(), every_header=True)


def _pairs(params: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    given: object = params or {}
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"params is {type(params).__name__}: give a dict such as {{'limit': 10}}.")
    for name, value in given.items():
        for one in value if isinstance(value, list | tuple) else [value]:
            if not isinstance(name, str) or isinstance(one, bool) or not isinstance(one, str | int):
                raise ConfigurationError(
                    f"params has {shown(name)}: {shown(one)}: give text and whole numbers, or lists of them."
                )
            text = one if isinstance(one, str) else str(int(one))
            yield checked_text("a name in params", name), checked_text(f"params[{shown(name)}]", text)


def _about(call: str, method: str, payment_id: int, rest: str = "", **more: Any) -> Request:
    path = f"/ip/payments/{_id('payment id', payment_id)}{rest}"
    return Request(call, method, path, **{"named_at": _OF_A_PAYMENT, **more})


def _id(name: str, value: object) -> int:
    # A str would be written into the path as it stands.
    return whole(name, value, least=1)


def _one_of(name: str, value: object, allowed: Sequence[int]) -> int:
    # A float or a complex number may equal one of them; an enum's member is an int.
    if isinstance(value, bool) or not isinstance(value, int) or value not in allowed:
        raise ConfigurationError(f"{name} must be one of {', '.join(map(str, allowed))}, not {shown(value)}.")
    return int(value)
