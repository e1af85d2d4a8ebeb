"""The request that each endpoint needs."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from b2b_payments import ConfigurationError, Operation, ProcessingStatus
from b2b_payments._protocol import request as requests
from b2b_payments._protocol.json import encode
from b2b_payments._protocol.request import Request
from b2b_payments._retry import Effect
from tests.support.examples import CREATE_OFFLINE_BODY

PAYMENT = "/ip/payments/70"

BUILT = [
    (requests.list_payments((("offset", "0"),)), "GET", "/ip/payments", None),
    (requests.get_payment(70), "GET", PAYMENT, None),
    (requests.delete_payment(70), "DELETE", PAYMENT, None),
    (requests.get_operations(70), "GET", f"{PAYMENT}/operations", None),
    (requests.perform_operation(70, 0), "POST", f"{PAYMENT}/operations", {"operationCode": 0}),
    (requests.perform_operation(70, 3), "POST", f"{PAYMENT}/operations", {"operationCode": 3}),
    (
        requests.update_processing_status(70, 0),
        "PUT",
        f"{PAYMENT}/processing-status",
        {"processingStatus": 0},
    ),
    (
        requests.update_processing_status(70, 4),
        "PUT",
        f"{PAYMENT}/processing-status",
        {"processingStatus": 4},
    ),
    (requests.get_transactions(70), "GET", f"{PAYMENT}/transactions", None),
    (requests.create_offline(CREATE_OFFLINE_BODY), "POST", "/ip/payments/offline", CREATE_OFFLINE_BODY),
    (requests.update_offline(70, CREATE_OFFLINE_BODY), "PUT", "/ip/payments/offline/70", CREATE_OFFLINE_BODY),
    (requests.list_channels(), "GET", "/channels", None),
    (requests.get_channel(2), "GET", "/channels/2", None),
]


@pytest.mark.parametrize(("request_", "method", "path", "body"), BUILT)
def test_each_endpoint_has_its_request(request_: Request, method: str, path: str, body: Any) -> None:
    """Method, path and body of each endpoint are the documented ones."""
    assert (request_.method, request_.path) == (method, path)
    assert (None if request_.body is None else msgspec.json.decode(request_.body)) == body


def test_call_names_are_unique() -> None:
    """No two endpoints have the same name in events and logs."""
    named = {(one.call, one.method, one.path) for one, *_ in BUILT}
    assert len({call for call, *_ in named}) == len(named) == 11


def test_only_posts_must_not_be_repeated() -> None:
    """Reads change nothing, PUT and DELETE can be repeated, and a POST is sent once."""
    assert {one.method: one.effect for one, *_ in BUILT} == {
        "GET": Effect.READ,
        "PUT": Effect.REPEATABLE,
        "DELETE": Effect.REPEATABLE,
        "POST": Effect.ONCE,
    }


def test_enums_are_sent_as_numbers() -> None:
    """An enum and its number make the same request."""
    assert requests.perform_operation(70, Operation.PULL_FROM_ORDER) == requests.perform_operation(70, 2)
    by_name = requests.update_processing_status(70, ProcessingStatus.REFUNDED)
    assert by_name == requests.update_processing_status(70, 4)


@pytest.mark.parametrize("wrong", [0, -1, "70", "1/../2", 1.0, True, None, [70]])
@pytest.mark.parametrize(
    "build",
    [
        requests.get_payment,
        requests.delete_payment,
        requests.get_operations,
        requests.get_transactions,
        lambda payment_id: requests.perform_operation(payment_id, 0),
        lambda payment_id: requests.update_processing_status(payment_id, 1),
        lambda payment_id: requests.update_offline(payment_id, {}),
    ],
)
def test_invalid_payment_id_is_refused(build: Callable[[Any], Request], wrong: Any) -> None:
    """Anything but a positive whole number is refused before it is sent."""
    with pytest.raises(ConfigurationError, match="payment id must be a whole number of at least 1"):
        build(wrong)


@pytest.mark.parametrize("wrong", [-1, 5, True, "1", None, [1], 1.5, 3.0, 3 + 0j, math.nan, math.inf])
def test_undocumented_codes_are_refused(wrong: Any) -> None:
    """An operation or a status outside the documented numbers is refused before it is sent."""
    with pytest.raises(ConfigurationError, match=r"operation must be one of 0, 1, 2, 3, not"):
        requests.perform_operation(70, wrong)
    with pytest.raises(ConfigurationError, match=r"status must be one of 0, 1, 2, 3, 4, not"):
        requests.update_processing_status(70, wrong)


def test_money_is_sent_exactly() -> None:
    """A Decimal is sent with all of its digits."""
    assert encode({"amount": Decimal("20.1000000000000000001")}) == b'{"amount":20.1000000000000000001}'


def test_request_repr_hides_the_body() -> None:
    """A request's repr has no body, since that contains personal data."""
    assert "Test" not in repr(requests.create_offline(CREATE_OFFLINE_BODY))
