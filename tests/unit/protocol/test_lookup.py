"""What the answer to a GET by id shows about a payment."""

from __future__ import annotations

import pytest

from b2b_payments import APIError, NotFoundError, PermissionDeniedError, ResponseDecodeError
from b2b_payments._protocol.answer import Answer
from b2b_payments._protocol.json import encode
from b2b_payments._protocol.lookup import read_lookup
from b2b_payments._protocol.request import get_payment

OWN = {"code": 404, "data": {"errMsg": "Payment does not exist"}, "meta": {"message": "Not Found Error"}}


def looked_up(status: int, body: object) -> bytes | None:
    """Read an answer to GET of payment 70."""
    raw = body if isinstance(body, bytes) else encode(body)
    return read_lookup(get_payment(70), Answer(status, {}, raw), "", payment_id=70)


@pytest.mark.parametrize("payment_id", [70, "70", 70.0])
def test_existing_payment_is_returned(payment_id: object) -> None:
    """The payment is returned as the service sent it, however its id is written."""
    payment = b'{"id": %b, "fees":[1.50],"memo":"\\u00e9\\/\\ud83d\\ude00"}' % encode(payment_id)
    assert looked_up(200, b'{"code":200, "data": %b ,"meta":{}}' % payment) == payment
    assert looked_up(
        200, b'{"data":%b, "x":"\\ud83d"}' % payment.replace(b"\\ude00", b"")
    ) == payment.replace(b"\\ud83d\\ude00", b"\\ufffd")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, OWN),
        (404, OWN | {"code": "404"}),
        (404, OWN | {"code": 404.0}),
        (404, {"code": 404, "meta": {}}),
        (200, OWN),
    ],
)
def test_services_own_404_is_none(status: int, body: object) -> None:
    """A 404 in the service's own envelope means that the payment does not exist, under HTTP 200 too."""
    assert looked_up(status, body) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><h1>404 Not Found</h1></html>",
        b"404",
        b'"404"',
        b"[404]",
        b"null",
        b'{"code":404,"meta":{}',
        {"message": "no Route matched with those values"},
        {"code": 404, "message": "Not Found"},
        {"code": 404, "meta": None},
        {"statusCode": 404, "meta": {}},
        {"code": 200, "data": {"id": 70}, "meta": {}},
    ],
)
def test_foreign_404_is_an_error(body: object) -> None:
    """A 404 that is not in the service's own envelope raises, and does not mean that a payment is gone."""
    with pytest.raises(NotFoundError):
        looked_up(404, body)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (403, OWN, PermissionDeniedError),
        (410, OWN, APIError),
        (200, OWN | {"code": 403}, PermissionDeniedError),
        (200, {"code": 200, "data": {"id": 71}, "meta": {}}, ResponseDecodeError),
        (200, {"code": 200, "data": [{"id": 70}], "meta": {}}, ResponseDecodeError),
        (200, {"code": 200, "data": None, "meta": {}}, ResponseDecodeError),
        (200, b"", ResponseDecodeError),
    ],
)
def test_other_answers_are_errors(status: int, body: object, error: type[Exception]) -> None:
    """Other errors, other payments and unreadable answers raise."""
    with pytest.raises(error):
        looked_up(status, body)
