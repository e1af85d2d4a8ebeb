"""Reading the service's answers: the envelope where it is one, the right error where it is not."""

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
)
from b2b_payments._models.decimals import whole_of
from b2b_payments._printable import frozen
from b2b_payments._protocol.belonging import check_envelope
from b2b_payments._protocol.json import decode, encode
from b2b_payments._protocol.limits import HEADERS as OF_LIMITS
from b2b_payments._protocol.limits import read_date, read_limits
from b2b_payments._protocol.request import Request
from b2b_payments._retry import LONGEST_ASKED, Effect
from b2b_payments._secret import HIDDEN, Secret, redacted

_MOST_MESSAGES = 100
_MOST_LEVELS = 8
_MOST_PLACES = 10_000
_LONGEST_MESSAGE = 500
_LONGEST_PATH = 200


def _in_one_line(text: str, most: int) -> str:
    return " ".join(text.split())[:most]


def read_field_errors(data: Any, redacted: Callable[[str, int], str] = _in_one_line) -> dict[str, list[str]]:
    """Return the messages by path, in the service's own spelling of the fields; the first 100 of them.

    `data` names fields and may nest: ``{"line_items": [{}, {"invoice_id": ["…"]}]}`` [doc, seen]. What is
    nested more than 8 levels deep is given as JSON. ``errMsg`` is a message of its own where it is text.
    `redacted` makes a line of a text, of so many characters at the most.
    """
    errors: dict[str, list[str]] = {}
    places = iter(range(_MOST_PLACES))
    for path, message in islice(_messages("", data, _MOST_LEVELS, places), _MOST_MESSAGES):
        errors.setdefault(redacted(path, _LONGEST_PATH), []).append(redacted(message, _LONGEST_MESSAGE))
    return errors


def _messages(path: str, value: Any, levels: int, places: Iterator[int]) -> Iterator[tuple[str, str]]:
    if next(places, None) is None:
        return  # it has been looked at long enough
    if isinstance(value, dict) and levels:
        for name, inner in value.items():
            if path or name != "errMsg":
                shown = name if name.strip() else encode(name).decode()
                below = f"{path}.{shown}" if path else shown
                yield from _messages(below[:_LONGEST_MESSAGE], inner, levels - 1, places)
            elif not isinstance(inner, str):
                yield from _messages("", inner, levels - 1, places)
    elif isinstance(value, list) and levels:
        for index, inner in enumerate(value):
            nested = isinstance(inner, dict | list)
            yield from _messages(f"{path}[{index}]" if nested else path, inner, levels - 1, places)
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


_LONGEST_REFUSAL = 2**18
"""Bytes of an error's body that is read: what it says in a larger one is no sentence."""
_LONGEST_SPELLING = 20
"""Characters that an escape of one character takes, within reason."""
_LARGEST_ID = 2**63 - 1
_LONGEST_CODE = 4
_LONGEST_MESSAGE = 500
_LONGEST_ID = 200
_LONGEST_HEADER = 2_000
_IDS = ("X-Request-Id", "Trace-Id")
HEADERS = ("Location", "Content-Encoding", *_IDS, *OF_LIMITS)
"""The headers of an answer that are ever read."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def _nothing() -> None:
    """Close no connection: an answer that did not come over one."""


def _without_mark(body: bytes) -> bytes:
    return body.removeprefix(_BYTE_ORDER_MARK)


def _searched(text: str, most: int, secrets: Sequence[Secret]) -> str:
    """Return what has to be searched of a text of which no more than `most` characters are shown."""
    # A little beyond: a credential that the end cuts in two is found as a whole.
    return text[: most + _LONGEST_SPELLING * max(map(len, secrets), default=0)]


def headers_read(
    headers: Mapping[str, str], secrets: Sequence[Secret], *, every: bool = False
) -> Mapping[str, str]:
    """Return the headers that are ever read, by the names used here, without our own credentials.

    An answer may have hundreds of headers of 64 KiB: they are cut before anything else is done with them.
    `every` gives all others too, but for cookies.
    """
    names = [name for name in HEADERS if name in headers]
    most = _LONGEST_ID
    if every:
        names, most = [name for name in headers if name.lower() != "set-cookie"], _LONGEST_HEADER
    read = {name: _searched(headers[name], most, secrets) for name in names}
    together = "\n".join(read.values())
    if redacted(together, secrets) != together:
        read = {name: redacted(value, secrets) for name, value in read.items()}
    return CIMultiDict(read) if every else read


@frozen
class Answer:
    """A whole HTTP answer. `headers` are those that are read; the body is unpacked and complete.

    A byte-order mark at its start, which some servers and proxies write, is left out.

    `secrets` are our own credentials, which an error's text must not repeat. `reused` says that it came on a
    kept connection, and `hang_up` closes the connection: what else comes there cannot be believed.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = attrs.field(repr=False, converter=_without_mark)
    secrets: Sequence[Secret] = attrs.field(default=(), repr=False)
    reused: bool = False
    hang_up: Callable[[], None] = attrs.field(default=_nothing, repr=False, eq=False)

    @property
    def request_id(self) -> str | None:
        """What the service calls this request; None where it does not say."""
        said = next(filter(None, map(self.headers.get, _IDS)), None)
        return said and said[:_LONGEST_ID]

    @property
    def date(self) -> datetime | None:
        """The moment of this answer by the service's clock, in UTC; None without a readable `Date`."""
        return read_date(self.headers.get("Date", ""))

    @property
    def emptiness(self) -> str:
        """Say of an answer without a body what is the matter: one that is packed may have been cut off."""
        if self.headers.get("Content-Encoding", "identity").lower() == "identity":
            return "the answer is empty"
        return "the answer unpacks to nothing: it was cut off, or is empty"

    def redacted(self, text: str, most: int) -> str:
        """Return decoded text for an error: in one line, without our own credentials, at most so long."""
        return redacted(_searched(" ".join(text.split()), most, self.secrets), self.secrets)[:most]


@frozen
class Envelope:
    """A success: the service's `data` and `meta`, not yet looked into; None and empty where it sent none."""

    data: Any = attrs.field(repr=False)
    meta: Mapping[str, Any]


def read_envelope(request: Request, answer: Answer, base_url: str) -> Envelope:
    """Return the envelope of a success.

    A write may be answered without data: 204 has no body, and other statuses of success than 200 need none,
    since they speak of a write themselves [doc]. A 200 says so in its envelope, with `code` at the least: an
    empty one may be a gateway's.

    Raises the APIError that fits the status, or the body's own `code` where HTTP says 200 and the body does
    not (the vendor's portal checks for it [seen]); ResponseDecodeError for an answer that is no envelope, and
    AnswerMismatchError for one that belongs to another request, such as a 304, which only conditions get.
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
        del body  # a traceback's local variables would show what was sent
        raise problem
    if code is not None and not 200 <= code < 300:
        failure = _error(request, answer, base_url, body, code)
        del body  # a traceback's local variables would show what was sent
        raise failure
    if "data" not in body and not (is_write and (code is not None or answer.status != 200)):
        raise ResponseDecodeError(f"{request.method} {request.path}: $.data is missing.", paths=["$.data"])
    meta = body.get("meta")
    envelope = Envelope(body.get("data"), meta if isinstance(meta, dict) else {})
    check_envelope(request, envelope.data, envelope.meta)
    return envelope


def _decoded(body: bytes) -> Any:
    if body.lstrip()[:1] == b"<":
        del body  # a traceback's local variables would show what was sent
        raise ResponseDecodeError(
            "The answer is HTML, not JSON: a gateway's page, or base_url leads elsewhere.", paths=["$"]
        )
    return decode(body)


def _contradiction(request: Request, body: Mapping[str, Any], code: int | None) -> ResponseDecodeError | None:
    """Return what to raise where HTTP says success and the body says something that is neither yes nor no."""
    data, path, problem = body.get("data"), "$.code", ""
    if code is None and (said := body.get("code")) is not None:
        problem = f"expected a number at $.code, found {kind_of(said)}"
    elif code is None or 200 <= code < 300:
        told = isinstance(data, dict) and data.get("errMsg") and not data.keys() & {"id", "paymentId"}
        if told and request.effect is not Effect.READ:
            path, problem = "$.data.errMsg", "it says success, and at $.data.errMsg what went wrong"
    if not problem:
        return None
    return ResponseDecodeError(f"{request.method} {request.path}: {problem}.", paths=[path])


def kind_of(value: object) -> str:
    """Name the JSON kind of a value, for an error that must not show the value itself."""
    if value is None:
        return "null"
    kinds = {bool: "a boolean", str: "a string", list: "a list", dict: "an object"}
    return kinds.get(type(value), "a number")


_OF_CONDITIONS = frozenset({304, 412, 416})
"""What only a request that states a condition, or asks for a part, is answered (RFC 9110)."""


def _refusal(request: Request, answer: Answer, base_url: str) -> APIError | AnswerMismatchError:
    if (problem := _fits_no_request(answer)) is not None:
        what = f"{request.method} {request.path}: the answer is {answer.status} {_title(answer.status)}"
        return AnswerMismatchError(f"{what}, {problem}: it belongs to another request.", paths=["$"])
    body = _decoded_or_none(answer.body)
    return _error(request, answer, base_url, body, _code(body) if isinstance(body, dict) else None)


def _fits_no_request(answer: Answer) -> str | None:
    """Say why an answer can be to no request that is sent here, None where it may be."""
    if answer.status in _OF_CONDITIONS:
        return "and this request stated no condition"
    if 100 <= answer.status < 200:
        return "which ends no request"
    if 300 <= answer.status < 400 and "Location" not in answer.headers:
        return "and leads nowhere"
    return None


def _decoded_or_none(body: bytes) -> Any:
    if len(body) > _LONGEST_REFUSAL:
        return None
    try:
        return decode(body)
    except ResponseDecodeError:
        return None


def _code(body: Mapping[str, Any]) -> int | None:
    code = body.get("code")
    if isinstance(code, str) and len(code) > _LONGEST_CODE:
        return None
    return int(code) if type(code) is float and code.is_integer() else whole_of(code)


def _error(request: Request, answer: Answer, base_url: str, body: Any, code: int | None) -> APIError:
    fields = body if isinstance(body, dict) else {}
    failed = code if code is not None and 200 <= answer.status < 300 else answer.status
    cls = _ERRORS.get(failed) or (ServerError if failed >= 500 else APIError)
    errors = read_field_errors(fields.get("data"), answer.redacted) if failed in {400, 422} else {}
    message = _message(answer, fields)
    if redacted(f"{message} {errors}", answer.secrets) == HIDDEN:
        message, errors = HIDDEN, {}  # each text has a little of it
    about: dict[str, Any] = {
        "status": answer.status,
        "code": code,
        "errors": errors,
        "request_id": answer.request_id,
        "method": request.method,
        "url": base_url + request.path,
    }
    limits = read_limits(answer.headers, datetime.now(UTC))
    asked = limits.pause if cls is RateLimitError else limits.wait
    if asked is not None:
        message = f"{message.removesuffix('.')}; the service asks to wait {asked:,.0f} s"
        if asked > LONGEST_ASKED:
            message += f", and no more than {LONGEST_ASKED:,.0f} s are waited for"
    return cls(message, retry_after=asked, **about)


def _message(answer: Answer, body: Mapping[str, Any]) -> str:
    """Find the useful text: `data.errMsg` before `meta.message`, which is a generic title [doc]."""
    data, meta = body.get("data"), body.get("meta")
    candidates = (
        _joined(data.get("errMsg") if isinstance(data, dict) else data),
        meta.get("message") if isinstance(meta, dict) else None,
        body.get("message"),
    )
    for text in candidates:
        if isinstance(text, str) and text.strip():
            return answer.redacted(text, _LONGEST_MESSAGE)
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
    """Read the id of a payment just created. Raises ResponseDecodeError where there is none."""
    data = envelope.data
    value = data.get("paymentId") if isinstance(data, dict) else None
    payment_id = whole_of(value)
    if payment_id is None or not 1 <= payment_id <= _LARGEST_ID:
        found = f"{kind_of(value)} out of range" if type(value) is int else kind_of(value)
        raise ResponseDecodeError(
            f"Expected the new payment's id at $.data.paymentId, found {found}.",
            paths=["$.data.paymentId"],
        )
    return payment_id
