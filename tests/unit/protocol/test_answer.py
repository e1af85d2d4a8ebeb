"""Reading answers: the envelope of a success, and the right error for everything else."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
import pytest
from multidict import CIMultiDict

from b2b_payments import (
    AnswerMismatchError,
    APIError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    NotFoundError,
    PayloadTooLargeError,
    PermissionDeniedError,
    RateLimitError,
    ResponseDecodeError,
    ServerError,
    ValidationError,
)
from b2b_payments._protocol.answer import Answer, Envelope, kept_headers, read_envelope, read_payment_id
from b2b_payments._protocol.request import (
    Request,
    create_offline,
    delete_payment,
    get_payment,
    perform_operation,
    update_processing_status,
)
from b2b_payments._secret import HIDDEN, Secret

BASE = "https://api.example/api/v3/io"


def read(body: Any, status: int = 200, **headers: str) -> Envelope:
    """Read an answer to GET /ip/payments/70; a body that is not bytes is encoded as JSON."""
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    named = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    return read_envelope(get_payment(70), Answer(status, named, raw), BASE)


def error_of(body: Any, status: int = 200, **headers: str) -> APIError:
    """Return the error that an answer raises."""
    with pytest.raises(APIError) as caught:
        read(body, status, **headers)
    return caught.value


@pytest.mark.parametrize("status", [200, 201, 299])
@pytest.mark.parametrize("code", [{"code": 200}, {"code": "200"}, {"code": 201}, {}, {"code": None}])
def test_success_has_data_and_meta(status: int, code: dict[str, Any]) -> None:
    """A 2xx with a 2xx code in the body, or none, is a success, even with `meta.errors`."""
    meta = {"message": "SUCCESS", "errors": "one of many was left out"}
    assert read({**code, "data": [1], "meta": meta}, status) == Envelope([1], meta)


WRITES = [
    delete_payment(70),
    update_processing_status(70, 1),
    perform_operation(70, 0),
    create_offline({}),
]


@pytest.mark.parametrize("request_", WRITES, ids=lambda one: one.method)
@pytest.mark.parametrize(
    ("status", "body"),
    [
        *((status, b"") for status in (201, 202, 203, 204, 205, 299)),
        (201, b"{}"),
        (202, b'{"message":"Accepted"}'),
        (200, b'{"code":200,"meta":{}}'),
        (200, b'{"code":"204"}'),
    ],
)
def test_write_needs_no_data(request_: Request, status: int, body: bytes) -> None:
    """A write succeeds by its status, or by the code in a 200's envelope; its data may be None."""
    assert read_envelope(request_, Answer(status, {}, body), BASE) == Envelope(None, {})
    with pytest.raises(ResponseDecodeError):
        read(body, status)


@pytest.mark.parametrize("request_", WRITES, ids=lambda one: one.method)
@pytest.mark.parametrize("body", [b"", b"{}", b"null", b"<html></html>", b'{"message":"OK"}'])
def test_write_with_empty_200_is_unreadable(request_: Request, body: bytes) -> None:
    """A 200 without the service's envelope may be a gateway's, and does not confirm a write."""
    with pytest.raises(ResponseDecodeError):
        read_envelope(request_, Answer(200, {}, body), BASE)


@pytest.mark.parametrize("meta", [{}, {"meta": None}, {"meta": []}])
def test_meta_may_be_missing(meta: dict[str, Any]) -> None:
    """A success without a valid `meta` has an empty one; null is valid data."""
    assert read({"code": 200, "data": None, **meta}) == Envelope(None, {})


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequestError),
        (401, AuthenticationError),
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (409, ConflictError),
        (413, PayloadTooLargeError),
        (422, ValidationError),
        (429, RateLimitError),
        (500, ServerError),
        (502, ServerError),
        (503, ServerError),
        (599, ServerError),
        (418, APIError),
        (302, APIError),
    ],
)
def test_each_status_has_its_error(status: int, kind: type[APIError]) -> None:
    """The HTTP status selects the error class, or the body's code if HTTP says 200."""
    by_status = error_of({"code": status, "data": {"errMsg": "No"}, "meta": {}}, status, Location="/")
    by_code = error_of({"code": status, "data": {"errMsg": "No"}, "meta": {}}, 200)
    assert type(by_status) is type(by_code) is kind
    assert (by_status.status, by_status.code, by_status.message) == (status, status, "No")
    assert (by_code.status, by_code.code, by_code.message) == (200, status, "No")


@pytest.mark.parametrize("code", [500, "500", 0, -1])
def test_error_code_in_a_200_is_an_error(code: int | str) -> None:
    """HTTP 200 alone is not trusted."""
    assert error_of({"code": code, "data": {}}).code == int(code)


@pytest.mark.parametrize(
    "code", [True, [], "soon", 2.5, "٢٠٠", "", "200 OK", "200.0", "20000", {"code": 200}]
)
@pytest.mark.parametrize("request_", [get_payment(70), *WRITES], ids=lambda one: one.method)
def test_unreadable_code_is_not_a_success(request_: Request, code: Any) -> None:
    """HTTP 200 with an unreadable code is an unreadable answer; an HTTP error stays that error."""
    body = msgspec.json.encode({"code": code, "data": {"id": 70, "paymentId": 70}})
    with pytest.raises(ResponseDecodeError, match=r"expected a number at \$\.code, found a") as caught:
        read_envelope(request_, Answer(200, {}, body), BASE)
    assert caught.value.paths == ["$.code"]
    assert error_of({"code": code, "data": {}}, 404).code is None


@pytest.mark.parametrize("request_", WRITES, ids=lambda one: one.method)
@pytest.mark.parametrize("code", [{}, {"code": 200}, {"code": 200.0}])
def test_write_with_error_message_is_not_a_success(request_: Request, code: dict[str, Any]) -> None:
    """HTTP 200 with an `errMsg` and no id is contradictory: an error for a write, not for a read."""
    body = msgspec.json.encode({**code, "data": {"errMsg": "Locked"}, "meta": {}})
    with pytest.raises(ResponseDecodeError, match=r"reports success, but has an error at \$\.data\.errMsg"):
        read_envelope(request_, Answer(200, {}, body), BASE)
    with_id = msgspec.json.encode({**code, "data": {"errMsg": "", "id": 70, "paymentId": 70}, "meta": {}})
    assert read_envelope(request_, Answer(200, {}, with_id), BASE).data["id"] == 70


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"data": {"errMsg": "Payment not found"}, "meta": {"message": "Bad Title"}}, "Payment not found"),
        ({"data": {"errMsg": " "}, "meta": {"message": "Title"}}, "Title"),
        ({"data": {"errMsg": 7}, "meta": {"message": "Title"}}, "Title"),
        ({"data": {"errMsg": ["Bad.", "Worse."]}, "meta": {"message": "Title"}}, "Bad. Worse."),
        ({"data": "Bad.", "meta": {"message": "Title"}}, "Bad."),
        ({"data": ["Bad.", {"currency": "?"}], "meta": {"message": "Title"}}, "Bad."),
        ({"data": [], "meta": {"message": "Title"}}, "Title"),
        ({"code": 404, "message": "No scope"}, "No scope"),
        ({"data": {"errMsg": "two\n  lines"}}, "two lines"),
        ({"data": {"errMsg": "x" * 9_999}}, "x" * 500),
        ({}, "Not Found"),
        ([], "Not Found"),
        (b"", "Not Found (the answer is empty)"),
        (b"{truncated", "Not Found"),
        (
            b" <html>secret</html>",
            "Not Found (the answer is HTML: it came from a gateway, not from the service)",
        ),
    ],
)
def test_most_useful_text_is_the_message(body: Any, message: str) -> None:
    """`errMsg` before the generic title, the title before the status phrase, and never an HTML page."""
    assert error_of(body, 404).message == message


def test_redirect_error_names_base_url() -> None:
    """A redirect is not followed, and its error says so."""
    error = error_of(b"", 302, Location="https://elsewhere.example/?token=x")
    assert type(error) is APIError
    assert error.message == "the answer is a redirect, and redirects are not followed; check base_url"
    assert "elsewhere" not in str(error)


@pytest.mark.parametrize("request_", [get_payment(70), delete_payment(70), create_offline({})])
@pytest.mark.parametrize(
    ("status", "says"),
    [
        (304, "304 Not Modified, but this request was not conditional"),
        (412, "412 Precondition Failed, but this request was not conditional"),
        (416, f"416 {HTTPStatus(416).phrase}, but this request was not conditional"),
        (101, "101 Switching Protocols, which is not a final answer"),
        (302, "302 Found, but has no Location"),
    ],
)
def test_conditional_status_belongs_to_another_request(request_: Request, status: int, says: str) -> None:
    """This library sends no conditional or range requests, so an answer to one belongs elsewhere."""
    with pytest.raises(AnswerMismatchError, match=rf"the answer is {says}: it belongs to another request\."):
        read_envelope(request_, Answer(status, {}, b'{"code":200,"data":{}}'), BASE)


def test_unknown_status_has_a_message() -> None:
    """A status without a standard phrase still has a complete message."""
    assert str(error_of(b"?", 599)) == f"GET {BASE}/ip/payments/70: 599 unknown status"


def test_validation_names_the_fields() -> None:
    """A 422 lists its messages by field, in every shape that the service uses."""
    error = error_of(
        {"code": 422, "data": {"currency": ["Bad.", 3], "lineItems": "Missing.", "errMsg": "Both"}}, 422
    )
    assert error.errors == {"currency": ["Bad.", "3"], "lineItems": ["Missing."]}
    assert error.message == "Both"
    assert error_of({"code": 422, "data": ["Bad."]}, 422).errors == {}
    assert error_of({"code": 400, "data": {"currency": ["Bad."]}}, 400).errors == {"currency": ["Bad."]}
    assert error_of({"code": 404, "data": {"currency": ["Bad."]}}, 404).errors == {}


@pytest.mark.parametrize("status", [400, 422])
def test_nested_fields_are_paths(status: int) -> None:
    """Nested fields are named by their path, never shown as a Python repr."""
    data = {"line_items": [{}, {"invoice_id": ["Missing.", "Wrong."]}], "details": {"memo": True}}
    error = error_of({"code": status, "data": data}, status)
    assert error.errors == {"line_items[1].invoice_id": ["Missing.", "Wrong."], "details.memo": ["true"]}
    assert str(error).endswith("; line_items[1].invoice_id: Missing., Wrong.; details.memo: true")


def test_error_has_the_request_id() -> None:
    """The error and its text contain `X-Request-Id`, or else `Trace-Id`."""
    assert error_of({}, 500, X_Request_Id="r-1", Trace_Id="t-1").request_id == "r-1"
    error = error_of({}, 500, Trace_Id="t-1")
    assert error.request_id == "t-1"
    assert str(error).endswith("(request id t-1)")
    assert error_of({}, 500).request_id is None


def test_error_has_method_and_url() -> None:
    """An error has the request's method and URL."""
    error = error_of({}, 500)
    assert (error.method, error.url) == ("GET", f"{BASE}/ip/payments/70")


def test_rate_limit_error_has_the_wait() -> None:
    """A 429 has the longest wait that its headers ask for, or None."""
    error = error_of({}, 429, Retry_After="2", X_Request_Window_Resets_After="7.5 s")
    assert isinstance(error, RateLimitError)
    assert error.retry_after == 7.5
    silent = error_of({}, 429)
    assert isinstance(silent, RateLimitError)
    assert silent.retry_after is None


@pytest.mark.parametrize(
    ("body", "path", "says"),
    [
        (b"", "$", "GET /ip/payments/70: the answer is empty"),
        (b"<html></html>", "$", "not JSON"),
        (b'{"code":200,"data":[{"id":1', "$", "not JSON"),
        (b"[]", "$", r"expected an object at \$, found a list"),
        (b"null", "$", r"expected an object at \$, found null"),
        (b'"text"', "$", r"expected an object at \$, found a string"),
        (b'{"code":200}', "$.data", r"\$\.data is missing"),
    ],
)
def test_200_without_envelope_is_unreadable(body: bytes, path: str, says: str) -> None:
    """A 200 that is not an envelope raises an error that names the path and the problem."""
    with pytest.raises(ResponseDecodeError, match=says) as caught:
        read(body)
    assert caught.value.paths == [path]


@pytest.mark.parametrize("value", [112, "112"])
def test_new_id_is_read(value: int | str) -> None:
    """The new payment's id may be a number or a string."""
    assert read_payment_id(Envelope({"paymentId": value}, {})) == 112


@pytest.mark.parametrize("data", [None, [], {}, {"paymentId": None}, {"paymentId": ""}, {"paymentId": 1.5}])
def test_missing_new_id_is_an_error(data: Any) -> None:
    """Without the new id, the error names the path where it was expected."""
    with pytest.raises(ResponseDecodeError) as caught:
        read_payment_id(Envelope(data, {}))
    assert caught.value.paths == ["$.data.paymentId"]


def test_byte_order_mark_is_skipped() -> None:
    """A byte-order mark at the start of a body is ignored, in a success and in an error."""
    assert read(b'\xef\xbb\xbf{"code":200,"data":[1]}') == Envelope([1], {})
    assert error_of(b'\xef\xbb\xbf{"code":404,"data":{"errMsg":"No"}}', 404).message == "No"


def test_answer_repr_hides_the_body() -> None:
    """An answer's repr has no body, since that contains personal data."""
    assert "secret" not in repr(Answer(200, {}, b"secret"))


def test_unused_headers_are_not_searched() -> None:
    """Headers that are not read are skipped, and the others are truncated before they are searched."""
    token, long = Secret("token-of-some-letters"), "\\" * 2**16
    given = {f"X-{number}": long for number in range(400)} | {"X-Request-Id": long, "Retry-After": token}
    read = kept_headers(given, [token])
    assert read.keys() == {"X-Request-Id", "Retry-After"}
    assert 200 <= len(read["X-Request-Id"]) < 2_000
    assert read["Retry-After"] == "***"


def test_compressed_empty_answer_may_be_cut_off() -> None:
    """If a compressed body is empty, the error says that it may have been cut off."""
    with pytest.raises(ResponseDecodeError, match="decompresses to nothing: it was cut off"):
        read(b"", Content_Encoding="gzip")
    assert "decompresses to nothing" in error_of(b"", 500, Content_Encoding="gzip").message
    assert "(the answer is empty)" in error_of(b"", 500, Content_Encoding="identity").message


def test_large_error_is_not_decoded() -> None:
    """The body of an error of more than 256 KiB is not decoded: the message is the status's title."""
    body = {"code": 400, "data": {"errMsg": "No."}, "meta": {"filler": ""}}
    assert error_of(body, 400).message == "No."
    body["meta"] = {"filler": "x" * 2**18}
    assert error_of(body, 400).message == "Bad Request"


def test_texts_that_repeat_a_credential_together_are_hidden() -> None:
    """If the message ends with a part of the credential, and a field's error is the rest, both are hidden."""
    secret = Secret("abcdefgh12345678")
    body = msgspec.json.encode(
        {"code": 422, "data": {"errMsg": f"Bad token {secret[:8]}", str(secret[8:]): ["No."]}, "meta": {}}
    )
    with pytest.raises(ValidationError) as caught:
        read_envelope(get_payment(70), Answer(422, CIMultiDict(), body, [secret]), BASE)
    assert (caught.value.message, caught.value.errors) == (HIDDEN, {})
