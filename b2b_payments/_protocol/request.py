"""One request to the service, and a function that builds it for each endpoint."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
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
    """One request. `path` is below the client's base URL; `call` names the endpoint in logs and events.

    `named_at` are the answer's fields that, if present, must name the id in the path; empty if no field does.
    `reuse` allows a reused connection, which is safe only if the answer names what it is about. `ignored` are
    paths of the answer that are known to hold the same value for every request. `store` is the store that is
    addressed, as payments name it, None if unknown. `every_header` keeps all headers of the answer instead of
    only those that are read.
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
        """The last id in the path, of a payment or channel for example; None if the path has none."""
        ids = [part for part in self.path.split("/") if part.isdecimal()]
        return int(ids[-1]) if ids else None

    @property
    def is_by_id(self) -> bool:
        """Whether this reads the thing whose id ends the path: then the answer must name that id."""
        return self.effect is Effect.READ and self.path.endswith(f"/{self.about}") and bool(self.named_at)

    @property
    def effect(self) -> Effect:
        """What sending it twice would do: there is no idempotency key [doc], so a POST is sent once."""
        return _EFFECTS[self.method]

    @property
    def listed(self) -> tuple[object, ...] | None:
        """The list that this reads a page of, whatever its order; None if it reads no list."""
        if self.call not in _LISTS:
            return None
        return (self.path, *[pair for pair in self.query if pair[0] not in _PAGE_PARAMETERS])

    @cached_property
    def offset(self) -> str | None:
        """The page's offset, as written in the query."""
        return dict(self.query).get("offset")

    def resembles(self, other: Request) -> bool:
        """Whether the two requests' pages could be swapped without anything in them showing it.

        They could if both have the same offset, and a payment may be in both lists, or in both orders.
        """
        if not self.call == other.call == "payments.list" or self.offset != other.offset:
            return False
        if all(name == "limit" for name, _ in {*self.query} ^ {*other.query}):
            return False
        return all(
            mine & theirs
            for mine, theirs in zip(self._exclusive_filters(), other._exclusive_filters(), strict=True)
            if mine and theirs
        )

    def _exclusive_filters(self) -> tuple[set[str], set[str]]:
        """Return the channels and the statuses that this filters by: a payment has exactly one of each."""
        channels = [value for name, value in self.query if name in {"channelIds", "channelIds[]"}]
        statuses = [value for name, value in self.query if name == "processingStatus"]
        return {channel for text in channels for channel in text.split(",")}, {*statuses}


UNPAGED_LISTS = frozenset({"payments.transactions", "channels.list"})
"""Endpoints that return a list whole, without `meta.pagination`."""
_LISTS = UNPAGED_LISTS | {"payments.list"}
_PAYMENT_ID_FIELDS = ("id", "paymentId")
_PAGE_PARAMETERS = frozenset({"offset", "limit", "orderBy"})
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
    """PUT /ip/payments/{id}/processing-status. 1 to 4 are documented; the vendor's example sends 0 [doc]."""
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
    return Request("payments.update_offline", "PUT", path, body=encode(body), named_at=_PAYMENT_ID_FIELDS)


def list_channels() -> Request:
    """GET /channels."""
    return Request("channels.list", "GET", "/channels")


def get_channel(channel_id: int) -> Request:
    """GET /channels/{channelId}, by BigCommerce's id (not B2B Edition's own)."""
    return Request(
        "channels.get", "GET", f"/channels/{_id('channel id', channel_id)}", named_at=("channelId",)
    )


def any_endpoint(
    method: str, path: str, params: Mapping[str, Any] | None = None, json: object = None
) -> Request:
    """Any endpoint below the base URL. Raises ConfigurationError for an invalid argument."""
    verb = str(method).upper()
    if verb not in _EFFECTS:
        raise ConfigurationError(f"method {shown(method)} is unknown; use one of {', '.join(_EFFECTS)}.")
    if not _PATH.fullmatch(str(path)) or not {"", ".", ".."}.isdisjoint(unquote(path).split("/")[1:]):
        raise ConfigurationError(
            f"path {shown(path)} is invalid: use one below the base URL, such as '/ip/payments', and pass "
            "the query as `params`."
        )
    if json is not None and verb == "GET":
        raise ConfigurationError("A GET has no body: pass `params` instead of `json`.")
    body = None if json is None else encode(checked_data("json", json))
    query = tuple(_pairs(params))
    return Request("request", verb, path, query, body, named_at=(), every_header=True)


def _pairs(params: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    unchecked: object = params or {}
    if not isinstance(unchecked, Mapping):
        raise ConfigurationError(f"params is {type(params).__name__}: pass a dict such as {{'limit': 10}}.")
    for name, values in unchecked.items():
        for value in values if isinstance(values, list | tuple) else [values]:
            if not isinstance(name, str) or isinstance(value, bool) or not isinstance(value, str | int):
                raise ConfigurationError(
                    f"params has {shown(name)}: {shown(value)}: use strings, whole numbers, or lists of them."
                )
            text = value if isinstance(value, str) else str(int(value))
            yield checked_text("a name in params", name), checked_text(f"params[{shown(name)}]", text)


def _about(call: str, method: str, payment_id: int, rest: str = "", **more: Any) -> Request:
    path = f"/ip/payments/{_id('payment id', payment_id)}{rest}"
    return Request(call, method, path, **{"named_at": _PAYMENT_ID_FIELDS, **more})


def _id(name: str, value: object) -> int:
    # A str would be written into the path unescaped.
    return whole(name, value, least=1)


def _one_of(name: str, value: object, allowed: Sequence[int]) -> int:
    # Not only `in`: a float or a complex number may equal an int. An enum member is an int.
    if isinstance(value, bool) or not isinstance(value, int) or value not in allowed:
        raise ConfigurationError(f"{name} must be one of {', '.join(map(str, allowed))}, not {shown(value)}.")
    return int(value)
