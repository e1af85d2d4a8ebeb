"""Reading the service's answers: the envelope of a success, or the error that describes a failure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from itertools import islice
from typing import Any

import attrs
from multidict import CIMultiDict

from b2b_payments._errors import (
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
    without_data,
)
from b2b_payments._models.decimals import whole_of
from b2b_payments._printable import frozen
from b2b_payments._protocol.belonging import check_envelope
from b2b_payments._protocol.json import decode, encode
from b2b_payments._protocol.limits import HEADERS as QUOTA_HEADERS
from b2b_payments._protocol.limits import read_date, read_limits
from b2b_payments._protocol.request import Request
from b2b_payments._retry import MAX_RETRY_AFTER, Effect
from b2b_payments._secret import HIDDEN, Secret, redacted

_MAX_MESSAGES = 100
_MAX_LEVELS = 8
_MAX_VALUES = 10_000
_MAX_MESSAGE = 500  # characters
_MAX_PATH = 200  # characters


def read_field_errors(data: Any, redacted: Callable[[str, int], str]) -> dict[str, list[str]]:
    """Return the first 100 messages by path, with the service's own names of the fields.

    `data` may nest: ``{"line_items": [{}, {"invoice_id": ["…"]}]}`` [doc, seen]. Values more than 8 levels
    deep are returned as JSON. A top-level text ``errMsg`` is left out: it is the error's message.
    `redacted` turns a text into one line of at most the given number of characters.
    """
    errors: dict[str, list[str]] = {}
    visits = iter(range(_MAX_VALUES))
    for path, message in islice(_messages("", data, _MAX_LEVELS, visits), _MAX_MESSAGES):
        errors.setdefault(redacted(path, _MAX_PATH), []).append(redacted(message, _MAX_MESSAGE))
    return errors


def _messages(path: str, value: Any, levels: int, visits: Iterator[int]) -> Iterator[tuple[str, str]]:
    if next(visits, None) is None:
        return  # enough values were visited
    if isinstance(value, dict) and levels:
        for name, inner in value.items():
            if path or name != "errMsg":
                field = name if name.strip() else encode(name).decode()
                inner_path = f"{path}.{field}" if path else field
                yield from _messages(inner_path[:_MAX_MESSAGE], inner, levels - 1, visits)
            elif not isinstance(inner, str):
                yield from _messages("", inner, levels - 1, visits)
    elif isinstance(value, list) and levels:
        for index, inner in enumerate(value):
            nested = isinstance(inner, dict | list)
            yield from _messages(f"{path}[{index}]" if nested else path, inner, levels - 1, visits)
    elif path and value not in (None, [], {}):
        text = value if isinstance(value, str) else encode(value).decode()
        if text.strip():
            yield path, text


_ERRORS: dict[int, type[APIError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    413: PayloadTooLargeError,
    422: ValidationError,
    429: RateLimitError,
}


_MAX_ERROR_BODY = 2**18
"""The most bytes of an error's body that are decoded: a larger one has no message worth reading."""
_MAX_ESCAPE = 20
"""The most characters that any reasonable encoding uses to escape one character."""
_MAX_PAYMENT_ID = 2**63 - 1
_MAX_CODE_DIGITS = 4
_MAX_HEADER = 200  # characters that are kept of a header that is read
_MAX_ANY_HEADER = 2_000  # … and of any header
_REQUEST_IDS = ("X-Request-Id", "Trace-Id")
HEADERS = ("Location", "Content-Encoding", *_REQUEST_IDS, *QUOTA_HEADERS)
"""The headers of an answer that this library reads."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def _do_nothing() -> None:
    """Do nothing: the default `hang_up` of an answer that has no connection."""


def _without_mark(body: bytes) -> bytes:
    return body.removeprefix(_BYTE_ORDER_MARK)


def _to_search(text: str, most: int, secrets: Sequence[Secret]) -> str:
    """Return the part of a text to search for secrets if its first `most` characters are shown."""
    # A little more than is shown, so that a credential cut in two by the end is found as a whole.
    return text[: most + _MAX_ESCAPE * max(map(len, secrets), default=0)]


def kept_headers(
    headers: Mapping[str, str], secrets: Sequence[Secret], *, every: bool = False
) -> Mapping[str, str]:
    """Return the headers in `HEADERS`, by those names, with our own credentials redacted.

    `every` returns all headers but cookies. An answer may have hundreds of headers of 64 KiB each, so they
    are truncated first.
    """
    names = [name for name in HEADERS if name in headers]
    most = _MAX_HEADER
    if every:
        names, most = [name for name in headers if name.lower() != "set-cookie"], _MAX_ANY_HEADER
    read = {name: _to_search(headers[name], most, secrets) for name in names}
    together = "\n".join(read.values())
    if redacted(together, secrets) != together:
        read = {name: redacted(value, secrets) for name, value in read.items()}
    return CIMultiDict(read) if every else read


@frozen
class Answer:
    """A complete HTTP answer. The body is decompressed; `headers` are only those that are read.

    A byte-order mark at the body's start, which some servers and proxies write, is removed.

    `secrets` are our own credentials, which an error's text must not repeat. `reused` says whether it came
    on a reused connection; `hang_up` closes that connection, so that no later answer on it is trusted.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = attrs.field(repr=False, converter=_without_mark)
    secrets: Sequence[Secret] = attrs.field(default=(), repr=False)
    reused: bool = False
    hang_up: Callable[[], None] = attrs.field(default=_do_nothing, repr=False, eq=False)

    @property
    def request_id(self) -> str | None:
        """The service's id of this request; None if the answer has none."""
        request_id = next(filter(None, map(self.headers.get, _REQUEST_IDS)), None)
        return request_id and request_id[:_MAX_HEADER]

    @property
    def date(self) -> datetime | None:
        """The time of this answer by the service's clock, in UTC; None without a readable `Date`."""
        return read_date(self.headers.get("Date", ""))

    @property
    def emptiness(self) -> str:
        """Why the body is empty: a compressed one may have been cut off."""
        if self.headers.get("Content-Encoding", "identity").lower() == "identity":
            return "the answer is empty"
        return "the answer decompresses to nothing: it was cut off, or is empty"

    def redacted(self, text: str, most: int) -> str:
        """Return text for an error: on one line, at most `most` characters, with credentials redacted."""
        return redacted(_to_search(" ".join(text.split()), most, self.secrets), self.secrets)[:most]


@frozen
class Envelope:
    """A success: the service's `data` and `meta`, not yet validated; None and empty if it sent none."""

    data: Any = attrs.field(repr=False)
    meta: Mapping[str, Any]


@without_data
def read_envelope(request: Request, answer: Answer, base_url: str) -> Envelope:
    """Return the envelope of a success.

    A write may be answered without data: 204 has no body, and statuses of success other than 200 need none,
    since they confirm a write by themselves [doc]. A 200 needs an envelope with at least a `code`: an empty
    one may be a gateway's.

    Raises the APIError for the status, or for the body's `code` if HTTP says 200 and the body reports an
    error (the vendor's portal checks for this [seen]); ResponseDecodeError if the answer is not an envelope;
    AnswerMismatchError if it belongs to another request, as a 304 does: no request here is conditional.
    """
    if not 200 <= answer.status < 300:
        raise _refusal(request, answer, base_url)
    is_write = request.effect is not Effect.READ
    if not answer.body:
        if is_write and answer.status != 200:
            return Envelope(None, {})
        raise ResponseDecodeError(f"{request.method} {request.path}: {answer.emptiness}.", paths=["$"])
    body = _decoded(answer.body)
    if not isinstance(body, dict):
        raise ResponseDecodeError(
            f"{request.method} {request.path}: expected an object at $, found {kind_of(body)}.", paths=["$"]
        )
    code = _code(body)
    if (problem := _contradiction(request, body, code)) is not None:
        raise problem
    if code is not None and not 200 <= code < 300:
        raise _error(request, answer, base_url, body, code)
    if "data" not in body and not (is_write and (code is not None or answer.status != 200)):
        raise ResponseDecodeError(f"{request.method} {request.path}: $.data is missing.", paths=["$.data"])
    meta = body.get("meta")
    envelope = Envelope(body.get("data"), meta if isinstance(meta, dict) else {})
    check_envelope(request, envelope.data, envelope.meta)
    return envelope


def _decoded(body: bytes) -> Any:
    if body.lstrip()[:1] == b"<":
        raise ResponseDecodeError(
            "The answer is HTML, not JSON: a gateway's page, or base_url is wrong.", paths=["$"]
        )
    return decode(body)


def _contradiction(request: Request, body: Mapping[str, Any], code: int | None) -> ResponseDecodeError | None:
    """Return the error to raise if HTTP reports success but the body is neither a success nor an error."""
    data, path, problem = body.get("data"), "$.code", ""
    if code is None and (value := body.get("code")) is not None:
        problem = f"expected a number at $.code, found {kind_of(value)}"
    elif code is None or 200 <= code < 300:
        failed = isinstance(data, dict) and data.get("errMsg") and not data.keys() & {"id", "paymentId"}
        if failed and request.effect is not Effect.READ:
            path, problem = "$.data.errMsg", "it reports success, but has an error at $.data.errMsg"
    if not problem:
        return None
    return ResponseDecodeError(f"{request.method} {request.path}: {problem}.", paths=[path])


def kind_of(value: object) -> str:
    """Return the JSON type of a value, for an error that must not show the value itself."""
    if value is None:
        return "null"
    kinds = {bool: "a boolean", str: "a string", list: "a list", dict: "an object"}
    return kinds.get(type(value), "a number")


_CONDITIONAL = frozenset({304, 412, 416})
"""Statuses that only answer conditional and range requests (RFC 9110)."""


def _refusal(request: Request, answer: Answer, base_url: str) -> APIError | AnswerMismatchError:
    if (problem := _unrelated(answer)) is not None:
        what = f"{request.method} {request.path}: the answer is {answer.status} {_title(answer.status)}"
        return AnswerMismatchError(f"{what}, {problem}: it belongs to another request.", paths=["$"])
    body = _decoded_or_none(answer.body)
    return _error(request, answer, base_url, body, _code(body) if isinstance(body, dict) else None)


def _unrelated(answer: Answer) -> str | None:
    """Return why an answer cannot belong to any request that this library sends; None if it can."""
    if answer.status in _CONDITIONAL:
        return "but this request was not conditional"
    if 100 <= answer.status < 200:
        return "which is not a final answer"
    if 300 <= answer.status < 400 and "Location" not in answer.headers:
        return "but has no Location"
    return None


def _decoded_or_none(body: bytes) -> Any:
    if len(body) > _MAX_ERROR_BODY:
        return None
    try:
        return decode(body)
    except ResponseDecodeError:
        return None


def _code(body: Mapping[str, Any]) -> int | None:
    code = body.get("code")
    if isinstance(code, str) and len(code) > _MAX_CODE_DIGITS:
        return None
    return whole_of(code)


def _error(request: Request, answer: Answer, base_url: str, body: Any, code: int | None) -> APIError:
    fields = body if isinstance(body, dict) else {}
    status = code if code is not None and 200 <= answer.status < 300 else answer.status
    cls = _ERRORS.get(status) or (ServerError if status >= 500 else APIError)
    errors = read_field_errors(fields.get("data"), answer.redacted) if status in {400, 422} else {}
    message = _message(answer, fields)
    if redacted(f"{message} {errors}", answer.secrets) == HIDDEN:
        message, errors = HIDDEN, {}  # the texts together repeat a credential
    about: dict[str, Any] = {
        "status": answer.status,
        "code": code,
        "errors": errors,
        "request_id": answer.request_id,
        "method": request.method,
        "url": base_url + request.path,
    }
    limits = read_limits(answer.headers, datetime.now(UTC))
    wait = limits.pause if cls is RateLimitError else limits.wait
    if wait is not None:
        message = f"{message.removesuffix('.')}; the service asks to wait {wait:,.0f} s"
        if wait > MAX_RETRY_AFTER:
            message += f", and this client gives up on waits of over {MAX_RETRY_AFTER:,.0f} s"
    return cls(message, retry_after=wait, **about)


def _message(answer: Answer, body: Mapping[str, Any]) -> str:
    """Return the most useful text: `data.errMsg` before `meta.message`, which is a generic title [doc]."""
    data, meta = body.get("data"), body.get("meta")
    candidates = (
        _joined(data.get("errMsg") if isinstance(data, dict) else data),
        meta.get("message") if isinstance(meta, dict) else None,
        body.get("message"),
    )
    for text in candidates:
        if isinstance(text, str) and text.strip():
            return answer.redacted(text, _MAX_MESSAGE)
    if 300 <= answer.status < 400:
        return "the answer is a redirect, and redirects are not followed; check base_url"
    title = _title(answer.status)
    if answer.body.lstrip()[:1] == b"<":
        return f"{title} (the answer is HTML: it came from a gateway, not from the service)"
    return title if answer.body else f"{title} ({answer.emptiness})"


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "unknown status"


def _joined(texts: Any) -> str:
    return " ".join(text for text in (texts if isinstance(texts, list) else [texts]) if isinstance(text, str))


def read_payment_id(envelope: Envelope) -> int:
    """Return the id of a payment just created. Raises ResponseDecodeError if there is none."""
    data = envelope.data
    value = data.get("paymentId") if isinstance(data, dict) else None
    payment_id = whole_of(value)
    if payment_id is None or not 1 <= payment_id <= _MAX_PAYMENT_ID:
        kind = f"{kind_of(value)} out of range" if type(value) is int else kind_of(value)
        raise ResponseDecodeError(
            f"Expected the new payment's id at $.data.paymentId, found {kind}.",
            paths=["$.data.paymentId"],
        )
    return payment_id
