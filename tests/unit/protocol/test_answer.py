"""Answers: the envelope where it is one, the right error where it is not."""

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
from b2b_payments._secret import Secret

BASE = "https://api.example/api/v3/io"


def read(body: Any, status: int = 200, **headers: str) -> Envelope:
    """Read an answer to GET /ip/payments/70; a body that is not bytes is written as JSON."""
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    named = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    return read_envelope(get_payment(70), Answer(status, named, raw), BASE)


def error_of(body: Any, status: int = 200, **headers: str) -> APIError:
    """Read an answer that is an error."""
    with pytest.raises(APIError) as caught:
        read(body, status, **headers)
    return caught.value


@pytest.mark.parametrize("status", [200, 201, 299])
@pytest.mark.parametrize("code", [{"code": 200}, {"code": "200"}, {"code": 201}, {}, {"code": None}])
def test_a_success_gives_data_and_meta(status: int, code: dict[str, Any]) -> None:
    """A 2xx with a 2xx code in the body, or none, is a success; `meta.errors` may come with it."""
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
def test_a_write_needs_no_data(request_: Request, status: int, body: bytes) -> None:
    """A write is done where its status, or the code in a 200's envelope, says so; its data is None then."""
    assert read_envelope(request_, Answer(status, {}, body), BASE) == Envelope(None, {})
    with pytest.raises(ResponseDecodeError):
        read(body, status)


@pytest.mark.parametrize("request_", WRITES, ids=lambda one: one.method)
@pytest.mark.parametrize("body", [b"", b"{}", b"null", b"<html></html>", b'{"message":"OK"}'])
def test_an_empty_200_is_no_word_of_the_service(request_: Request, body: bytes) -> None:
    """A 200 without the service's envelope may be a gateway's, and says nothing of a write."""
    with pytest.raises(ResponseDecodeError):
        read_envelope(request_, Answer(200, {}, body), BASE)


@pytest.mark.parametrize("meta", [{}, {"meta": None}, {"meta": []}])
def test_meta_may_be_missing(meta: dict[str, Any]) -> None:
    """A success without a usable `meta` has an empty one; null is data."""
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
    """The HTTP status picks the error, and so does the body's own code where HTTP says 200."""
    by_status = error_of({"code": status, "data": {"errMsg": "No"}, "meta": {}}, status, Location="/")
    by_code = error_of({"code": status, "data": {"errMsg": "No"}, "meta": {}}, 200)
    assert type(by_status) is type(by_code) is kind
    assert (by_status.status, by_status.code, by_status.message) == (status, status, "No")
    assert (by_code.status, by_code.code, by_code.message) == (200, status, "No")


@pytest.mark.parametrize("code", [500, "500", 0, -1])
def test_a_code_that_is_no_success_is_an_error(code: int | str) -> None:
    """HTTP 200 alone is not trusted."""
    assert error_of({"code": code, "data": {}}).code == int(code)


@pytest.mark.parametrize(
    "code", [True, [], "soon", 2.5, "٢٠٠", "", "200 OK", "200.0", "20000", {"code": 200}]
)
@pytest.mark.parametrize("request_", [get_payment(70), *WRITES], ids=lambda one: one.method)
def test_a_code_that_is_no_number_is_no_success(request_: Request, code: Any) -> None:
    """HTTP 200 with a code that cannot be read is an answer that cannot be read; a refusal stays one."""
    body = msgspec.json.encode({"code": code, "data": {"id": 70, "paymentId": 70}})
    with pytest.raises(ResponseDecodeError, match=r"expected a number at \$\.code, found a") as caught:
        read_envelope(request_, Answer(200, {}, body), BASE)
    assert caught.value.paths == ["$.code"]
    assert error_of({"code": code, "data": {}}, 404).code is None


@pytest.mark.parametrize("request_", WRITES, ids=lambda one: one.method)
@pytest.mark.parametrize("code", [{}, {"code": 200}, {"code": 200.0}])
def test_a_write_that_names_an_error_is_no_success(request_: Request, code: dict[str, Any]) -> None:
    """HTTP 200 with an `errMsg` and no id says two things: a write cannot rest on it, a read can."""
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
def test_the_most_useful_text_is_found(body: Any, message: str) -> None:
    """`errMsg` before the generic title, the title before the status' own words, never a page of HTML."""
    assert error_of(body, 404).message == message


def test_a_redirect_says_what_to_check() -> None:
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
def test_a_status_that_fits_no_request_is_anothers(request_: Request, status: int, says: str) -> None:
    """No request sent here states a condition or asks for a part: an answer to one belongs elsewhere."""
    with pytest.raises(AnswerMismatchError, match=rf"the answer is {says}: it belongs to another request\."):
        read_envelope(request_, Answer(status, {}, b'{"code":200,"data":{}}'), BASE)


def test_an_unknown_status_has_words_too() -> None:
    """A status without a name of its own still makes a sentence."""
    assert str(error_of(b"?", 599)) == f"GET {BASE}/ip/payments/70: 599 unknown status"


def test_validation_names_the_fields() -> None:
    """A 422 has its messages field by field, whatever shape they come in."""
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
    """Whatever is nested is named by its path, and never shown as Python writes it."""
    data = {"line_items": [{}, {"invoice_id": ["Missing.", "Wrong."]}], "details": {"memo": True}}
    error = error_of({"code": status, "data": data}, status)
    assert error.errors == {"line_items[1].invoice_id": ["Missing.", "Wrong."], "details.memo": ["true"]}
    assert str(error).endswith("; line_items[1].invoice_id: Missing., Wrong.; details.memo: true")


def test_the_request_id_is_kept() -> None:
    """`X-Request-Id`, or else `Trace-Id`, stands in the error and in its text."""
    assert error_of({}, 500, X_Request_Id="r-1", Trace_Id="t-1").request_id == "r-1"
    error = error_of({}, 500, Trace_Id="t-1")
    assert error.request_id == "t-1"
    assert str(error).endswith("(request id t-1)")
    assert error_of({}, 500).request_id is None


def test_where_it_happened_is_kept() -> None:
    """An error has the request's method and address."""
    error = error_of({}, 500)
    assert (error.method, error.url) == ("GET", f"{BASE}/ip/payments/70")


def test_a_refusal_says_how_long() -> None:
    """A 429 has the longest wait that its headers ask for, None where they ask for none."""
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
def test_a_success_that_is_no_envelope_is_refused(body: bytes, path: str, says: str) -> None:
    """A 200 that cannot be read says where and what, and is no success."""
    with pytest.raises(ResponseDecodeError, match=says) as caught:
        read(body)
    assert caught.value.paths == [path]


@pytest.mark.parametrize("value", [112, "112"])
def test_the_new_id_is_read(value: int | str) -> None:
    """The new payment's id may be a number or a string."""
    assert read_payment_id(Envelope({"paymentId": value}, {})) == 112


@pytest.mark.parametrize("data", [None, [], {}, {"paymentId": None}, {"paymentId": ""}, {"paymentId": 1.5}])
def test_an_answer_without_the_new_id_is_refused(data: Any) -> None:
    """Where the new id is missing, the error says where it was expected."""
    with pytest.raises(ResponseDecodeError) as caught:
        read_payment_id(Envelope(data, {}))
    assert caught.value.paths == ["$.data.paymentId"]


def test_a_byte_order_mark_is_skipped() -> None:
    """A mark at the start of a body, of a success or an error, is as good as not there."""
    assert read(b'\xef\xbb\xbf{"code":200,"data":[1]}') == Envelope([1], {})
    assert error_of(b'\xef\xbb\xbf{"code":404,"data":{"errMsg":"No"}}', 404).message == "No"


def test_an_answer_does_not_show_its_body() -> None:
    """A body is not in the answer's repr: it holds personal data."""
    assert "secret" not in repr(Answer(200, {}, b"secret"))


def test_of_hundreds_of_long_headers_few_are_looked_at() -> None:
    """Headers that nobody reads are left alone, and the others are cut before they are searched."""
    token, long = Secret("token-of-some-letters"), "\\" * 2**16
    given = {f"X-{number}": long for number in range(400)} | {"X-Request-Id": long, "Retry-After": token}
    read = kept_headers(given, [token])
    assert read.keys() == {"X-Request-Id", "Retry-After"}
    assert 200 <= len(read["X-Request-Id"]) < 2_000
    assert read["Retry-After"] == "***"


def test_a_packed_answer_without_a_body_was_cut_off() -> None:
    """Of a packed body that was cut, nothing may be left to unpack: it is not merely said to be empty."""
    with pytest.raises(ResponseDecodeError, match="decompresses to nothing: it was cut off"):
        read(b"", Content_Encoding="gzip")
    assert "decompresses to nothing" in error_of(b"", 500, Content_Encoding="gzip").message
    assert "(the answer is empty)" in error_of(b"", 500, Content_Encoding="identity").message
